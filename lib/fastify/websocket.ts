import { randomUUID } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { SendData } from '../socket/payload.js'
import type { PreparedMessage, PrepareOptions } from '../socket/prepared-message.js'
import { WebSocket as TransportWebSocket } from '../socket/websocket.js'
import type { WebSocketInit } from '../socket/websocket-options.js'

/** Options of {@link WebSocket.subscribe}. */
export interface SubscribeOptions {
  /**
   * Makes the connection a member that `websocketServer.presence` shows, with this data. It has to survive JSON, and may
   * have 64 KiB of it.
   */
  readonly presence?: unknown
}

/** Where the topics are. */
export interface TopicServer {
  subscribe(topic: string, socket: WebSocket): Promise<void>
  unsubscribe(topic: string, socket: WebSocket): void
  join(topic: string, id: string, data: unknown): void
  leave(topic: string, id: string): void
  publish(
    topic: string,
    data: SendData | PreparedMessage,
    options: PrepareOptions & { readonly except: WebSocket }
  ): Promise<void>
}

const NO_TOPICS: ReadonlySet<string> = new Set<string>()

/** A connection that a route handles. It can be subscribed to topics of its server. */
export class WebSocket extends TransportWebSocket {
  readonly #server: TopicServer
  #topics: Set<string> | undefined
  #presenceId: string | undefined

  /** @internal */
  constructor(stream: Duplex, options: WebSocketInit<TransportWebSocket>, server: TopicServer) {
    super(stream, options)
    this.#server = server
  }

  /** The topics that it is subscribed to. */
  get topics(): ReadonlySet<string> {
    return this.#topics ?? NO_TOPICS
  }

  /**
   * From now on it is sent what is published to a topic. Subscriptions end with the connection.
   * @param topic any string of 1 to 1024 bytes in UTF-8. Never take it from a client unchecked.
   * @returns resolves when messages of other processes arrive too. It rejects with `FST_UPGRADE_BROKER_SUBSCRIBE` when the
   * broker cannot do that for now; it is tried again, and nobody has to wait for the promise.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`, or when `presence` cannot become JSON.
   * @throws {RangeError} `FST_UPGRADE_PRESENCE_TOO_LONG` when it has more than 64 KiB as JSON.
   */
  subscribe(topic: string, options: SubscribeOptions = {}): Promise<void> {
    if (this.readyState === WebSocket.CLOSED) return Promise.resolve()
    if (options.presence !== undefined) this.#server.join(topic, this.presenceId, options.presence)
    const subscribed = this.#server.subscribe(topic, this)
    this.#topics ??= new Set()
    this.#topics.add(topic)
    return subscribed
  }

  unsubscribe(topic: string): void {
    if (this.#topics?.delete(topic) !== true) return
    this.#server.unsubscribe(topic, this)
    if (this.#presenceId !== undefined) this.#server.leave(topic, this.#presenceId)
  }

  /** The id under which `websocketServer.presence` shows this connection. */
  get presenceId(): string {
    this.#presenceId ??= randomUUID()
    return this.#presenceId
  }

  /**
   * Publishes to everyone in the topic but this connection: see `websocketServer.publish`.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`, `FST_UPGRADE_INVALID_DATA` when `data` is neither text nor bytes, or
   * `FST_UPGRADE_INVALID_TEXT` when bytes that are to leave as text are not UTF-8.
   */
  publish(topic: string, data: SendData | PreparedMessage, options?: PrepareOptions): Promise<void> {
    return this.#server.publish(topic, data, { ...options, except: this })
  }

  /** @internal */
  unsubscribeAll(): void {
    for (const topic of this.topics) this.unsubscribe(topic)
  }
}
