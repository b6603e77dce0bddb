import {
  backpressureEnded,
  backpressureStarted,
  type DiagnosedSocket,
  type DiagnosedTraffic,
  heartbeatAnswered,
  type Limit,
  limitReached,
  messageDropped,
  messageReceived,
  messageSent
} from '../diagnostics.js'

/** The traffic of a connection. */
export type Traffic = DiagnosedTraffic

/** The limits for which this side ends a connection, by the code of the error. */
const LIMITS: ReadonlyMap<unknown, Limit> = new Map([
  ['FST_UPGRADE_BUDGET_EXCEEDED', 'maxTotalBufferedAmount'],
  ['FST_UPGRADE_BUFFER_OVERFLOW', 'maxBufferedAmount'],
  ['FST_UPGRADE_CLOSE_TIMEOUT', 'closeTimeout'],
  ['FST_UPGRADE_CONTROL_FLOOD', 'maxControlFrames'],
  ['FST_UPGRADE_MESSAGE_TIMEOUT', 'messageTimeout'],
  ['FST_UPGRADE_MESSAGE_TOO_BIG', 'maxPayload'],
  ['FST_UPGRADE_OVERLOADED', 'maxTotalBufferedAmount'],
  ['FST_UPGRADE_RATE_EXCEEDED', 'rateLimit'],
  ['FST_UPGRADE_SILENT_PEER', 'heartbeat'],
  ['FST_UPGRADE_TOO_MANY_FRAGMENTS', 'maxPayload']
])

const MICROSECONDS = 1000

/**
 * Everything that is counted on a connection, in one place. It is published on the diagnostics channels: without a subscriber
 * that costs one check for each event.
 */
export class Stats {
  // The fields that a sent message changes are next to each other, in one line of the cache.
  #messagesSent = 0
  #bytesSent = 0
  #peakBufferedAmount = 0
  /** Bytes of the fragments that were sent of an unfinished message, while the channel has subscribers. */
  #fragmentBytes = 0
  #messagesReceived = 0
  #bytesReceived = 0
  readonly #socket: DiagnosedSocket
  #dropped = 0
  /** Microseconds, as whole numbers take no memory of their own. */
  #latency: number | undefined

  constructor(socket: DiagnosedSocket) {
    this.#socket = socket
  }

  onBytesReceived(count: number): void {
    this.#bytesReceived += count
  }

  onMessageReceived(size: number, isBinary: boolean, isCompressed: boolean): void {
    this.#messagesReceived++
    if (messageReceived.hasSubscribers)
      messageReceived.publish({ socket: this.#socket, size, isBinary, isCompressed })
  }

  /** @param count bytes that were handed to the byte stream. */
  onBytesSent(count: number): void {
    this.#bytesSent += count
  }

  /** A message is sent, or the last fragment of one. */
  onMessageSent(data: string | Uint8Array, isBinary: boolean, isCompressed: boolean): void {
    this.#messagesSent++
    if (messageSent.hasSubscribers) {
      const size = this.#fragmentBytes + Buffer.byteLength(data)
      messageSent.publish({ socket: this.#socket, size, isBinary, isCompressed })
    }
    this.#fragmentBytes = 0
  }

  /** A fragment of a message is sent, and it is not the last one. */
  onFragmentSent(data: string | Uint8Array): void {
    if (messageSent.hasSubscribers) this.#fragmentBytes += Buffer.byteLength(data)
  }

  onMessageDropped(): void {
    this.#dropped++
    if (messageDropped.hasSubscribers) messageDropped.publish({ socket: this.#socket })
  }

  /** @param bytes that are pending after a message was sent. */
  onBuffered(bytes: number): void {
    if (bytes > this.#peakBufferedAmount) this.#peakBufferedAmount = bytes
  }

  onBackpressureStarted(): void {
    if (backpressureStarted.hasSubscribers) backpressureStarted.publish({ socket: this.#socket })
  }

  onBackpressureEnded(): void {
    if (backpressureEnded.hasSubscribers) backpressureEnded.publish({ socket: this.#socket })
  }

  onLimit(limit: Limit): void {
    if (limitReached.hasSubscribers) limitReached.publish({ limit, socket: this.#socket })
  }

  /** This side ends the connection because of an error. */
  onFailure(error: Error): void {
    const limit = LIMITS.get(Reflect.get(error, 'code'))
    if (limit !== undefined) this.onLimit(limit)
  }

  /** @param milliseconds from a ping of the heartbeat to its pong. */
  onLatency(milliseconds: number): void {
    this.#latency = Math.round(milliseconds * MICROSECONDS)
    if (heartbeatAnswered.hasSubscribers)
      heartbeatAnswered.publish({ socket: this.#socket, latency: this.#latency / MICROSECONDS })
  }

  get messagesReceived(): number {
    return this.#messagesReceived
  }

  /** Messages of both directions. */
  get messages(): number {
    return this.#messagesReceived + this.#messagesSent
  }

  get bytesSent(): number {
    return this.#bytesSent
  }

  /** Messages that were not sent because of backpressure. */
  get dropped(): number {
    return this.#dropped
  }

  /** The highest number of pending bytes after a message was sent. */
  get peakBufferedAmount(): number {
    return this.#peakBufferedAmount
  }

  /** The last round trip of the heartbeat in milliseconds; undefined before the first. */
  get latency(): number | undefined {
    return this.#latency === undefined ? undefined : this.#latency / MICROSECONDS
  }

  get traffic(): Traffic {
    return {
      messagesReceived: this.#messagesReceived,
      messagesSent: this.#messagesSent,
      bytesReceived: this.#bytesReceived,
      bytesSent: this.#bytesSent
    }
  }
}
