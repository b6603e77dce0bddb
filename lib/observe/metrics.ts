import type { IncomingMessage } from 'node:http'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import {
  type BrokerDiagnosis,
  type BrokerPublished,
  brokerEvent,
  brokerPublished,
  type ConnectionClosed,
  type ConnectionOpened,
  connectionClosed,
  connectionOpened,
  type DiagnosedSocket,
  type HandshakeAccepted,
  type HandshakeRefused,
  type HeartbeatAnswered,
  type HistoryGap,
  type HistoryRecovery,
  handshakeAccepted,
  handshakeRefused,
  heartbeatAnswered,
  historyGap,
  historyRecovery,
  type LimitReached,
  type ListenerFailed,
  limitReached,
  listenerFailed,
  type MessageTransferred,
  messageReceived,
  messageSent
} from '../diagnostics.js'
import type { WebSocketServer } from '../fastify/websocket-server.js'

/** The name and value of each attribute. An absent attribute is unknown or does not apply. */
export type Attributes = Readonly<Record<string, string>>

/** Records a value, or adds it to a counter. */
export type Recorder = (value: number, attributes: Attributes) => void

/** A metric, in the terms of OpenTelemetry. */
export interface Instrument {
  readonly name: string
  readonly description: string
  /** A UCUM unit: `s`, `By`, or an annotation such as `{message}`. */
  readonly unit: string
  readonly attributes: readonly string[]
}

/** A histogram. */
export interface HistogramInstrument extends Instrument {
  /** Upper bounds of the buckets. */
  readonly buckets: readonly number[]
}

/** Creates metrics in a library for metrics. */
export interface Meter {
  counter(instrument: Instrument): Recorder
  histogram(instrument: HistogramInstrument): Recorder
  /** A counter whose totals are read when metrics are collected. */
  observedCounter(instrument: Instrument, read: (record: Recorder) => void): void
  /** A value that rises and falls, and is read when metrics are collected. */
  gauge(instrument: Instrument, read: (record: Recorder) => void): void
}

// The names of attributes that OpenTelemetry defines, and then the names of this package.
export const ROUTE = 'http.route'
const STATUS = 'http.response.status_code'
export const VERSION = 'network.protocol.version'
const DIRECTION = 'network.io.direction'
export const ERROR = 'error.type'
export const SUBPROTOCOL = 'websocket.subprotocol'
export const CLOSE_CODE = 'websocket.close.code'
const LIMIT = 'websocket.limit'
const BROKER_EVENT = 'websocket.broker.event'
const PUBLICATION = 'websocket.broker.publication'
const RECOVERED = 'websocket.history.recovered'
const FILLED = 'websocket.history.filled'

const OF_CONNECTION = [ROUTE, SUBPROTOCOL, VERSION]

/** The metrics. No attribute has a value that a client chooses, such as an address, a URL or a user. */
export const INSTRUMENTS = {
  activeConnections: {
    name: 'websocket.server.active_connections',
    description: 'Connections that are open or closing.',
    unit: '{connection}',
    attributes: OF_CONNECTION
  },
  handshakes: {
    name: 'websocket.server.handshake.duration',
    description: 'Duration of opening handshakes, accepted and refused.',
    unit: 's',
    attributes: [ROUTE, VERSION, STATUS, ERROR],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
  },
  connections: {
    name: 'websocket.server.connection.duration',
    description: 'Lifetime of connections that have closed.',
    unit: 's',
    attributes: OF_CONNECTION,
    buckets: [1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600]
  },
  closes: {
    name: 'websocket.server.closed_connections',
    description: 'Connections that have closed, by close code and by the error of this side.',
    unit: '{connection}',
    attributes: [...OF_CONNECTION, CLOSE_CODE, ERROR]
  },
  messages: {
    name: 'websocket.server.messages',
    description: 'Messages of the application.',
    unit: '{message}',
    attributes: [...OF_CONNECTION, DIRECTION]
  },
  bytes: {
    name: 'websocket.server.io',
    description: 'Bytes on the wire after the handshake.',
    unit: 'By',
    attributes: [...OF_CONNECTION, DIRECTION]
  },
  messageSize: {
    name: 'websocket.server.message.size',
    description: 'Size of messages before compression.',
    unit: 'By',
    attributes: [...OF_CONNECTION, DIRECTION],
    buckets: [16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576]
  },
  buffered: {
    name: 'websocket.server.buffered',
    description: 'Bytes that were sent and that the operating system has not taken yet.',
    unit: 'By',
    attributes: OF_CONNECTION
  },
  drops: {
    name: 'websocket.server.dropped_messages',
    description: 'Messages that were not sent, as too many bytes were pending.',
    unit: '{message}',
    attributes: OF_CONNECTION
  },
  limits: {
    name: 'websocket.server.limits_reached',
    description: 'Limits that a client has reached, by option.',
    unit: '{event}',
    attributes: [ROUTE, LIMIT]
  },
  errors: {
    name: 'websocket.server.listener_errors',
    description: 'Errors of handlers, listeners and callbacks of the application.',
    unit: '{error}',
    attributes: [ROUTE]
  },
  heartbeat: {
    name: 'websocket.server.heartbeat.duration',
    description: 'Round trip of the heartbeat.',
    unit: 's',
    attributes: OF_CONNECTION,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
  },
  broker: {
    name: 'websocket.server.broker.connected',
    description: 'Whether the broker is connected to its engine.',
    unit: '{connection}',
    attributes: []
  },
  brokerEvents: {
    name: 'websocket.server.broker.events',
    description: 'Events of the broker, such as messages that did not reach other processes.',
    unit: '{event}',
    attributes: [BROKER_EVENT]
  },
  publishes: {
    name: 'websocket.server.broker.publish.duration',
    description: 'Time until the engine of the broker accepted or refused a publication.',
    unit: 's',
    attributes: [PUBLICATION, ERROR],
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
  },
  brokerPending: {
    name: 'websocket.server.broker.pending',
    description: 'Bytes of publications that the engine of the broker has not accepted yet.',
    unit: 'By',
    attributes: []
  },
  historyLag: {
    name: 'websocket.server.history.lag',
    description: 'Publications of topics with history that have arrived and wait for earlier ones.',
    unit: '{message}',
    attributes: []
  },
  recoveries: {
    name: 'websocket.server.history.recoveries',
    description: 'Subscriptions with a position, by whether all missed publications were delivered.',
    unit: '{subscription}',
    attributes: [RECOVERED]
  },
  recovered: {
    name: 'websocket.server.history.recovered_messages',
    description: 'Missed publications that were delivered to subscribers with a position.',
    unit: '{message}',
    attributes: []
  },
  gaps: {
    name: 'websocket.server.history.gaps',
    description: 'Gaps in the publications of the engine, by whether the history filled them.',
    unit: '{gap}',
    attributes: [FILLED]
  },
  filled: {
    name: 'websocket.server.history.filled_messages',
    description: 'Publications that this process has read from the history to fill gaps.',
    unit: '{message}',
    attributes: []
  }
} as const satisfies Readonly<Record<string, Instrument | HistogramInstrument>>

/** Options of the metrics, whatever library they are for. */
export interface MetricsOptions {
  /**
   * Whether there is a histogram of message sizes. It takes a call for each message; everything else is read from counters
   * that exist anyway. Where several applications share a registry or a meter provider, the first decides. Default: false.
   */
  readonly messageSizes?: boolean | undefined
}

/** The connections with the same attributes: those that are open, and the totals of the others. */
export class Group {
  readonly attributes: Attributes
  readonly received: Attributes
  readonly sent: Attributes
  readonly #open = new Set<DiagnosedSocket>()
  readonly #closed = { messagesReceived: 0, messagesSent: 0, bytesReceived: 0, bytesSent: 0 }
  #dropped = 0

  constructor(attributes: Attributes) {
    this.attributes = attributes
    this.received = { ...attributes, [DIRECTION]: 'receive' }
    this.sent = { ...attributes, [DIRECTION]: 'transmit' }
  }

  get size(): number {
    return this.#open.size
  }

  add(socket: DiagnosedSocket): void {
    this.#open.add(socket)
  }

  remove(socket: DiagnosedSocket): void {
    this.#open.delete(socket)
    addTraffic(this.#closed, socket)
    this.#dropped += socket.dropped
  }

  get traffic(): Readonly<Totals> {
    const totals = { ...this.#closed }
    for (const socket of this.#open) addTraffic(totals, socket)
    return totals
  }

  get dropped(): number {
    let dropped = this.#dropped
    for (const socket of this.#open) dropped += socket.dropped
    return dropped
  }

  get buffered(): number {
    let buffered = 0
    for (const socket of this.#open) buffered += socket.bufferedAmount
    return buffered
  }
}

interface Totals {
  messagesReceived: number
  messagesSent: number
  bytesReceived: number
  bytesSent: number
}

function addTraffic(totals: Totals, { traffic }: DiagnosedSocket): void {
  totals.messagesReceived += traffic.messagesReceived
  totals.messagesSent += traffic.messagesSent
  totals.bytesReceived += traffic.bytesReceived
  totals.bytesSent += traffic.bytesSent
}

/**
 * The metrics of the servers of a process, in one library. Messages and bytes are not counted here: the sockets count them, and
 * the sums are made when metrics are collected.
 */
export class Metrics {
  readonly #servers = new Map<object | undefined, WebSocketServer>()
  /** By their attributes as text. */
  readonly #groups = new Map<string, Group>()
  readonly #connections = new Map<DiagnosedSocket, { readonly server: object; readonly group: Group }>()
  readonly #subscriptions: readonly { subscribe(): void; unsubscribe(): void }[]

  constructor(meter: Meter, { messageSizes = false }: MetricsOptions) {
    this.#addObserved(meter)
    const handshakes = meter.histogram(INSTRUMENTS.handshakes)
    const durations = meter.histogram(INSTRUMENTS.connections)
    const closes = meter.counter(INSTRUMENTS.closes)
    const limits = meter.counter(INSTRUMENTS.limits)
    const errors = meter.counter(INSTRUMENTS.errors)
    const heartbeats = meter.histogram(INSTRUMENTS.heartbeat)
    const brokerEvents = meter.counter(INSTRUMENTS.brokerEvents)
    const publishes = meter.histogram(INSTRUMENTS.publishes)
    const recoveries = meter.counter(INSTRUMENTS.recoveries)
    const recoveredMessages = meter.counter(INSTRUMENTS.recovered)
    const gaps = meter.counter(INSTRUMENTS.gaps)
    const filledMessages = meter.counter(INSTRUMENTS.filled)
    this.#subscriptions = [
      subscription(handshakeAccepted, ({ server, request, route, status, duration }: HandshakeAccepted) => {
        if (!this.#servers.has(server)) return
        handshakes(
          duration / 1000,
          attributesOf({ [ROUTE]: route, [VERSION]: versionOf(request), [STATUS]: String(status) })
        )
      }),
      subscription(
        handshakeRefused,
        ({ server, request, route, status, code, duration }: HandshakeRefused) => {
          // A handshake without a route belongs to no server.
          if (server !== undefined && !this.#servers.has(server)) return
          const [version, error] = [versionOf(request), errorType(code)]
          handshakes(
            duration / 1000,
            attributesOf({ [ROUTE]: route, [VERSION]: version, [STATUS]: status?.toString(), [ERROR]: error })
          )
        }
      ),
      subscription(connectionOpened, (opened: ConnectionOpened) => this.#onOpened(opened)),
      subscription(connectionClosed, ({ socket, code, cause, duration }: ConnectionClosed) => {
        const group = this.#remove(socket)
        if (group === undefined) return
        durations(duration / 1000, group.attributes)
        const error = errorType(cause)
        closes(1, attributesOf({ ...group.attributes, [CLOSE_CODE]: closeCode(code), [ERROR]: error }))
      }),
      subscription(limitReached, ({ limit, socket, server, route }: LimitReached) => {
        const group = socket && this.#groupOf(socket)
        // A handshake without a route belongs to no server.
        const isHandshake = socket === undefined && (server === undefined || this.#servers.has(server))
        if (group !== undefined || isHandshake)
          limits(1, attributesOf({ [ROUTE]: group?.attributes[ROUTE] ?? route, [LIMIT]: limit }))
      }),
      subscription(listenerFailed, ({ server, route }: ListenerFailed) => {
        if (this.#servers.has(server)) errors(1, { [ROUTE]: route })
      }),
      subscription(heartbeatAnswered, ({ socket, latency }: HeartbeatAnswered) => {
        const group = this.#groupOf(socket)
        if (group !== undefined) heartbeats(latency / 1000, group.attributes)
      }),
      subscription(brokerEvent, ({ server, event }: BrokerDiagnosis) => {
        if (this.#servers.has(server)) brokerEvents(1, { [BROKER_EVENT]: event.type })
      }),
      subscription(brokerPublished, ({ server, kind, duration, error }: BrokerPublished) => {
        if (!this.#servers.has(server)) return
        const type = error && errorType(codeOf(error))
        publishes(duration / 1000, attributesOf({ [PUBLICATION]: kind, [ERROR]: type }))
      }),
      subscription(historyRecovery, ({ server, recovered, publications }: HistoryRecovery) => {
        if (!this.#servers.has(server)) return
        recoveries(1, { [RECOVERED]: String(recovered) })
        recoveredMessages(publications, {})
      }),
      subscription(historyGap, ({ server, filled, publications }: HistoryGap) => {
        if (!this.#servers.has(server)) return
        gaps(1, { [FILLED]: String(filled) })
        filledMessages(publications, {})
      })
    ]
    if (messageSizes) this.#subscriptions = [...this.#subscriptions, ...this.#sizeSubscriptions(meter)]
  }

  /** Includes the connections of a server from now on, and no longer once it has closed. */
  watch(server: WebSocketServer): void {
    if (this.#servers.size === 0) for (const one of this.#subscriptions) one.subscribe()
    this.#servers.set(server, server)
  }

  /** The totals of the server stay. */
  unwatch(server: WebSocketServer): void {
    for (const [socket, connection] of this.#connections)
      if (connection.server === server) this.#remove(socket)
    this.#servers.delete(server)
    if (this.#servers.size === 0) for (const one of this.#subscriptions) one.unsubscribe()
  }

  #addObserved(meter: Meter): void {
    const groups = this.#groups
    meter.gauge(INSTRUMENTS.activeConnections, record => {
      for (const group of groups.values()) record(group.size, group.attributes)
    })
    meter.observedCounter(INSTRUMENTS.messages, record => {
      for (const { traffic, received, sent } of groups.values()) {
        record(traffic.messagesReceived, received)
        record(traffic.messagesSent, sent)
      }
    })
    meter.observedCounter(INSTRUMENTS.bytes, record => {
      for (const { traffic, received, sent } of groups.values()) {
        record(traffic.bytesReceived, received)
        record(traffic.bytesSent, sent)
      }
    })
    meter.gauge(INSTRUMENTS.buffered, record => {
      for (const { buffered, attributes } of groups.values()) record(buffered, attributes)
    })
    meter.observedCounter(INSTRUMENTS.drops, record => {
      for (const { dropped, attributes } of groups.values()) record(dropped, attributes)
    })
    meter.gauge(INSTRUMENTS.broker, record => {
      const all = Array.from(this.#servers.values(), server => server.health().broker)
      const states = all.filter(state => state !== undefined)
      // With several servers, the worst state of all.
      if (states.length > 0) record(states.includes('down') ? 0 : 1, {})
    })
    meter.gauge(INSTRUMENTS.brokerPending, record => {
      let pending = 0
      for (const { backlog } of this.#servers.values()) pending += backlog.pendingBytes
      record(pending, {})
    })
    meter.gauge(INSTRUMENTS.historyLag, record => {
      let lag = 0
      for (const { backlog } of this.#servers.values()) lag += backlog.undelivered ?? 0
      record(lag, {})
    })
  }

  #sizeSubscriptions(meter: Meter): readonly { subscribe(): void; unsubscribe(): void }[] {
    const sizes = meter.histogram(INSTRUMENTS.messageSize)
    return [
      subscription(messageReceived, ({ socket, size }: MessageTransferred) => {
        const group = this.#groupOf(socket)
        if (group !== undefined) sizes(size, group.received)
      }),
      subscription(messageSent, ({ socket, size }: MessageTransferred) => {
        const group = this.#groupOf(socket)
        if (group !== undefined) sizes(size, group.sent)
      })
    ]
  }

  #groupOf(socket: DiagnosedSocket): Group | undefined {
    return this.#connections.get(socket)?.group
  }

  #onOpened({ server, socket, request, route, subprotocol }: ConnectionOpened): void {
    if (!this.#servers.has(server)) return
    const version = versionOf(request)
    const key = `${version} ${subprotocol} ${route}`
    let group = this.#groups.get(key)
    if (group === undefined) {
      const attributes = { [ROUTE]: route, [SUBPROTOCOL]: subprotocol || undefined, [VERSION]: version }
      group = new Group(attributesOf(attributes))
      this.#groups.set(key, group)
    }
    group.add(socket)
    this.#connections.set(socket, { server, group })
  }

  #remove(socket: DiagnosedSocket): Group | undefined {
    const group = this.#groupOf(socket)
    this.#connections.delete(socket)
    group?.remove(socket)
    return group
  }
}

/**
 * A plugin that records the metrics of the `websocketServer` of its scope, until the application closes.
 * @param metricsOf returns the metrics of the library that the options select.
 */
export function metricsPlugin<Options extends MetricsOptions>(
  name: string,
  metricsOf: (options: Options) => Metrics
): FastifyPluginAsync<Options> {
  const register: FastifyPluginAsync<Options> = async (app, options) => {
    const { websocketServer } = app
    const metrics = metricsOf(options)
    metrics.watch(websocketServer)
    app.addHook('onClose', async () => metrics.unwatch(websocketServer))
  }
  return fp(register, { fastify: '5.x', name, dependencies: ['fastify-upgrade'] })
}

interface Subscribable<Payload> {
  subscribe(listener: (payload: Payload) => void): void
  unsubscribe(listener: (payload: Payload) => void): void
}

function subscription<Payload>(
  channel: Subscribable<Payload>,
  listener: (payload: Payload) => void
): { subscribe(): void; unsubscribe(): void } {
  return {
    subscribe: () => channel.subscribe(listener),
    unsubscribe: () => channel.unsubscribe(listener)
  }
}

/** Leaves out the attributes that are undefined. */
export function attributesOf(values: Readonly<Record<string, string | undefined>>): Attributes {
  const attributes: Record<string, string> = {}
  for (const [name, value] of Object.entries(values)) if (value !== undefined) attributes[name] = value
  return attributes
}

/** As OpenTelemetry writes it: `1.1` or `2`. */
export function versionOf({ httpVersion }: IncomingMessage): string {
  return httpVersion.replace(/\.0$/, '')
}

/** The codes of an application could be any number of texts. `_OTHER` is the name that OpenTelemetry has for these. */
export function errorType(code: string | undefined): string | undefined {
  if (code === undefined) return undefined
  return /^FST_[A-Z0-9_]+$/.test(code) ? code : '_OTHER'
}

/** The code of an error; an empty string for none. */
export function codeOf(error: unknown): string {
  return String(Reflect.get(Object(error), 'code') ?? '')
}

/** A client could send any of the 2000 codes from 3000 to 4999, so that they share two values. */
export function closeCode(code: number): string {
  return code < 3000 ? String(code) : `${Math.floor(code / 1000)}xxx`
}
