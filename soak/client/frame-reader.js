import { CLOSE, FIN, RSV1 } from '../../bench/load/frame.js'

const CONTROL = 0x08
const MASKED = 0x80
const KNOWN = FIN | RSV1 | 0x0f

/**
 * A frame of a server, RFC 6455 section 5.2.
 * @typedef {{ fin: boolean, rsv1: boolean, opcode: number, payload: Buffer }} Frame
 */

/** Splits the output of a server into frames, and refuses frames that no server may send. */
export class FrameReader {
  #onFrame
  /** @type {Buffer[]} */
  #chunks = []
  #size = 0
  /** The number of bytes that are needed for the next step. */
  #needed = 2
  #inMessage = false

  /** @param {(frame: Frame) => void} onFrame */
  constructor(onFrame) {
    this.#onFrame = onFrame
  }

  /** @param {Buffer} chunk */
  push(chunk) {
    this.#chunks.push(chunk)
    this.#size += chunk.length
    if (this.#size < this.#needed) return
    let bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks)
    for (;;) {
      this.#needed = neededFor(bytes)
      if (bytes.length < this.#needed) break
      this.#onFrame(this.#read(bytes))
      bytes = bytes.subarray(this.#needed)
    }
    this.#chunks = [bytes]
    this.#size = bytes.length
  }

  /** @param {Buffer} bytes */
  #read(bytes) {
    const first = bytes[0]
    const frame = {
      fin: (first & FIN) !== 0,
      rsv1: (first & RSV1) !== 0,
      opcode: first & 15,
      payload: bytes.subarray(headerSize(bytes), this.#needed)
    }
    const problem = this.#check(frame, first, bytes[1])
    if (problem !== undefined) throw new Error(`the server sent ${problem}`)
    if ((first & CONTROL) === 0) this.#inMessage = !frame.fin
    return frame
  }

  /**
   * @param {Frame} frame
   * @param {number} first
   * @param {number} second
   */
  #check({ fin, rsv1, opcode, payload }, first, second) {
    if ((first & ~KNOWN) !== 0) return 'reserved bits'
    if ((second & MASKED) !== 0) return 'a masked frame'
    if ((opcode & CONTROL) !== 0) {
      if (opcode > 10) return 'an unknown opcode'
      if (!fin || rsv1 || payload.length > 125) return 'a bad control frame'
      return opcode === CLOSE && payload.length === 1 ? 'a bad Close frame' : undefined
    }
    if (opcode > 2) return 'an unknown opcode'
    return (opcode === 0) !== this.#inMessage || (rsv1 && opcode === 0)
      ? 'a fragment out of place'
      : undefined
  }
}

/** @param {Buffer} bytes */
function headerSize(bytes) {
  const length = bytes[1] & 127
  return length < 126 ? 2 : length === 126 ? 4 : 10
}

/**
 * The size of the first frame, or of its header while that is incomplete.
 * @param {Buffer} bytes
 */
function neededFor(bytes) {
  if (bytes.length < 2) return 2
  const header = headerSize(bytes)
  if (bytes.length < header) return header
  if (header === 2) return 2 + (bytes[1] & 127)
  return header + (header === 4 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2)))
}
