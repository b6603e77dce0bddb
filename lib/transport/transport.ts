import { AsyncResource } from 'node:async_hooks'
import type { Duplex } from 'node:stream'
import { Connection, type ConnectionEvents, type Role } from '../core/connection.js'
import { onChunk } from './chunks.js'
import { deadlinesAfter, type Waiting } from './deadline.js'
import { NotOpenError } from './error.js'
import { type Heart, Heartbeat, type HeartbeatOptions } from './heartbeat.js'
import { isThenable } from './thenable.js'

export type SendCallback = (error?: Error) => void

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

/** Held here, so that tests which fake timers do not stop what is sent. */
const { setImmediate } = globalThis

/** The most transports that wait for each other: what is sent last must not wait long for what was read first. */
const MAX_DIRTY = 64

/** Transports with something to send. They are flushed together, once what can be read has been read. */
let dirty: Transport[] = []
let scheduled = false

function scheduleFlush(transport: Transport): void {
  const count = dirty.push(transport)
  if (!scheduled) {
    scheduled = true
    setImmediate(onImmediate)
  } else if (count >= MAX_DIRTY) flushAll()
}

function onImmediate(): void {
  scheduled = false
  flushAll()
}

function flushAll(): void {
  const transports = dirty
  dirty = []
  for (const transport of transports) transport.flush()
}

/**
 * A connection on a byte stream: it reads, it writes what was sent within one tick at once, it ends the stream when
 * the protocol asks for it, and it gives up on a peer that does not do its part in time.
 */
export class Transport extends AsyncResource implements Heart, Waiting {
  readonly connection: Connection
  isAlive = true
  isReading = false
  readonly #stream: Duplex
  readonly #events: TransportEvents
  readonly #closeTimeout: number
  readonly #heartbeat: Heartbeat | undefined
  #scheduled = false
  #peerEnded = false
  #ended = false
  #awaitsEnd = false
  #closed = false
  /** Callbacks of what waits for the next flush, and of the writes under way. */
  #callbacks: SendCallback[] | undefined
  #writes: Set<SendCallback[]> | undefined
  #notifyWritten = false

  /** The stream must have no other reader; `onEnd` is told when it closes. */
  constructor(stream: Duplex, options: TransportOptions, events: TransportEvents) {
    super('WEBSOCKET')
    const { role, maskingKey, settings } = options
    this.connection = new Connection({ role, maxPayload: settings.maxPayload, maskingKey }, events)
    this.#stream = stream
    this.#events = events
    this.#closeTimeout = settings.closeTimeout
    this.connection.pause()
    // When this side ends is decided here, not when the peer's end comes: what it sent before may still wait.
    stream.allowHalfOpen = true
    stream.pause()
    onChunk(stream, chunk => this.runInAsyncScope(this.#onData, this, chunk))
    stream.on('end', () => this.runInAsyncScope(this.#onPeerEnd, this))
    stream.on('close', () => this.runInAsyncScope(this.#onClose, this))
    // A reset is no error of the application: `close` follows and is told as 1006.
    stream.on('error', () => {})
    this.#heartbeat = settings.heartbeat === false ? undefined : new Heartbeat(this, settings.heartbeat)
    // The peer may have gone while the handshake was answered, and its events with it.
    if (stream.readableEnded) process.nextTick(() => this.runInAsyncScope(this.#onPeerEnd, this))
    if (stream.closed) process.nextTick(() => this.runInAsyncScope(this.#onClose, this))
  }

  /** Bytes that were sent and that the operating system has not taken. */
  get bufferedAmount(): number {
    return this.connection.bufferedAmount + (this.#closed ? 0 : this.#stream.writableLength)
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
    if (this.#stream.destroyed || this.isReading === reading) return
    this.isReading = reading
    if (reading) this.runInAsyncScope(this.#resume, this)
    else this.connection.pause()
  }

  #resume(): void {
    this.connection.resume()
    // Who takes messages one by one is given all that waits before more is read.
    if (!this.connection.isPaused && this.#stream.isPaused()) this.#stream.resume()
    if (this.#peerEnded) this.#onPeerEnd()
    this.sent()
    if (!this.connection.isOpen) this.#awaitEnd()
  }

  /** Has what was put into the connection written once what can be read has been read, and `callback` called once it was. */
  sent(callback?: SendCallback): void {
    if (callback !== undefined) {
      if (this.#callbacks === undefined) this.#callbacks = [callback]
      else this.#callbacks.push(callback)
    }
    if (this.#scheduled) return
    this.#scheduled = true
    scheduleFlush(this)
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
    if (buffers.length > 0) this.#write(buffers)
    // RFC 6455 section 7.1.1: after both Close frames the server ends TCP at once.
    if (this.connection.closeExpected) this.#end()
  }

  #write(buffers: Buffer[]): void {
    const last = buffers.length - 1
    // Behind a backlog every write is watched: `onWritten` may be asked for later.
    const isWatched = this.#callbacks !== undefined || this.#notifyWritten || this.#stream.writableLength > 0
    if (last > 0) this.#stream.cork()
    for (let i = 0; i < last; i++) this.#stream.write(buffers[i])
    if (isWatched) this.#stream.write(buffers[last], this.#onWritten())
    else this.#stream.write(buffers[last])
    if (last > 0) this.#stream.uncork()
  }

  #onWritten(): (error?: Error | null) => void {
    const callbacks = this.#callbacks ?? []
    this.#writes ??= new Set()
    const writes = this.#writes
    this.#callbacks = undefined
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

  /** The peer sends no more. What it sent may still wait in a paused connection. */
  #onPeerEnd(): void {
    this.#peerEnded = true
    if (this.connection.hasUnread) return
    this.flush()
    this.#end()
    this.#awaitEnd()
  }

  #end(): void {
    if (this.#ended) return
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
    const unwritten = this.#callbacks ?? []
    this.#callbacks = undefined
    for (const callbacks of this.#writes ?? []) this.#settleLate(callbacks)
    this.#writes?.clear()
    this.#settleLate(unwritten)
    this.#events.onEnd()
  }
}
