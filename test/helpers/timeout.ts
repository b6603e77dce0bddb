import { availableParallelism, loadavg } from 'node:os'

/** How often {@link withDeadline} looks at the machine, in milliseconds. */
const STEP = 250

const scale = readScale(process.env.TEST_TIMEOUT_SCALE) ?? Math.max(1, Math.floor(delayFactor()))
// The programs that a test starts have to agree with it.
process.env.TEST_TIMEOUT_SCALE = String(scale)

/**
 * `n` milliseconds, multiplied for machines on which everything takes longer: by TEST_TIMEOUT_SCALE, or else by the delay
 * factor of the machine when the test file was loaded.
 */
export function ms(n: number): number {
  return Math.round(n * scale)
}

/**
 * Settles as `promise` does, or rejects when that takes longer than the scaled `milliseconds`. While the machine is busy,
 * or does not let this process run at all, the time passes more slowly.
 */
export async function withDeadline<T>(promise: Promise<T>, milliseconds: number, what: string): Promise<T> {
  const scaled = ms(milliseconds)
  // Made here and not in the timer, so that its stack names the caller.
  const error = new Error(`${what}: not within ${scaled} ms`)
  let left = scaled
  let timer: NodeJS.Timeout | undefined
  const deadline = new Promise<never>((_resolve, reject) => {
    const wait = (): void => {
      const step = Math.min(STEP, left)
      timer = setTimeout(() => {
        left -= step / Math.max(1, delayFactor() / scale)
        if (left > 0.5) wait()
        else reject(error)
      }, step)
    }
    wait()
  })
  try {
    return await Promise.race([promise, deadline])
  } finally {
    clearTimeout(timer)
  }
}

/** By how much this process waits for a processor: runnable processes for each one. Windows does not know, and says 0. */
function delayFactor(): number {
  const [lastMinute = 0] = loadavg()
  return Math.max(1, lastMinute / availableParallelism())
}

function readScale(value: string | undefined): number | undefined {
  if (value === undefined || value === '') return undefined
  const number = Number(value)
  if (!(number > 0 && number < Infinity)) {
    throw new Error(`TEST_TIMEOUT_SCALE must be a number greater than 0, not ${JSON.stringify(value)}`)
  }
  return number
}
