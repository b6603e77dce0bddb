import { Interruption, interrupted } from './interrupt.js'

/**
 * Runs a command; what fails is said in one sentence.
 * @param {() => Promise<void>} body
 * @param {string} name of the command.
 */
export async function main(body, name = 'bench') {
  try {
    await body()
  } catch (error) {
    const cause = interrupted.aborted ? interrupted.reason : error
    console.error(`${name}: ${cause instanceof Error ? cause.message : cause}`)
    process.exitCode = cause instanceof Interruption ? 130 : 1
  }
}
