import type { DeflateSettings } from '../options/table.js'
import type { Role } from '../protocol/connection.js'
import type { DeflateParameters } from '../protocol/permessage-deflate.js'
import { Deflater } from './deflater.js'
import { Inflater } from './inflater.js'

/** What a connection that speaks permessage-deflate has agreed on, and how this side does its part. */
export interface Deflate {
  readonly parameters: DeflateParameters
  readonly settings: DeflateSettings
}

/** zlib's smallest window. */
const MIN_WINDOW_BITS = 9
const MAX_WINDOW_BITS = 15

/** The deflaters of all connections without context takeover, by their settings. */
const deflaters = new Map<string, Deflater>()
const inflater = new Inflater(MAX_WINDOW_BITS, false)

/** Both directions of a connection with permessage-deflate. */
export class PerMessageDeflate {
  readonly deflater: Deflater
  readonly inflater: Inflater
  /** Bytes from which on a message is worth it. */
  readonly threshold: number

  constructor(role: Role, { parameters, settings }: Deflate) {
    const server = {
      bits: parameters.serverMaxWindowBits,
      takesOver: !parameters.serverNoContextTakeover
    }
    const client = {
      bits: parameters.clientMaxWindowBits,
      takesOver: !parameters.clientNoContextTakeover
    }
    const [own, peers] = role === 'server' ? [server, client] : [client, server]
    this.deflater = deflaterFor(settings, own.bits, own.takesOver)
    this.inflater = peers.takesOver ? new Inflater(Math.max(peers.bits, MIN_WINDOW_BITS), true) : inflater
    this.threshold = own.takesOver ? 0 : settings.threshold
  }

  /** Frees what belongs to this connection alone. */
  close(): void {
    if (this.deflater.takesOver) this.deflater.close()
    if (this.inflater !== inflater) this.inflater.close()
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
