import { EventEmitter } from 'node:events'
import type { Duplex, DuplexOptions } from 'node:stream'
import { PERMESSAGE_DEFLATE } from '../core/permessage-deflate.js'
import type { ProtocolError } from '../core/violation.js'
import type { Consumer } from './consumer.js'
import { BufferOverflowError, NotOpenError } from './error.js'
import { EventTargetEmitter } from './event-target.js'
import { type Message, MessageIterator } from './iterator.js'
import {
  type ControlArguments,
  type SendData,
  type SendOptions,
  toArrayBuffer,
  toControl,
  toPayload
} from './payload.js'
import { PreparedMessage } from './prepared-message.js'
import { Reader, type Reads } from './reader.js'
import type { SendCallback } from './send-callbacks.js'
import { WebSocketStream } from './stream.js'
import { Transport, type TransportEvents } from './transport.js'
import { Waiters } from './waiters.js'

import type {
  WebSocketOptions as Options,
  WebSocketEvents,
  WebSocketOwner,
  WebSocketSettings
} from './websocket-options.js'

export type { SendOptions } from './payload.js'
export type { WebSocketEvents } from './websocket-options.js'

type WebSocketOptions = Options<WebSocket>

const CONNECTING = 0
const OPEN = 1
const CLOSING = 2
const CLOSED = 3

/** What adds listeners to an emitter and removes them. */
const LISTENER_METHODS = [
  'on',
  'addListener',
  'prependListener',
  'off',
  'removeListener',
  'removeAllListeners'
] as const

/**
 * One end of a WebSocket connection. It has the methods, properties and events of `ws`, it is an async iterable of its
 * messages, and it can be a stream.
 *
 * Reading waits for a consumer: a `message` listener, an iterator or a stream. Until then TCP holds what arrives. With a
 * listener of `close`, `ping` or `pong` it is read up to the first message.
 */
export class WebSocket extends EventTargetEmitter<WebSocketEvents> implements AsyncIterable<Message> {
  static readonly CONNECTING = CONNECTING
  static readonly OPEN = OPEN
  static readonly CLOSING = CLOSING
  static readonly CLOSED = CLOSED
  declare readonly CONNECTING: typeof CONNECTING
  declare readonly OPEN: typeof OPEN
  declare readonly CLOSING: typeof CLOSING
  declare readonly CLOSED: typeof CLOSED

  /** The subprotocol in use; empty for none. */
  readonly protocol: string
  /** The extensions in use: `permessage-deflate` or none. */
  readonly extensions: string
  /** Empty, as on every server side. */
  readonly url: string = ''
  /** What binary messages are told as: `nodebuffer` (default), `arraybuffer`, or `fragments`, a list of Buffers. */
  binaryType: 'nodebuffer' | 'arraybuffer' | 'fragments' = 'nodebuffer'

  readonly #settings: WebSocketSettings
  readonly #owner: WebSocketOwner<WebSocket>
  readonly #transport: Transport
  readonly #reader: Reader
  #isClosed = false
  #waiters: Waiters | undefined

  /** @internal */
  constructor(stream: Duplex, options: WebSocketOptions) {
    super({ captureRejections: true })
    this.protocol = options.protocol
    this.extensions = options.deflate === undefined ? '' : PERMESSAGE_DEFLATE
    this.#settings = options.settings
    this.#owner = options.owner
    const events = new WebSocket.#Events(this)
    this.#transport = new Transport(stream, options, events)
    this.#reader = new Reader(events)
  }

  get readyState(): typeof CONNECTING | typeof OPEN | typeof CLOSING | typeof CLOSED {
    if (this.#isClosed) return CLOSED
    return this.#transport.isOpen ? OPEN : CLOSING
  }

  /** Bytes that were sent, frame headers included, and that the operating system has not taken yet. */
  get bufferedAmount(): number {
    return this.#transport.bufferedAmount
  }

  get isPaused(): boolean {
    return this.#reader.isPaused
  }

  /**
   * Sends a message. What is sent within one tick leaves in one write. Payloads of 4 KiB or more are not copied: do not
   * change them before `callback` is called.
   * @param callback called exactly once: when the message was handed to the operating system, or with an error.
   * @returns false when more than `highWaterMark` bytes wait or the connection is not open.
   * @throws {TypeError} `FST_UPGRADE_INVALID_DATA` when `data` is neither text nor bytes.
   */
  send(message: PreparedMessage, callback?: SendCallback): boolean
  send(data: SendData, callback?: SendCallback): boolean
  send(data: SendData, options: SendOptions | undefined, callback?: SendCallback): boolean
  send(
    data: SendData | PreparedMessage,
    options?: SendOptions | SendCallback,
    callback?: SendCallback
  ): boolean {
    if (typeof options === 'function') return this.#send(data, undefined, options)
    return this.#send(data, options, callback)
  }

  #send(
    data: SendData | PreparedMessage,
    options: SendOptions | undefined,
    callback: SendCallback | undefined
  ): boolean {
    const message = data instanceof PreparedMessage ? data : toPayload(data)
    const transport = this.#transport
    if (!transport.isOpen) return this.#refuse(callback)
    if (message instanceof PreparedMessage) transport.sendPrepared(message)
    else {
      const isBinary = options?.binary ?? typeof message !== 'string'
      transport.send(message, isBinary, options?.fin ?? true, options?.compress ?? true)
    }
    transport.sent(callback)
    return this.#hasRoom()
  }

  /**
   * Resolves when no more than `highWaterMark` bytes wait; rejects with `FST_UPGRADE_NOT_OPEN` when the connection
   * closes first.
   */
  drained(): Promise<void> {
    if (this.#isClosed) return Promise.reject(new NotOpenError())
    if (this.#hasRoom()) return Promise.resolve()
    this.#waiters ??= new Waiters()
    return this.#waiters.wait()
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
    return this.#consume(new MessageIterator(this.#reader))
  }

  /**
   * The connection as a stream with backpressure both ways. Strings written with `decodeStrings: false` leave as text,
   * everything else as binary messages; with `readableObjectMode` text is read as strings. Its end closes the
   * connection with 1000, its destruction cuts it.
   * @throws `FST_UPGRADE_ALREADY_READ` while another iterator or stream reads.
   */
  stream(options?: DuplexOptions): Duplex {
    this.#reader.checkUnread()
    return this.#consume(new WebSocketStream(this.#reader, this, options))
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
    if (!this.#transport.isOpen) {
      this.#refuse(callback)
      return
    }
    this.#transport.connection[kind](payload)
    this.#transport.sent(callback)
    this.#hasRoom()
  }

  /** A send that comes too late. The callback never runs before `send` has returned. */
  #refuse(callback: SendCallback | undefined): false {
    if (callback !== undefined) this.#transport.refuse(callback)
    return false
  }

  /** Whether more may be sent. A connection whose peer does not read at all is cut. */
  #hasRoom(): boolean {
    const waiting = this.bufferedAmount
    const limit = this.#settings.maxBufferedAmount
    if (waiting > limit && this.#transport.isOpen) {
      this.terminate()
      this.#transport.runInAsyncScope(this.#tellError, this, new BufferOverflowError(limit))
      return false
    }
    if (waiting <= this.#settings.highWaterMark) return true
    this.#transport.notifyWritten()
    return false
  }

  #consume<Kind extends Consumer>(consumer: Kind): Kind {
    if (this.#isClosed) consumer.onEnd()
    else this.#reader.consume(consumer)
    return consumer
  }

  #otherBinary(data: Buffer): ArrayBuffer | Buffer[] {
    return this.binaryType === 'arraybuffer' ? toArrayBuffer(data) : [data]
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

  #drain(): void {
    if (!this.#hasRoom()) return
    this.#waiters?.resolve()
    this.#tell('drain')
  }

  #close(): void {
    this.#isClosed = true
    const { closeCode, closeReason } = this.#transport.connection
    this.#waiters?.reject(() => new NotOpenError())
    this.#reader.onEnd()
    this.#owner.onClose(this, closeCode)
    this.#tell('close', closeCode, closeReason)
  }

  /** The view of a WebSocket that its transport and its reader have. */
  static readonly #Events = class implements TransportEvents, Reads {
    readonly #socket: WebSocket

    constructor(socket: WebSocket) {
      this.#socket = socket
    }

    onMessage(data: Buffer, isBinary: boolean): void {
      this.#socket.#reader.onMessage(data, isBinary)
    }

    tellMessage(data: Buffer, isBinary: boolean): void {
      const socket = this.#socket
      try {
        if (!isBinary || socket.binaryType === 'nodebuffer') socket.emit('message', data, isBinary)
        else Reflect.apply(socket.emit, socket, ['message', socket.#otherBinary(data), isBinary])
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
      this.#socket.#tell('ping', data)
      // The answers to pings count too.
      this.#socket.#hasRoom()
    }

    onPong(data: Buffer): void {
      this.#socket.#tell('pong', data)
    }

    onClose(): void {}

    onFail(error: ProtocolError): void {
      this.#socket.#tellError(error)
    }

    onWritten(): void {
      this.#socket.#drain()
    }

    onCallbackError(error: unknown): void {
      this.#socket.reportError(error)
    }

    onEnd(): void {
      this.#socket.#close()
    }
  }

  static {
    Object.assign(WebSocket.prototype, { CONNECTING, OPEN, CLOSING, CLOSED })
    // Who listens decides whether to read; `once` and `prependOnceListener` come through these too.
    for (const method of LISTENER_METHODS) {
      const inherited: unknown = EventEmitter.prototype[method]
      Object.defineProperty(WebSocket.prototype, method, {
        configurable: true,
        writable: true,
        value(this: WebSocket, ...args: unknown[]) {
          Reflect.apply(inherited as () => void, this, args)
          this.#reader.updateSoon()
          return this
        }
      })
    }
    Object.defineProperty(WebSocket.prototype, EventEmitter.captureRejectionSymbol, {
      value: WebSocket.prototype.reportError
    })
  }
}
