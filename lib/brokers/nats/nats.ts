import { setImmediate as turn } from 'node:timers/promises'
import type {
  AppendOptions,
  Broker,
  BrokerEvents,
  HistoryBroker,
  HistoryPage,
  Position,
  ReadOptions
} from '../broker.js'
import { checkTimeout, EngineState, hasMethods, ReplyTimeout } from '../engine.js'
import { ClosedBrokerError, InvalidBrokerOptionError } from '../error.js'
import { NatsHistory } from './history.js'
import type { JetStreamManager } from './jetstream.js'
import { decodeRecord, numbered } from './record.js'

export type { JetStreamManager } from './jetstream.js'

/** The part of a connection of `@nats-io/transport-node` that the broker uses. */
export interface NatsConnection {
  publish(subject: string, payload: Uint8Array): void
  subscribe(
    subject: string,
    options: { callback(error: Error | null, message: NatsMessage): void }
  ): NatsSubscription
  flush(): Promise<void>
  status(): AsyncIterable<NatsStatus>
  /** Of the server. */
  readonly info?: { readonly max_payload: number } | undefined
}

export interface NatsMessage {
  readonly data: Uint8Array
  readonly headers?: { get(name: string): string } | undefined
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

/** Where {@link natsBroker} keeps histories. */
export interface NatsHistoryOptions {
  /** The result of `jetstreamManager(connection)` of `@nats-io/jetstream`, for the connection of the broker. */
  readonly manager: JetStreamManager
  /**
   * The name of the stream, which the broker creates unless it exists. Default: the prefix without its last dot and with `_`
   * in place of other dots, or 'fastify-upgrade' if the prefix is empty.
   */
  readonly stream?: string | undefined
  /** The storage of a stream that the broker creates. With 'memory', a restart begins a new epoch. Default: 'file'. */
  readonly storage?: 'file' | 'memory' | undefined
  /** The number of servers of a cluster that keep a stream that the broker creates, 1 to 5. Default: 1. */
  readonly replicas?: number | undefined
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
 * @param options with `history`, the broker keeps the histories of topics in JetStream.
 * @throws {TypeError} `FST_UPGRADE_INVALID_BROKER_OPTION` for another kind of client, a prefix that no subject can begin with,
 * or an invalid option.
 */
export function natsBroker(
  connection: NatsConnection,
  options: NatsBrokerOptions & { readonly history: NatsHistoryOptions }
): HistoryBroker
export function natsBroker(connection: NatsConnection, options?: NatsBrokerOptions): Broker
export function natsBroker(
  connection: NatsConnection,
  options: NatsBrokerOptions & { readonly history?: NatsHistoryOptions | undefined } = {}
): Broker {
  const { prefix = 'fastify-upgrade.', timeout = 5000, history } = options
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
  if (history === undefined) return new NatsBroker(connection, prefix, timeout)
  return new NatsHistoryBroker(connection, prefix, timeout, makeHistory(connection, prefix, timeout, history))
}

function makeHistory(
  connection: NatsConnection,
  prefix: string,
  timeout: number,
  { manager, stream = streamOf(prefix), storage = 'file', replicas = 1 }: NatsHistoryOptions
): NatsHistory {
  if (!hasMethods(manager, ['jetstream'])) {
    throw new InvalidBrokerOptionError(
      'history.manager',
      'a manager of @nats-io/jetstream, which jetstreamManager() resolves to'
    )
  }
  if (prefix !== '' && !prefix.endsWith('.')) {
    throw new InvalidBrokerOptionError('prefix', 'whole tokens that end with a dot, when it has "history"')
  }
  if (typeof stream !== 'string' || !/^[^\s.*>/\\]+$/.test(stream)) {
    throw new InvalidBrokerOptionError('history.stream', 'the name of a JetStream stream')
  }
  if (storage !== 'file' && storage !== 'memory') {
    throw new InvalidBrokerOptionError('history.storage', "'file' or 'memory'")
  }
  if (!Number.isInteger(replicas) || replicas < 1 || replicas > 5) {
    throw new InvalidBrokerOptionError('history.replicas', 'an integer from 1 to 5')
  }
  const maxPayload = (): number => connection.info?.max_payload ?? DEFAULT_MAX_PAYLOAD
  return new NatsHistory({ manager, stream, storage, replicas, prefix, timeout, maxPayload })
}

/** The default of the server. */
const DEFAULT_MAX_PAYLOAD = 2 ** 20

function streamOf(prefix: string): string {
  return prefix === '' ? 'fastify-upgrade' : prefix.slice(0, -1).replaceAll('.', '_')
}

class NatsBroker implements Broker {
  readonly #connection: NatsConnection
  readonly #prefix: string
  readonly #timeout: number
  protected readonly engine = new EngineState()
  protected events: BrokerEvents | undefined
  readonly #subscriptions = new Map<string, NatsSubscription>()
  /** The batches that the engine has not confirmed. */
  readonly #unconfirmed = new Set<Batch>()
  /** The batch of the current turn. */
  #batch: Batch | undefined
  /** Whether the connection is open, as far as the client has reported. */
  protected isLinked = true
  #stopWatching: (() => void) | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(connection: NatsConnection, prefix: string, timeout: number) {
    this.#connection = connection
    this.#prefix = prefix
    this.#timeout = timeout
  }

  start(events: BrokerEvents): void {
    this.events = events
    this.engine.start(events)
    void this.#watch()
    this.#flush().catch(error => this.onLost(error))
    this.#checkHealth()
  }

  publish(channel: string, message: Uint8Array): Promise<void> {
    return this.engine.run(async () => {
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
    return this.engine.run(async () => {
      let refusal: Error | undefined
      const subscription = this.#connection.subscribe(this.#subjectOf(channel), {
        callback: (error, message) => {
          if (error === null) this.receive(channel, message)
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
    this.events?.onUnsubscribed(channel, error)
  }

  async unsubscribe(channel: string): Promise<void> {
    this.#subscriptions.get(channel)?.unsubscribe()
    this.#subscriptions.delete(channel)
  }

  async close(): Promise<void> {
    this.engine.close()
    clearTimeout(this.#timer)
    this.#stopWatching?.()
    for (const subscription of this.#subscriptions.values()) subscription.unsubscribe()
    this.#subscriptions.clear()
  }

  #subjectOf(channel: string): string {
    return this.#prefix + tokenOf(channel)
  }

  async #watch(): Promise<void> {
    // The client's iterator has `stop`. Its `return` would wait for the next status.
    const statuses: AsyncIterable<NatsStatus> & { stop?(): void } = this.#connection.status()
    this.#stopWatching = () => statuses.stop?.()
    for await (const { type, error } of statuses) {
      if (type === 'disconnect') {
        this.isLinked = false
        this.onLost(new Error('the connection to NATS was lost'))
      } else if (type === 'reconnect') {
        // By now the client has restored its subscriptions.
        this.isLinked = true
        this.#flush().catch(() => {})
      } else if (error !== undefined) this.#refuse(error)
    }
    this.isLinked = false
    this.onLost(new Error('the connection to NATS is closed'))
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
        this.onLost(error)
        reject(error)
      })
    })
    // Even a late reply shows that the engine is connected.
    const flushed = this.#connection.flush().then(() => this.onReply())
    try {
      await Promise.race([flushed, timedOut])
    } finally {
      timeout?.cancel()
    }
  }

  /** Asks for a reply at regular intervals, as an engine that hangs keeps its connections open. */
  #checkHealth(): void {
    this.#timer = setTimeout(async () => {
      if (this.engine.isConnected) {
        this.onHealthCheck()
        await this.#flush().catch(() => {})
      }
      if (!this.engine.isClosed) this.#checkHealth()
    }, this.#timeout).unref()
  }

  /** The engine has replied. */
  protected onReply(): void | Promise<void> {
    this.engine.connected()
  }

  protected onLost(error: Error): void {
    this.engine.disconnected(error)
  }

  protected onHealthCheck(): void {}

  /** A message of a channel. */
  protected receive(channel: string, { data }: NatsMessage): void {
    this.events?.onMessage(channel, data)
  }
}

/** Milliseconds until the broker tries again to use its stream. */
const RETRY_DELAY = 250

/** It is connected while it can use its stream. */
class NatsHistoryBroker extends NatsBroker implements HistoryBroker {
  readonly #history: NatsHistory
  #retry: NodeJS.Timeout | undefined

  constructor(connection: NatsConnection, prefix: string, timeout: number, history: NatsHistory) {
    super(connection, prefix, timeout)
    this.#history = history
  }

  append(channel: string, message: Uint8Array, options: AppendOptions): Promise<Position> {
    return this.engine.run(() => this.#history.append(tokenOf(channel), message, options))
  }

  read(channel: string, options: ReadOptions): Promise<HistoryPage> {
    return this.engine.run(() => this.#history.read(tokenOf(channel), options))
  }

  remove(channel: string): Promise<void> {
    return this.engine.run(() => this.#history.remove(tokenOf(channel)))
  }

  override async close(): Promise<void> {
    clearTimeout(this.#retry)
    await super.close()
    this.#history.interrupt(new ClosedBrokerError())
  }

  protected override async onReply(): Promise<void> {
    if (this.engine.isConnected) return
    try {
      await this.#history.open()
    } catch (error) {
      if (error instanceof Error) this.onLost(error)
      this.#retryLater()
      throw error
    }
    super.onReply()
  }

  #retryLater(): void {
    clearTimeout(this.#retry)
    if (this.engine.isClosed) return
    this.#retry = setTimeout(() => {
      // After a reconnection, the engine replies.
      if (this.isLinked) this.onReply().catch(() => {})
    }, RETRY_DELAY).unref()
  }

  protected override onLost(error: Error): void {
    super.onLost(error)
    this.#history.interrupt(error)
  }

  protected override onHealthCheck(): void {
    this.#history.sweep()
  }

  /** Records come from the stream, with their sequence number in a header. */
  protected override receive(channel: string, message: NatsMessage): void {
    const { data, headers } = message
    const seq = Number(headers?.get('Nats-Sequence') || Number.NaN)
    const record = Number.isSafeInteger(seq) ? decodeRecord(data) : undefined
    if (record === undefined) {
      super.receive(channel, message)
      return
    }
    this.#history.onRecord(tokenOf(channel), seq, record)
    const { epoch } = record
    for (const { offset, message } of numbered(record)) {
      this.events?.onMessage(channel, message, { offset, epoch })
    }
  }
}

/** A token must not contain spaces, dots or wildcards, so the channel is encoded in base64url. */
function tokenOf(channel: string): string {
  return Buffer.from(channel).toString('base64url')
}
