import { EventEmitter } from 'node:events'
import type { Duplex, DuplexOptions } from 'node:stream'
import { INTERNAL_ERROR } from '../protocol/close-code.js'
import { isStream } from './byte-stream.js'
import {
  type EventData,
  encodeControl,
  type ListenerData,
  type Message,
  type SendData,
  type SendOptions
} from './codec.js'
import { NoClientError, NotOpenError, toExpiry } from './error.js'
import { EventTargetEmitter } from './event-target.js'
import type { WebSocketEvents } from './events.js'
import type { ConnectionSetup } from './options.js'
import type { PreparedMessage } from './prepared-message.js'
import { Receiver } from './receiver.js'
import type { SendCallback, Sender } from './sender.js'
import type { Traffic } from './stats.js'
import { WebSocketStream } from './stream.js'

/**
 * Lets applications assign to these properties, because they may already use the names for values of their own. The assigned
 * value becomes an own property of the object.
 */
export function allowAssignment(prototype: object, names: readonly string[]): void {
  for (const name of names) {
    Object.defineProperty(prototype, name, {
      ...Object.getOwnPropertyDescriptor(prototype, name),
      set(value: unknown) {
        Object.defineProperty(this, name, { value, configurable: true, enumerable: true, writable: true })
      }
    })
  }
}

const CONNECTING = 0
const OPEN = 1
const CLOSING = 2
const CLOSED = 3

/**
 * One end of a WebSocket connection. It has the methods, properties and events of `ws`, it is an async iterable of its
 * messages, and it can be a stream.
 *
 * Reading waits for a consumer: a `message` listener, an iterator or a stream. Until then TCP holds what arrives. With a
 * listener of `close`, `ping` or `pong` it is read up to the first message.
 * @template Receive the messages of the iterator. Listeners of `message` get them too, but text as a Buffer unless the route has
 * the schema `receive`.
 * @template Send the messages that `send` takes. On a route with the schema `send` they are serialized.
 */
export class WebSocket<Receive = Message, Send = SendData>
  extends EventTargetEmitter<WebSocketEvents<ListenerData<Receive>>, EventData<Receive>>
  implements AsyncIterable<Receive>
{
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

  readonly #sender: Sender
  readonly #receiver: Receiver
  #hasFailed = false

  /** @internal */
  constructor(stream: Duplex, setup: ConnectionSetup<WebSocket>) {
    if (!isStream(stream)) throw new NoClientError()
    super({ captureRejections: true })
    this.protocol = setup.protocol
    const receiver = new Receiver(this, stream, setup)
    this.#receiver = receiver
    this.#sender = receiver.sender
  }

  // ---- State

  /** The extensions in use: `permessage-deflate` or none. */
  get extensions(): string {
    return this.#receiver.extension
  }

  /** Empty, as on every server side. */
  get url(): string {
    return ''
  }

  get readyState(): typeof CONNECTING | typeof OPEN | typeof CLOSING | typeof CLOSED {
    if (this.#receiver.isClosed) return CLOSED
    return this.#sender.isOpen ? OPEN : CLOSING
  }

  /** Bytes that were sent, frame headers included, and that the operating system has not taken yet. */
  get bufferedAmount(): number {
    return this.#sender.bufferedAmount
  }

  /** Messages that were not sent, as too many bytes were pending: see the option `backpressure`. */
  get dropped(): number {
    return this.#receiver.stats.dropped
  }

  /** The traffic of the connection so far: messages of the application, and all bytes after the handshake. */
  get traffic(): Traffic {
    return this.#receiver.stats.traffic
  }

  /**
   * The highest `bufferedAmount` after a message was sent.
   * @internal
   */
  get peakBufferedAmount(): number {
    return this.#receiver.stats.peakBufferedAmount
  }

  /** The last round trip of the heartbeat in milliseconds, from the ping to the pong; undefined before the first. */
  get latency(): number | undefined {
    return this.#receiver.stats.latency
  }

  get isPaused(): boolean {
    return this.#receiver.consumers.isPaused
  }

  // ---- Sending

  /**
   * Sends a message. Messages that are sent within one tick leave in one write. Payloads of 4 KiB or more are not copied: do not
   * change them before `callback` is called.
   * @param callback called exactly once: when the message was handed to the operating system, or with an error.
   * @returns false when more than `highWaterMark` bytes are pending, the message was dropped or the connection is not open.
   * @throws {TypeError} `FST_UPGRADE_INVALID_DATA` when `data` is neither text nor bytes. With the schema `send`, the same for
   * bytes and for anything but an object where it describes one, and `FST_UPGRADE_SERIALIZATION` when `data` does not match it.
   */
  send(data: Send | PreparedMessage, callback?: SendCallback): boolean
  // The first form alone would not be assignable to the type of `ws`.
  send(data: Send, callback?: SendCallback): boolean
  send(data: Send, options: SendOptions | undefined, callback?: SendCallback): boolean
  send(data: unknown, options?: SendOptions | SendCallback, callback?: SendCallback): boolean {
    if (typeof options === 'function') return this.#sender.send(data, undefined, options)
    return this.#sender.send(data, options, callback ?? undefined)
  }

  /**
   * Sends what is written to {@link stream}.
   * @internal
   */
  sendBytes(data: SendData, callback: SendCallback): boolean {
    return Reflect.apply(this.send, this, [data, callback])
  }

  /**
   * Resolves when no more than `highWaterMark` bytes are pending; rejects with `FST_UPGRADE_NOT_OPEN` when the connection
   * closes first.
   */
  drained(): Promise<void> {
    return this.#receiver.isClosed ? Promise.reject(new NotOpenError()) : this.#sender.drained()
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
    this.#sendControl('ping', data, mask, callback)
  }

  /** Sends an unsolicited pong; pings are answered without it. Arguments and errors as for `ping`. */
  pong(callback?: SendCallback): void
  pong(data?: SendData, callback?: SendCallback): void
  pong(data?: SendData, mask?: boolean, callback?: SendCallback): void
  pong(data?: SendData | SendCallback, mask?: boolean | SendCallback, callback?: SendCallback): void {
    this.#sendControl('pong', data, mask, callback)
  }

  /** The callback may be any argument, as in `ws`. */
  #sendControl(
    kind: 'ping' | 'pong',
    data: SendData | SendCallback | undefined,
    mask: boolean | SendCallback | undefined,
    last: SendCallback | undefined
  ): void {
    const payload = encodeControl(typeof data === 'function' ? undefined : data)
    const callback = [data, mask, last].find(argument => typeof argument === 'function')
    if (kind === 'ping' && payload.length === 0 && this.#sender.isOpen) this.#receiver.lifecycle.onBarePing()
    this.#sender.sendControl(kind, payload, callback)
  }

  // ---- Closing

  /**
   * Begins the closing handshake; messages that were sent before arrive before it. Does nothing when it is under way already.
   * A peer that does not answer within `closeTimeout` is cut.
   * @param code 1000 to 1003, 1007 to 1014 or 3000 to 4999. Default: none, which the peer sees as 1005.
   * @param reason at most 123 bytes in UTF-8.
   * @throws {TypeError} for another code.
   * @throws {RangeError} for a longer reason.
   */
  close(code?: number, reason?: string | Uint8Array): void {
    this.#receiver.lifecycle.close(code, reason)
    this.readAlways()
  }

  /** Cuts the connection without a Close frame; the peer sees 1006. */
  terminate(): void {
    this.#sender.cut()
  }

  /**
   * Whether an error only says that the connection closed while the application was still sending. An error of another
   * socket is none of these.
   * @internal
   */
  isLateSend(thrown: unknown): boolean {
    return thrown instanceof NotOpenError && this.readyState !== OPEN
  }

  /**
   * Closes the connection with 1011 because of an error of the application.
   * @returns whether it is the first. While the connection closes, the peer could cause any number of further errors.
   * @internal
   */
  closeOnError(): boolean {
    const isFirst = !this.#hasFailed
    this.#hasFailed = true
    this.close(INTERNAL_ERROR)
    return isFirst
  }

  // ---- Expiry

  /** When the connection expires, in milliseconds since 1970; undefined when it does not expire. */
  get expiresAt(): number | undefined {
    return this.#receiver.lifecycle.expiresAt
  }

  /**
   * Sets when the connection expires, in place of an earlier time. A time that has passed closes the connection now, with the
   * code of the option `expiredCode` (1008).
   * @param until a Date, or milliseconds since 1970.
   * @returns whether the connection is open.
   * @throws {TypeError} `FST_UPGRADE_INVALID_EXPIRY` for anything else, such as an invalid Date.
   */
  renew(until: Date | number): boolean {
    const isOpen = this.#receiver.lifecycle.expireAt(toExpiry(until))
    if (!isOpen) this.readAlways()
    return isOpen
  }

  // ---- Receiving

  /** Stops reading: no message is delivered until `resume`, and TCP holds the peer back. */
  pause(): void {
    this.#receiver.consumers.setPaused(true)
  }

  resume(): void {
    this.#receiver.consumers.setPaused(false)
  }

  /**
   * The messages of the connection, text as strings and binary ones as Buffers, each read when the loop requests it. On a
   * route with the schema `receive` they are parsed and validated values.
   * The loop ends when the connection does, for whatever reason.
   * @throws `FST_UPGRADE_ALREADY_READ` while another iterator or stream reads.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Receive> {
    // The decoder of the connection makes values of this type.
    return this.#receiver.consumers.iterate() as AsyncIterableIterator<Receive>
  }

  /**
   * The connection as a stream with backpressure both ways. Strings written with `decodeStrings: false` leave as text,
   * everything else as binary messages; with `readableObjectMode` text is read as strings. Its end closes the
   * connection with 1000, its destruction cuts it. An error of the event `error` is an error of the stream: the data so far is incomplete.
   * @throws `FST_UPGRADE_ALREADY_READ` while another iterator or stream reads.
   */
  stream(options?: DuplexOptions): Duplex {
    const { consumers, closeTimeout } = this.#receiver
    consumers.checkUnread()
    return consumers.consume(new WebSocketStream(consumers, this, closeTimeout, options))
  }

  /**
   * Reads from now on although there may be no consumer, so that pings are answered and a close is seen.
   * @internal
   */
  readAlways(): void {
    this.#receiver.consumers.readAlways()
  }

  /**
   * Closes the connection because of a message that the application refuses. No later message is delivered.
   * @internal
   */
  refuse(closeCode: number, reason: string, error: Error): void {
    this.#receiver.refuse(closeCode, reason, error)
  }

  /**
   * Passes an error of the application to its error handler.
   * @internal
   */
  reportError(error: unknown): void {
    this.#receiver.reportError(error)
  }

  static {
    // The states by name, read-only as in a browser and in `ws`.
    for (const target of [WebSocket, WebSocket.prototype]) {
      for (const [name, value] of Object.entries({ CONNECTING, OPEN, CLOSING, CLOSED }))
        Object.defineProperty(target, name, { value, enumerable: true })
    }
    allowAssignment(WebSocket.prototype, ['expiresAt'])
    // The listeners decide whether to read. `once` and `prependOnceListener` come through these methods too.
    for (const method of [
      'on',
      'addListener',
      'prependListener',
      'off',
      'removeListener',
      'removeAllListeners'
    ]) {
      const inherited: unknown = Reflect.get(EventEmitter.prototype, method)
      Object.defineProperty(WebSocket.prototype, method, {
        configurable: true,
        writable: true,
        value(this: WebSocket, ...args: unknown[]) {
          Reflect.apply(inherited as () => void, this, args)
          this.#receiver.consumers.onListenersChanged()
          return this
        }
      })
    }
    Object.defineProperty(WebSocket.prototype, EventEmitter.captureRejectionSymbol, {
      value: WebSocket.prototype.reportError
    })
  }
}
