import { Interruption, interrupted } from './interrupt.js'

/**
 * Runs a benchmark; what fails is said in one sentence.
 * @param {() => Promise<void>} body
 */
export async function main(body) {
  try {
    await body()
  } catch (error) {
    const cause = interrupted.aborted ? interrupted.reason : error
    console.error(`bench: ${cause instanceof Error ? cause.message : cause}`)
    process.exitCode = cause instanceof Interruption ? 130 : 1
  }
}
