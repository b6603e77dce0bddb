import { constants, inflateRawSync } from 'node:zlib'
import { DeflateRaw, InflateRaw } from 'minizlib'
import { deflated } from '../../bench/load/batch.js'

const { Z_SYNC_FLUSH } = constants

/** The end of a sync flush, which a message leaves out, RFC 7692 section 7.2.1. */
const TAIL = Buffer.from([0, 0, 0xff, 0xff])

/**
 * Compresses and inflates the messages of a client.
 * @typedef {{ deflate(data: Buffer): Buffer, inflate(data: Buffer): Buffer, close(): void }} Codec
 */

/**
 * @param {string} answer the `Sec-WebSocket-Extensions` of the 101.
 * @returns {Codec}
 */
export function codecFor(answer) {
  const keeps = (/** @type {string} */ side) => !answer.includes(`${side}_no_context_takeover`)
  const deflater = keeps('client') ? new Window(new DeflateRaw({ flush: Z_SYNC_FLUSH })) : undefined
  const inflater = keeps('server') ? new Window(new InflateRaw({ flush: Z_SYNC_FLUSH })) : undefined
  return {
    deflate: data => deflater?.run(data).subarray(0, -TAIL.length) ?? deflated(data),
    inflate: data => {
      const whole = Buffer.concat([data, TAIL])
      return inflater?.run(whole) ?? inflateRawSync(whole, { finishFlush: Z_SYNC_FLUSH })
    },
    close: () => {
      deflater?.close()
      inflater?.close()
    }
  }
}

/** A synchronous zlib stream that keeps its window between messages. */
class Window {
  #stream
  /** @type {Buffer[]} */
  #output = []

  /** @param {import('minizlib').DeflateRaw | import('minizlib').InflateRaw} stream */
  constructor(stream) {
    this.#stream = stream
    stream.on('data', chunk => this.#output.push(chunk))
  }

  /** @param {Buffer} input */
  run(input) {
    this.#stream.write(input)
    const output = Buffer.concat(this.#output)
    this.#output = []
    return output
  }

  close() {
    this.#stream.close()
  }
}
