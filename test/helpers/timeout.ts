import { availableParallelism, loadavg } from 'node:os'

/** The interval at which {@link withDeadline} measures the load of the machine, in milliseconds. */
const STEP = 250

const scale = readScale(process.env.TEST_TIMEOUT_SCALE) ?? Math.max(1, Math.floor(delayFactor()))
// The programs that a test starts have to use the same variable.
process.env.TEST_TIMEOUT_SCALE = String(scale)

/**
 * `n` milliseconds, multiplied for slow machines: by TEST_TIMEOUT_SCALE, or else by the delay factor of the machine
 * when the test file was loaded.
 */
export function ms(n: number): number {
  return Math.round(n * scale)
}

/**
 * Settles as `promise` does, or rejects when that takes longer than the scaled `milliseconds`. While the machine is
 * busy, or does not run this process at all, the time passes more slowly.
 */
export async function withDeadline<T>(promise: Promise<T>, milliseconds: number, what: string): Promise<T> {
  const scaled = ms(milliseconds)
  // Created here and not in the timer, so that its stack names the caller.
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

/**
 * The number of runnable processes per processor, as a factor of delay. Windows does not expose it, and 0 is returned.
 */
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
