import type { IncomingMessage } from 'node:http'
import { isThenable } from '../socket/events.js'
import { InvalidChoiceError } from './error.js'

/** Chooses one of the subprotocols that a client offers, or false, as in `ws`. */
export type HandleProtocols = (protocols: Set<string>, request: IncomingMessage) => string | false

/** @throws {InvalidChoiceError} when the choice was not offered. */
export function askHandleProtocols(
  handleProtocols: HandleProtocols,
  offers: readonly string[],
  request: IncomingMessage
): string | undefined {
  const choice = handleProtocols(new Set(offers), request)
  // A promise is no choice, and what it rejects with must not end the process.
  if (isThenable(choice)) choice.then(undefined, () => {})
  return checkChoice(choice, offers)
}

/**
 * `ws` takes false, the empty string and null for none.
 * @throws {InvalidChoiceError} when the choice was not offered.
 */
export function checkChoice(
  choice: string | false | null | undefined,
  offers: readonly string[]
): string | undefined {
  if (choice === undefined || choice === null || choice === false || choice === '') return undefined
  if (!offers.includes(choice)) throw new InvalidChoiceError(choice)
  return choice
}
