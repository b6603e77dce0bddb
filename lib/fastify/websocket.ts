import { randomUUID } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { Position } from '../brokers/broker.js'
import type { Message, SendData } from '../socket/codec.js'
import type { ConnectionSetup } from '../socket/options.js'
import { PreparedMessage, type PrepareOptions } from '../socket/prepared-message.js'
import { allowAssignment, WebSocket as TransportWebSocket } from '../socket/websocket.js'
import { type ConnectionDetails, DETAILS } from '../topics/connections/connections.js'
import type { TopicPublication } from '../topics/history-entry.js'
import { type Subscription, WITHOUT_POSITION } from '../topics/history-topic.js'

/** Options of {@link WebSocket.subscribe}. */
export interface SubscribeOptions {
  /**
   * Makes the connection a presence member of the topic, with this data. `websocketServer.presence` shows it. The data is
   * converted to JSON, of which it may have 64 KiB.
   */
  readonly presence?: unknown
  /**
   * In a topic with history: delivers the publications after this position first, or with `'last'` the last publication.
   * Default: only those that are published from now on.
   */
  readonly since?: Position | 'last' | undefined
  /**
   * In a topic with history: returns the message that the connection gets from a publication, for example with its offset.
   * It is called once for each publication and all connections that are subscribed with the same function. Default:
   * `deliver` of the route, or the message as it was published.
   */
  readonly deliver?: DeliverPublication | undefined
  /**
   * In a topic with history: called when publications were missed that cannot be recovered, because the history does not
   * have them any more. Those after the position follow. Default: closes the connection with 1013, so that the client
   * connects again and is not recovered.
   */
  readonly onLost?: ((position: Position) => void) | undefined
}

/** Returns the message that connections get from a publication. */
export type DeliverPublication = (publication: TopicPublication) => SendData | PreparedMessage

/** The part of the server that its connections use. */
export interface TopicServer {
  subscribe(topic: string, socket: AnyWebSocket, options: SubscribeOptions): Promise<Subscription>
  unsubscribe(topic: string, socket: AnyWebSocket): void
  join(topic: string, id: string, data: unknown): void
  leave(topic: string, id: string): void
  identify(id: string, socket: AnyWebSocket): void
  forget(id: string): void
  publish(
    topic: string,
    data: PreparedMessage,
    options: TopicPublishOptions & { readonly except: AnyWebSocket }
  ): Promise<Position | undefined>
}

/** Options of {@link WebSocket.publish}. */
export interface TopicPublishOptions extends PrepareOptions {
  /**
   * In a topic with history: only the first message with this id is published within five minutes. Publish a message again
   * with its id when `publish` has rejected. 1 to 256 bytes.
   */
  readonly id?: string | undefined
}

const NO_OPTIONS: SubscribeOptions = {}
const NO_TOPICS: ReadonlySet<string> = new Set<string>()

/** A connection of a route. It can subscribe to topics of its server. */
export class WebSocket<Receive = Message, Send = SendData> extends TransportWebSocket<Receive, Send> {
  readonly #server: TopicServer
  #topics: Set<string> | undefined
  #id: string | undefined
  /**
   * A symbol, as applications may set any name on a socket.
   * @internal
   */
  readonly [DETAILS]: ConnectionDetails

  /** @internal */
  constructor(
    stream: Duplex,
    options: ConnectionSetup<TransportWebSocket>,
    server: TopicServer,
    details: ConnectionDetails
  ) {
    super(stream, options)
    this.#server = server
    this[DETAILS] = details
  }

  /** A random id of this connection. `websocketServer.connection` finds the connection by this id, from any process. */
  get id(): string {
    return this.presenceId
  }

  /** The id of the user, as returned by the option `user`; undefined for a connection without a user. */
  get user(): string | undefined {
    return this[DETAILS].user
  }

  /** The topics that the connection is subscribed to. */
  get topics(): ReadonlySet<string> {
    return this.#topics ?? NO_TOPICS
  }

  /**
   * Subscribes the connection to a topic: from now on it receives the messages published to the topic. Subscriptions end
   * with the connection.
   * @param topic any string of 1 to 1024 bytes in UTF-8. Never use a name from a client without a check.
   * @returns resolves when messages of other processes arrive too. It rejects with `FST_UPGRADE_BROKER_SUBSCRIBE` when the
   * broker does not accept the subscription. The server retries it, so the promise need not be awaited. In a topic with
   * history it resolves with the position, and with `since` when the missed publications were sent; it waits until the
   * engine can be reached. If the engine refuses to read, it rejects with `FST_UPGRADE_BROKER_READ`, and with `since` the
   * connection is not subscribed.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`, `FST_UPGRADE_NO_HISTORY` for `since` in a topic without history,
   * `FST_UPGRADE_INVALID_HISTORY` for a `since` that is no position, or when `presence` cannot be converted to JSON.
   * @throws {RangeError} `FST_UPGRADE_PRESENCE_TOO_LONG` when `presence` has more than 64 KiB as JSON.
   */
  subscribe(topic: string, options: SubscribeOptions = NO_OPTIONS): Promise<Subscription> {
    if (this.readyState === WebSocket.CLOSED) return Promise.resolve(WITHOUT_POSITION)
    if (options.presence !== undefined) this.#server.join(topic, this.presenceId, options.presence)
    const subscribed = this.#server.subscribe(topic, this, options)
    this.#topics ??= new Set()
    this.#topics.add(topic)
    // Without its missed messages, the connection must not get those that follow.
    if (options.since !== undefined) subscribed.catch(() => this.unsubscribe(topic))
    return subscribed
  }

  unsubscribe(topic: string): void {
    if (this.#topics?.delete(topic) !== true) return
    this.#server.unsubscribe(topic, this)
    if (this.#id !== undefined) this.#server.leave(topic, this.#id)
  }

  /** The id of this connection as a presence member. It equals {@link id}. */
  get presenceId(): string {
    if (this.#id === undefined) {
      this.#id = randomUUID()
      if (this.readyState !== WebSocket.CLOSED) this.#server.identify(this.#id, this)
    }
    return this.#id
  }

  /**
   * Prepares a message for connections of this route: see `prepare`. With the schema `send` it is serialized once, however many
   * connections send it. `publish` and `broadcast` take it too.
   * @throws {TypeError} as {@link publish} does, except for the topic.
   */
  prepare(data: Send | PreparedMessage, options?: PrepareOptions): PreparedMessage {
    return preparedOf(data, options)
  }

  /**
   * Publishes a message to all subscribers of the topic except this connection: see `websocketServer.publish`. With the schema
   * `send` of this connection's route it is serialized once.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`, `FST_UPGRADE_INVALID_DATA` or `FST_UPGRADE_SERIALIZATION` as {@link send}
   * does, or `FST_UPGRADE_INVALID_TEXT` when bytes that are to leave as text are not UTF-8.
   */
  publish(
    topic: string,
    data: Send | PreparedMessage,
    options?: TopicPublishOptions
  ): Promise<Position | undefined> {
    return this.#server.publish(topic, preparedOf(data, options), { id: options?.id, except: this })
  }

  /**
   * The connection has ended.
   * @internal
   */
  unsubscribeAll(): void {
    for (const topic of this.topics) this.unsubscribe(topic)
    if (this.#id !== undefined) this.#server.forget(this.#id)
  }

  static {
    allowAssignment(WebSocket.prototype, ['id', 'user'])
  }
}

/** A connection, whatever the schemas of its route are. */
export type AnyWebSocket = WebSocket<unknown, never>

export function preparedOf(data: unknown, options: PrepareOptions = {}): PreparedMessage {
  return data instanceof PreparedMessage ? data : new PreparedMessage(data, options)
}
