import type { Broker, BrokerEvents } from '../broker.js'
import { checkTimeout } from '../deadline.js'
import { ClosedBrokerError, InvalidBrokerOptionError } from '../error.js'
import { Reachability } from '../reachability.js'
import { hasShardedChannels, isClient, type RedisClient } from './client.js'
import { RedisSession, type RedisSettings } from './session.js'

export type { RedisClient, RedisCluster } from './client.js'

/** Options of {@link redisBroker}. */
export interface RedisBrokerOptions {
  /** Stands before the name of each channel, after the `keyPrefix` of the client. Default: 'fastify-upgrade:'. */
  readonly prefix?: string | undefined
  /** Whether channels are sharded: in a cluster each belongs to one node. It needs Redis 7. Default: false. */
  readonly sharded?: boolean | undefined
  /** Milliseconds that the engine has to answer; then it counts as away. It is asked as often. Default: 5000. */
  readonly timeout?: number | undefined
}

/** Milliseconds before the first attempt to connect again, twice as many before each further one, up to the last. */
const FIRST_DELAY = 50
const LAST_DELAY = 2000

/**
 * Connects the processes of an application through Redis or Valkey.
 * @param client of `ioredis` or `iovalkey`. It is only duplicated: the broker opens two connections of its own with the
 * client's options, and connects again on its own terms.
 * @throws {TypeError} `FST_UPGRADE_INVALID_BROKER_OPTION` when the client is of another library, or cannot do what `sharded` needs,
 * or an option is wrong.
 */
export function redisBroker(client: RedisClient, options: RedisBrokerOptions = {}): Broker {
  const { prefix = 'fastify-upgrade:', sharded = false, timeout = 5000 } = options
  checkClient(client, sharded)
  checkTimeout(timeout)
  if (typeof prefix !== 'string') throw new InvalidBrokerOptionError('prefix', 'a string')
  return new RedisBroker(`${client.options.keyPrefix ?? ''}${prefix}`, { client, sharded, timeout })
}

function checkClient(client: RedisClient, sharded: boolean): void {
  if (!isClient(client))
    throw new InvalidBrokerOptionError('client', 'of ioredis 5.4 or later, or of iovalkey')
  if (sharded && !hasShardedChannels(client)) {
    throw new InvalidBrokerOptionError(
      'client',
      'one that has sharded channels, such as Cluster of ioredis 6'
    )
  }
}

class RedisBroker implements Broker {
  readonly #prefix: string
  readonly #settings: RedisSettings
  readonly #reachability = new Reachability()
  /** What is subscribed to, with the prefix. */
  readonly #channels = new Set<string>()
  #events: BrokerEvents | undefined
  #session: RedisSession | undefined
  #retry: NodeJS.Timeout | undefined
  /** Since the engine stayed. */
  #attempts = 0
  /** When the session was open; never, when it did not get that far. */
  #openedAt = Number.POSITIVE_INFINITY

  constructor(prefix: string, settings: RedisSettings) {
    this.#prefix = prefix
    this.#settings = settings
  }

  start(events: BrokerEvents): void {
    this.#events = events
    this.#reachability.start(events)
    void this.#open()
  }

  publish(channel: string, message: Uint8Array): Promise<void> {
    return this.#reachability.run(async () => this.#session?.publish(this.#prefix + channel, message))
  }

  subscribe(channel: string): Promise<void> {
    return this.#reachability.run(async () => {
      const name = this.#prefix + channel
      // Before, as its first message may come with the answer.
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
    const name = this.#prefix + channel
    // That is enough for nothing of it to be told, and for the next session not to subscribe to it.
    this.#channels.delete(name)
    if (this.#reachability.isUp) await this.#session?.unsubscribe(name).catch(() => {})
  }

  async close(): Promise<void> {
    this.#reachability.close()
    clearTimeout(this.#retry)
    this.#session?.end(new ClosedBrokerError())
    await this.#session?.ended()
  }

  async #open(): Promise<void> {
    const session = new RedisSession(this.#settings, {
      onMessage: (name, message) => {
        if (this.#channels.has(name)) this.#events?.onMessage(name.slice(this.#prefix.length), message)
      },
      onEnd: error => this.#onEnd(error)
    })
    this.#session = session
    const channels = [...this.#channels]
    if (!(await session.open(channels))) return
    this.#openedAt = performance.now()
    this.#reachability.up()
    for (const name of channels) if (!this.#channels.has(name)) session.unsubscribe(name).catch(() => {})
  }

  #onEnd(error: Error): void {
    if (this.#reachability.isClosed) return
    this.#reachability.down(error)
    // One that takes connections and ends them at once, such as those that do not read fast enough, is left alone, too.
    if (performance.now() - this.#openedAt > LAST_DELAY) this.#attempts = 0
    this.#openedAt = Number.POSITIVE_INFINITY
    const delay = Math.min(FIRST_DELAY * 2 ** this.#attempts, LAST_DELAY)
    this.#attempts++
    // Not all processes at the same moment.
    this.#retry = setTimeout(() => this.#open(), delay * (0.5 + Math.random() / 2))
  }
}
