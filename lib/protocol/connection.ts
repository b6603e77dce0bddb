import { isUtf8 } from 'node:buffer'
import { ABNORMAL_CLOSURE, closeBody, NO_STATUS_RECEIVED, parseCloseBody } from './close-code.js'
import { FIN, RSV1 } from './frame-header.js'
import { type FrameHandler, FrameParser } from './frame-parser.js'
import { FrameWriter, frameOf, type Gap } from './frame-writer.js'
import { BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT } from './opcode.js'
import { INVALID_UTF8, ProtocolError, type Violation } from './violation.js'

/** Shared, as most connections have none. */
const NO_REASON = Buffer.alloc(0)

/** Pongs that may be pending; beyond that only the most recent ping is answered, RFC 6455 section 5.5.3. */
const MAX_PENDING_PONGS = 64

export type Role = 'client' | 'server'

export interface ConnectionOptions {
  readonly role: Role
  /** Bytes a message may have; a longer one is answered with 1009 as soon as its header shows it. */
  readonly maxPayload: number
  /**
   * Given where permessage-deflate is in use: told a compressed message in place of `onMessage`. It goes into
   * {@link Connection.receiveInflated}, or what is wrong with it into {@link Connection.fail}, before more is received.
   */
  readonly onCompressed?: ((data: Buffer, isBinary: boolean) => void) | undefined
  /** For clients: a fresh, unpredictable 32-bit number a frame (RFC 6455 section 10.3). */
  readonly maskingKey?: (() => number) | undefined
}

/** What happened on a connection, told while its bytes are received. */
export interface ConnectionEvents {
  onMessage(data: Buffer, isBinary: boolean): void
  onPing(data: Buffer): void
  onPong(data: Buffer): void
  /** The peer's Close frame arrived; 1005 when it named no code. Nothing follows. */
  onClose(code: number, reason: Buffer): void
  /** The peer broke a rule; a Close frame is on its way. Nothing follows. */
  onFail(error: ProtocolError): void
}

/**
 * A WebSocket connection after its handshake, RFC 6455 sections 5 to 7, in either role, without any I/O: what arrives
 * goes into `receiveData`, what happened comes out of the events, what is to be sent comes out of `dataToSend`.
 */
export class Connection implements FrameHandler {
  // What sending looks at stands together: with many connections, what a message costs is what has to come from memory.
  readonly #writer: FrameWriter
  readonly #role: Role
  #closeSent = false
  #closeReceived = false
  #failed = false
  /** The application sends a message in fragments and has not finished it. */
  #sendsFragments = false
  /** Pongs that were put into the output since all earlier output was last known to be written. */
  #pendingPongs = 0
  /** The most recent ping that came while {@link MAX_PENDING_PONGS} pongs were pending. */
  #unansweredPing: Buffer | undefined
  readonly #events: ConnectionEvents
  readonly #onCompressed: ConnectionOptions['onCompressed']
  readonly #parser: FrameParser
  #closeCode = ABNORMAL_CLOSURE
  #closeReason: Buffer = NO_REASON

  constructor(options: ConnectionOptions, events: ConnectionEvents) {
    this.#role = options.role
    this.#events = events
    this.#onCompressed = options.onCompressed
    const compressible = options.onCompressed !== undefined
    this.#parser = new FrameParser(options.role === 'server', options.maxPayload, compressible, this)
    this.#writer = new FrameWriter(options.maskingKey)
  }

  /** Whether messages may be sent: no Close frame was sent yet. */
  get isOpen(): boolean {
    return !this.#closeSent
  }

  /** The code of the connection, RFC 6455 section 7.1.5: 1006 until the peer's Close frame has arrived. */
  get closeCode(): number {
    return this.#closeCode
  }

  get closeReason(): Buffer {
    return this.#closeReason
  }

  /**
   * Whether this side should end the TCP connection as soon as everything is sent: the server after both Close frames
   * (RFC 6455 section 7.1.1), either side after a failure (7.1.7).
   */
  get closeExpected(): boolean {
    return this.#failed || (this.#role === 'server' && this.#closeSent && this.#closeReceived)
  }

  /** Bytes that wait in `dataToSend`. */
  get bufferedAmount(): number {
    return this.#writer.size
  }

  /** Takes bytes of the peer. The chunk is overwritten: it must belong to the caller alone. */
  receiveData(chunk: Buffer): void {
    this.#parser.push(chunk)
  }

  /** While paused no event is told and nothing is parsed. */
  pause(): void {
    this.#parser.pause()
  }

  resume(): void {
    this.#parser.resume()
  }

  get isPaused(): boolean {
    return this.#parser.paused
  }

  /** Whether bytes that were received wait for `resume`. */
  get hasUnread(): boolean {
    return this.#parser.hasUnread
  }

  /** Whether the peer has begun a frame or a message and owes the rest. */
  get isUnfinished(): boolean {
    return this.#parser.isUnfinished
  }

  /** Bytes of memory that the message under way takes. */
  get heldBytes(): number {
    return this.#parser.heldBytes
  }

  /** Whether there is anything to send, now or once all earlier output is written. */
  get hasOutput(): boolean {
    return this.#writer.size > 0 || this.#unansweredPing !== undefined
  }

  /** Whether another ping would be answered only once the pongs that are pending are written. */
  get isFullOfPongs(): boolean {
    return this.#pendingPongs === MAX_PENDING_PONGS
  }

  /** Whether a ping is answered only once all earlier output is written. */
  get holdsPong(): boolean {
    return this.#unansweredPing !== undefined
  }

  /**
   * What is to be sent, in order, as few buffers as possible.
   * @param isWritten whether the operating system has taken all that this method returned before.
   */
  dataToSend(isWritten = true): Buffer[] {
    if (this.#pendingPongs > 0 && isWritten && this.#writer.gaps === 0) {
      this.#answerHeldPing()
      this.#pendingPongs = 0
    }
    return this.#writer.take()
  }

  /**
   * Sends a message, or with `fin` false a fragment of one; the next call continues it, whatever its `isBinary` says.
   * Must not be called after a Close frame was sent: see `isOpen`.
   */
  send(data: string | Uint8Array, isBinary: boolean, fin = true, isCompressed = false): void {
    this.#writer.write(this.#firstByte(isBinary, fin, isCompressed), data)
  }

  /**
   * Keeps a place for a message, or a fragment of one, that is being compressed; what is sent later waits behind it.
   * @param size bytes that count as waiting until {@link sendInto} is called.
   */
  sendLater(isBinary: boolean, fin: boolean, size: number): Gap {
    return this.#writer.leaveGap(this.#firstByte(isBinary, fin, true), size)
  }

  sendInto(gap: Gap, data: Uint8Array): void {
    this.#writer.fillGap(gap, data)
  }

  /** How many of the places that `sendLater` keeps hold back what was sent after them. */
  get gaps(): number {
    return this.#writer.gaps
  }

  /** Sends a whole message that {@link messageFrame} made. Clients, which mask each frame anew, do not. */
  sendFrame(frame: Buffer): void {
    this.#writer.append(frame)
  }

  /** RFC 6455 section 5.2. RFC 7692 section 6.1: the first frame of a message says whether it is compressed. */
  #firstByte(isBinary: boolean, fin: boolean, isCompressed: boolean): number {
    let first = isBinary ? BINARY : TEXT
    if (isCompressed) first |= RSV1
    if (this.#sendsFragments) first = CONTINUATION
    this.#sendsFragments = !fin
    return fin ? FIN | first : first
  }

  /** Whether a message was begun in fragments and is not finished. */
  get sendsFragments(): boolean {
    return this.#sendsFragments
  }

  /** @param data at most 125 bytes, RFC 6455 section 5.5. */
  ping(data: string | Uint8Array): void {
    this.#writer.write(FIN | PING, data)
  }

  /** @param data at most 125 bytes, RFC 6455 section 5.5. */
  pong(data: string | Uint8Array): void {
    this.#writer.write(FIN | PONG, data)
  }

  /**
   * Begins the closing handshake, RFC 6455 section 7.1.2; does nothing when a Close frame was sent already.
   * @throws {TypeError} when the code may not be sent.
   * @throws {RangeError} when the reason is longer than 123 bytes.
   */
  close(code?: number, reason?: string | Uint8Array): void {
    const body = closeBody(code, reason)
    if (this.#closeSent) return
    this.#answerHeldPing()
    this.#closeSent = true
    this.#writer.write(FIN | CLOSE, body)
  }

  onMessage(data: Buffer, isBinary: boolean, isCompressed: boolean): void {
    if (isCompressed) this.#onCompressed?.(data, isBinary)
    else this.#events.onMessage(data, isBinary)
  }

  /** Takes what a compressed message inflates to. */
  receiveInflated(data: Buffer, isBinary: boolean): void {
    if (isBinary || isUtf8(data)) this.#events.onMessage(data, isBinary)
    else this.fail(INVALID_UTF8)
  }

  onControl(opcode: number, payload: Buffer): void {
    if (opcode === PING) {
      // Before the listeners, which may close the connection.
      this.#answerPing(payload)
      this.#events.onPing(payload)
    } else if (opcode === PONG) this.#events.onPong(payload)
    else this.#receiveClose(payload)
  }

  onViolation(violation: Violation): void {
    this.fail(violation)
  }

  /** RFC 6455 section 7.1.7: say why, if that is still possible, and listen no longer. */
  fail(violation: Violation): void {
    this.#parser.stop()
    this.close(violation.closeCode, violation.reason)
    this.#failed = true
    this.#events.onFail(new ProtocolError(violation))
  }

  /** RFC 6455 section 5.5.1: the answer carries the peer's code and reason, and what follows a Close frame is not looked at. */
  #receiveClose(payload: Buffer): void {
    const body = parseCloseBody(payload)
    if ('section' in body) {
      this.fail(body)
      return
    }
    this.#parser.stop()
    this.#closeReceived = true
    this.#closeCode = body.code
    this.#closeReason = body.reason
    this.close(body.code === NO_STATUS_RECEIVED ? undefined : body.code, body.reason)
    this.#events.onClose(body.code, body.reason)
  }

  /**
   * RFC 6455 section 5.5.2: every ping is answered, at its place among the frames that are sent. Section 5.5.3: a peer that
   * pings without reading must not fill the output with pongs.
   */
  #answerPing(payload: Buffer): void {
    if (this.#closeSent) return
    if (this.#pendingPongs === MAX_PENDING_PONGS) {
      // A copy, so that it does not keep the whole chunk in memory.
      this.#unansweredPing = Buffer.from(payload)
      return
    }
    this.#pendingPongs++
    this.pong(payload)
  }

  #answerHeldPing(): void {
    if (this.#unansweredPing === undefined) return
    this.pong(this.#unansweredPing)
    this.#unansweredPing = undefined
  }
}

/** The frame of a whole message as servers send it, to be sent by any number of them. */
export function messageFrame(data: string | Uint8Array, isBinary: boolean, isCompressed: boolean): Buffer {
  const opcode = isBinary ? BINARY : TEXT
  return frameOf(isCompressed ? FIN | RSV1 | opcode : FIN | opcode, data)
}
