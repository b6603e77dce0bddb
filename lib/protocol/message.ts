import { Utf8Validator } from './utf8.js'

/** Room for the first fragments of a message whose size is not known yet. */
const MIN_CAPACITY = 1024

const EMPTY = Buffer.alloc(0)

/**
 * A message that arrives in several pieces. The pieces are copied together as they come, so that many tiny ones
 * cost no more memory than their bytes, and memory grows with the bytes that arrived, not with an announced length.
 */
export class Message {
  readonly isBinary: boolean
  /** RFC 7692 section 6: the whole message is compressed. */
  readonly isCompressed: boolean
  length = 0
  /** Frames that have ended without ending the message. */
  fragments = 0
  readonly #text: Utf8Validator | undefined
  #buffer: Buffer

  /** @param buffer where to collect the message; pieces may overlap with it. */
  constructor(isBinary: boolean, isCompressed = false, buffer: Buffer = EMPTY) {
    this.isBinary = isBinary
    this.isCompressed = isCompressed
    this.#buffer = buffer
    // What compressed text says shows only once it is inflated.
    this.#text = isBinary || isCompressed ? undefined : new Utf8Validator()
  }

  /**
   * Takes a piece, already unmasked.
   * @param remaining how many bytes the current frame still owes.
   * @param last whether the message ends with this frame.
   * @returns false when the text is not UTF-8.
   */
  append(piece: Uint8Array, remaining: number, last: boolean): boolean {
    if (this.#text !== undefined && !this.#text.push(piece)) return false
    const needed = this.length + piece.length
    if (needed > this.#buffer.length) this.#grow(needed, needed + remaining, last)
    this.#buffer.set(piece, this.length)
    this.length = needed
    return true
  }

  /** Whether the message may end here; text may not end inside a character. */
  isComplete(): boolean {
    return this.#text === undefined || this.#text.end()
  }

  /** Bytes of memory that it takes. */
  get capacity(): number {
    return this.#buffer.length
  }

  take(): Buffer {
    return this.#buffer.subarray(0, this.length)
  }

  /**
   * Grows towards the announced length, but not past four times the bytes that have arrived. When more frames follow the buffer doubles at
   * least: growing to what each tiny fragment announces would copy the message once a fragment.
   */
  #grow(needed: number, announced: number, last: boolean): void {
    const wanted = Math.min(4 * needed, announced)
    const capacity = last ? wanted : Math.max(wanted, 2 * this.#buffer.length, MIN_CAPACITY)
    const buffer = Buffer.allocUnsafeSlow(capacity)
    buffer.set(this.#buffer.subarray(0, this.length))
    this.#buffer = buffer
  }
}
