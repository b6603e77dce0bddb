import { isUtf8 } from 'node:buffer'
import { ABNORMAL_CLOSURE, closeBody, NO_STATUS_RECEIVED, parseCloseBody } from './close-code.js'
import { FIN, RSV1 } from './frame-header.js'
import { type ControlHandler, FrameParser, type MessageHandler } from './frame-parser.js'
import { FrameWriter, frameOf } from './frame-writer.js'
import { BINARY, CLOSE, PING, PONG, TEXT } from './opcode.js'
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
  /** Whether permessage-deflate is in use. */
  readonly isCompressible?: boolean
  /** For clients: a fresh, unpredictable 32-bit number a frame (RFC 6455 section 10.3). */
  readonly maskingKey?: (() => number) | undefined
}

/** The events of a connection. They are called while its bytes are received. */
export interface ConnectionEvents extends MessageHandler {
  onPing(data: Buffer): void
  onPong(data: Buffer): void
  /** The peer's Close frame arrived; 1005 when it named no code. No event follows. */
  onClose(code: number, reason: Buffer): void
  /** The peer broke a rule, and a Close frame is in the output. No event follows. */
  onFail(error: ProtocolError): void
}

/**
 * A WebSocket connection after its handshake, RFC 6455 sections 5 to 7, in either role, without any I/O. The bytes of the
 * peer go into `input`, which calls the events. Messages go into `output`; `dataToSend` returns the bytes to send. The
 * connection itself keeps the closing handshake and answers pings.
 */
export class Connection implements ControlHandler {
  // Fields that sending needs come first: with many connections, memory access is most of the cost of a message.
  readonly output: FrameWriter
  readonly input: FrameParser
  readonly #role: Role
  #closeSent = false
  #closeReceived = false
  #failed = false
  /** Pongs that were put into the output since all earlier output was last known to be written. */
  #pendingPongs = 0
  /** The most recent ping that came while {@link MAX_PENDING_PONGS} pongs were pending. */
  #unansweredPing: Buffer | undefined
  readonly #events: ConnectionEvents
  #closeCode = ABNORMAL_CLOSURE
  #closeReason: Buffer = NO_REASON

  constructor(options: ConnectionOptions, events: ConnectionEvents) {
    const { role, maxPayload, isCompressible = false, maskingKey } = options
    this.#role = role
    this.#events = events
    this.input = new FrameParser(role === 'server', maxPayload, isCompressible, events, this)
    this.output = new FrameWriter(maskingKey)
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

  /** Whether there is anything to send, now or once all earlier output is written. */
  get hasOutput(): boolean {
    return this.output.size > 0 || this.#unansweredPing !== undefined
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
   * The bytes to send, in order, in as few buffers as possible.
   * @param isWritten whether the operating system has taken all that this method returned before.
   */
  dataToSend(isWritten = true): Buffer[] {
    if (this.#pendingPongs > 0 && isWritten && this.output.gaps === 0) {
      this.#answerHeldPing()
      this.#pendingPongs = 0
    }
    return this.output.take()
  }

  /** @param data at most 125 bytes, RFC 6455 section 5.5. */
  ping(data: string | Uint8Array): void {
    this.output.write(FIN | PING, data)
  }

  /** @param data at most 125 bytes, RFC 6455 section 5.5. */
  pong(data: string | Uint8Array): void {
    this.output.write(FIN | PONG, data)
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
    this.output.write(FIN | CLOSE, body)
  }

  /** Takes a compressed message after it was inflated. */
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
    this.refuse(violation.closeCode, violation.reason)
    this.#events.onFail(new ProtocolError(violation))
  }

  /** The same for a message that breaks a rule of the application, which reports it itself. */
  refuse(code: number, reason: string): void {
    this.input.stop()
    this.close(code, reason)
    this.#failed = true
  }

  /** RFC 6455 section 5.5.1: the answer has the peer's code and reason, and bytes after a Close frame are ignored. */
  #receiveClose(payload: Buffer): void {
    const body = parseCloseBody(payload)
    if ('section' in body) {
      this.fail(body)
      return
    }
    this.input.stop()
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
