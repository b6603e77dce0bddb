import { type PendingAppend, takeBatch } from '../append-batch.js'
import type {
  AppendOptions,
  BrokerEvents,
  HistoryBroker,
  HistoryPage,
  Position,
  ReadOptions
} from '../broker.js'
import { checkTimeout, EngineState } from '../engine.js'
import { ClosedBrokerError, InvalidBrokerOptionError } from '../error.js'
import { hasShardedChannels, isClient, type RedisClient } from './client.js'
import {
  appendCall,
  appendedOf,
  frame,
  type HistorySettings,
  messagesKey,
  pageOf,
  readCall,
  unframe
} from './history.js'
import { RedisNames } from './names.js'
import { RedisSession, type RedisSettings } from './session.js'

export type { RedisClient, RedisCluster } from './client.js'

/** Options of {@link redisBroker}. */
export interface RedisBrokerOptions {
  /** The beginning of each channel name, after the `keyPrefix` of the client. Default: 'fastify-upgrade:'. */
  readonly prefix?: string | undefined
  /** Whether to use the sharded channels of Redis 7, each of which belongs to one node of a cluster. Default: false. */
  readonly sharded?: boolean | undefined
  /**
   * Reply timeout in milliseconds, after which the engine counts as disconnected. It is also the interval of the health
   * check. Default: 5000.
   */
  readonly timeout?: number | undefined
  /**
   * Whether Redis keeps every message that it has confirmed when it restarts or fails over, so that clients can recover
   * across it: `appendonly yes`, `appendfsync always`, and no replica that takes over. Otherwise a restart begins a new epoch.
   * Default: false.
   */
  readonly durable?: boolean | undefined
}

/** Milliseconds before the first attempt to reconnect. The delay doubles with each attempt, up to the maximum. */
const MIN_DELAY = 50
const MAX_DELAY = 2000

/**
 * Connects the processes of an application through Redis or Valkey.
 * @param client a client of `ioredis` or `iovalkey`. The broker only duplicates it: it opens two connections of its own with
 * the client's options, and reconnects by itself.
 * @throws {TypeError} `FST_UPGRADE_INVALID_BROKER_OPTION` for a client of another library, a client without sharded channels
 * when `sharded` is true, or an invalid option.
 */
export function redisBroker(client: RedisClient, options: RedisBrokerOptions = {}): HistoryBroker {
  const { prefix = 'fastify-upgrade:', sharded = false, timeout = 5000, durable = false } = options
  checkClient(client, sharded)
  checkTimeout(timeout)
  if (typeof prefix !== 'string') throw new InvalidBrokerOptionError('prefix', 'a string')
  const names = new RedisNames(`${client.options.keyPrefix ?? ''}${prefix}`, sharded)
  return new RedisBroker(names, { client, sharded, timeout, durable })
}

function checkClient(client: RedisClient, sharded: boolean): void {
  if (!isClient(client))
    throw new InvalidBrokerOptionError('client', 'a client of ioredis 5.4 or later, or of iovalkey')
  if (sharded && !hasShardedChannels(client)) {
    throw new InvalidBrokerOptionError('client', 'able to use sharded channels, such as Cluster of ioredis 6')
  }
}

/** The maximum of messages and bytes that one script appends: Redis does nothing else meanwhile. */
const MAX_MESSAGES = 64
const MAX_BYTES = 64 * 1024

class RedisBroker implements HistoryBroker {
  readonly #names: RedisNames
  readonly #settings: RedisSettings & HistorySettings
  readonly #engine = new EngineState()
  /** The subscribed channels, by their names in Redis. */
  readonly #channels = new Set<string>()
  /** The messages that wait to be appended in this turn, by channel. */
  readonly #appends = new Map<string, PendingAppend[]>()
  #events: BrokerEvents | undefined
  #session: RedisSession | undefined
  #retry: NodeJS.Timeout | undefined
  /** Attempts to reconnect since the last stable session. */
  #attempts = 0
  /** When the current session opened. */
  #openedAt = Number.POSITIVE_INFINITY

  constructor(names: RedisNames, settings: RedisSettings & HistorySettings) {
    this.#names = names
    this.#settings = settings
  }

  start(events: BrokerEvents): void {
    this.#events = events
    this.#engine.start(events)
    void this.#open()
  }

  publish(channel: string, message: Uint8Array): Promise<void> {
    return this.#engine.run(async () =>
      this.#session?.publish(this.#names.channelOf(channel), frame(message))
    )
  }

  append(channel: string, message: Uint8Array, options: AppendOptions): Promise<Position> {
    return this.#engine.run(
      () => new Promise((resolve, reject) => this.#appendSoon(channel, { message, options, resolve, reject }))
    )
  }

  /** Appends together what the application publishes to a channel at once: most of a script's time is the same for each run. */
  #appendSoon(channel: string, append: PendingAppend): void {
    const pending = this.#appends.get(channel)
    if (pending !== undefined) {
      pending.push(append)
      return
    }
    this.#appends.set(channel, [append])
    queueMicrotask(() => this.#flush(channel))
  }

  /** Sends the messages that wait to be appended. */
  #flush(channel: string): void {
    const pending = this.#appends.get(channel) ?? []
    this.#appends.delete(channel)
    while (pending.length > 0) void this.#appendBatch(channel, takeBatch(pending, MAX_MESSAGES, MAX_BYTES))
  }

  async #appendBatch(channel: string, batch: readonly PendingAppend[]): Promise<void> {
    try {
      const [{ options }] = batch
      const messages = batch.map(({ message }) => message)
      const key = this.#names.keyOf(channel)
      const call = appendCall(key, this.#names.channelOf(channel), messages, options, this.#settings)
      const { positions, problem } = appendedOf(await this.#session?.run(call))
      for (const [i, { resolve }] of batch.slice(0, positions.length).entries()) resolve(positions[i])
      for (const { reject } of batch.slice(positions.length)) reject(new Error(problem))
    } catch (error) {
      for (const { reject } of batch) reject(error)
    }
  }

  read(channel: string, options: ReadOptions): Promise<HistoryPage> {
    return this.#engine.run(async () => {
      this.#flush(channel)
      const call = readCall(this.#names.keyOf(channel), options, this.#settings)
      return pageOf(await this.#session?.run(call))
    })
  }

  remove(channel: string): Promise<void> {
    return this.#engine.run(async () => {
      this.#flush(channel)
      await this.#session?.delete(messagesKey(this.#names.keyOf(channel)))
    })
  }

  subscribe(channel: string): Promise<void> {
    return this.#engine.run(async () => {
      const name = this.#names.channelOf(channel)
      // Set first, as a message may arrive together with the reply.
      this.#channels.add(name)
      try {
        await this.#session?.subscribe([name])
      } catch (error) {
        this.#channels.delete(name)
        throw error
      }
    })
  }

  async unsubscribe(channel: string): Promise<void> {
    const name = this.#names.channelOf(channel)
    // From now on messages of the channel are dropped, and the next session does not subscribe to it.
    this.#channels.delete(name)
    if (this.#engine.isConnected) await this.#session?.unsubscribe(name).catch(() => {})
  }

  async close(): Promise<void> {
    this.#engine.close()
    clearTimeout(this.#retry)
    this.#session?.end(new ClosedBrokerError())
    await this.#session?.ended()
  }

  async #open(): Promise<void> {
    const session = new RedisSession(this.#settings, {
      onMessage: (name, bytes) => {
        if (!this.#channels.has(name)) return
        const { message, position } = unframe(bytes)
        this.#events?.onMessage(this.#names.parse(name), message, position)
      },
      onEnd: error => this.#onEnd(error)
    })
    this.#session = session
    const channels = [...this.#channels]
    if (!(await session.open(channels))) return
    this.#openedAt = performance.now()
    this.#engine.connected()
    // Channels that were unsubscribed while the session was opening.
    for (const name of channels) if (!this.#channels.has(name)) session.unsubscribe(name).catch(() => {})
  }

  #onEnd(error: Error): void {
    if (this.#engine.isClosed) return
    this.#engine.disconnected(error)
    // An engine that accepts connections and soon ends them, for example those of slow readers, is not retried quickly.
    if (performance.now() - this.#openedAt > MAX_DELAY) this.#attempts = 0
    this.#openedAt = Number.POSITIVE_INFINITY
    const delay = Math.min(MIN_DELAY * 2 ** this.#attempts, MAX_DELAY)
    this.#attempts++
    // Random, so that not all processes reconnect at the same moment.
    this.#retry = setTimeout(() => this.#open(), delay * (0.5 + Math.random() / 2))
  }
}
