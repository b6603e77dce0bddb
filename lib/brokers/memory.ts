import type {
  AppendOptions,
  BrokerEvents,
  HistoryBroker,
  HistoryPage,
  Position,
  ReadOptions
} from './broker.js'
import { ClosedBrokerError, InvalidBrokerOptionError } from './error.js'
import { MemoryHistory } from './memory-history.js'

/** Options of {@link MemoryHub}. */
export interface MemoryHubOptions {
  /**
   * Bytes that the histories of all topics may take. When they need more, the topics to which nothing was published for the
   * longest time lose their history. Default: 64 MiB.
   */
  readonly maxBytes?: number | undefined
  /** Bytes that the history of each topic may take. When it needs more, it loses its oldest messages. Default: 4 MiB. */
  readonly maxChannelBytes?: number | undefined
}

/** The channels that the memory brokers of one process share. */
export class MemoryHub {
  readonly #subscribers = new Map<string, Set<MemoryBroker>>()
  readonly #history: MemoryHistory

  /** @throws {TypeError} `FST_UPGRADE_INVALID_BROKER_OPTION` */
  constructor(options: MemoryHubOptions = {}) {
    const { maxBytes = 64 * 2 ** 20, maxChannelBytes = 4 * 2 ** 20 } = options
    for (const [name, value] of Object.entries({ maxBytes, maxChannelBytes })) {
      if (!Number.isSafeInteger(value) || value < 1)
        throw new InvalidBrokerOptionError(name, 'a number of bytes, at least 1')
    }
    this.#history = new MemoryHistory({ maxBytes, maxChannelBytes })
  }

  /** @internal */
  add(channel: string, broker: MemoryBroker): void {
    const subscribers = this.#subscribers.get(channel) ?? new Set()
    this.#subscribers.set(channel, subscribers.add(broker))
  }

  /** @internal */
  delete(channel: string, broker: MemoryBroker): void {
    const subscribers = this.#subscribers.get(channel)
    subscribers?.delete(broker)
    if (subscribers?.size === 0) this.#subscribers.delete(channel)
  }

  /** @internal */
  publish(channel: string, message: Uint8Array, position?: Position): void {
    for (const broker of this.#subscribers.get(channel) ?? []) broker.receive(channel, message, position)
  }

  /** @internal */
  append(channel: string, message: Uint8Array, options: AppendOptions): Position {
    const { position, isNew } = this.#history.append(channel, message, options)
    if (isNew) this.publish(channel, message, position)
    return position
  }

  /** @internal */
  read(channel: string, options: ReadOptions): HistoryPage {
    return this.#history.read(channel, options)
  }

  /** @internal */
  remove(channel: string): void {
    this.#history.remove(channel)
  }
}

/** Connects several servers in one process. Each server needs its own broker, and the brokers share a hub. */
export class MemoryBroker implements HistoryBroker {
  readonly #hub: MemoryHub
  readonly #channels = new Set<string>()
  #events: BrokerEvents | undefined

  constructor(hub: MemoryHub) {
    this.#hub = hub
  }

  start(events: BrokerEvents): void {
    this.#events = events
    queueMicrotask(() => this.#events?.onUp())
  }

  async publish(channel: string, message: Uint8Array): Promise<void> {
    this.#openHub().publish(channel, message)
  }

  async append(channel: string, message: Uint8Array, options: AppendOptions): Promise<Position> {
    return this.#openHub().append(channel, message, options)
  }

  async read(channel: string, options: ReadOptions): Promise<HistoryPage> {
    return this.#openHub().read(channel, options)
  }

  async remove(channel: string): Promise<void> {
    this.#openHub().remove(channel)
  }

  async subscribe(channel: string): Promise<void> {
    this.#channels.add(channel)
    this.#hub.add(channel, this)
  }

  async unsubscribe(channel: string): Promise<void> {
    this.#channels.delete(channel)
    this.#hub.delete(channel, this)
  }

  async close(): Promise<void> {
    this.#events = undefined
    for (const channel of this.#channels) this.#hub.delete(channel, this)
    this.#channels.clear()
  }

  /** @internal */
  receive(channel: string, message: Uint8Array, position?: Position): void {
    this.#events?.onMessage(channel, message, position)
  }

  #openHub(): MemoryHub {
    if (this.#events === undefined) throw new ClosedBrokerError()
    return this.#hub
  }
}
