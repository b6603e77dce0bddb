import { randomBytes } from 'node:crypto'
import type { Broker, BrokerEvents } from '../brokers/broker.js'
import { BrokerSubscriptions } from './broker-subscriptions.js'
import {
  BrokerInUseError,
  BrokerLinkClosedError,
  BrokerOverloadedError,
  BrokerPublishError,
  BrokerSubscribeError
} from './error.js'
import {
  decodePublication,
  encodePublication,
  type Publication,
  type RemotePublication
} from './publication.js'

/** The maximum of pending bytes, for a broker whose engine is slow. */
const MAX_PENDING = 16 * 2 ** 20

/** Bytes that each pending message counts besides its own, as a client needs one to three KiB for each. */
const MESSAGE_COST = 1024

/** Events of the link to the other processes. `topic` is an empty string for broadcasts. */
export type BrokerEvent =
  /** The broker is connected to its engine, for the first time or again. */
  | { readonly type: 'up' }
  /** The broker is disconnected from its engine. Messages published meanwhile do not reach other processes. */
  | { readonly type: 'down'; readonly error?: Error | undefined }
  /** A message did not reach other processes. */
  | { readonly type: 'lost'; readonly topic: string; readonly error: Error }
  /** Messages from other processes do not arrive. The server retries the subscription. */
  | { readonly type: 'unsubscribed'; readonly topic: string; readonly error: Error }
  /** The engine delivered something that no process of this application published. It was dropped. */
  | { readonly type: 'invalid'; readonly topic: string }

/**
 * The kinds of data on a channel. Each topic has a channel per kind; broadcasts have one channel, for the empty topic.
 */
export type ChannelKind = 'message' | 'presence' | 'broadcast'

export interface BrokerLinkOptions {
  /** Called with each publication of another process. */
  readonly onPublication: (kind: ChannelKind, topic: string, publication: RemotePublication) => void
  readonly onEvent: (event: BrokerEvent) => void
}

/** The brokers that a server uses. A second server would take over the events of the first. */
const brokersInUse = new WeakSet<Broker>()

/** The link of a server to the servers in other processes, through a broker. */
export class BrokerLink implements BrokerEvents {
  /** The id of this server. */
  readonly origin: string = randomBytes(16).toString('hex')
  readonly #broker: Broker
  readonly #options: BrokerLinkOptions
  readonly #subscriptions: BrokerSubscriptions
  #lost = 0
  #pendingBytes = 0
  #isOpen = false

  constructor(broker: Broker, options: BrokerLinkOptions) {
    this.#broker = broker
    this.#options = options
    this.#subscriptions = new BrokerSubscriptions(broker, (channel, error) => {
      const { topic } = parseChannel(channel)
      options.onEvent({ type: 'unsubscribed', topic, error: new BrokerSubscribeError(reasonOf(error)) })
    })
  }

  /** The number of messages that did not reach other processes. */
  get lost(): number {
    return this.#lost
  }

  /**
   * Called once, before all other methods.
   * @throws {TypeError} `FST_UPGRADE_BROKER_IN_USE` when the broker belongs to another server.
   */
  start(): void {
    if (brokersInUse.has(this.#broker)) throw new BrokerInUseError()
    brokersInUse.add(this.#broker)
    this.#isOpen = true
    this.#broker.start(this)
  }

  /** Resolves when publications of other processes arrive. Rejects when the first attempt fails. */
  async subscribe(kind: ChannelKind, topic: string): Promise<void> {
    try {
      await this.#subscriptions.add(channelOf(kind, topic))
    } catch (error) {
      throw withCause(new BrokerSubscribeError(reasonOf(error)), error)
    }
  }

  unsubscribe(kind: ChannelKind, topic: string): void {
    this.#subscriptions.remove(channelOf(kind, topic))
  }

  /** Resolves once the engine has accepted the publication. Rejects otherwise; messages and broadcasts are counted as lost. */
  async publish(kind: ChannelKind, topic: string, publication: Publication): Promise<void> {
    if (!this.#isOpen) throw new BrokerLinkClosedError()
    if (this.#pendingBytes > MAX_PENDING)
      throw this.#lose(kind, topic, new BrokerOverloadedError(MAX_PENDING))
    const bytes = encodePublication(this.origin, publication)
    const cost = bytes.length + MESSAGE_COST
    this.#pendingBytes += cost
    try {
      await this.#broker.publish(channelOf(kind, topic), bytes)
    } catch (error) {
      throw this.#lose(kind, topic, withCause(new BrokerPublishError(reasonOf(error)), error))
    } finally {
      this.#pendingBytes -= cost
    }
  }

  #lose(kind: ChannelKind, topic: string, error: Error): Error {
    // Presence is sent again at the next interval.
    if (kind === 'presence') return error
    this.#lost++
    this.#options.onEvent({ type: 'lost', topic, error })
    return error
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#subscriptions.close()
    await this.#broker.close()
  }

  // Events of the broker.

  onMessage(channel: string, message: Uint8Array): void {
    if (!this.#isOpen) return
    const { kind, topic } = parseChannel(channel)
    const publication = decodePublication(message)
    if (kind === undefined || publication === undefined) this.#options.onEvent({ type: 'invalid', topic })
    // Publications of this server were delivered to its subscribers at once.
    else if (publication.origin !== this.origin) this.#options.onPublication(kind, topic, publication)
  }

  onUp(): void {
    if (!this.#isOpen) return
    this.#subscriptions.retry()
    this.#options.onEvent({ type: 'up' })
  }

  onUnsubscribed(channel: string, error: Error): void {
    this.#subscriptions.onEnd(channel, error)
  }

  onDown(error?: Error): void {
    if (this.#isOpen) this.#options.onEvent({ type: 'down', error })
  }
}

/** The prefixes of channels. A topic may be any string, so they keep the channels of different kinds apart. */
const PREFIX: Readonly<Record<ChannelKind, string>> = { message: 'm:', presence: 'p:', broadcast: 'b:' }

function channelOf(kind: ChannelKind, topic: string): string {
  return PREFIX[kind] + topic
}

function parseChannel(channel: string): { readonly kind: ChannelKind | undefined; readonly topic: string } {
  const topic = channel.slice(2)
  for (const kind of ['message', 'presence', 'broadcast'] as const)
    if (channel.startsWith(PREFIX[kind])) return { kind, topic }
  return { kind: undefined, topic }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function withCause(error: Error, cause: unknown): Error {
  error.cause = cause
  return error
}
