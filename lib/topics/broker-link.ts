import { randomBytes } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import type {
  AppendOptions,
  Broker,
  BrokerEvents,
  HistoryBroker,
  HistoryPage,
  Position,
  ReadOptions
} from '../brokers/broker.js'
import { brokerPublished } from '../diagnostics.js'
import { BrokerSubscriptions } from './broker-subscriptions.js'
import {
  BrokerInUseError,
  BrokerLinkClosedError,
  BrokerOverloadedError,
  BrokerPublishError,
  BrokerReadError,
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

/** The maximum of reads at a time. */
const MAX_READS = 64

/**
 * Events of the link to the other processes. `topic` is an empty string for broadcasts, and for calls about users and
 * connections.
 */
export type BrokerEvent =
  /** The broker is connected to its engine, for the first time or again. */
  | { readonly type: 'up' }
  /** The broker is disconnected from its engine. Messages published meanwhile do not reach other processes. */
  | { readonly type: 'down'; readonly error?: Error | undefined }
  /** A message did not reach other processes; in a topic with history, it may not have reached any subscriber. */
  | { readonly type: 'lost'; readonly topic: string; readonly error: Error }
  /** Messages from other processes do not arrive. The server retries the subscription. */
  | { readonly type: 'unsubscribed'; readonly topic: string; readonly error: Error }
  /** The engine delivered something that no process of this application published. It was dropped. */
  | { readonly type: 'invalid'; readonly topic: string }

/**
 * The kinds of data on a channel. Each topic has a channel per kind; broadcasts and requests have one channel, for the empty
 * topic, and replies have one for each process.
 */
export type ChannelKind = 'message' | 'presence' | 'broadcast' | 'history' | 'request' | 'reply'

export interface BrokerLinkOptions {
  /** The server of the link, for the diagnostics channels. */
  readonly server: object
  /** Called with each publication of another process. */
  readonly onPublication: (kind: ChannelKind, topic: string, publication: RemotePublication) => void
  /** Called with each message of a topic with history, those of this process included. */
  readonly onAppended: (topic: string, message: Uint8Array, position: Position) => void
  /** Called when messages arrive again, after they did not for a time. */
  readonly onRestored: (kind: ChannelKind | undefined, topic: string) => void
  readonly onEvent: (event: BrokerEvent) => void
}

/** The brokers that a server uses. A second server would take over the events of the first. */
const brokersInUse = new WeakSet<Broker>()

/** The link of a server to the servers in other processes, through a broker. */
export class BrokerLink<Engine extends Broker = Broker> implements BrokerEvents {
  /** The id of this server. */
  readonly origin: string = randomBytes(16).toString('hex')
  readonly #broker: Engine
  readonly #options: BrokerLinkOptions
  readonly #subscriptions: BrokerSubscriptions
  #lost = 0
  #pendingBytes = 0
  #isOpen = false
  #isUp = false
  /** The number of times that the engine was connected. */
  #ups = 0
  /** Called when the engine is connected, or the link is closed. */
  #waiting: (() => void)[] = []
  #reads = 0
  /** Reads that wait for others to end. */
  readonly #pendingReads: (() => void)[] = []

  constructor(broker: Engine, options: BrokerLinkOptions) {
    this.#broker = broker
    this.#options = options
    this.#subscriptions = new BrokerSubscriptions(
      broker,
      (channel, error) => {
        const { kind, topic: name } = parseChannel(channel)
        const topic = kind === 'reply' ? '' : name
        options.onEvent({ type: 'unsubscribed', topic, error: new BrokerSubscribeError(reasonOf(error)) })
      },
      channel => {
        const { kind, topic } = parseChannel(channel)
        options.onRestored(kind, topic)
      }
    )
  }

  /** The number of messages that did not reach other processes. */
  get lost(): number {
    return this.#lost
  }

  /** Bytes of publications that the engine has not accepted yet, with what they cost besides. */
  get pendingBytes(): number {
    return this.#pendingBytes
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
  async publish(kind: ChannelKind, topic: string, publication: Publication): Promise<undefined> {
    this.#checkPending(kind, topic)
    const bytes = encodePublication(this.origin, publication)
    const cost = bytes.length + MESSAGE_COST
    const startedAt = performance.now()
    let failure: Error | undefined
    this.#pendingBytes += cost
    try {
      await this.#broker.publish(channelOf(kind, topic), bytes)
    } catch (error) {
      failure = withCause(new BrokerPublishError(reasonOf(error)), error)
      throw this.#lose(kind, topic, failure)
    } finally {
      this.#pendingBytes -= cost
      this.#reportPublished(kind, topic, startedAt, failure)
    }
  }

  /** Resolves with the position of the publication. Rejects as {@link publish} does; the publication may still arrive. */
  async append(
    this: BrokerLink<HistoryBroker>,
    topic: string,
    publication: Publication,
    sender: number,
    options: AppendOptions
  ): Promise<Position> {
    this.#checkPending('history', topic)
    const bytes = encodePublication(this.origin, publication, sender)
    const cost = bytes.length + MESSAGE_COST
    const startedAt = performance.now()
    let position: Position
    let failure: Error | undefined
    this.#pendingBytes += cost
    try {
      position = await this.#broker.append(channelOf('history', topic), bytes, options)
    } catch (error) {
      failure = withCause(new BrokerPublishError(reasonOf(error)), error)
      throw this.#lose('history', topic, failure)
    } finally {
      this.#pendingBytes -= cost
      this.#reportPublished('history', topic, startedAt, failure)
    }
    return position
  }

  #reportPublished(kind: ChannelKind, topic: string, startedAt: number, error: Error | undefined): void {
    if (!brokerPublished.hasSubscribers) return
    const { server } = this.#options
    brokerPublished.publish({ server, kind, topic, duration: performance.now() - startedAt, error })
  }

  /** Few reads at a time, as each brings many messages. */
  async read(this: BrokerLink<HistoryBroker>, topic: string, options: ReadOptions): Promise<HistoryPage> {
    while (this.#reads >= MAX_READS) await new Promise<void>(resolve => this.#pendingReads.push(resolve))
    if (!this.#isOpen) throw new BrokerLinkClosedError()
    let page: HistoryPage
    this.#reads++
    try {
      page = await this.#broker.read(channelOf('history', topic), options)
    } catch (error) {
      throw withCause(new BrokerReadError(reasonOf(error)), error)
    } finally {
      this.#reads--
      this.#pendingReads.shift()?.()
    }
    return page
  }

  async remove(this: BrokerLink<HistoryBroker>, topic: string): Promise<void> {
    try {
      await this.#broker.remove(channelOf('history', topic))
    } catch (error) {
      throw withCause(new BrokerReadError(reasonOf(error)), error)
    }
  }

  /**
   * Makes a call, and again after each outage that interrupts it.
   * @throws the error of a call that the connected engine refuses, and `FST_UPGRADE_BROKER_CLOSED`.
   */
  async persist<T>(call: () => Promise<T>): Promise<T> {
    for (;;) {
      const ups = this.#ups
      try {
        return await call()
      } catch (error) {
        // A client may reject its calls before it reports that the connection was lost.
        await turn()
        if (this.#isUp && this.#ups === ups) throw error
        if (this.#isOpen && !this.#isUp) await new Promise<void>(resolve => this.#waiting.push(resolve))
        if (!this.#isOpen) throw new BrokerLinkClosedError()
      }
    }
  }

  #checkPending(kind: ChannelKind, topic: string): void {
    if (!this.#isOpen) throw new BrokerLinkClosedError()
    if (this.#pendingBytes > MAX_PENDING)
      throw this.#lose(kind, topic, new BrokerOverloadedError(MAX_PENDING))
  }

  #lose(kind: ChannelKind, topic: string, error: Error): Error {
    // Presence is sent again at the next interval, and the results of calls say that they are not complete.
    if (kind === 'presence' || kind === 'request' || kind === 'reply') return error
    this.reportLost(topic, error)
    return error
  }

  /** Counts a message that does not reach other processes. */
  reportLost(topic: string, error: Error): void {
    this.#lost++
    this.#options.onEvent({ type: 'lost', topic, error })
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#isUp = false
    this.#wake()
    this.#subscriptions.close()
    await this.#broker.close()
  }

  // Events of the broker.

  onMessage(channel: string, message: Uint8Array, position?: Position): void {
    if (!this.#isOpen) return
    const { kind, topic } = parseChannel(channel)
    if (kind === 'history' && position !== undefined) {
      this.#options.onAppended(topic, message, position)
      return
    }
    const publication = decodePublication(message)
    if (kind === undefined || kind === 'history' || publication === undefined)
      this.#options.onEvent({ type: 'invalid', topic: kind === 'reply' ? '' : topic })
    // Publications of this server were delivered to its subscribers at once.
    else if (publication.origin !== this.origin) this.#options.onPublication(kind, topic, publication)
  }

  onUp(): void {
    if (!this.#isOpen) return
    this.#isUp = true
    this.#ups++
    this.#wake()
    this.#subscriptions.retry()
    this.#options.onEvent({ type: 'up' })
  }

  onUnsubscribed(channel: string, error: Error): void {
    this.#subscriptions.onEnd(channel, error)
  }

  onDown(error?: Error): void {
    if (!this.#isOpen) return
    this.#isUp = false
    this.#options.onEvent({ type: 'down', error })
  }

  #wake(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const resolve of waiting) resolve()
  }
}

/** The prefixes of channels. A topic may be any string, so they keep the channels of different kinds apart. */
const PREFIX: Readonly<Record<ChannelKind, string>> = {
  message: 'm:',
  presence: 'p:',
  broadcast: 'b:',
  history: 'h:',
  request: 'q:',
  reply: 'r:'
}

const KINDS = ['message', 'presence', 'broadcast', 'history', 'request', 'reply'] as const

function channelOf(kind: ChannelKind, topic: string): string {
  return PREFIX[kind] + topic
}

function parseChannel(channel: string): { readonly kind: ChannelKind | undefined; readonly topic: string } {
  const topic = channel.slice(2)
  for (const kind of KINDS) if (channel.startsWith(PREFIX[kind])) return { kind, topic }
  return { kind: undefined, topic }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function withCause(error: Error, cause: unknown): Error {
  error.cause = cause
  return error
}
