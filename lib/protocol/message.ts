import { Utf8Validator } from './utf8.js'

/** Room for the first small pieces of a message whose size is not known yet. */
const MIN_CAPACITY = 1024

/** The buffer grows to at most so many times the bytes that have arrived. */
const GROWTH = 4

/** From here on a piece is kept where it is: fresh memory costs more than the copy itself. */
const KEPT_FROM = 4096

const EMPTY = Buffer.alloc(0)

/** Shared by all messages without large pieces. */
const NO_PIECES: Buffer[] = []

/**
 * A message that arrives in several pieces. Large pieces stay in the chunks in which they arrived, and are copied once,
 * when the message is complete. Small pieces are copied together as they arrive, so that many tiny ones cost no more memory
 * than their bytes. Memory grows with the bytes that arrived, not with an announced length.
 */
export class Message {
  readonly isBinary: boolean
  /** RFC 7692 section 6: the whole message is compressed. */
  readonly isCompressed: boolean
  length = 0
  /** Frames that have ended without ending the message. */
  fragments = 0
  readonly #text: Utf8Validator | undefined
  /** Everything before the bytes in `#buffer`. */
  #pieces = NO_PIECES
  /** Whether nothing else refers to the memory of any chunk that the message came in. */
  #areSole = true
  /** Bytes of memory that the pieces take. */
  #piecesCapacity = 0
  /** Small pieces, copied together; `#filled` bytes of it are in use. */
  #buffer: Buffer
  #filled = 0

  /** @param buffer where to collect the message; pieces may overlap with it. */
  constructor(isBinary: boolean, isCompressed = false, buffer: Buffer = EMPTY) {
    this.isBinary = isBinary
    this.isCompressed = isCompressed
    this.#buffer = buffer
    // Whether compressed text is UTF-8 shows only once it is inflated.
    this.#text = isBinary || isCompressed ? undefined : new Utf8Validator()
  }

  /**
   * Takes a piece, already unmasked. The message may keep it.
   * @param remaining bytes of the current frame that have not arrived.
   * @param last whether the message ends with this frame.
   * @param isSole whether nothing but its chunk and the message refers to the memory of the piece.
   * @returns false when the text is not UTF-8.
   */
  append(piece: Buffer, remaining: number, last: boolean, isSole = false): boolean {
    if (this.#text !== undefined && !this.#text.push(piece)) return false
    this.#areSole &&= isSole
    const filled = this.#filled + piece.length
    if (filled > this.#buffer.length) {
      const announced = filled + remaining
      // Where the buffer would reach its final size at once, copying now is cheaper: the piece is in the cache.
      const isFinal = last && this.#pieces === NO_PIECES && announced <= GROWTH * filled
      if (!isFinal && isWorthKeeping(piece)) {
        this.#keep(piece)
        return true
      }
      this.#grow(filled, announced, last)
    }
    this.#buffer.set(piece, this.#filled)
    this.#filled = filled
    this.length += piece.length
    return true
  }

  /** Whether the message may end here; text may not end inside a character. */
  isComplete(): boolean {
    return this.#text === undefined || this.#text.end()
  }

  /** Bytes of memory that it takes. */
  get capacity(): number {
    return this.#piecesCapacity + this.#buffer.length
  }

  take(): Buffer {
    const rest = this.#buffer.subarray(0, this.#filled)
    if (this.#pieces.length === 0) return rest
    const message = Buffer.allocUnsafeSlow(this.length)
    let at = 0
    for (const piece of this.#pieces) {
      message.set(piece, at)
      at += piece.length
    }
    message.set(rest, at)
    // The parser still has the chunk of the last piece.
    if (this.#areSole) for (const { buffer } of this.#pieces.slice(0, -1).filter(fillsChunk)) free(buffer)
    return message
  }

  #keep(piece: Buffer): void {
    if (this.#pieces === NO_PIECES) this.#pieces = []
    if (this.#filled > 0) {
      this.#pieces.push(this.#buffer.subarray(0, this.#filled))
      this.#piecesCapacity += this.#buffer.length
      this.#buffer = EMPTY
      this.#filled = 0
    }
    this.#pieces.push(piece)
    this.#piecesCapacity += piece.buffer.byteLength
    this.length += piece.length
  }

  /**
   * Grows towards the announced length, but not past four times the bytes that have arrived. When more frames follow the buffer doubles at
   * least: growing to what each tiny fragment announces would copy the message once a fragment.
   */
  #grow(needed: number, announced: number, last: boolean): void {
    const wanted = Math.min(GROWTH * needed, announced)
    const capacity = last ? wanted : Math.max(wanted, 2 * this.#buffer.length, MIN_CAPACITY)
    const buffer = Buffer.allocUnsafeSlow(capacity)
    buffer.set(this.#buffer.subarray(0, this.#filled))
    this.#buffer = buffer
  }
}

/** A piece that is kept keeps its whole chunk in memory. */
function isWorthKeeping(piece: Buffer): boolean {
  return piece.length >= KEPT_FROM && 2 * piece.length >= piece.buffer.byteLength
}

function fillsChunk({ length, buffer }: Buffer): boolean {
  return length === buffer.byteLength
}

/**
 * Frees memory now, where Node can (22 and later), and not at the next garbage collection: the next read then gets memory
 * that is in the cache, and V8 collects garbage less often.
 */
function free(buffer: ArrayBufferLike): void {
  const transfer: unknown = Reflect.get(buffer, 'transfer')
  if (typeof transfer === 'function') Reflect.apply(transfer, buffer, [0])
}
