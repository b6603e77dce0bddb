import type { IncomingMessage } from 'node:http'
import { PerMessageDeflate } from '../compression/per-message-deflate.js'
import type { DeflateSettings } from '../options/table.js'
import type { CompressionExtension, ExtensionOffer } from '../protocol/extension.js'
import { acceptDeflate } from '../protocol/permessage-deflate.js'
import { isThenable } from '../socket/events.js'
import { InvalidChoiceError } from './error.js'

/** Chooses one of the subprotocols that a client offers, or none by returning false, as in `ws`. */
export type HandleProtocols = (protocols: Set<string>, request: IncomingMessage) => string | false

/** @throws {InvalidChoiceError} when the choice was not offered. */
export function callHandleProtocols(
  handleProtocols: HandleProtocols,
  offers: readonly string[],
  request: IncomingMessage
): string | undefined {
  const choice = handleProtocols(new Set(offers), request)
  // A promise is no choice, and its rejection must not end the process.
  if (isThenable(choice)) choice.then(undefined, () => {})
  return checkSubprotocol(choice, offers)
}

/**
 * @param choice as in `ws`, false, the empty string and null mean none.
 * @throws {InvalidChoiceError} when the choice was not offered.
 */
export function checkSubprotocol(
  choice: string | false | null | undefined,
  offers: readonly string[]
): string | undefined {
  if (choice === undefined || choice === null || choice === false || choice === '') return undefined
  if (!offers.includes(choice)) throw new InvalidChoiceError(choice)
  return choice
}

/** The result of the extensions that a client offers. */
export interface ExtensionChoice {
  readonly extension: CompressionExtension | undefined
  /** The value of `Sec-WebSocket-Extensions` in the answer. */
  readonly response: string | undefined
}

const NO_EXTENSION: ExtensionChoice = { extension: undefined, response: undefined }

/** @param deflate the settings of permessage-deflate, or false where it is not accepted. */
export function chooseExtension(
  offers: readonly ExtensionOffer[],
  deflate: DeflateSettings | false
): ExtensionChoice {
  const accepted = deflate ? acceptDeflate(offers, deflate) : undefined
  if (!deflate || accepted === undefined) return NO_EXTENSION
  const { parameters, response } = accepted
  return { extension: new PerMessageDeflate('server', parameters, deflate), response }
}
