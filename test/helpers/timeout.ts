const scale = readScale(process.env.TEST_TIMEOUT_SCALE)

/** `n` milliseconds, multiplied by TEST_TIMEOUT_SCALE for machines on which everything takes longer. */
export function ms(n: number): number {
  return Math.round(n * scale)
}

/** Settles as `promise` does, or rejects when that takes longer than the scaled `milliseconds`. */
export async function withDeadline<T>(promise: Promise<T>, milliseconds: number, what: string): Promise<T> {
  const scaled = ms(milliseconds)
  // Made here and not in the timer, so that its stack names the caller.
  const error = new Error(`${what}: not within ${scaled} ms`)
  let timer: NodeJS.Timeout | undefined
  const deadline = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(error), scaled)
  })
  try {
    return await Promise.race([promise, deadline])
  } finally {
    clearTimeout(timer)
  }
}

function readScale(value: string | undefined): number {
  if (value === undefined || value === '') return 1
  const number = Number(value)
  if (!(number > 0 && number < Infinity)) {
    throw new Error(`TEST_TIMEOUT_SCALE must be a number greater than 0, not ${JSON.stringify(value)}`)
  }
  return number
}
