import { isUtf8 } from 'node:buffer'
import { MAX_CONTROL_PAYLOAD } from './close-code.js'
import {
  checkHeader,
  deflatedRoom,
  FIN,
  headerSize,
  isControl,
  MAX_HEADER_SIZE,
  maskingKey,
  opcodeOf,
  payloadLength,
  RSV1
} from './frame-header.js'
import { mask } from './mask.js'
import { Message } from './message.js'
import { BINARY } from './opcode.js'
import { INVALID_UTF8, TOO_MANY_FRAGMENTS, type Violation } from './violation.js'

/** Takes messages. It may pause or stop the parser. */
export interface MessageHandler {
  /** Text is valid UTF-8. */
  onMessage(data: Buffer, isBinary: boolean): void
  /** A compressed message, where permessage-deflate is in use. Text is not known to be UTF-8 yet. */
  onCompressed(data: Buffer, isBinary: boolean): void
}

/** Takes control frames and violations. It may pause or stop the parser. */
export interface ControlHandler {
  onControl(opcode: number, payload: Buffer): void
  onViolation(violation: Violation): void
}

const EMPTY = Buffer.alloc(0)

/** Bytes of `maxPayload` for each of which a message may have one more fragment than {@link FREE_FRAGMENTS}. */
const BYTES_A_FRAGMENT = 16
const FREE_FRAGMENTS = 4096

/** From here on it pays to complete a message where most of it lies: fresh memory costs more than moving it does. */
const IN_PLACE_FROM = 16384

/**
 * Turns the bytes of a connection into messages and control frames, RFC 6455 section 5.
 *
 * A frame that arrived whole is unmasked in place and handed on as a view of its chunk: many small frames in one chunk
 * take one pass and no copy. Only a frame that is split between chunks is copied.
 */
export class FrameParser {
  readonly masked: boolean
  readonly compressible: boolean
  readonly #maxPayload: number
  readonly #messages: MessageHandler
  readonly #controls: ControlHandler
  #paused = false
  #stopped = false
  #parsing = false
  /** Unparsed data; only while paused or inside `push`. */
  #chunk: Buffer = EMPTY
  #position = 0
  /** Whether nothing else refers to the memory of the chunk. */
  #isSole = false
  /** The beginning of a header that a chunk broke off in. */
  #partial: Buffer | undefined
  #partialSize = 0
  /** The frame whose payload is awaited; `#remaining` is 0 between frames. */
  #first = 0
  #key = 0
  #offset = 0
  #remaining = 0
  /** The payload so far of a control frame, or of the message under way. */
  #control: Buffer | undefined
  #message: Message | undefined
  /** Whether the message continues after its current frame. */
  fragmented = false

  /**
   * @param masked whether the peer masks: it does when it is the client.
   * @param maxPayload bytes a message may have; an eighth more while it is compressed.
   * @param compressible whether permessage-deflate is in use.
   */
  constructor(
    masked: boolean,
    maxPayload: number,
    compressible: boolean,
    messages: MessageHandler,
    controls: ControlHandler
  ) {
    this.masked = masked
    this.compressible = compressible
    this.#maxPayload = maxPayload
    this.#messages = messages
    this.#controls = controls
  }

  /** Bytes that the message under way may still take. */
  get room(): number {
    const message = this.#message
    if (message === undefined) return this.#maxPayload
    const room = message.isCompressed ? deflatedRoom(this.#maxPayload, message.fragments) : this.#maxPayload
    return room - message.length
  }

  /** Whether a frame or a message of the peer is incomplete. */
  get isUnfinished(): boolean {
    return this.#message !== undefined || this.#remaining > 0 || this.#partial !== undefined
  }

  /** Bytes of memory that the message under way takes. */
  get heldBytes(): number {
    return this.#message?.capacity ?? 0
  }

  get paused(): boolean {
    return this.#paused
  }

  /** Whether bytes wait that were pushed while paused, or behind the frame that paused. */
  get hasUnread(): boolean {
    return this.#position < this.#chunk.length
  }

  /**
   * Takes the bytes that arrived. The chunk is overwritten: it must belong to the caller alone.
   * @param isSole whether nothing else refers to the memory of the chunk, which is freed early then.
   */
  push(chunk: Buffer, isSole = false): void {
    if (this.#stopped) return
    this.#isSole = isSole
    const rest = this.#chunk.length - this.#position
    this.#chunk = rest === 0 ? chunk : Buffer.concat([this.#chunk.subarray(this.#position), chunk])
    this.#position = 0
    this.#parse()
  }

  /** No more calls of the handler until `resume()`. */
  pause(): void {
    this.#paused = true
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#parse()
  }

  /** Discards the rest and all further bytes. */
  stop(): void {
    this.#stopped = true
    this.#chunk = EMPTY
    this.#position = 0
    this.#partial = undefined
    this.#remaining = 0
    this.#message = undefined
    this.#control = undefined
  }

  #parse(): void {
    // A handler that pauses and resumes comes back here; the loop below continues by itself.
    if (this.#parsing) return
    this.#parsing = true
    while (!this.#paused && this.#position < this.#chunk.length) {
      if (this.#remaining > 0) this.#readPayload()
      else if (this.#partial !== undefined) this.#finishHeader(this.#partial)
      else this.#readFrame()
    }
    this.#parsing = false
    if (this.#position === this.#chunk.length) {
      this.#chunk = EMPTY
      this.#position = 0
    }
  }

  /** Reads a frame from its first byte; the usual case is that all of it is there. */
  #readFrame(): void {
    const chunk = this.#chunk
    const at = this.#position
    const available = chunk.length - at
    const violation = checkHeader(chunk, at, available, this)
    if (violation !== undefined) {
      this.#controls.onViolation(violation)
      return
    }
    const size = available < 2 ? MAX_HEADER_SIZE : headerSize(chunk, at)
    if (available < size) {
      this.#partial = Buffer.allocUnsafe(MAX_HEADER_SIZE)
      this.#partialSize = chunk.copy(this.#partial, 0, at)
      this.#position = chunk.length
      return
    }
    this.#position = at + size
    this.#startPayload(chunk, at, size)
  }

  /** Takes the header's missing bytes one at a time: how many there are shows only in the second. */
  #finishHeader(header: Buffer): void {
    header[this.#partialSize++] = this.#chunk[this.#position++]
    const violation = checkHeader(header, 0, this.#partialSize, this)
    if (violation !== undefined) {
      this.#controls.onViolation(violation)
      return
    }
    if (this.#partialSize < 2 || this.#partialSize < headerSize(header, 0)) return
    this.#partial = undefined
    this.#startPayload(header, 0, this.#partialSize)
  }

  #startPayload(header: Buffer, at: number, size: number): void {
    const first = header[at]
    const length = payloadLength(header, at)
    const key = maskingKey(header, at, size)
    if (length <= this.#chunk.length - this.#position) {
      const start = this.#position
      this.#position = start + length
      if (key !== 0) mask(this.#chunk, start, this.#position, key, 0)
      this.#wholeFrame(first, this.#chunk.subarray(start, this.#position))
      return
    }
    this.#first = first
    this.#key = key
    this.#offset = 0
    this.#remaining = length
    if (isControl(first)) this.#control = Buffer.allocUnsafe(MAX_CONTROL_PAYLOAD)
    else this.#message ??= newMessage(first, this.#roomInPlace(header, at, length))
  }

  /** Where a message fits that lacks no more bytes than its header takes: in the chunk, moved over the header. */
  #roomInPlace(header: Buffer, at: number, length: number): Buffer | undefined {
    const fits = length >= IN_PLACE_FROM && header === this.#chunk && at + length <= header.length
    return fits ? header.subarray(at, at + length) : undefined
  }

  /** A frame whose payload arrived in one piece and is unmasked. */
  #wholeFrame(first: number, payload: Buffer): void {
    if (isControl(first)) {
      this.#controls.onControl(opcodeOf(first), payload)
      return
    }
    if (this.#message === undefined && (first & FIN) !== 0) {
      const isBinary = opcodeOf(first) === BINARY
      const isCompressed = (first & RSV1) !== 0
      if (isCompressed) this.#messages.onCompressed(payload, isBinary)
      else if (isBinary || isUtf8(payload)) this.#messages.onMessage(payload, isBinary)
      else this.#controls.onViolation(INVALID_UTF8)
      return
    }
    this.#message ??= newMessage(first)
    this.#append(this.#message, first, payload, 0)
  }

  /** Takes the part of an unfinished payload that the chunk holds. */
  #readPayload(): void {
    const start = this.#position
    const end = Math.min(start + this.#remaining, this.#chunk.length)
    if (this.#key !== 0) mask(this.#chunk, start, end, this.#key, this.#offset)
    const piece = this.#chunk.subarray(start, end)
    const control = this.#control
    this.#position = end
    this.#remaining -= piece.length
    if (control !== undefined) {
      this.#offset += piece.copy(control, this.#offset)
      if (this.#remaining > 0) return
      this.#control = undefined
      this.#controls.onControl(opcodeOf(this.#first), control.subarray(0, this.#offset))
    } else if (this.#message !== undefined) {
      this.#offset += piece.length
      this.#append(this.#message, this.#first, piece, this.#remaining)
    }
  }

  #append(message: Message, first: number, piece: Buffer, remaining: number): void {
    if (!message.append(piece, remaining, (first & FIN) !== 0, this.#isSole)) {
      this.#controls.onViolation(INVALID_UTF8)
      return
    }
    if (remaining > 0) return
    this.fragmented = (first & FIN) === 0
    if (this.fragmented) {
      // 10.4: tiny and empty fragments take time although they take no memory.
      if (++message.fragments > FREE_FRAGMENTS + this.#maxPayload / BYTES_A_FRAGMENT)
        this.#controls.onViolation(TOO_MANY_FRAGMENTS)
      return
    }
    this.#message = undefined
    if (!message.isComplete()) this.#controls.onViolation(INVALID_UTF8)
    else if (message.isCompressed) this.#messages.onCompressed(message.take(), message.isBinary)
    else this.#messages.onMessage(message.take(), message.isBinary)
  }
}

function newMessage(first: number, buffer?: Buffer): Message {
  return new Message(opcodeOf(first) === BINARY, (first & RSV1) !== 0, buffer)
}
