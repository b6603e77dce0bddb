import type { Compressor } from '../protocol/extension.js'
import { COPY_BELOW } from '../protocol/frame-writer.js'
import { runJob } from './thread-pool.js'
import { ZlibStream, type ZlibStreamOptions } from './zlib-stream.js'

/** Bytes from which on a message goes to the thread pool: below, compressing it takes less than about a millisecond. */
const ASYNC_FROM = 32_768

/** The four bytes that each message ends with and that are not sent, RFC 7692 section 7.2.1. */
const TAIL_SIZE = 4

/** RFC 7692 section 7.2.3.6: an empty message. */
const EMPTY_MESSAGE = Buffer.alloc(1)

const EMPTY = Buffer.alloc(0)

/**
 * Compresses messages, RFC 7692 section 7.2.1. The result for a large message is a promise; the messages have to be
 * sent in the order of the calls.
 */
export class Deflater implements Compressor {
  readonly #options: ZlibStreamOptions
  readonly takesOver: boolean
  /** For small messages, made when the first one comes. */
  #stream: ZlibStream | undefined
  /** The compression that has to end before the window can be used. */
  #last: Promise<unknown> | undefined
  #closed = false

  constructor(options: ZlibStreamOptions, takesOver: boolean) {
    this.#options = options
    this.takesOver = takesOver
  }

  compress(data: string | Uint8Array, fin: boolean): Buffer | Promise<Buffer> {
    const input = typeof data === 'string' ? Buffer.from(data) : asBuffer(data)
    // zlib writes nothing when there is nothing to flush.
    if (input.length === 0) return fin ? EMPTY_MESSAGE : EMPTY
    if (input.length < ASYNC_FROM && this.#last === undefined) return trim(this.#deflateSync(input), fin)
    // As without compression: the caller may change a small payload as soon as `send` has returned.
    const kept = input.length < COPY_BELOW ? Buffer.from(input) : input
    const output = this.takesOver ? this.#inTurn(kept) : this.#alone(kept)
    return output.then(deflated => trim(deflated, fin))
  }

  /** Frees the memory of zlib. */
  close(): void {
    this.#closed = true
    // A stream at work is closed when it is done.
    if (this.#last === undefined) this.#stream?.close()
  }

  #deflateSync(input: Buffer): Buffer {
    this.#stream ??= new ZlibStream('deflate', this.#options)
    const output = this.#stream.runSync(input)
    if (!this.takesOver) this.#stream.reset()
    return output
  }

  async #alone(input: Buffer): Promise<Buffer> {
    return runJob(async () => {
      const stream = new ZlibStream('deflate', this.#options)
      try {
        return await stream.run(input, Number.POSITIVE_INFINITY)
      } finally {
        stream.close()
      }
    })
  }

  async #inTurn(input: Buffer): Promise<Buffer> {
    this.#stream ??= new ZlibStream('deflate', this.#options)
    const stream = this.#stream
    const before = this.#last
    const turn = (async () => {
      await before
      if (this.#closed) return EMPTY
      return runJob(() => stream.run(input, Number.POSITIVE_INFINITY))
    })()
    this.#last = turn
    try {
      return await turn
    } finally {
      if (this.#last === turn) {
        this.#last = undefined
        if (this.#closed) stream.close()
      }
    }
  }
}

function trim(deflated: Buffer, fin: boolean): Buffer {
  return fin ? deflated.subarray(0, -TAIL_SIZE) : deflated
}

function asBuffer(data: Uint8Array): Buffer {
  return Buffer.isBuffer(data) ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength)
}
