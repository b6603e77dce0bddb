/** The thread pool has four threads; more concurrent jobs would only hold more memory, 300 KiB and a message each. */
const MAX_RUNNING = 8

let running = 0
const waiting: (() => void)[] = []

/** Runs a job for the thread pool, some at a time in the whole process, in the order in which they came. */
export async function runJob<Result>(job: () => Promise<Result>): Promise<Result> {
  if (running === MAX_RUNNING) await new Promise<void>(resolve => waiting.push(resolve))
  else running++
  try {
    return await job()
  } finally {
    const next = waiting.shift()
    if (next === undefined) running--
    else next()
  }
}
