import { randomBytes } from 'node:crypto'
import type { Broker, BrokerEvents } from '../brokers/broker.js'
import {
  BrokerInUseError,
  BrokerOverloadedError,
  BrokerPublishError,
  BrokerSubscribeError,
  ClosedBrokerError
} from '../brokers/error.js'
import { Channels } from './channels.js'
import { type Envelope, openEnvelope, sealEnvelope } from './envelope.js'

/** Bytes that may wait for a broker whose engine is slow. */
const MAX_PENDING = 16 * 2 ** 20

/** Bytes that each message counts besides its own: clients take one to three KiB to remember one that is not answered. */
const MESSAGE_COST = 1024

/** Events of the exchange with other processes. `topic` is an empty string for broadcasts. */
export type BrokerEvent =
  /** The engine can be reached, for the first time or again. */
  | { readonly type: 'up' }
  /** It cannot; what is published meanwhile is lost to other processes. */
  | { readonly type: 'down'; readonly error?: Error | undefined }
  /** A message did not get to other processes. */
  | { readonly type: 'lost'; readonly topic: string; readonly error: Error }
  /** Messages of other processes do not arrive; it is tried again. */
  | { readonly type: 'unsubscribed'; readonly topic: string; readonly error: Error }
  /** Something came from the engine that is no message of this application, and was dropped. */
  | { readonly type: 'invalid'; readonly topic: string }

/** What is exchanged about a topic, each in a channel of its own. Broadcasts have one channel, for the empty topic. */
export type ChannelKind = 'message' | 'presence' | 'broadcast'

export interface BusEvents {
  /** Another process published something. */
  onEnvelope(kind: ChannelKind, topic: string, envelope: Envelope): void
  onEvent(event: BrokerEvent): void
}

/** The brokers that have a server: a second one would take the messages of the first. */
const started = new WeakSet<Broker>()

/** The exchange of a server with those in other processes, through a broker. */
export class Bus implements BrokerEvents {
  /** This server among all of the application. */
  readonly origin: string = randomBytes(16).toString('hex')
  /** Messages that did not get to other processes. */
  lost = 0
  readonly #broker: Broker
  readonly #events: BusEvents
  readonly #channels: Channels
  #pending = 0
  #isOpen = false

  constructor(broker: Broker, events: BusEvents) {
    this.#broker = broker
    this.#events = events
    this.#channels = new Channels(broker, (channel, error) => {
      const { topic } = parseChannel(channel)
      events.onEvent({ type: 'unsubscribed', topic, error: new BrokerSubscribeError(reasonOf(error)) })
    })
  }

  /**
   * Called once, before anything else.
   * @throws {TypeError} `FST_UPGRADE_BROKER_IN_USE` when the broker is another server's.
   */
  start(): void {
    if (started.has(this.#broker)) throw new BrokerInUseError()
    started.add(this.#broker)
    this.#isOpen = true
    this.#broker.start(this)
  }

  /** Resolves when what other processes publish arrives here; rejects when that fails at first. */
  async subscribe(kind: ChannelKind, topic: string): Promise<void> {
    try {
      await this.#channels.want(channelOf(kind, topic))
    } catch (error) {
      throw withCause(new BrokerSubscribeError(reasonOf(error)), error)
    }
  }

  unsubscribe(kind: ChannelKind, topic: string): void {
    this.#channels.drop(channelOf(kind, topic))
  }

  /** Resolves when the engine has the message; rejects with a coded error, which for messages is counted and told. */
  async publish(
    kind: ChannelKind,
    topic: string,
    payload: string | Uint8Array,
    { isBinary, compress }: { readonly isBinary: boolean; readonly compress: boolean }
  ): Promise<void> {
    if (!this.#isOpen) throw new ClosedBrokerError()
    if (this.#pending > MAX_PENDING) throw this.#lose(kind, topic, new BrokerOverloadedError(MAX_PENDING))
    const sealed = sealEnvelope(this.origin, payload, isBinary, compress)
    const cost = sealed.length + MESSAGE_COST
    this.#pending += cost
    try {
      await this.#broker.publish(channelOf(kind, topic), sealed)
    } catch (error) {
      throw this.#lose(kind, topic, withCause(new BrokerPublishError(reasonOf(error)), error))
    } finally {
      this.#pending -= cost
    }
  }

  #lose(kind: ChannelKind, topic: string, error: Error): Error {
    // Presence is told again soon.
    if (kind === 'presence') return error
    this.lost++
    this.#events.onEvent({ type: 'lost', topic, error })
    return error
  }

  onMessage(channel: string, message: Uint8Array): void {
    if (!this.#isOpen) return
    const { kind, topic } = parseChannel(channel)
    const envelope = openEnvelope(message)
    if (kind === undefined || envelope === undefined) this.#events.onEvent({ type: 'invalid', topic })
    // What this process published was delivered here at once.
    else if (envelope.origin !== this.origin) this.#events.onEnvelope(kind, topic, envelope)
  }

  onUp(): void {
    if (!this.#isOpen) return
    this.#channels.retry()
    this.#events.onEvent({ type: 'up' })
  }

  onUnsubscribed(channel: string, error: Error): void {
    this.#channels.lose(channel, error)
  }

  onDown(error?: Error): void {
    if (this.#isOpen) this.#events.onEvent({ type: 'down', error })
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#channels.close()
    await this.#broker.close()
  }
}

/** They keep the names of topics, which may be any strings, apart from other channels. */
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
