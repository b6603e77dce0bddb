import { setImmediate as turn } from 'node:timers/promises'
import type { Broker, BrokerEvents } from '../broker.js'
import { checkTimeout, Deadline } from '../deadline.js'
import { InvalidBrokerOptionError } from '../error.js'
import { hasMethods } from '../methods.js'
import { Reachability } from '../reachability.js'

/** What a broker needs of a connection of `@nats-io/transport-node`. */
export interface NatsConnection {
  publish(subject: string, payload: Uint8Array): void
  subscribe(
    subject: string,
    options: { callback(error: Error | null, message: { readonly data: Uint8Array }): void }
  ): NatsSubscription
  flush(): Promise<void>
  status(): AsyncIterable<NatsStatus>
}

export interface NatsSubscription {
  unsubscribe(): void
}

export interface NatsStatus {
  readonly type: string
  readonly error?: Error
}

/** Options of {@link natsBroker}. */
export interface NatsBrokerOptions {
  /** Stands before each subject, after which a channel is one token. Default: 'fastify-upgrade.'. */
  readonly prefix?: string | undefined
  /** Milliseconds that the engine has to answer; then it counts as away. It is asked as often. Default: 5000. */
  readonly timeout?: number | undefined
}

/** What is published in one turn. */
interface Batch {
  readonly published: Promise<void>
  /** Why the engine refused, by subject. */
  readonly refusals: Map<unknown, Error>
}

/**
 * Connects the processes of an application through NATS.
 * @param connection of `@nats-io/transport-node`. The broker shares it and leaves it open. It should have
 * `maxReconnectAttempts: -1`, as the client gives up otherwise.
 * @throws {TypeError} `FST_UPGRADE_INVALID_BROKER_OPTION` when the connection is none, a subject cannot begin with the prefix, or the
 * timeout is no number of milliseconds.
 */
export function natsBroker(connection: NatsConnection, options: NatsBrokerOptions = {}): Broker {
  const { prefix = 'fastify-upgrade.', timeout = 5000 } = options
  if (!hasMethods(connection, ['publish', 'subscribe', 'flush', 'status'])) {
    throw new InvalidBrokerOptionError(
      'client',
      'a connection of @nats-io/transport-node, which connect() resolves to'
    )
  }
  checkTimeout(timeout)
  if (!/^(?:[^\s.*>]+\.)*[^\s.*>]*$/.test(prefix)) {
    throw new InvalidBrokerOptionError('prefix', 'the beginning of a NATS subject without wildcards')
  }
  return new NatsBroker(connection, prefix, timeout)
}

class NatsBroker implements Broker {
  readonly #connection: NatsConnection
  readonly #prefix: string
  readonly #timeout: number
  readonly #reachability = new Reachability()
  readonly #subscriptions = new Map<string, NatsSubscription>()
  /** Those that the engine has not answered. */
  readonly #batches = new Set<Batch>()
  #batch: Batch | undefined
  #events: BrokerEvents | undefined
  #stopWatching: (() => void) | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(connection: NatsConnection, prefix: string, timeout: number) {
    this.#connection = connection
    this.#prefix = prefix
    this.#timeout = timeout
  }

  start(events: BrokerEvents): void {
    this.#events = events
    this.#reachability.start(events)
    void this.#watch()
    this.#flush().catch(error => this.#reachability.down(error))
    this.#check()
  }

  publish(channel: string, message: Uint8Array): Promise<void> {
    return this.#reachability.run(async () => {
      const subject = this.#subjectOf(channel)
      this.#connection.publish(subject, message)
      this.#batch ??= this.#openBatch()
      const { published, refusals } = this.#batch
      await published
      const refusal = refusals.get(subject)
      if (refusal !== undefined) throw refusal
    })
  }

  subscribe(channel: string): Promise<void> {
    return this.#reachability.run(async () => {
      let refusal: Error | undefined
      const subscription = this.#connection.subscribe(this.#subjectOf(channel), {
        callback: (error, { data }) => {
          if (error === null) this.#events?.onMessage(channel, data)
          else if (this.#subscriptions.get(channel) === subscription) this.#lose(channel, error)
          else refusal = error
        }
      })
      try {
        await this.#flush()
        if (refusal !== undefined) throw refusal
      } catch (error) {
        subscription.unsubscribe()
        throw error
      }
      this.#subscriptions.set(channel, subscription)
    })
  }

  /** The engine has taken back a permission. */
  #lose(channel: string, error: Error): void {
    this.#subscriptions.delete(channel)
    this.#events?.onUnsubscribed(channel, error)
  }

  async unsubscribe(channel: string): Promise<void> {
    this.#subscriptions.get(channel)?.unsubscribe()
    this.#subscriptions.delete(channel)
  }

  async close(): Promise<void> {
    this.#reachability.close()
    clearTimeout(this.#timer)
    this.#stopWatching?.()
    for (const subscription of this.#subscriptions.values()) subscription.unsubscribe()
    this.#subscriptions.clear()
  }

  /** A token has no spaces, dots or wildcards: base64url has none of them. */
  #subjectOf(channel: string): string {
    return this.#prefix + Buffer.from(channel).toString('base64url')
  }

  async #watch(): Promise<void> {
    // The client's iterator has `stop`; `return` would wait for the next status.
    const statuses: AsyncIterable<NatsStatus> & { stop?(): void } = this.#connection.status()
    this.#stopWatching = () => statuses.stop?.()
    for await (const { type, error } of statuses) {
      if (type === 'disconnect') this.#reachability.down(new Error('the connection to NATS is lost'))
      // The client has subscribed again by then.
      else if (type === 'reconnect') this.#flush().catch(() => {})
      else if (error !== undefined) this.#refuse(error)
    }
    this.#reachability.down(new Error('the connection to NATS is closed'))
  }

  /** The engine does not tell which message it refuses, but for which subject, and before it answers what came later. */
  #refuse(error: Error): void {
    const subject: unknown = Reflect.get(error, 'subject')
    for (const { refusals } of this.#batches) refusals.set(subject, error)
  }

  #openBatch(): Batch {
    const publish = async (): Promise<void> => {
      // After all that is published in this turn.
      await Promise.resolve()
      this.#batch = undefined
      try {
        await this.#flush()
        // Refusals that came before the answer are told by then.
        await turn()
      } finally {
        this.#batches.delete(batch)
      }
    }
    const batch: Batch = { published: publish(), refusals: new Map() }
    this.#batches.add(batch)
    return batch
  }

  /** Resolves when the engine has all that was sent. */
  async #flush(): Promise<void> {
    let deadline: Deadline | undefined
    const late = new Promise<never>((_resolve, reject) => {
      deadline = new Deadline(this.#timeout, () => {
        const error = new Error(`NATS has not answered within ${this.#timeout} ms`)
        this.#reachability.down(error)
        reject(error)
      })
    })
    // However late the answer comes, the engine is there then.
    const flushed = this.#connection.flush().then(() => this.#reachability.up())
    try {
      await Promise.race([flushed, late])
    } finally {
      deadline?.cancel()
    }
  }

  /** An engine that hangs does not tell that it is gone. */
  #check(): void {
    this.#timer = setTimeout(async () => {
      if (this.#reachability.isUp) await this.#flush().catch(() => {})
      if (!this.#reachability.isClosed) this.#check()
    }, this.#timeout).unref()
  }
}
