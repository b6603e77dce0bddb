import { EventEmitter } from 'node:events'
import type { Duplex, DuplexOptions } from 'node:stream'
import { ABNORMAL_CLOSURE } from '../protocol/close-code.js'
import { PERMESSAGE_DEFLATE } from '../protocol/permessage-deflate.js'
import type { ProtocolError } from '../protocol/violation.js'
import { Backpressure, type BackpressureEvents } from './backpressure.js'
import { isStream } from './byte-stream.js'
import { DroppedError, NoClientError, NotOpenError } from './error.js'
import { EventTargetEmitter } from './event-target.js'
import { type Message, MessageIterator } from './iterator.js'
import { tellListenerChanges } from './listener-changes.js'
import { MessageListeners } from './message-listeners.js'
import {
  type ControlArguments,
  type SendData,
  type SendOptions,
  toBinaryType,
  toControl,
  toPayload
} from './payload.js'
import { PreparedMessage } from './prepared-message.js'
import { Reader, type Reads } from './reader.js'
import { CLOSED, CLOSING, type CONNECTING, defineReadyStates, OPEN } from './ready-state.js'
import type { SendCallback } from './send-callbacks.js'
import { WebSocketStream } from './stream.js'
import { Transport } from './transport.js'
import type { TransportEvents } from './transport-options.js'
import type {
  Traffic,
  WebSocketEvents,
  WebSocketInit,
  WebSocketOwner,
  WebSocketSettings
} from './websocket-options.js'

/**
 * One end of a WebSocket connection. It has the methods, properties and events of `ws`, it is an async iterable of its
 * messages, and it can be a stream.
 *
 * Reading waits for a consumer: a `message` listener, an iterator or a stream. Until then TCP holds what arrives. With a
 * listener of `close`, `ping` or `pong` it is read up to the first message.
 */
export class WebSocket extends EventTargetEmitter<WebSocketEvents> implements AsyncIterable<Message> {
  declare static readonly CONNECTING: typeof CONNECTING
  declare static readonly OPEN: typeof OPEN
  declare static readonly CLOSING: typeof CLOSING
  declare static readonly CLOSED: typeof CLOSED
  declare readonly CONNECTING: typeof CONNECTING
  declare readonly OPEN: typeof OPEN
  declare readonly CLOSING: typeof CLOSING
  declare readonly CLOSED: typeof CLOSED

  /** The subprotocol in use; empty for none. */
  readonly protocol: string

  readonly #owner: WebSocketOwner<WebSocket>
  readonly #transport: Transport
  readonly #reader: Reader
  readonly #backpressure: Backpressure
  readonly #settings: WebSocketSettings
  /** Made for the first message: many connections only listen. */
  #messageListeners: MessageListeners | undefined
  #isClosed = false

  /** @internal */
  constructor(stream: Duplex, options: WebSocketInit<WebSocket>) {
    if (!isStream(stream)) throw new NoClientError()
    super({ captureRejections: true })
    this.protocol = options.protocol
    this.#owner = options.owner
    const events = new WebSocket.#Events(this)
    this.#transport = new Transport(stream, options, events)
    this.#reader = new Reader(events, options.settings.keepsMessages === true)
    this.#backpressure = new Backpressure(this.#transport, events, options.settings)
    this.#settings = options.settings
  }

  /** The extensions in use: `permessage-deflate` or none. */
  get extensions(): string {
    return this.#transport.isDeflating ? PERMESSAGE_DEFLATE : ''
  }

  /** Empty, as on every server side. */
  get url(): string {
    return ''
  }

  get readyState(): typeof CONNECTING | typeof OPEN | typeof CLOSING | typeof CLOSED {
    if (this.#isClosed) return CLOSED
    return this.#transport.isOpen ? OPEN : CLOSING
  }

  /** Bytes that were sent, frame headers included, and that the operating system has not taken yet. */
  get bufferedAmount(): number {
    return this.#transport.bufferedAmount
  }

  /** Messages that were not sent, as too many bytes waited: see the option `backpressure`. */
  get dropped(): number {
    return this.#backpressure.dropped
  }

  /** What the connection has carried so far: messages of the application, and all bytes after the handshake. */
  get traffic(): Traffic {
    return this.#transport.traffic
  }

  get isPaused(): boolean {
    return this.#reader.isPaused
  }

  /**
   * Sends a message. What is sent within one tick leaves in one write. Payloads of 4 KiB or more are not copied: do not
   * change them before `callback` is called.
   * @param callback called exactly once: when the message was handed to the operating system, or with an error.
   * @returns false when more than `highWaterMark` bytes wait, the message was dropped or the connection is not open.
   * @throws {TypeError} `FST_UPGRADE_INVALID_DATA` when `data` is neither text nor bytes.
   */
  send(data: SendData | PreparedMessage, callback?: SendCallback): boolean
  // The first form alone would not be assignable to the type of `ws`.
  send(data: SendData, callback?: SendCallback): boolean
  send(data: SendData, options: SendOptions | undefined, callback?: SendCallback): boolean
  send(
    data: SendData | PreparedMessage,
    options?: SendOptions | SendCallback,
    callback?: SendCallback
  ): boolean {
    if (typeof options === 'function') return this.#send(data, undefined, options)
    return this.#send(data, options, callback ?? undefined)
  }

  #send(
    data: SendData | PreparedMessage,
    options: SendOptions | undefined,
    callback: SendCallback | undefined
  ): boolean {
    const message = data instanceof PreparedMessage ? data : toPayload(data)
    const transport = this.#transport
    if (!transport.isOpen) return this.#refuse(callback)
    const backpressure = this.#backpressure
    const fin = options?.fin ?? true
    if (backpressure.drops && !backpressure.admits(message, fin, transport.connection.sendsFragments))
      return this.#refuse(callback, new DroppedError())
    if (message instanceof PreparedMessage)
      transport.sendPrepared(message, backpressure.exempt(message, message.size, callback))
    else {
      const isBinary = options?.binary ?? typeof message !== 'string'
      const done = backpressure.exempt(message, message.length, callback)
      transport.send(message, isBinary, fin, options?.compress ?? true, done)
    }
    return backpressure.hasRoom()
  }

  /**
   * Resolves when no more than `highWaterMark` bytes wait; rejects with `FST_UPGRADE_NOT_OPEN` when the connection
   * closes first.
   */
  drained(): Promise<void> {
    return this.#isClosed ? Promise.reject(new NotOpenError()) : this.#backpressure.drained()
  }

  /**
   * Sends a ping; the peer answers with a pong of the same data.
   * @param data at most 125 bytes.
   * @throws {RangeError} `FST_UPGRADE_PING_TOO_LONG` when there are more.
   */
  ping(callback?: SendCallback): void
  ping(data?: SendData, callback?: SendCallback): void
  ping(data?: SendData, mask?: boolean, callback?: SendCallback): void
  ping(data?: SendData | SendCallback, mask?: boolean | SendCallback, callback?: SendCallback): void {
    this.#sendControl('ping', [data, mask, callback])
  }

  /** Sends a pong that nobody asked for; pings are answered without it. Arguments and errors as for `ping`. */
  pong(callback?: SendCallback): void
  pong(data?: SendData, callback?: SendCallback): void
  pong(data?: SendData, mask?: boolean, callback?: SendCallback): void
  pong(data?: SendData | SendCallback, mask?: boolean | SendCallback, callback?: SendCallback): void {
    this.#sendControl('pong', [data, mask, callback])
  }

  /**
   * Begins the closing handshake; what was sent before arrives before. Does nothing when it is under way already.
   * A peer that does not answer within `closeTimeout` is cut.
   * @param code 1000 to 1003, 1007 to 1014 or 3000 to 4999. Default: none, which the peer sees as 1005.
   * @param reason at most 123 bytes in UTF-8.
   * @throws {TypeError} for another code.
   * @throws {RangeError} for a longer reason.
   */
  close(code?: number, reason?: string | Uint8Array): void {
    this.#transport.close(code, reason)
    this.readAlways()
  }

  /** Cuts the connection without a Close frame; the peer sees 1006. */
  terminate(): void {
    this.#transport.terminate()
  }

  /** Stops reading: no message is told until `resume`, and TCP holds the peer back. */
  pause(): void {
    if (!this.#isClosed) this.#reader.setPaused(true)
  }

  resume(): void {
    this.#reader.setPaused(false)
  }

  /**
   * The messages of the connection, text as strings and binary ones as Buffers, each read when the loop asks for it.
   * The loop ends when the connection does, for whatever reason.
   * @throws `FST_UPGRADE_ALREADY_READ` while another iterator or stream reads.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Message> {
    return this.#reader.consume(new MessageIterator(this.#reader))
  }

  /**
   * The connection as a stream with backpressure both ways. Strings written with `decodeStrings: false` leave as text,
   * everything else as binary messages; with `readableObjectMode` text is read as strings. Its end closes the
   * connection with 1000, its destruction cuts it. What the event `error` tells is an error of it: what was read is not all.
   * @throws `FST_UPGRADE_ALREADY_READ` while another iterator or stream reads.
   */
  stream(options?: DuplexOptions): Duplex {
    this.#reader.checkUnread()
    return this.#reader.consume(new WebSocketStream(this.#reader, this, this.#settings.closeTimeout, options))
  }

  /**
   * From now on reads although nobody takes the messages, so that pings are answered and a close is seen.
   * @internal
   */
  readAlways(): void {
    this.#reader.readAlways()
  }

  /**
   * Tells the application's error handler.
   * @internal
   */
  reportError(error: unknown): void {
    this.#owner.onError(this, error)
  }

  #sendControl(kind: 'ping' | 'pong', args: ControlArguments): void {
    const { payload, callback } = toControl(args)
    if (!this.#transport.isOpen) return void this.#refuse(callback)
    if (kind === 'ping' && payload.length === 0) this.#transport.heartbeat?.onBarePing()
    this.#transport.connection[kind](payload)
    this.#transport.sent(callback)
    this.#backpressure.hasRoom(true)
  }

  get #listeners(): MessageListeners {
    const most = this.#settings.maxPendingMessages || Number.POSITIVE_INFINITY
    this.#messageListeners ??= new MessageListeners(this, most, this.#reader)
    return this.#messageListeners
  }

  /** A send that comes too late, or for which there is no room. The callback never runs before `send` has returned. */
  #refuse(callback: SendCallback | undefined, error?: Error): false {
    if (callback !== undefined) this.#transport.writer.refuse(callback, error)
    return false
  }

  /** Emits; what a listener throws goes to the application's error handler, never to the process. */
  #tell(event: keyof WebSocketEvents, ...args: unknown[]): void {
    try {
      Reflect.apply(this.emit, this, [event, ...args])
    } catch (error) {
      this.reportError(error)
    }
  }

  #tellError(error: Error): void {
    this.#owner.onPeerError(error)
    if (this.listenerCount('error') > 0) this.#tell('error', error)
  }

  #close(): void {
    this.#isClosed = true
    const { connection, reason } = this.#transport
    this.#backpressure.onClose()
    this.#reader.onEnd(connection.closeCode !== ABNORMAL_CLOSURE && reason === undefined)
    this.#owner.onClose(this, connection.closeCode, reason)
    // Most connections end in peace, and listeners as `ws` has them take two arguments.
    this.#tell('close', connection.closeCode, connection.closeReason, ...(reason ? [reason] : []))
  }

  /** The view of a WebSocket that its transport and its reader have. */
  static readonly #Events = class implements TransportEvents, Reads, BackpressureEvents {
    readonly #socket: WebSocket
    failure: Error | undefined

    constructor(socket: WebSocket) {
      this.#socket = socket
    }

    onMessage(data: Buffer, isBinary: boolean): void {
      const socket = this.#socket
      if (socket.#transport.limits.admitMessage()) socket.#reader.onMessage(data, isBinary)
    }

    tellMessage(data: Buffer, isBinary: boolean): void {
      const socket = this.#socket
      const told = isBinary ? toBinaryType(data, socket.binaryType) : data
      try {
        socket.#listeners.tell(told, isBinary)
      } catch (error) {
        socket.reportError(error)
      }
    }

    run(work: () => void): void {
      this.#socket.#transport.runInAsyncScope(work)
    }

    listenerCount(event: keyof WebSocketEvents): number {
      return this.#socket.listenerCount(event)
    }

    setReading(reading: boolean): void {
      this.#socket.#transport.setReading(reading)
    }

    onPing(data: Buffer): void {
      const { limits, connection, writer } = this.#socket.#transport
      if (!limits.admitControl()) return
      // Many pings that arrive together do not mean that the peer does not read: its socket may have room for all pongs.
      if (connection.isFullOfPongs && connection.gaps === 0 && writer.unsent === 0)
        this.#socket.#transport.flush()
      this.#socket.#tell('ping', data)
      // The answers to pings count too.
      this.#socket.#backpressure.hasRoom(true)
    }

    onPong(data: Buffer): void {
      this.#socket.#transport.heartbeat?.onPong(data)
      if (this.#socket.#transport.limits.admitControl()) this.#socket.#tell('pong', data)
    }

    onClose(): void {}

    onFail(error: ProtocolError): void {
      this.failure ??= error
      this.#socket.#transport.reason ??= error
      this.#socket.#tellError(error)
    }

    onWritten(): void {
      const transport = this.#socket.#transport
      if (transport.connection.holdsPong) transport.sent()
      this.#socket.#backpressure.onWritten()
    }

    onDrain(): void {
      this.#socket.#tell('drain')
    }

    onDrop(count: number): void {
      this.#socket.#transport.runInAsyncScope(this.#socket.#tell, this.#socket, 'drop', count)
    }

    onOverflow(error: Error): void {
      this.failure ??= error
      const socket = this.#socket
      // Before the close, and not while whoever sends to many is at work on the others.
      process.nextTick(() => socket.#transport.runInAsyncScope(socket.#tellError, socket, error))
      socket.#transport.terminate(error)
    }

    /** Whether the listeners of `message` are still at work on as many as they may. */
    get isBehind(): boolean {
      const socket = this.#socket
      return socket.#messageListeners?.areBehind === true && socket.#transport.isOpen
    }

    onCallbackError(error: unknown): void {
      this.#socket.reportError(error)
    }

    onEnd(): void {
      this.#socket.#close()
    }
  }

  static {
    defineReadyStates(WebSocket)
    tellListenerChanges<WebSocket>(WebSocket.prototype, socket => {
      socket.#messageListeners?.change()
      // Who listens decides whether to read.
      socket.#reader.updateSoon()
    })
    Object.defineProperty(WebSocket.prototype, EventEmitter.captureRejectionSymbol, {
      value: WebSocket.prototype.reportError
    })
  }
}
