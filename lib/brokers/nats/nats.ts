import { setImmediate as turn } from 'node:timers/promises'
import type { Broker, BrokerEvents } from '../broker.js'
import { checkTimeout, EngineState, hasMethods, ReplyTimeout } from '../engine.js'
import { InvalidBrokerOptionError } from '../error.js'

/** The part of a connection of `@nats-io/transport-node` that the broker uses. */
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
  /** The beginning of each subject. The channel follows as one token. Default: 'fastify-upgrade.'. */
  readonly prefix?: string | undefined
  /**
   * Reply timeout in milliseconds, after which the engine counts as disconnected. It is also the interval of the health
   * check. Default: 5000.
   */
  readonly timeout?: number | undefined
}

/** The messages published in one turn of the event loop. One reply of the engine confirms them all. */
interface Batch {
  readonly confirmed: Promise<void>
  /** Errors of the engine by subject. */
  readonly refusals: Map<unknown, Error>
}

/**
 * Connects the processes of an application through NATS.
 * @param connection a connection of `@nats-io/transport-node`. The broker shares it and leaves it open. Give it
 * `maxReconnectAttempts: -1`, or the client stops reconnecting after ten attempts.
 * @throws {TypeError} `FST_UPGRADE_INVALID_BROKER_OPTION` for another kind of client, a prefix that no subject can begin with,
 * or an invalid timeout.
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
  readonly #engine = new EngineState()
  readonly #subscriptions = new Map<string, NatsSubscription>()
  /** The batches that the engine has not confirmed. */
  readonly #unconfirmed = new Set<Batch>()
  /** The batch of the current turn. */
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
    this.#engine.start(events)
    void this.#watch()
    this.#flush().catch(error => this.#engine.disconnected(error))
    this.#checkHealth()
  }

  publish(channel: string, message: Uint8Array): Promise<void> {
    return this.#engine.run(async () => {
      const subject = this.#subjectOf(channel)
      this.#connection.publish(subject, message)
      this.#batch ??= this.#openBatch()
      const { confirmed, refusals } = this.#batch
      await confirmed
      const refusal = refusals.get(subject)
      if (refusal !== undefined) throw refusal
    })
  }

  subscribe(channel: string): Promise<void> {
    return this.#engine.run(async () => {
      let refusal: Error | undefined
      const subscription = this.#connection.subscribe(this.#subjectOf(channel), {
        callback: (error, { data }) => {
          if (error === null) this.#events?.onMessage(channel, data)
          else if (this.#subscriptions.get(channel) === subscription) this.#revoke(channel, error)
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

  /** The engine has withdrawn the permission for a subscription. */
  #revoke(channel: string, error: Error): void {
    this.#subscriptions.delete(channel)
    this.#events?.onUnsubscribed(channel, error)
  }

  async unsubscribe(channel: string): Promise<void> {
    this.#subscriptions.get(channel)?.unsubscribe()
    this.#subscriptions.delete(channel)
  }

  async close(): Promise<void> {
    this.#engine.close()
    clearTimeout(this.#timer)
    this.#stopWatching?.()
    for (const subscription of this.#subscriptions.values()) subscription.unsubscribe()
    this.#subscriptions.clear()
  }

  /** A token must not contain spaces, dots or wildcards, so the channel is encoded in base64url. */
  #subjectOf(channel: string): string {
    return this.#prefix + Buffer.from(channel).toString('base64url')
  }

  async #watch(): Promise<void> {
    // The client's iterator has `stop`. Its `return` would wait for the next status.
    const statuses: AsyncIterable<NatsStatus> & { stop?(): void } = this.#connection.status()
    this.#stopWatching = () => statuses.stop?.()
    for await (const { type, error } of statuses) {
      if (type === 'disconnect') this.#engine.disconnected(new Error('the connection to NATS was lost'))
      // By now the client has restored its subscriptions.
      else if (type === 'reconnect') this.#flush().catch(() => {})
      else if (error !== undefined) this.#refuse(error)
    }
    this.#engine.disconnected(new Error('the connection to NATS is closed'))
  }

  /** The engine reports the subject of a refused message, not the message, and does so before its next reply. */
  #refuse(error: Error): void {
    const subject: unknown = Reflect.get(error, 'subject')
    for (const { refusals } of this.#unconfirmed) refusals.set(subject, error)
  }

  #openBatch(): Batch {
    const confirm = async (): Promise<void> => {
      // Wait for the other messages of this turn.
      await Promise.resolve()
      this.#batch = undefined
      try {
        await this.#flush()
        // Let the client deliver the refusals that arrived before the reply.
        await turn()
      } finally {
        this.#unconfirmed.delete(batch)
      }
    }
    const batch: Batch = { confirmed: confirm(), refusals: new Map() }
    this.#unconfirmed.add(batch)
    return batch
  }

  /** Resolves when the engine has processed everything sent so far. */
  async #flush(): Promise<void> {
    let timeout: ReplyTimeout | undefined
    const timedOut = new Promise<never>((_resolve, reject) => {
      timeout = new ReplyTimeout(this.#timeout, () => {
        const error = new Error(`NATS did not reply within ${this.#timeout} ms`)
        this.#engine.disconnected(error)
        reject(error)
      })
    })
    // Even a late reply shows that the engine is connected.
    const flushed = this.#connection.flush().then(() => this.#engine.connected())
    try {
      await Promise.race([flushed, timedOut])
    } finally {
      timeout?.cancel()
    }
  }

  /** Asks for a reply at regular intervals, as an engine that hangs keeps its connections open. */
  #checkHealth(): void {
    this.#timer = setTimeout(async () => {
      if (this.#engine.isConnected) await this.#flush().catch(() => {})
      if (!this.#engine.isClosed) this.#checkHealth()
    }, this.#timeout).unref()
  }
}
