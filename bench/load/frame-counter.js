const FIN = 0x80
const CONTROL = 0x08
const CLOSE = 8
const PING = 9
const MASKED = 0x80
const OPCODES = new Set([0, 1, 2, CLOSE, PING, 10])

/** Counts the messages in the output of a server, and parses only the frame headers. */
export class FrameCounter {
  /** Payload bytes of all data frames. */
  bytes = 0
  /** Pings since `takePings`. */
  #pings = 0
  /** The number of bytes of the current frame that have not arrived. */
  #remaining = 0
  #endsMessage = false
  /** The beginning of an incomplete header at the end of a chunk. */
  #header = Buffer.alloc(10)
  #headerSize = 0

  /**
   * @param {Uint8Array} chunk
   * @param {number} start
   * @param {number} end
   * @returns {number} messages that end in the chunk.
   */
  push(chunk, start, end) {
    let messages = 0
    let at = start
    while (at < end) {
      if (this.#remaining === 0) {
        at = this.#readHeader(chunk, at, end)
        if (at < 0) return messages
      }
      const taken = Math.min(this.#remaining, end - at)
      this.#remaining -= taken
      at += taken
      if (this.#remaining === 0 && this.#endsMessage) {
        this.#endsMessage = false
        messages++
      }
    }
    return messages
  }

  takePings() {
    const pings = this.#pings
    this.#pings = 0
    return pings
  }

  /**
   * @param {Uint8Array} chunk
   * @param {number} at
   * @param {number} end
   * @returns {number} where the payload begins; -1 when the header goes on in the next chunk.
   */
  #readHeader(chunk, at, end) {
    if (this.#headerSize === 0 && end - at >= 10) return at + this.#startFrame(chunk, at)
    let next = at
    while (next < end) {
      this.#header[this.#headerSize++] = chunk[next++]
      if (this.#headerSize < 2 || this.#headerSize < sizeOfHeader(this.#header[1])) continue
      this.#headerSize = 0
      this.#startFrame(this.#header, 0)
      return next
    }
    return -1
  }

  /**
   * @param {Uint8Array} bytes
   * @param {number} at
   * @returns {number} the size of the header.
   */
  #startFrame(bytes, at) {
    const first = bytes[at]
    const length = payloadLength(bytes, at)
    this.#remaining = length
    if ((bytes[at + 1] & MASKED) !== 0 || !OPCODES.has(first & 15))
      throw new Error('the server sent a broken frame')
    if ((first & CONTROL) === 0) {
      this.#endsMessage = (first & FIN) !== 0
      this.bytes += length
    } else if ((first & 15) === PING) {
      this.#pings++
    } else if ((first & 15) === CLOSE) {
      throw new Error('the server closed a connection')
    }
    return sizeOfHeader(bytes[at + 1])
  }
}

/** @param {number} second the second byte of a frame */
function sizeOfHeader(second) {
  return second < 126 ? 2 : second === 126 ? 4 : 10
}

/**
 * @param {Uint8Array} bytes
 * @param {number} at
 */
function payloadLength(bytes, at) {
  const length = bytes[at + 1]
  if (length < 126) return length
  if (length === 126) return bytes[at + 2] * 256 + bytes[at + 3]
  let long = 0
  for (let i = at + 2; i < at + 10; i++) long = long * 256 + bytes[i]
  return long
}
