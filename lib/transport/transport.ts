import { AsyncResource } from 'node:async_hooks'
import type { Duplex } from 'node:stream'
import { Connection, type ConnectionEvents, type Role } from '../core/connection.js'
import type { Violation } from '../core/violation.js'
import { type ByteStreamOwner, isPlainSocket, ownStream } from './byte-stream.js'
import { CompressingSender, type GapOwner } from './compressing-sender.js'
import { deadlinesAfter, type Waiting } from './deadline.js'
import { NotOpenError } from './error.js'
import { flushSoon } from './flush-queue.js'
import { type Heart, Heartbeat, type HeartbeatOptions } from './heartbeat.js'
import { type Deflate, PerMessageDeflate } from './per-message-deflate.js'
import type { PreparedMessage } from './prepared-message.js'
import { type SendCallback, SendCallbacks } from './send-callbacks.js'
import { isThenable } from './thenable.js'

/** What Node passes on as the encoding of a Buffer; its types do not know it. */
const BUFFER = 'buffer' as BufferEncoding

/** What many connections have in common. */
export interface TransportSettings {
  /** Bytes that a message of the peer may have. */
  readonly maxPayload: number
  /** Milliseconds from the first Close frame to the cut. */
  readonly closeTimeout: number
  readonly heartbeat: HeartbeatOptions | false
}

/** What a connection has for itself. */
export interface TransportOptions {
  readonly role: Role
  readonly settings: TransportSettings
  /** Given where permessage-deflate was negotiated. */
  readonly deflate?: Deflate | undefined
  /** For clients: a fresh, unpredictable 32-bit number a frame (RFC 6455 section 10.3). */
  readonly maskingKey?: () => number
}

/** What a transport tells, always in the async context in which it was made. */
export interface TransportEvents extends ConnectionEvents {
  /** A write has finished, so there is room. */
  onWritten(): void
  /** A callback given to `sent` threw, or rejected. */
  onCallbackError(error: unknown): void
  /** The stream is gone. Nothing follows. */
  onEnd(): void
}

/**
 * A connection on a byte stream: it reads, it writes what was sent within one tick at once, it ends the stream when
 * the protocol asks for it, and it gives up on a peer that does not do its part in time.
 */
export class Transport extends AsyncResource implements Heart, Waiting, GapOwner, ByteStreamOwner {
  readonly connection: Connection
  isAlive = true
  #isReading = false
  readonly #role: Role
  readonly #stream: Duplex
  readonly #events: TransportEvents
  readonly #maxPayload: number
  readonly #closeTimeout: number
  readonly #deflate: PerMessageDeflate | undefined
  readonly #sender: CompressingSender | undefined
  readonly #heartbeat: Heartbeat | undefined
  #scheduled = false
  #peerEnded = false
  /** The peer's end was read; this side ends once all is written. */
  #endExpected = false
  #ended = false
  #awaitsEnd = false
  #closed = false
  /** A compressed message is in the thread pool; what follows it waits. */
  #isInflating = false
  /** What came of it, while nobody reads. */
  #inflated: (() => void) | undefined
  /** Callbacks of what waits to be written, and of the writes under way. */
  #callbacks: SendCallbacks | undefined
  #writes: Set<SendCallback[]> | undefined
  #notifyWritten = false
  /** Whether the stream has a queue that may be passed. */
  readonly #isPlain: boolean
  /** Bytes that the socket was given past its queue and has not taken. */
  #pastQueue = 0

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
    this.#maxPayload = maxPayload
    this.#closeTimeout = settings.closeTimeout
    this.#deflate = messages
    this.#sender = messages && new CompressingSender(this.connection, messages, this)
    this.connection.pause()
    // When this side ends is decided here, not when the peer's end comes: what it sent before may still wait.
    stream.allowHalfOpen = true
    stream.pause()
    this.#isPlain = isPlainSocket(stream)
    ownStream(stream, this)
    this.#heartbeat = settings.heartbeat === false ? undefined : new Heartbeat(this, settings.heartbeat)
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
    return this.connection.bufferedAmount + this.#pastQueue + this.#stream.writableLength
  }

  /** Whether messages may be sent. */
  get isOpen(): boolean {
    return this.connection.isOpen && !this.#peerEnded && !this.#ended && !this.#stream.destroyed
  }

  /**
   * Reads from now on, or stops. Stopped, the stream gives one chunk more at most, then its backpressure reaches the
   * peer.
   */
  setReading(reading: boolean): void {
    if (this.#stream.destroyed || this.#isReading === reading) return
    this.#isReading = reading
    if (!reading) this.connection.pause()
    else if (!this.#isInflating) this.runInAsyncScope(this.#resume, this)
  }

  /** Whether what the peer sends is read. */
  get isReading(): boolean {
    return this.#isReading && !this.#isInflating
  }

  #resume(): void {
    const inflated = this.#inflated
    this.#inflated = undefined
    inflated?.()
    if (this.#stream.destroyed) return
    // What was told may have stopped the reading again.
    if (this.isReading) this.#readOn()
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
  send(data: string | Uint8Array, isBinary: boolean, fin: boolean, compress: boolean): void {
    if (this.#sender === undefined) this.connection.send(data, isBinary, fin)
    else this.#sender.send(data, isBinary, fin, compress)
  }

  sendPrepared(message: PreparedMessage): void {
    // Clients mask each frame anew, and nothing comes between the fragments of a message.
    const isOwn = this.#role === 'client' || this.connection.sendsFragments
    if (isOwn) this.send(message.payload, message.isBinary, true, message.compress)
    else if (this.#sender === undefined) this.connection.sendFrame(message.frame)
    else this.#sender.sendPrepared(message)
  }

  onGap(): void {
    this.#callbacks ??= new SendCallbacks()
    this.#callbacks.leaveGap()
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
    if (callback !== undefined) {
      this.#callbacks ??= new SendCallbacks()
      this.#callbacks.add(callback)
    }
    if (this.#scheduled) return
    this.#scheduled = true
    flushSoon(this)
  }

  /** Has `callback` called with an error, for what was not put into the connection. */
  refuse(callback: SendCallback): void {
    process.nextTick(() => this.runInAsyncScope(this.#settleLate, this, [callback]))
  }

  /** Calls `onWritten` when the writes under way and the next are done. */
  notifyWritten(): void {
    this.#notifyWritten = true
  }

  /** Begins the closing handshake, if none is under way, and the wait for its end. */
  close(code?: number, reason?: string | Uint8Array): void {
    if (this.#ended || this.#stream.destroyed || !this.connection.isOpen) return
    this.connection.close(code, reason)
    this.sent()
    this.#awaitEnd()
  }

  /** Cuts the connection; what waits to be written is dropped, and so is what waits to be read. */
  terminate(): void {
    this.connection.pause()
    this.#stream.destroy()
  }

  ping(): void {
    if (!this.isOpen) return
    this.connection.ping('')
    this.sent()
  }

  onSilence(): void {
    this.terminate()
  }

  onDeadline(): void {
    this.terminate()
  }

  /** Writes what waits. */
  flush(): void {
    this.#scheduled = false
    const buffers = this.connection.dataToSend()
    if (this.#ended || this.#stream.destroyed) return
    if (buffers.length > 0) this.#write(buffers, this.#callbacks?.take(this.connection.gaps))
    // RFC 6455 section 7.1.1: after both Close frames the server ends TCP at once.
    if ((this.#endExpected || this.connection.closeExpected) && this.connection.gaps === 0) this.#end()
  }

  #write(buffers: Buffer[], callbacks: SendCallback[] | undefined): void {
    const last = buffers.length - 1
    const hasBacklog = this.#pastQueue > 0 || this.#stream.writableLength > 0
    // Behind a backlog every write is watched: `onWritten` may be asked for later.
    const isWatched = callbacks !== undefined || this.#notifyWritten || hasBacklog
    if (last === 0 && !isWatched && this.#isPlain && this.#stream.writableCorked === 0) {
      this.#writePastQueue(buffers[0])
      return
    }
    if (last > 0) this.#stream.cork()
    for (let i = 0; i < last; i++) this.#stream.write(buffers[i])
    if (isWatched) this.#stream.write(buffers[last], this.#onWritten(callbacks ?? []))
    else this.#stream.write(buffers[last])
    if (last > 0) this.#stream.uncork()
  }

  /**
   * A socket with nothing to write takes what it is given at once as a rule, and its queue would only add a tick to that.
   */
  #writePastQueue(buffer: Buffer): void {
    this.#pastQueue = buffer.length
    this.#stream._write(buffer, BUFFER, error => {
      this.#pastQueue = 0
      if (error) this.#stream.destroy(error)
      else this.#tellWritten()
    })
  }

  #onWritten(callbacks: SendCallback[]): (error?: Error | null) => void {
    this.#writes ??= new Set()
    const writes = this.#writes
    writes.add(callbacks)
    return error => {
      // A socket that is destroyed ends its writes as if they had succeeded; `#onClose` settles them.
      if (this.#stream.destroyed || !writes.delete(callbacks)) return
      this.runInAsyncScope(this.#settle, this, callbacks, error)
      if (!error) this.#tellWritten()
    }
  }

  #tellWritten(): void {
    if (!this.#notifyWritten) return
    this.#notifyWritten = false
    this.runInAsyncScope(this.#events.onWritten, this.#events)
  }

  #settle(callbacks: SendCallback[], error?: Error | null): void {
    for (const callback of callbacks) {
      try {
        const result: unknown = error ? callback(error) : callback()
        if (isThenable(result)) result.then(undefined, thrown => this.#events.onCallbackError(thrown))
      } catch (thrown) {
        this.#events.onCallbackError(thrown)
      }
    }
  }

  /** Connections end without callbacks as a rule: there is no error before somebody is told of it. */
  #settleLate(callbacks: SendCallback[]): void {
    if (callbacks.length > 0) this.#settle(callbacks, new NotOpenError())
  }

  #onData(chunk: Buffer): void {
    this.isAlive = true
    this.connection.receiveData(chunk)
    if (this.connection.isPaused && !this.#ended) this.#stream.pause()
    // The answers of the protocol itself: pongs and Close frames.
    if (this.connection.bufferedAmount > 0) this.sent()
    if (this.connection.isOpen) return
    this.sent()
    this.#awaitEnd()
  }

  #inflate({ inflater }: PerMessageDeflate, data: Buffer, isBinary: boolean): void {
    const inflated = inflater.inflate(data, this.#maxPayload)
    if (!(inflated instanceof Promise)) {
      this.#receiveInflated(inflated, isBinary)
      return
    }
    this.#isInflating = true
    this.connection.pause()
    inflated.then(result => this.runInAsyncScope(this.#onInflated, this, result, isBinary))
  }

  #onInflated(result: Buffer | Violation, isBinary: boolean): void {
    this.#isInflating = false
    if (this.#stream.destroyed) return
    this.#inflated = () => this.#receiveInflated(result, isBinary)
    // A violation is answered although nobody reads.
    if (this.#isReading || !Buffer.isBuffer(result)) this.#resume()
  }

  #receiveInflated(result: Buffer | Violation, isBinary: boolean): void {
    if (Buffer.isBuffer(result)) this.connection.receiveInflated(result, isBinary)
    else this.connection.fail(result)
  }

  /** The peer sends no more. What it sent may still wait in a paused connection. */
  #onPeerEnd(): void {
    this.#peerEnded = true
    if (this.connection.hasUnread || this.#isInflating || this.#inflated !== undefined) return
    this.#endExpected = true
    this.flush()
    this.#awaitEnd()
  }

  #end(): void {
    this.#ended = true
    this.#stream.end()
    // The peer's end of the stream comes behind what it still sends; that is read and dropped.
    this.#stream.resume()
  }

  /** From now on there is one deadline, and no more pings. */
  #awaitEnd(): void {
    if (this.#awaitsEnd) return
    this.#awaitsEnd = true
    this.#heartbeat?.stop()
    deadlinesAfter(this.#closeTimeout).set(this)
  }

  #onClose(): void {
    if (this.#closed) return
    this.#closed = true
    this.#heartbeat?.stop()
    deadlinesAfter(this.#closeTimeout).clear(this)
    this.#deflate?.close()
    this.#inflated = undefined
    const unwritten = this.#callbacks?.take(0) ?? []
    for (const callbacks of this.#writes ?? []) this.#settleLate(callbacks)
    this.#writes?.clear()
    this.#settleLate(unwritten)
    this.#events.onEnd()
  }
}
