import type { Decompressor } from '../protocol/extension.js'
import { INVALID_DEFLATE, MESSAGE_TOO_BIG, type Violation } from '../protocol/violation.js'
import { runJob } from './thread-pool.js'
import { OutputTooLargeError, ZlibStream } from './zlib-stream.js'

/** The number of compressed bytes up to which a message is inflated synchronously. */
const SYNC_UP_TO = 8192

/** With takeover a message cannot be inflated a second time, so this is at most a millisecond of work. */
const SYNC_UP_TO_TAKING_OVER = 1024

/**
 * The number of bytes up to which a message is inflated synchronously; a message that would become larger is inflated
 * again in the thread pool.
 */
const SYNC_OUTPUT = 2 ** 18

/** The tail of each message, which is not sent, RFC 7692 section 7.2.2. */
const TAIL = Buffer.from([0, 0, 0xff, 0xff])

/**
 * The number of times that compressed data may end within a message and continue (RFC 7692 section 7.2.3.4): each time
 * needs a new stream.
 */
const MAX_STREAMS = 16

const scratch = Buffer.allocUnsafeSlow(SYNC_UP_TO + TAIL.length)

/** Inflates messages, RFC 7692 section 7.2.2. The result for a large message is a promise; one at a time. */
export class Inflater implements Decompressor {
  readonly #windowBits: number
  readonly #takesOver: boolean
  /** Made when the first message comes. */
  #stream: ZlibStream | undefined
  #isBusy = false
  #closed = false

  /**
   * @param windowBits at least those of the peer, and at least 9.
   * @param takesOver whether a message may refer to earlier messages: then the inflater belongs to one connection.
   */
  constructor(windowBits: number, takesOver: boolean) {
    this.#windowBits = windowBits
    this.#takesOver = takesOver
  }

  /** After a violation the inflater of one connection cannot be used any more. */
  decompress(data: Buffer, limit: number): Buffer | Violation | Promise<Buffer | Violation> {
    if (data.length > (this.#takesOver ? SYNC_UP_TO_TAKING_OVER : SYNC_UP_TO)) {
      return this.#inThreadPool(data, limit)
    }
    try {
      const message = this.#inflateSync(data, limit)
      return message.length > limit ? MESSAGE_TOO_BIG : message
    } catch (error) {
      this.#drop()
      const mayFit = error instanceof OutputTooLargeError && !this.#takesOver && limit > SYNC_OUTPUT
      return mayFit ? this.#inThreadPool(data, limit) : violationOf(error)
    }
  }

  /** Frees the memory of zlib. */
  close(): void {
    this.#closed = true
    // A stream at work is closed when it is done.
    if (!this.#isBusy) this.#drop()
  }

  #drop(): void {
    this.#stream?.close()
    this.#stream = undefined
  }

  #inflateSync(data: Buffer, limit: number): Buffer {
    data.copy(scratch)
    TAIL.copy(scratch, data.length)
    const maxOutputLength = this.#takesOver ? limit : SYNC_OUTPUT
    this.#stream ??= new ZlibStream('inflate', { windowBits: this.#windowBits, maxOutputLength })
    const stream = this.#stream
    const end = data.length + TAIL.length
    const outputs: Buffer[] = []
    let size = 0
    let at = 0
    for (let streams = 0; at < data.length || streams === 0; streams++) {
      if (streams === MAX_STREAMS) throw new Error('The compressed data ends too often.')
      const output = stream.runSync(scratch.subarray(at, end))
      outputs.push(output)
      size += output.length
      if (size > maxOutputLength) throw new OutputTooLargeError()
      at += stream.taken
      if (at < end || !this.#takesOver) stream.reset()
    }
    return outputs.length > 1 ? Buffer.concat(outputs) : outputs[0]
  }

  async #inThreadPool(data: Buffer, limit: number): Promise<Buffer | Violation> {
    this.#isBusy = true
    const result = await runJob(() => this.#run(Buffer.concat([data, TAIL]), limit)).catch(violationOf)
    this.#isBusy = false
    if (this.#closed) this.#drop()
    return result
  }

  async #run(input: Buffer, limit: number): Promise<Buffer> {
    let stream = (this.#takesOver ? this.#stream : undefined) ?? this.#newStream(limit)
    const outputs: Buffer[] = []
    let size = 0
    let at = 0
    while (at < input.length - TAIL.length) {
      const output = await stream.run(input.subarray(at), limit - size)
      outputs.push(output)
      size += output.length
      at += stream.taken
      if (at === input.length) break
      // One that has come to the end of its data takes no more.
      stream.close()
      if (outputs.length === MAX_STREAMS) throw new Error('The compressed data ends too often.')
      stream = this.#newStream(limit)
    }
    if (this.#takesOver) this.#stream = stream
    else stream.close()
    return outputs.length > 1 ? Buffer.concat(outputs) : outputs[0]
  }

  #newStream(maxOutputLength: number): ZlibStream {
    return new ZlibStream('inflate', { windowBits: this.#windowBits, maxOutputLength })
  }
}

function violationOf(error: unknown): Violation {
  return error instanceof OutputTooLargeError ? MESSAGE_TOO_BIG : INVALID_DEFLATE
}
