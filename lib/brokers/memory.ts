import type { Broker, BrokerEvents } from './broker.js'
import { ClosedBrokerError } from './error.js'

/** The channels that the memory brokers of one process share. */
export class MemoryHub {
  readonly #subscribers = new Map<string, Set<MemoryBroker>>()

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
  publish(channel: string, message: Uint8Array): void {
    for (const broker of this.#subscribers.get(channel) ?? []) broker.receive(channel, message)
  }
}

/** Connects several servers in one process. Each server needs its own broker, and the brokers share a hub. */
export class MemoryBroker implements Broker {
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
    if (this.#events === undefined) throw new ClosedBrokerError()
    this.#hub.publish(channel, message)
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
  receive(channel: string, message: Uint8Array): void {
    this.#events?.onMessage(channel, message)
  }
}
