import { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { ServerOptions } from '../../types/options.js'
import type { Broker } from '../brokers/broker.js'
import type { SendData } from '../socket/codec.js'
import { PreparedMessage, type PrepareOptions, prepare } from '../socket/prepared-message.js'
import type { BrokerEvent } from '../topics/bus.js'
import type { Presence } from '../topics/presence.js'
import type { PresenceSettings } from '../topics/presences.js'
import { PubSub } from '../topics/pubsub.js'
import { WebSocket } from './websocket.js'

/** The events of a {@link WebSocketServer} and their arguments. */
export interface WebSocketServerEvents {
  /** A handshake is complete; the route's handler runs next. */
  connection: [socket: WebSocket, request: IncomingMessage]
  /** `close` was called and the last connection has ended. */
  close: []
  error: [error: Error]
  /** What becomes of the exchange with other processes. */
  broker: [event: BrokerEvent]
}

/** How the processes of an application work together. */
export interface PubSubSettings {
  readonly broker: Broker | undefined
  readonly presence: PresenceSettings
}

/** Options of {@link WebSocketServer.broadcast}. */
export interface BroadcastOptions extends PrepareOptions {
  /** Whether only connections of this process get the message, also when there is a broker. Default: false. */
  readonly local?: boolean | undefined
}

/** Options of {@link WebSocketServer.publish}. */
export interface PublishOptions extends PrepareOptions {
  /** Who does not get the message. */
  readonly except?: WebSocket | undefined
}

/** The connections of the scope that the plugin is registered in, as `fastify.websocketServer`. */
export class WebSocketServer extends EventEmitter<WebSocketServerEvents> {
  /** The connections that are open or closing. It changes as they come and go. */
  readonly clients: Set<WebSocket> = new Set()
  /** The plugin's `options`. `handleProtocols` and `verifyClient` are read at each handshake. */
  readonly options: ServerOptions
  readonly #onError: (error: unknown) => void
  readonly #closed = new Set<() => void>()
  readonly #pubsub: PubSub<PreparedMessage, WebSocket>
  #isClosing = false

  /** @internal */
  constructor(
    options: ServerOptions,
    { broker, presence }: PubSubSettings,
    onError: (error: unknown) => void
  ) {
    super({ captureRejections: true })
    this.options = options
    this.#onError = onError
    this.#pubsub = new PubSub({
      broker,
      prepare,
      onEvent: event => this.#try(() => this.emit('broker', event)),
      presence,
      onError
    })
  }

  /** Whether new handshakes are refused. */
  get isClosing(): boolean {
    return this.#isClosing
  }

  /**
   * Refuses new handshakes with 503 from now on. Open connections stay; `close` is emitted when the last one has ended.
   * @param callback called then.
   */
  close(callback?: () => void): void {
    const isDone = this.#isClosing && this.clients.size === 0
    if (callback !== undefined && !isDone) this.#closed.add(callback)
    if (callback !== undefined && isDone) process.nextTick(callback)
    if (this.#isClosing) return
    this.#isClosing = true
    if (this.clients.size === 0) process.nextTick(() => this.#tellClosed())
  }

  /**
   * Sends a message to every open connection: to those of this process at once, and with a broker to those of the other
   * processes, with the guarantees of {@link publish}. It is framed once, and compressed once for each set of compression
   * parameters.
   * @returns resolves when the engine of the broker has the message, and at once without a broker or with `local`. It
   * rejects with `FST_UPGRADE_BROKER_PUBLISH` or `FST_UPGRADE_BROKER_OVERLOADED` when other processes miss the message. The
   * event `broker` reports it as well, so the promise need not be awaited.
   * @throws {TypeError} `FST_UPGRADE_INVALID_DATA` when `data` is neither text nor bytes, `FST_UPGRADE_INVALID_TEXT` when bytes
   * that are to leave as text are not UTF-8.
   */
  broadcast(data: SendData | PreparedMessage, options: BroadcastOptions = {}): Promise<void> {
    return this.#pubsub.broadcast(prepared(data, options), options.local === true)
  }

  /**
   * Sends a message to everyone in a topic, in this process at once and in others through the broker. It is framed once,
   * and compressed once for each set of compression parameters. It takes time for each receiver, not for others.
   * @returns resolves when the engine of the broker has the message, without one at once. It rejects with
   * `FST_UPGRADE_BROKER_PUBLISH` or `FST_UPGRADE_BROKER_OVERLOADED` when other processes miss the message; nobody has to
   * wait for it, as the event `broker` tells it too.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`, `FST_UPGRADE_INVALID_DATA` when `data` is neither text nor bytes, or
   * `FST_UPGRADE_INVALID_TEXT` when bytes that are to leave as text are not UTF-8.
   */
  publish(topic: string, data: SendData | PreparedMessage, options: PublishOptions = {}): Promise<void> {
    return this.#pubsub.publish(topic, prepared(data, options), options.except)
  }

  /**
   * The members of a topic, in all processes: the connections that were subscribed with `presence`. Close it when it is not
   * needed any more.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`
   */
  presence(topic: string): Presence {
    return this.#pubsub.presence(topic)
  }

  /** How many connections of this process are subscribed to a topic. */
  subscriberCount(topic: string): number {
    return this.#pubsub.subscriberCount(topic)
  }

  /** Messages that did not get to other processes, as the broker did not take them. */
  get lost(): number {
    return this.#pubsub.lost
  }

  /** @internal */
  subscribe(topic: string, socket: WebSocket): Promise<void> {
    return this.#pubsub.subscribe(topic, socket)
  }

  /** @internal */
  unsubscribe(topic: string, socket: WebSocket): void {
    this.#pubsub.unsubscribe(topic, socket)
  }

  /** @internal */
  join(topic: string, id: string, data: unknown): void {
    this.#pubsub.join(topic, id, data)
  }

  /** @internal */
  leave(topic: string, id: string): void {
    this.#pubsub.leave(topic, id)
  }

  /** @internal */
  openBroker(): void {
    this.#pubsub.open()
    this.#pubsub.receiveBroadcasts(this.clients)
  }

  /** @internal */
  closeBroker(): Promise<void> {
    return this.#pubsub.close()
  }

  /** @internal */
  add(socket: WebSocket): void {
    this.clients.add(socket)
  }

  /** @internal */
  remove(socket: WebSocket): void {
    this.clients.delete(socket)
    socket.unsubscribeAll()
    if (this.#isClosing && this.clients.size === 0) this.#tellClosed()
  }

  /** A listener that throws keeps nobody else from learning it. */
  #tellClosed(): void {
    for (const callback of this.#closed) this.#try(callback)
    this.#closed.clear()
    this.#try(() => this.emit('close'))
  }

  #try(tell: () => void): void {
    try {
      tell()
    } catch (error) {
      this.#onError(error)
    }
  }

  static {
    // What a listener of `connection` rejects with goes the way of what the listeners of its socket reject with.
    Object.defineProperty(WebSocketServer.prototype, EventEmitter.captureRejectionSymbol, {
      value(this: WebSocketServer, error: unknown, _event: string, socket: unknown) {
        if (socket instanceof WebSocket) socket.reportError(error)
        else this.#onError(error)
      }
    })
  }
}

function prepared(data: SendData | PreparedMessage, options?: PrepareOptions): PreparedMessage {
  return data instanceof PreparedMessage ? data : prepare(data, options)
}
