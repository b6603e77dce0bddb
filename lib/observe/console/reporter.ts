import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks'
import {
  type ConnectionClosed,
  type ConnectionOpened,
  connectionClosed,
  connectionOpened
} from '../../diagnostics.js'
import type { WebSocketServer } from '../../fastify/websocket-server.js'
import { closeCode, Group } from '../metrics.js'
import type { Report, TopicReport } from './messages.js'

/** The maximum of topics in a report, and of their bytes, as engines limit messages. */
const MAX_TOPICS = 50
const MAX_TOPIC_BYTES = 32_768

/** Milliseconds without a report after which the delay of the event loop is no longer measured. */
const IDLE_TIME = 30_000

/** Milliseconds between two measurements of the event loop. */
const RESOLUTION = 10

const NANOSECONDS = 1e6

/** Reports the state of a server and of its process. */
export class Reporter {
  readonly #server: WebSocketServer
  /** All connections since the registration of the console. */
  readonly #connections = new Group({})
  readonly #closes = new Map<string, number>()
  #delay: IntervalHistogram | undefined
  #idle: NodeJS.Timeout | undefined

  constructor(server: WebSocketServer) {
    this.#server = server
    for (const socket of server.clients) this.#connections.add(socket)
    connectionOpened.subscribe(this.#onOpened)
    connectionClosed.subscribe(this.#onClosed)
  }

  close(): void {
    connectionOpened.unsubscribe(this.#onOpened)
    connectionClosed.unsubscribe(this.#onClosed)
    this.#stopDelay()
  }

  readonly #onOpened = ({ server, socket }: ConnectionOpened): void => {
    if (server === this.#server) this.#connections.add(socket)
  }

  readonly #onClosed = ({ server, socket, code }: ConnectionClosed): void => {
    if (server !== this.#server) return
    this.#connections.remove(socket)
    const name = closeCode(code)
    this.#closes.set(name, (this.#closes.get(name) ?? 0) + 1)
  }

  report(): Report {
    const server = this.#server
    const { traffic, dropped, buffered: bufferedAmount } = this.#connections
    const { pendingBytes, undelivered = 0 } = server.backlog
    const { connections, broker = 'none' } = server.health()
    const { topics, total: topicCount } = server.summarizeTopics(MAX_TOPICS)
    return {
      pid: process.pid,
      uptime: process.uptime(),
      connections,
      ...traffic,
      dropped,
      bufferedAmount,
      closes: Object.fromEntries(this.#closes),
      eventLoopDelay: this.#readDelay(),
      memory: process.memoryUsage.rss(),
      broker,
      lost: server.lost,
      pendingBytes,
      undelivered,
      topicCount,
      topics: withinBytes(topics)
    }
  }

  /** The delay is measured while there are reports: a timer that runs all the time would keep the processor awake. */
  #readDelay(): Report['eventLoopDelay'] {
    this.#idle ??= setTimeout(() => this.#stopDelay(), IDLE_TIME).unref()
    this.#idle.refresh()
    if (this.#delay === undefined) {
      this.#delay = monitorEventLoopDelay({ resolution: RESOLUTION })
      this.#delay.enable()
      return { p99: 0, max: 0 }
    }
    const { count, max } = this.#delay
    const p99 = this.#delay.percentile(99)
    this.#delay.reset()
    if (count === 0) return { p99: 0, max: 0 }
    return { p99: latenessOf(p99), max: latenessOf(max) }
  }

  #stopDelay(): void {
    clearTimeout(this.#idle)
    this.#idle = undefined
    this.#delay?.disable()
    this.#delay = undefined
  }
}

function withinBytes(topics: readonly TopicReport[]): TopicReport[] {
  let bytes = 0
  return topics.filter(topic => {
    bytes += Buffer.byteLength(JSON.stringify(topic))
    return bytes <= MAX_TOPIC_BYTES
  })
}

/** @param interval nanoseconds from one measurement to the next. */
function latenessOf(interval: number): number {
  return Math.max(interval / NANOSECONDS - RESOLUTION, 0)
}
