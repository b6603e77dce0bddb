import type { Deflate } from '../compression/per-message-deflate.js'
import type { DeflateSettings } from '../options/table.js'
import type { ExtensionOffer } from '../protocol/extension.js'
import { acceptDeflate } from '../protocol/permessage-deflate.js'

/** What became of the client's offers of permessage-deflate. */
export interface DeflateChoice {
  /** How messages are compressed; undefined for not at all. */
  readonly deflate: Deflate | undefined
  /** The value of `Sec-WebSocket-Extensions` in the answer. */
  readonly response: string | undefined
}

const NONE: DeflateChoice = { deflate: undefined, response: undefined }

/** @param settings false where messages are not compressed. */
export function chooseDeflate(
  offers: readonly ExtensionOffer[],
  settings: DeflateSettings | false
): DeflateChoice {
  const accepted = settings ? acceptDeflate(offers, settings) : undefined
  if (!settings || accepted === undefined) return NONE
  const { parameters, response } = accepted
  return { deflate: { parameters, settings }, response }
}
