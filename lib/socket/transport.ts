import { AsyncResource } from 'node:async_hooks'
import type { Duplex } from 'node:stream'
import { PerMessageDeflate } from '../compression/per-message-deflate.js'
import { type Limited, PeerLimits } from '../limits/peer-limits.js'
import { GOING_AWAY } from '../protocol/close-code.js'
import { Connection, type Role } from '../protocol/connection.js'
import type { Violation } from '../protocol/violation.js'
import { type ByteStreamOwner, ownStream } from './byte-stream.js'
import { CloseDeadline, type Closing } from './close-deadline.js'
import { SilentPeerError } from './error.js'
import { flushSoon } from './flush-queue.js'
import { type Heart, Heartbeat } from './heartbeat.js'
import { IdleWatch, Lifetime, type Mortal } from './lifetime.js'
import { type GapOwner, MessageSender } from './message-sender.js'
import type { PreparedMessage } from './prepared-message.js'
import type { SendCallback } from './send-callbacks.js'
import type { TransportEvents, TransportOptions, TransportSettings } from './transport-options.js'
import type { Traffic } from './websocket-options.js'
import { Writer } from './writer.js'

/** Why nothing is read although somebody wants it. */
const INFLATING = 1
const THROTTLED = 2

/**
 * A connection on a byte stream: it reads, it writes what was sent within one tick at once, it ends the stream when
 * the protocol asks for it, and it gives up on a peer that does not do its part in time.
 */
export class Transport
  extends AsyncResource
  implements Heart, Closing, GapOwner, ByteStreamOwner, Limited, Mortal
{
  // What sending looks at stands together: with many connections, what a message costs is what has to come from memory.
  readonly connection: Connection
  readonly #stream: Duplex
  readonly writer: Writer
  /** None as long as a server sends nothing but whole messages that are not compressed. */
  #sender: MessageSender | undefined
  readonly #role: Role
  #scheduled = false
  #peerEnded = false
  #endExpected = false
  isEnded = false
  #closed = false
  #messagesSent = 0
  /** Bytes that have to be taken until the pongs that are pending are written. */
  #pongMark = 0
  /** Why this side has cut the connection, if so. */
  reason: Error | undefined
  /** Somebody awaits that the peer reads. */
  awaitsPeer = false
  /** Bytes, of those that were sent, that the peer is known to have read. */
  readByPeer = 0
  #bytesReceived = 0
  #isReading = false
  isSilent = false
  readonly #events: TransportEvents
  readonly #settings: TransportSettings
  readonly #deflate: PerMessageDeflate | undefined
  readonly heartbeat: Heartbeat | undefined
  #closeDeadline: CloseDeadline | undefined
  /** Why nothing is read: bits. */
  #holds = 0
  /** What came of a compressed message in the thread pool, while nobody reads. */
  #inflated: (() => void) | undefined
  readonly limits: PeerLimits
  readonly #idleWatch: IdleWatch | undefined
  readonly #lifetime: Lifetime | undefined

  /** The stream must have no other reader; `onEnd` is told when it closes. */
  constructor(stream: Duplex, options: TransportOptions, events: TransportEvents) {
    super('WEBSOCKET')
    const { role, maskingKey, settings, deflate } = options
    const { maxPayload } = settings
    const messages = deflate && new PerMessageDeflate(role, deflate)
    const onCompressed =
      messages && ((data: Buffer, isBinary: boolean) => this.#inflate(messages, data, isBinary))
    this.connection = new Connection({ role, maxPayload, maskingKey, onCompressed }, events)
    this.#role = role
    this.#stream = stream
    this.#events = events
    this.#settings = settings
    this.#deflate = messages
    if (messages !== undefined || role === 'client') this.#sender = this.#makeSender()
    this.connection.pause()
    // When this side ends is decided here, not when the peer's end comes: what it sent before may still wait.
    stream.allowHalfOpen = true
    stream.pause()
    ownStream(stream, this)
    this.writer = new Writer(stream, this, events)
    this.limits = new PeerLimits(this, settings)
    const { heartbeat, idleTimeout, maxLifetime } = settings
    this.heartbeat = heartbeat === false ? undefined : new Heartbeat(this, heartbeat)
    this.#idleWatch = idleTimeout ? new IdleWatch(this, idleTimeout) : undefined
    this.#lifetime = maxLifetime ? new Lifetime(this, maxLifetime, Math.random()) : undefined
    // The peer may have gone while the handshake was answered, and its events with it.
    if (stream.readableEnded) process.nextTick(() => this.onStreamEnd())
    if (stream.closed) process.nextTick(() => this.onStreamClose())
  }

  onChunk(chunk: Buffer): void {
    this.runInAsyncScope(this.#onData, this, chunk)
  }

  onStreamEnd(): void {
    this.runInAsyncScope(this.#onPeerEnd, this)
  }

  onStreamClose(): void {
    this.runInAsyncScope(this.#onClose, this)
  }

  /** Bytes that were sent and that the operating system has not taken. */
  get bufferedAmount(): number {
    if (this.#closed) return this.connection.bufferedAmount
    return this.connection.bufferedAmount + this.writer.unsent + this.heldBytes
  }

  get heldBytes(): number {
    return this.#sender?.heldBytes ?? 0
  }

  get traffic(): Traffic {
    return {
      messagesReceived: this.limits.messages,
      messagesSent: this.#messagesSent,
      bytesReceived: this.#bytesReceived,
      bytesSent: this.writer.bytes
    }
  }

  get messages(): number {
    return this.limits.messages + this.#messagesSent
  }

  /** Whether messages may be compressed. */
  get isDeflating(): boolean {
    return this.#deflate !== undefined
  }

  /** Whether messages may be sent. */
  get isOpen(): boolean {
    return this.connection.isOpen && !this.#peerEnded && !this.isEnded && !this.#stream.destroyed
  }

  /**
   * Reads from now on, or stops: the stream gives one chunk more at most, then its backpressure reaches the peer. What
   * a destroyed stream has given can be held back too.
   */
  setReading(reading: boolean): void {
    if (this.#isReading === reading || (reading ? this.#stream.destroyed : this.#closed)) return
    this.#isReading = reading
    this.#update()
  }

  /** More than may come has come, or that is made up for. */
  setThrottled(isThrottled: boolean): void {
    this.#hold(THROTTLED, isThrottled)
  }

  #hold(reason: number, isHeld: boolean): void {
    const holds = isHeld ? this.#holds | reason : this.#holds & ~reason
    if (holds === this.#holds) return
    this.#holds = holds
    if (!this.#stream.destroyed) this.#update()
  }

  #update(): void {
    if (this.isReading) this.runInAsyncScope(this.#resume, this)
    else {
      this.connection.pause()
      this.limits.watch(false)
    }
  }

  /** Whether what the peer sends is read. */
  get isReading(): boolean {
    return this.#isReading && this.#holds === 0
  }

  #resume(): void {
    const inflated = this.#inflated
    this.#inflated = undefined
    inflated?.()
    if (this.#stream.destroyed) return
    // What was told may have stopped the reading again.
    if (this.isReading) this.#readOn()
    this.limits.watch(this.isReading)
    this.sent()
    if (!this.connection.isOpen) this.#awaitEnd()
  }

  #readOn(): void {
    this.connection.resume()
    // Who takes messages one by one is given all that waits before more is read.
    if (!this.connection.isPaused && this.#stream.isPaused()) this.#stream.resume()
    if (this.#peerEnded) this.#onPeerEnd()
  }

  /**
   * Sends a message or a fragment of one.
   * @param compress whether it may be compressed.
   */
  send(
    data: string | Uint8Array,
    isBinary: boolean,
    fin: boolean,
    compress: boolean,
    callback?: SendCallback
  ): void {
    if (!fin) this.#sender ??= this.#makeSender()
    if (this.#sender === undefined) this.connection.send(data, isBinary)
    else this.#sender.send(data, isBinary, fin, compress)
    if (fin) this.#messagesSent++
    this.sent(callback)
    if (!fin || this.#sender === undefined) return
    for (const held of this.#sender.takeHeld()) this.sendPrepared(held.message, held.callback)
  }

  sendPrepared(message: PreparedMessage, callback?: SendCallback): void {
    if (this.#sender === undefined) this.connection.sendFrame(message.frame)
    else if (this.#sender.holds(message, callback)) return
    else this.#sender.sendPrepared(message)
    this.#messagesSent++
    this.sent(callback)
  }

  #makeSender(): MessageSender {
    return new MessageSender(this.connection, this.#role === 'client', this.#deflate, this)
  }

  onGap(): void {
    this.writer.leaveGap()
  }

  onGapFilled(): void {
    this.sent()
  }

  /** What was accepted cannot be sent any more. */
  onGapFailed(error: unknown): void {
    if (this.#stream.destroyed) return
    this.runInAsyncScope(this.#events.onCallbackError, this.#events, error)
    this.terminate()
  }

  /** Has what was put into the connection written once what can be read has been read, and `callback` called once it was. */
  sent(callback?: SendCallback): void {
    if (callback !== undefined) this.writer.add(callback)
    if (this.#scheduled) return
    this.#scheduled = true
    flushSoon(this)
  }

  /** Calls `onWritten` when the writes under way and the next are done. */
  notifyWritten(): void {
    this.writer.notifyWritten()
  }

  /** Begins the closing handshake, if none is under way, and the wait for its end. */
  close(code?: number, reason?: string | Uint8Array): void {
    if (this.isEnded || this.#stream.destroyed || !this.connection.isOpen) return
    this.connection.close(code, reason)
    this.sent()
    this.#awaitEnd()
  }

  /** Cuts the connection and drops what waits. `reason` says why, when that is not the application's wish. */
  terminate(reason?: Error): void {
    if (!this.#stream.destroyed) this.reason ??= reason
    this.connection.pause()
    this.#stream.destroy()
  }

  ping(kind: 'ping' | 'pong' = 'ping'): void {
    if (!this.isOpen) return
    this.connection[kind]('')
    this.sent()
  }

  onSilence(): void {
    this.terminate(new SilentPeerError())
  }

  onIdle(): void {
    this.close(GOING_AWAY, 'idle')
  }

  onOld(): void {
    this.close(GOING_AWAY, 'lifetime over')
  }

  /** Told in the context of the connection, whatever showed it. */
  onLimit(violation: Violation): void {
    if (!this.connection.isOpen || this.isEnded || this.#stream.destroyed) return
    this.runInAsyncScope(this.#failWith, this, violation)
  }

  #failWith(violation: Violation): void {
    this.connection.fail(violation)
    this.sent()
    this.#awaitEnd()
  }

  /** Writes what waits. */
  flush(): void {
    this.#scheduled = false
    const isWritten = this.writer.bytes - this.writer.unsent >= this.#pongMark
    const buffers = this.connection.dataToSend(isWritten)
    if (this.isEnded || this.#stream.destroyed) return
    if (buffers.length > 0) this.writer.write(buffers, this.connection.gaps)
    if (isWritten) this.#pongMark = this.writer.bytes
    if (this.connection.holdsPong) this.writer.notifyWritten()
    // RFC 6455 section 7.1.1: after both Close frames the server ends TCP at once.
    if ((this.#endExpected || this.connection.closeExpected) && this.connection.gaps === 0) this.#end()
  }

  #onData(chunk: Buffer): void {
    this.isSilent = false
    this.#bytesReceived += chunk.length
    if (!this.limits.admitBytes(chunk.length)) return
    this.connection.receiveData(chunk)
    this.limits.watch(this.isReading)
    if (this.connection.isPaused && !this.isEnded) this.#stream.pause()
    // The answers of the protocol itself: pongs and Close frames.
    if (this.connection.hasOutput) this.sent()
    // Without pings nothing shows better how far the peer has read.
    if (this.heartbeat === undefined && this.connection.isOpen) this.readByPeer = this.writer.bytes
    if (this.connection.isOpen) return
    this.sent()
    this.#awaitEnd()
  }

  #inflate({ inflater }: PerMessageDeflate, data: Buffer, isBinary: boolean): void {
    // A write that failed while the messages before were told: zlib takes one at a time, and nothing can be held now.
    if (this.#stream.destroyed) return void this.connection.pause()
    const inflated = inflater.inflate(data, this.#settings.maxPayload)
    if (!(inflated instanceof Promise)) {
      this.#receiveInflated(inflated, isBinary)
      return
    }
    this.#hold(INFLATING, true)
    inflated.then(result => this.runInAsyncScope(this.#onInflated, this, result, isBinary))
  }

  #onInflated(result: Buffer | Violation, isBinary: boolean): void {
    this.#inflated = () => this.#receiveInflated(result, isBinary)
    this.#hold(INFLATING, false)
    // A violation is answered although nobody reads.
    if (!this.#stream.destroyed && !this.isReading && !Buffer.isBuffer(result)) this.#resume()
  }

  #receiveInflated(result: Buffer | Violation, isBinary: boolean): void {
    if (Buffer.isBuffer(result)) this.connection.receiveInflated(result, isBinary)
    else this.connection.fail(result)
  }

  /** The peer sends no more. What it sent may still wait in a paused connection. */
  #onPeerEnd(): void {
    this.#peerEnded = true
    if (this.connection.hasUnread || (this.#holds & INFLATING) !== 0 || this.#inflated !== undefined) return
    this.#endExpected = true
    this.flush()
    this.#awaitEnd()
  }

  #end(): void {
    this.isEnded = true
    this.#stream.end()
    // The peer's end of the stream comes behind what it still sends; that is read and dropped.
    this.#stream.resume()
  }

  /** From now on there is one deadline, and no more pings. */
  #awaitEnd(): void {
    if (this.#closeDeadline !== undefined) return
    this.#stopTimers()
    this.#closeDeadline = new CloseDeadline(this, this.#settings.closeTimeout)
  }

  #stopTimers(): void {
    this.heartbeat?.stop()
    this.limits.stop()
    this.#idleWatch?.stop()
    this.#lifetime?.stop()
  }

  #onClose(): void {
    if (this.#closed) return
    this.#closed = true
    this.#stopTimers()
    this.limits.close()
    this.#closeDeadline?.stop()
    this.#deflate?.close()
    this.#inflated = undefined
    for (const { callback } of this.#sender?.takeHeld() ?? []) if (callback) this.writer.add(callback)
    this.writer.close()
    this.#events.onEnd()
  }
}
