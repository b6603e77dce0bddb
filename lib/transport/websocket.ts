import { EventEmitter } from 'node:events'
import type { Duplex, DuplexOptions } from 'node:stream'
import { MAX_CONTROL_PAYLOAD } from '../core/close-code.js'
import type { ProtocolError } from '../core/violation.js'
import type { Consumer, Source } from './consumer.js'
import { AlreadyReadError, BufferOverflowError, NotOpenError, PingTooLongError } from './error.js'
import { EventTargetEmitter } from './event-target.js'
import { type Message, MessageIterator } from './iterator.js'
import { type SendData, toArrayBuffer, toPayload } from './payload.js'
import { WebSocketStream } from './stream.js'
import { type SendCallback, Transport, type TransportEvents, type TransportOptions } from './transport.js'

export interface WebSocketOptions extends TransportOptions {
  /** The subprotocol in use; empty for none. */
  readonly protocol: string
  /** Bytes waiting to be sent above which `send` returns false. */
  readonly highWaterMark: number
  /** Bytes waiting to be sent above which the connection is cut. */
  readonly maxBufferedAmount: number
  /** Told what a listener threw or rejected with. */
  readonly onError: (error: unknown) => void
}

export interface SendOptions {
  /** Whether the message is binary. Default: false for strings, true for everything else. */
  readonly binary?: boolean | undefined
  /** Whether this is the last fragment of the message. Default: true. */
  readonly fin?: boolean | undefined
  /** Taken from code written for `ws`, without effect: no compression is negotiated. */
  readonly compress?: boolean | undefined
  /** Taken from code written for `ws`, without effect: the role decides whether frames are masked. */
  readonly mask?: boolean | undefined
}

/** The events of a WebSocket and their arguments. */
export interface WebSocketEvents {
  message: [data: Buffer, isBinary: boolean]
  close: [code: number, reason: Buffer]
  /** The peer broke the protocol or did not read; `close` follows. Not thrown when nobody listens. */
  error: [error: Error]
  ping: [data: Buffer]
  pong: [data: Buffer]
  /** After `send` returned false: no more than `highWaterMark` bytes wait. */
  drain: []
  open: []
}

const CONNECTING = 0
const OPEN = 1
const CLOSING = 2
const CLOSED = 3

/** What `ping` and `pong` are called with: the callback may come first. */
type ControlArguments = readonly [
  data?: SendData | SendCallback | undefined,
  mask?: boolean | SendCallback | undefined,
  callback?: SendCallback | undefined
]

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

/**
 * One end of a WebSocket connection. It has the methods, properties and events of `ws`, it is an async iterable of its
 * messages, and it can be a stream.
 *
 * Reading waits for a consumer: a `message` listener, an iterator or a stream. Until then TCP holds what arrives.
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
  /** The extensions in use, of which there are none. */
  readonly extensions: string = ''
  /** Empty, as on every server side. */
  readonly url: string = ''
  /** What binary messages are told as: `nodebuffer` (default), `arraybuffer`, or `fragments`, a list of Buffers. */
  binaryType: 'nodebuffer' | 'arraybuffer' | 'fragments' = 'nodebuffer'

  readonly #options: WebSocketOptions
  readonly #transport: Transport
  #isClosed = false
  #isPaused = false
  #consumer: Consumer | undefined
  /** Whether to read although nobody takes the messages. */
  #readsAlways = false
  #needsDrain = false
  #waiters: Waiter[] = []

  /** @internal */
  constructor(stream: Duplex, options: WebSocketOptions) {
    super({ captureRejections: true })
    this.protocol = options.protocol
    this.#options = options
    this.#transport = new Transport(stream, options, new WebSocket.#Events(this))
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
    return this.#isPaused
  }

  /**
   * Sends a message. What is sent within one tick leaves in one write. Payloads of 4 KiB or more are not copied: do not
   * change them before `callback` is called.
   * @param callback called exactly once: when the message was handed to the operating system, or with an error.
   * @returns false when more than `highWaterMark` bytes wait or the connection is not open.
   * @throws {TypeError} `FST_UPGRADE_INVALID_DATA` when `data` is neither text nor bytes.
   */
  send(data: SendData, callback?: SendCallback): boolean
  send(data: SendData, options: SendOptions | undefined, callback?: SendCallback): boolean
  send(data: SendData, options?: SendOptions | SendCallback, callback?: SendCallback): boolean {
    if (typeof options === 'function') return this.send(data, undefined, options)
    const payload = toPayload(data)
    if (!this.#transport.isOpen) return this.#refuse(callback)
    const isBinary = options?.binary ?? typeof payload !== 'string'
    this.#transport.connection.send(payload, isBinary, options?.fin ?? true)
    this.#transport.sent(callback)
    return this.#hasRoom()
  }

  /**
   * Resolves when no more than `highWaterMark` bytes wait; rejects with `FST_UPGRADE_NOT_OPEN` when the connection
   * closes first.
   */
  drained(): Promise<void> {
    if (this.#isClosed) return Promise.reject(new NotOpenError())
    if (this.#hasRoom()) return Promise.resolve()
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }))
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
    if (!this.#transport.isOpen) return
    this.#transport.close(code, reason)
    this.readAlways()
  }

  /** Cuts the connection without a Close frame; the peer sees 1006. */
  terminate(): void {
    this.#transport.terminate()
  }

  /** Stops reading: no message is told until `resume`, and TCP holds the peer back. */
  pause(): void {
    this.#isPaused = !this.#isClosed
    this.#updateReading()
  }

  resume(): void {
    this.#isPaused = false
    this.#updateSoon()
  }

  /**
   * The messages of the connection, text as strings and binary ones as Buffers, each read when the loop asks for it.
   * The loop ends when the connection does, for whatever reason.
   * @throws `FST_UPGRADE_ALREADY_READ` while another iterator or stream reads.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Message> {
    const iterator = new MessageIterator(this.#source())
    this.#consume(iterator)
    return iterator
  }

  /**
   * The connection as a stream with backpressure both ways. Strings written with `decodeStrings: false` leave as text,
   * everything else as binary messages; with `readableObjectMode` text is read as strings. Its end closes the
   * connection with 1000, its destruction cuts it.
   * @throws `FST_UPGRADE_ALREADY_READ` while another iterator or stream reads.
   */
  stream(options?: DuplexOptions): Duplex {
    const stream = new WebSocketStream(this.#source(), this, options)
    this.#consume(stream)
    return stream
  }

  /**
   * From now on reads although nobody takes the messages, so that pings are answered and a close is seen.
   * @internal
   */
  readAlways(): void {
    this.#readsAlways = true
    this.#updateSoon()
  }

  #sendControl(kind: 'ping' | 'pong', [data, mask, last]: ControlArguments): void {
    const callback = [data, mask, last].find(argument => typeof argument === 'function')
    const payload = toPayload(data === undefined || typeof data === 'function' ? '' : data)
    const length = Buffer.byteLength(payload)
    if (length > MAX_CONTROL_PAYLOAD) throw new PingTooLongError(length)
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
    if (callback !== undefined) this.#transport.sent(callback)
    return false
  }

  /** Whether more may be sent. A connection whose peer does not read at all is cut. */
  #hasRoom(): boolean {
    const waiting = this.bufferedAmount
    if (waiting <= this.#options.highWaterMark) return true
    if (waiting > this.#options.maxBufferedAmount) {
      this.#tellError(new BufferOverflowError(this.#options.maxBufferedAmount))
      this.terminate()
      return false
    }
    this.#needsDrain = true
    this.#transport.notifyWritten()
    return false
  }

  #source(): Source {
    return {
      wanted: () => this.#updateReading(),
      release: () => {
        this.#consumer = undefined
        this.#updateSoon()
      }
    }
  }

  #consume(consumer: Consumer): void {
    if (this.#consumer !== undefined) throw new AlreadyReadError()
    if (this.#isClosed) consumer.onEnd()
    else this.#consumer = consumer
  }

  #updateReading(): void {
    const wanted = this.#consumer?.wantsMore ?? (this.#readsAlways || this.listenerCount('message') > 0)
    this.#transport.setReading(wanted && !this.#isPaused)
  }

  /** What waits already is not told before the caller has returned. */
  #updateSoon(): void {
    process.nextTick(() => this.#updateReading())
  }

  #message(data: Buffer, isBinary: boolean): void {
    this.#consumer?.onMessage(data, isBinary)
    this.#tell('message', isBinary ? this.#binary(data) : data, isBinary)
    if (this.#consumer !== undefined || !this.#readsAlways) this.#updateReading()
  }

  #binary(data: Buffer): Buffer | ArrayBuffer | Buffer[] {
    if (this.binaryType === 'nodebuffer') return data
    return this.binaryType === 'arraybuffer' ? toArrayBuffer(data) : [data]
  }

  /** Emits; what a listener throws goes to the application's error handler, never to the process. */
  #tell(event: keyof WebSocketEvents, ...args: unknown[]): void {
    try {
      Reflect.apply(this.emit, this, [event, ...args])
    } catch (error) {
      this.#options.onError(error)
    }
  }

  #tellError(error: Error): void {
    if (this.listenerCount('error') > 0) this.#tell('error', error)
  }

  #drain(): void {
    if (!this.#needsDrain || !this.#hasRoom()) return
    this.#needsDrain = false
    const waiters = this.#waiters
    this.#waiters = []
    for (const { resolve } of waiters) resolve()
    this.#tell('drain')
  }

  #close(): void {
    this.#isClosed = true
    this.#isPaused = false
    const { closeCode, closeReason } = this.#transport.connection
    for (const { reject } of this.#waiters) reject(new NotOpenError())
    this.#waiters = []
    this.#consumer?.onEnd()
    this.#consumer = undefined
    this.#tell('close', closeCode, closeReason)
  }

  /** The transport's view of a WebSocket. */
  static readonly #Events = class implements TransportEvents {
    readonly #socket: WebSocket

    constructor(socket: WebSocket) {
      this.#socket = socket
    }

    onMessage(data: Buffer, isBinary: boolean): void {
      this.#socket.#message(data, isBinary)
    }

    onPing(data: Buffer): void {
      this.#socket.#tell('ping', data)
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
      this.#socket.#options.onError(error)
    }

    onEnd(): void {
      this.#socket.#close()
    }
  }

  static {
    Object.assign(WebSocket.prototype, { CONNECTING, OPEN, CLOSING, CLOSED })
    // A new `message` listener is a consumer; `once` and `prependOnceListener` come through these three.
    for (const method of ['on', 'addListener', 'prependListener'] as const) {
      const add = EventEmitter.prototype[method]
      Object.defineProperty(WebSocket.prototype, method, {
        configurable: true,
        writable: true,
        value(this: WebSocket, event: string | symbol, listener: (...args: unknown[]) => void) {
          Reflect.apply(add, this, [event, listener])
          if (event === 'message') this.#updateSoon()
          return this
        }
      })
    }
    Object.defineProperty(WebSocket.prototype, EventEmitter.captureRejectionSymbol, {
      value(this: WebSocket, error: unknown) {
        this.#options.onError(error)
      }
    })
  }
}
