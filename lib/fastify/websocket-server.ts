import { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { ServerOptions } from '../../types/options.js'
import type { Broker, Position } from '../brokers/broker.js'
import { brokerEvent } from '../diagnostics.js'
import { TRY_AGAIN_LATER } from '../protocol/close-code.js'
import type { SendData } from '../socket/codec.js'
import { type PreparedMessage, type PrepareOptions, prepare } from '../socket/prepared-message.js'
import type { BrokerEvent } from '../topics/broker-link.js'
import { type ConnectionList, Connections, type Reports } from '../topics/connections/connections.js'
import type { HistoryOption, HistoryRange, HistoryResult } from '../topics/history.js'
import type { Deliver } from '../topics/history-entry.js'
import type { Subscription } from '../topics/history-topic.js'
import type { Presence } from '../topics/presence.js'
import type { ReportSettings } from '../topics/report-timer.js'
import { type Backlog, type TopicSummaries, Topics } from '../topics/topics.js'
import { UnknownRouteError } from './error.js'
import type { MessageSchemas } from './messages/message-schemas.js'
import type { MessageSerializer } from './messages/message-serializer.js'
import type { RouteSubprotocols } from './routes/subprotocol.js'
import type { ConnectionTracer } from './tracer.js'
import { ConnectionById, type ConnectionsOptions, readQuery, User } from './users.js'
import {
  type AnyWebSocket,
  type DeliverPublication,
  preparedOf,
  type SubscribeOptions,
  type TopicPublishOptions,
  WebSocket
} from './websocket.js'

/** The events of a {@link WebSocketServer} and their arguments. */
export interface WebSocketServerEvents {
  /** A handshake is complete; the route's handler runs next. */
  connection: [socket: WebSocket, request: IncomingMessage]
  /** `close` was called and the last connection has ended. */
  close: []
  error: [error: Error]
  /** Events of the link to the other processes. */
  broker: [event: BrokerEvent]
}

/** The settings of topics and presence. */
export interface TopicSettings {
  readonly broker: Broker | undefined
  readonly presence: ReportSettings
  readonly history: HistoryOption | undefined
  readonly maxRecoveredPublications: number
}

/** The result of {@link WebSocketServer.health}. */
export interface Health {
  /** The connections of this process that are open or closing. */
  readonly connections: number
  /** Whether new handshakes are refused, as `app.close()` or `websocketServer.close()` was called. */
  readonly isClosing: boolean
  /** Whether the broker is connected to its engine; undefined without a broker. */
  readonly broker: 'up' | 'down' | undefined
}

/** Options of {@link WebSocketServer.broadcast}. */
export interface BroadcastOptions extends PrepareOptions {
  /** Whether to send the message to connections of this process only, even with a broker. Default: false. */
  readonly local?: boolean | undefined
}

/** Options of {@link WebSocketServer.publish}. */
export interface PublishOptions extends TopicPublishOptions {
  /** A connection that does not receive the message. */
  readonly except?: AnyWebSocket | undefined
}

/** Options of {@link WebSocketServer.prepare}. */
export interface RoutePrepareOptions extends PrepareOptions {
  /** The path of the route as it was registered, with its prefix: `/rooms/:room`. */
  readonly route: string
  /** The subprotocol of the route, or one of them. Default: none, for a route without subprotocols. */
  readonly subprotocol?: string | undefined
}

/** The connections of the scope that the plugin is registered in, as `fastify.websocketServer`. */
export class WebSocketServer extends EventEmitter<WebSocketServerEvents> {
  /** The connections that are open or closing. It changes as they come and go. */
  readonly clients: Set<WebSocket> = new Set()
  /** The plugin's `options`. `handleProtocols` and `verifyClient` are read at each handshake. */
  readonly options: ServerOptions
  /**
   * Opens connections and calls listeners in spans.
   * @internal
   */
  tracer: ConnectionTracer | undefined
  readonly #onError: (error: unknown) => void
  readonly #closed = new Set<() => void>()
  readonly #topics: Topics<PreparedMessage, AnyWebSocket>
  readonly #connections: Connections<PreparedMessage, AnyWebSocket>
  readonly #schemas: { readonly schemas: MessageSchemas; readonly subprotocols: RouteSubprotocols }[] = []
  #serializers: ReadonlyMap<string, MessageSerializer> = new Map()
  /** The functions of the routes that have one, by connection. */
  readonly #delivers = new WeakMap<AnyWebSocket, DeliverPublication>()
  /** The functions that the topics call, by the function of the application. */
  readonly #prepared = new WeakMap<DeliverPublication, Deliver<PreparedMessage>>()
  #isClosing = false
  #broker: 'up' | 'down' | undefined

  /** @internal */
  constructor(
    options: ServerOptions,
    { broker, presence, history, maxRecoveredPublications }: TopicSettings,
    onError: (error: unknown) => void
  ) {
    super({ captureRejections: true })
    this.options = options
    this.#onError = onError
    if (broker !== undefined) this.#broker = 'down'
    this.#topics = new Topics({
      server: this,
      broker,
      prepare,
      onEvent: event => this.#onBrokerEvent(event),
      presence,
      history,
      maxRecovered: maxRecoveredPublications,
      onError
    })
    const { processes } = this.#topics
    this.#connections = new Connections({ own: this.clients, processes, prepare, onError })
  }

  /** Whether new handshakes are refused. */
  get isClosing(): boolean {
    return this.#isClosing
  }

  /**
   * The state of this process, for the route of a readiness probe. It costs nothing to call it often.
   */
  health(): Health {
    return { connections: this.clients.size, isClosing: this.#isClosing, broker: this.#broker }
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
    if (this.clients.size === 0) process.nextTick(() => this.#notifyClosed())
  }

  /**
   * Sends a message to every open connection: to those of this process at once, and with a broker to those of the other
   * processes, with the guarantees of {@link publish}. It is framed once, and compressed once for each set of compression
   * parameters.
   * @returns resolves once the engine of the broker has accepted the message, and at once without a broker or with `local`.
   * It rejects with `FST_UPGRADE_BROKER_PUBLISH` or `FST_UPGRADE_BROKER_OVERLOADED` when other processes miss the message. The
   * event `broker` reports it as well, so the promise need not be awaited.
   * @throws {TypeError} `FST_UPGRADE_INVALID_DATA` when `data` is neither text nor bytes, `FST_UPGRADE_INVALID_TEXT` when bytes
   * that are to leave as text are not UTF-8.
   */
  broadcast(data: SendData | PreparedMessage, options: BroadcastOptions = {}): Promise<void> {
    return this.#topics.broadcast(preparedOf(data, options), options.local === true)
  }

  /**
   * Sends a message to the subscribers of a topic: to those of this process at once, and to those of the other processes
   * through the broker. It is framed once, and compressed once for each set of compression parameters. The cost grows with
   * the number of subscribers, not with the number of connections.
   *
   * A message to a topic with history is stored first. All subscribers get it through the engine, in the order of the offsets.
   * @returns resolves once the engine of the broker has accepted the message, and at once without a broker; in a topic with
   * history with its position. It rejects with `FST_UPGRADE_BROKER_PUBLISH` or `FST_UPGRADE_BROKER_OVERLOADED` when other
   * processes miss the message. The event `broker` reports it as well, so the promise need not be awaited.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`, `FST_UPGRADE_NO_HISTORY` for an `id` in a topic without history,
   * `FST_UPGRADE_INVALID_HISTORY` for an invalid `id`, `FST_UPGRADE_INVALID_DATA` when `data` is neither text nor bytes, or
   * `FST_UPGRADE_INVALID_TEXT` when bytes that are to leave as text are not UTF-8.
   */
  publish(
    topic: string,
    data: SendData | PreparedMessage,
    options: PublishOptions = {}
  ): Promise<Position | undefined> {
    return this.#topics.publish(topic, preparedOf(data, options), options.except, options.id)
  }

  /**
   * Reads the history of a topic, oldest publication first.
   * @returns rejects with `FST_UPGRADE_BROKER_READ` when the engine cannot be reached, and with
   * `FST_UPGRADE_INVALID_HISTORY` for an invalid `since` or `limit`.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`, or `FST_UPGRADE_NO_HISTORY` for a topic without history.
   */
  history(topic: string, range: HistoryRange = {}): Promise<HistoryResult> {
    return this.#topics.readHistory(topic, range)
  }

  /**
   * Removes the publications from the history of a topic. The position stays: clients that have missed some of them cannot
   * recover.
   * @returns rejects with `FST_UPGRADE_BROKER_READ` when the engine cannot be reached.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`, or `FST_UPGRADE_NO_HISTORY` for a topic without history.
   */
  removeHistory(topic: string): Promise<void> {
    return this.#topics.removeHistory(topic)
  }

  /**
   * Serializes a message with the schema `send` of a route, for `publish` and `broadcast`, where there is no connection of the
   * route at hand. On a connection, `socket.prepare` does the same.
   * @throws `FST_UPGRADE_UNKNOWN_ROUTE` when there is no such route, or it has no schema `send`.
   * @throws {TypeError} `FST_UPGRADE_SERIALIZATION` or `FST_UPGRADE_INVALID_DATA`, as `socket.send` of the route does.
   */
  prepare(value: unknown, { route, subprotocol, ...options }: RoutePrepareOptions): PreparedMessage {
    const serializer = this.#serializers.get(routeKey(route, subprotocol))
    if (serializer === undefined)
      throw new UnknownRouteError(subprotocol === undefined ? route : `${route} (${subprotocol})`)
    return preparedOf(serializer.encode(value), options)
  }

  /**
   * The presence members of a topic: the connections, in all processes, that were subscribed with `presence`. Call `close`
   * on the result when you no longer need it.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`
   */
  presence(topic: string): Presence {
    return this.#topics.presence(topic)
  }

  /** The number of connections of this process that are subscribed to a topic. */
  subscriberCount(topic: string): number {
    return this.#topics.subscriberCount(topic)
  }

  /**
   * Lists the open connections of all processes, or only those that match the options. The list has addresses and user ids,
   * so take care which clients get it.
   * @returns resolves when all processes have answered. A process that does not answer a request delays the result by at most
   * two seconds. The promise does not reject.
   * @throws {TypeError} `FST_UPGRADE_INVALID_OPTION` or `FST_UPGRADE_UNKNOWN_OPTION`
   */
  connections(options: ConnectionsOptions = {}): Promise<ConnectionList> {
    return this.#connections.list(readQuery(options))
  }

  /**
   * The connections of a user in all processes: see the option `user`.
   * @param id 1 to 256 bytes in UTF-8.
   * @throws {TypeError} `FST_UPGRADE_INVALID_ID`
   */
  user(id: string): User {
    return new User(id, this.#connections)
  }

  /**
   * A connection in any process.
   * @param id its `socket.id`.
   * @throws {TypeError} `FST_UPGRADE_INVALID_ID`
   */
  connection(id: string): ConnectionById {
    return new ConnectionById(id, this.#connections)
  }

  /** The number of messages that did not reach other processes, as the broker did not accept them. */
  get lost(): number {
    return this.#topics.lost
  }

  /** @internal */
  get backlog(): Backlog {
    return this.#topics.backlog
  }

  /** @internal */
  summarizeTopics(limit: number): TopicSummaries {
    return this.#topics.summarize(limit)
  }

  /** @internal */
  hasHistory(topic: string): boolean {
    return this.#topics.hasHistory(topic)
  }

  /**
   * Answers the {@link reports} of other processes about this one.
   * @internal
   */
  set reporter(reporter: (() => string) | undefined) {
    this.#connections.reporter = reporter
  }

  /** @internal */
  reports(): Promise<Reports> {
    return this.#connections.reports()
  }

  /**
   * Adds the schemas of a route.
   * @internal
   */
  addSchemas(schemas: MessageSchemas, subprotocols: RouteSubprotocols): void {
    this.#schemas.push({ schemas, subprotocols })
  }

  /**
   * Compiles the schemas of all routes.
   * @internal
   */
  compileSchemas(): void {
    const serializers = new Map<string, MessageSerializer>()
    for (const { schemas, subprotocols } of this.#schemas) {
      schemas.compile()
      if (schemas.serializer === undefined) continue
      for (const name of subprotocols === true ? [undefined] : subprotocols)
        serializers.set(routeKey(schemas.url, name), schemas.serializer)
    }
    this.#serializers = serializers
  }

  /** @internal */
  subscribe(topic: string, socket: AnyWebSocket, options: SubscribeOptions): Promise<Subscription> {
    const { since } = options
    if (!this.#topics.haveHistory && since === undefined) return this.#topics.subscribe(topic, socket)
    const deliver = options.deliver ?? this.#delivers.get(socket)
    return this.#topics.subscribe(topic, socket, {
      since,
      deliver: deliver && this.#preparedOf(deliver),
      onLost: position => onLost(socket, options.onLost, position)
    })
  }

  /** One function for each function of the application, so that its messages are made once for all connections. */
  #preparedOf(deliver: DeliverPublication): Deliver<PreparedMessage> {
    let known = this.#prepared.get(deliver)
    if (known === undefined) {
      known = publication => preparedOf(deliver(publication))
      this.#prepared.set(deliver, known)
    }
    return known
  }

  /** @internal */
  unsubscribe(topic: string, socket: AnyWebSocket): void {
    this.#topics.unsubscribe(topic, socket)
  }

  /** @internal */
  join(topic: string, id: string, data: unknown): void {
    this.#topics.join(topic, id, data)
  }

  /** @internal */
  leave(topic: string, id: string): void {
    this.#topics.leave(topic, id)
  }

  /** @internal */
  identify(id: string, socket: AnyWebSocket): void {
    this.#connections.identify(id, socket)
  }

  /** @internal */
  forget(id: string): void {
    this.#connections.forget(id)
  }

  /** @internal */
  openBroker(): void {
    this.#topics.open()
    this.#connections.open()
    this.#topics.receiveBroadcasts(this.clients)
  }

  /** @internal */
  closeBroker(): Promise<void> {
    return this.#topics.close()
  }

  /** @internal */
  add(socket: WebSocket, deliver: DeliverPublication | undefined): void {
    if (deliver !== undefined) this.#delivers.set(socket, deliver)
    this.clients.add(socket)
    this.#connections.add(socket)
  }

  /** @internal */
  remove(socket: WebSocket): void {
    this.clients.delete(socket)
    socket.unsubscribeAll()
    this.#connections.remove(socket)
    if (this.#isClosing && this.clients.size === 0) this.#notifyClosed()
  }

  /** A callback or listener that throws must not prevent the others from running. */
  #notifyClosed(): void {
    for (const callback of this.#closed) this.#try(callback)
    this.#closed.clear()
    this.#try(() => this.emit('close'))
  }

  #onBrokerEvent(event: BrokerEvent): void {
    if (event.type === 'up') this.#broker = 'up'
    if (event.type === 'down') this.#broker = 'down'
    if (brokerEvent.hasSubscribers) brokerEvent.publish({ server: this, event })
    this.#try(() => this.emit('broker', event))
  }

  #try(notify: () => void): void {
    try {
      notify()
    } catch (error) {
      this.#onError(error)
    }
  }

  static {
    // A rejection of a `connection` listener is handled like a rejection of a listener of its socket.
    Object.defineProperty(WebSocketServer.prototype, EventEmitter.captureRejectionSymbol, {
      value(this: WebSocketServer, error: unknown, _event: string, socket: unknown) {
        if (socket instanceof WebSocket) socket.reportError(error)
        else this.#onError(error)
      }
    })
  }
}

/** A subprotocol has no spaces. */
function routeKey(url: string, subprotocol = ''): string {
  return `${subprotocol} ${url}`
}

function onLost(socket: AnyWebSocket, listener: SubscribeOptions['onLost'], position: Position): void {
  if (listener === undefined) {
    socket.close(TRY_AGAIN_LATER, 'messages were missed')
    return
  }
  try {
    listener(position)
  } catch (error) {
    socket.reportError(error)
  }
}
