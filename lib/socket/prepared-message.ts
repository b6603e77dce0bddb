import { isUtf8 } from 'node:buffer'
import { messageFrame } from '../protocol/connection.js'
import type { Compressor } from '../protocol/extension.js'
import { encode, type SendData, type SendOptions } from './codec.js'
import { InvalidTextError } from './error.js'

/** A message compressed by one compressor. */
interface Compressed {
  readonly compressor: Compressor
  /** While the thread pool is at work, the compressed payload to come. */
  frame: Buffer | Promise<Buffer>
}

/**
 * A message that is sent to many: its frame is made once, and compressed once for each set of compression parameters.
 * Made by {@link prepare}.
 */
export class PreparedMessage {
  /** @internal */
  readonly payload: string | Uint8Array
  readonly isBinary: boolean
  /** Whether it may be compressed. */
  readonly compress: boolean
  #size: number | undefined
  #frame: Buffer | undefined
  /** One for each set of parameters. There are few, so a scan is cheaper than a map. */
  readonly #compressed: Compressed[] = []

  /** @internal */
  constructor(data: unknown, options: PrepareOptions) {
    const payload = encode(data)
    this.payload = typeof payload === 'string' ? payload : Buffer.from(payload)
    this.isBinary = options.binary ?? typeof payload !== 'string'
    this.compress = options.compress ?? true
    // RFC 6455 section 8.1: invalid UTF-8 of one client would close the connections of all recipients.
    if (!this.isBinary && typeof this.payload !== 'string' && !isUtf8(this.payload))
      throw new InvalidTextError()
  }

  /** Bytes of the payload. */
  get size(): number {
    this.#size ??= Buffer.byteLength(this.payload)
    return this.#size
  }

  /** @internal */
  get frame(): Buffer {
    this.#frame ??= messageFrame(this.payload, this.isBinary, false)
    return this.#frame
  }

  /**
   * The frame as a compressor makes it that compresses each message on its own; while the thread pool is at work, a promise
   * of its payload.
   * @internal
   */
  compressedFrame(compressor: Compressor): Buffer | Promise<Buffer> {
    for (const known of this.#compressed) if (known.compressor === compressor) return known.frame
    const payload = compressor.compress(this.payload, true)
    const frame = payload instanceof Promise ? payload : this.#frameOf(payload)
    const compressed: Compressed = { compressor, frame }
    this.#compressed.push(compressed)
    if (payload instanceof Promise) this.#keep(compressed, payload)
    return frame
  }

  /** A failed compression is tried again with the next connection. */
  #keep(compressed: Compressed, pending: Promise<Buffer>): void {
    pending.then(
      payload => {
        compressed.frame = this.#frameOf(payload)
      },
      () => {
        this.#compressed.splice(this.#compressed.indexOf(compressed), 1)
      }
    )
  }

  #frameOf(payload: Buffer): Buffer {
    return payload.length < this.size ? messageFrame(payload, this.isBinary, true) : this.frame
  }
}

/** Options of {@link prepare}. */
export type PrepareOptions = Pick<SendOptions, 'binary' | 'compress'>

/**
 * Prepares a message to be sent to any number of sockets with `socket.send(message)`.
 * @param data copied, so it may be changed afterwards.
 * @throws {TypeError} `FST_UPGRADE_INVALID_DATA` when `data` is neither text nor bytes, `FST_UPGRADE_INVALID_TEXT` when bytes that
 * are to leave as text are not UTF-8.
 */
export function prepare(data: SendData, options: PrepareOptions = {}): PreparedMessage {
  return new PreparedMessage(data, options)
}
