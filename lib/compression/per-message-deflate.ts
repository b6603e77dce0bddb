import type { DeflateSettings } from '../options/table.js'
import type { Role } from '../protocol/connection.js'
import type { CompressionExtension } from '../protocol/extension.js'
import { type DeflateParameters, PERMESSAGE_DEFLATE } from '../protocol/permessage-deflate.js'
import { Deflater } from './deflater.js'
import { Inflater } from './inflater.js'

/** zlib's smallest window. */
const MIN_WINDOW_BITS = 9
const MAX_WINDOW_BITS = 15

/** The deflaters of all connections without context takeover, by their settings. */
const deflaters = new Map<string, Deflater>()
const inflater = new Inflater(MAX_WINDOW_BITS, false)

/** permessage-deflate on a connection, RFC 7692 section 7. */
export class PerMessageDeflate implements CompressionExtension {
  readonly compressor: Deflater
  readonly decompressor: Inflater
  readonly threshold: number

  /** @param parameters what both sides agreed on. */
  constructor(role: Role, parameters: DeflateParameters, settings: DeflateSettings) {
    const server = {
      bits: parameters.serverMaxWindowBits,
      takesOver: !parameters.serverNoContextTakeover
    }
    const client = {
      bits: parameters.clientMaxWindowBits,
      takesOver: !parameters.clientNoContextTakeover
    }
    const [own, peers] = role === 'server' ? [server, client] : [client, server]
    this.compressor = deflaterFor(settings, own.bits, own.takesOver)
    this.decompressor = peers.takesOver ? new Inflater(Math.max(peers.bits, MIN_WINDOW_BITS), true) : inflater
    this.threshold = own.takesOver ? 0 : settings.threshold
  }

  get name(): string {
    return PERMESSAGE_DEFLATE
  }

  close(): void {
    if (this.compressor.takesOver) this.compressor.close()
    if (this.decompressor !== inflater) this.decompressor.close()
  }
}

function deflaterFor(settings: DeflateSettings, windowBits: number, takesOver: boolean): Deflater {
  const { level, memLevel, strategy } = settings
  const options = { windowBits, level, memLevel, strategy }
  if (takesOver) return new Deflater(options, true)
  const key = Object.values(options).join()
  let deflater = deflaters.get(key)
  if (deflater === undefined) {
    deflater = new Deflater(options, false)
    deflaters.set(key, deflater)
  }
  return deflater
}
