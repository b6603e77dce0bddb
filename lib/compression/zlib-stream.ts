import { constants } from 'node:zlib'
import { DeflateRaw, InflateRaw } from 'minizlib'

const { Z_SYNC_FLUSH } = constants

const EMPTY = Buffer.alloc(0)

/** The output would have had more bytes than it may. */
export class OutputTooLargeError extends Error {
  override readonly name = 'OutputTooLargeError'
}

/** Those of `node:zlib`, https://nodejs.org/api/zlib.html#class-options. */
export interface ZlibStreamOptions {
  readonly windowBits: number
  readonly level?: number
  readonly memLevel?: number
  readonly strategy?: number
  readonly chunkSize?: number
  /** Bytes of output that an input may have in {@link ZlibStream.runSync}. */
  readonly maxOutputLength?: number
}

/**
 * A raw deflate or inflate stream of zlib that keeps its window from input to input, each of which is flushed. Small input
 * is processed at once, which costs several times less than a round trip through the thread pool; for large input there
 * is the thread pool. After an error the stream is closed.
 */
export class ZlibStream {
  readonly #stream: DeflateRaw | InflateRaw
  /** The object that frees zlib's memory. */
  readonly #native: { close(): void }
  #output: Buffer[] = []
  #error: unknown
  /**
   * The number of bytes of the last input that were consumed: fewer than its length when the compressed data ends
   * earlier.
   */
  taken = 0

  constructor(kind: 'deflate' | 'inflate', options: ZlibStreamOptions) {
    this.#stream = new (kind === 'deflate' ? DeflateRaw : InflateRaw)({ ...options, flush: Z_SYNC_FLUSH })
    this.#native = Reflect.get(Object(this.#stream.handle), '_handle')
    this.#stream.on('data', chunk => this.#output.push(chunk))
    this.#stream.on('error', error => {
      this.#error = error
    })
  }

  /** @throws when the input is invalid, or {@link OutputTooLargeError}. */
  runSync(input: Buffer): Buffer {
    const { handle } = this.#stream
    this.#stream.write(input)
    this.taken = handle?.bytesWritten ?? 0
    const output = this.#takeOutput()
    if (this.#error === undefined) return output
    // minizlib, which keeps the stream from closing while it works, forgets it then: it would wait for a collection.
    Reflect.deleteProperty(this.#native, 'close')
    this.#native.close()
    throw isTooLarge(this.#error) ? new OutputTooLargeError() : this.#error
  }

  /**
   * The same in the thread pool. One at a time, and nothing else meanwhile.
   * @param limit bytes of output.
   */
  run(input: Buffer, limit: number): Promise<Buffer> {
    const { handle } = this.#stream
    if (handle === undefined) return Promise.reject(new Error('The stream is closed.'))
    const before = handle.bytesWritten
    let size = 0
    return new Promise((resolve, reject) => {
      const onData = (chunk: Buffer): void => {
        size += chunk.length
        if (size <= limit) this.#output.push(chunk)
        else settle(new OutputTooLargeError())
      }
      // The compressed data has ended, and with it the stream.
      const onEnd = (): void => settle()
      const settle = (error?: Error): void => {
        handle.off('data', onData)
        handle.off('error', settle)
        handle.off('end', onEnd)
        handle.off('close', onEnd)
        this.taken = handle.bytesWritten - before
        const output = this.#takeOutput()
        if (error === undefined) resolve(output)
        else {
          this.close()
          reject(error)
        }
      }
      handle.on('data', onData)
      handle.on('error', settle)
      handle.on('end', onEnd)
      handle.on('close', onEnd)
      handle.write(input)
      handle.flush(Z_SYNC_FLUSH, () => settle())
    })
  }

  /** Forgets the window. */
  reset(): void {
    this.#stream.reset()
  }

  close(): void {
    this.#stream.close()
  }

  #takeOutput(): Buffer {
    const output = this.#output
    this.#output = []
    return output.length > 1 ? Buffer.concat(output) : (output[0] ?? EMPTY)
  }
}

function isTooLarge(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE'
}
