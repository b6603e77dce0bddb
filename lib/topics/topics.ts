import type { Broker, HistoryBroker, Position } from '../brokers/broker.js'
import { hasMethods } from '../brokers/engine.js'
import { MemoryBroker, MemoryHub } from '../brokers/memory.js'
import { type BrokerEvent, BrokerLink, type BrokerLinkOptions, type ChannelKind } from './broker-link.js'
import { First } from './connections/first.js'
import { Processes } from './connections/processes.js'
import { BrokerWithoutHistoryError, InvalidHistoryError, InvalidTopicError, NoHistoryError } from './error.js'
import { checkSince, History, type HistoryOption, type HistoryRange, type HistoryResult } from './history.js'
import type { Prepare } from './history-entry.js'
import { type Since, type Subscription, type SubscriptionOptions, WITHOUT_POSITION } from './history-topic.js'
import type { Presence } from './presence.js'
import { PresenceManager } from './presence-manager.js'
import type { Publication, RemotePublication } from './publication.js'
import type { ReportSettings } from './report-timer.js'
import { problemOf } from './text.js'

/** A receiver of messages, such as a connection. */
export interface Subscriber<Message> {
  send(message: Message): unknown
}

export interface TopicsOptions<Message> {
  /** The server of the topics, for the diagnostics channels. */
  readonly server: object
  /** Undefined for a single process. */
  readonly broker: Broker | undefined
  /** Creates the message that subscribers get from a publication of another process. */
  readonly prepare: Prepare<Message>
  readonly onEvent: (event: BrokerEvent) => void
  /** How often processes report to each other. */
  readonly presence: ReportSettings
  /** Undefined when no topic has history. */
  readonly history: HistoryOption | undefined
  /** The maximum of publications that a subscriber recovers. */
  readonly maxRecovered: number
  /** Called with errors of presence listeners and of subscribers' `send`. */
  readonly onError: (error: unknown) => void
}

/** The messages that are on their way through the broker. */
export interface Backlog {
  /** Bytes of publications that the engine has not accepted yet. */
  readonly pendingBytes: number
  /** Publications of topics with history that wait for earlier ones. Undefined when no topic has history. */
  readonly undelivered: number | undefined
}

/** Topics as one process knows them. */
export interface TopicSummaries {
  readonly topics: readonly {
    readonly topic: string
    readonly subscribers: number
    /** Presence members of this process. */
    readonly members: number
    /** Of the last publication that was delivered. Undefined for a topic without history, and before it is known. */
    readonly offset: number | undefined
  }[]
  /** The number of topics with subscribers. */
  readonly total: number
}

/** Options of {@link Topics.subscribe}. */
export interface TopicSubscriptionOptions<Message> extends SubscriptionOptions<Message> {
  /** Undefined for the messages from now on. */
  readonly since: Since | undefined
}

/** Delivers messages to the subscribers of a topic: at once in this process, and through a broker in the others. */
export class Topics<Message extends Publication, Receiver extends Subscriber<Message>> {
  readonly #history: History<Message, Receiver> | undefined
  /** By topic. */
  readonly #subscribers = new Map<string, Set<Receiver>>()
  #broadcastReceivers: ReadonlySet<Receiver> = new Set()
  readonly #prepare: TopicsOptions<Message>['prepare']
  /** The link to other processes. */
  readonly #link: BrokerLink | undefined
  /** The link, or in a single process that of the topics with history. */
  readonly #openLink: BrokerLink | undefined
  readonly #presence: PresenceManager
  /** The other processes of the application; undefined without a broker. */
  readonly processes: Processes | undefined
  readonly #onError: TopicsOptions<Message>['onError']

  constructor(options: TopicsOptions<Message>) {
    const { server, broker, prepare, onEvent, presence, history, maxRecovered, onError } = options
    this.#prepare = prepare
    this.#onError = onError
    const events: BrokerLinkOptions = {
      server,
      onPublication: (...args) => this.#onPublication(...args),
      onAppended: (...args) => this.#history?.onMessage(...args),
      onRestored: (kind, topic) => {
        if (kind === 'request' || kind === 'reply') this.processes?.onRestored()
        else this.#history?.onRestored(topic)
      },
      onEvent: event => {
        if (event.type === 'up') {
          this.#presence.onUp()
          this.#history?.onUp()
          this.processes?.onUp()
        }
        if (event.type === 'down') this.processes?.onDown()
        // Without a broker of its own, the application gets no events of one.
        if (broker !== undefined) onEvent(event)
      }
    }
    if (history === undefined) {
      this.#link = broker && new BrokerLink(broker, events)
      this.#openLink = this.#link
    } else {
      const link = new BrokerLink(historyBroker(broker), events)
      this.#history = new History(history, { server, link, prepare, maxRecovered, onEvent, onError })
      // Without a broker, the link serves the topics with history only.
      this.#link = broker && link
      this.#openLink = link
    }
    this.#presence = new PresenceManager(presence, this.#link, onError)
    this.processes = this.#link && new Processes(this.#link, presence)
  }

  /**
   * Called once, before all other methods.
   * @throws {TypeError} `FST_UPGRADE_BROKER_IN_USE`
   */
  open(): void {
    this.#openLink?.start()
  }

  async close(): Promise<void> {
    this.#presence.close()
    this.#history?.close()
    await this.processes?.close()
    await this.#openLink?.close()
  }

  /** The number of messages that did not reach other processes. */
  get lost(): number {
    return this.#openLink?.lost ?? 0
  }

  /** The topics with the most subscribers in this process, at most `limit`. */
  summarize(limit: number): TopicSummaries {
    const first = new First<string>(limit, topic => -this.subscriberCount(topic))
    const histories = this.#history?.topics() ?? []
    // A topic has one kind of subscribers or the other, unless the application has changed its mind about its history.
    const names = new Set([...this.#subscribers.keys(), ...histories])
    for (const topic of names) first.add(topic)
    const topics = first.sorted().map(topic => ({
      topic,
      subscribers: this.subscriberCount(topic),
      members: this.#presence.ownCount(topic),
      offset: this.#history?.offsetOf(topic)
    }))
    return { topics, total: names.size }
  }

  /** Whether a topic has history. */
  hasHistory(topic: string): boolean {
    return this.#history?.limitsOf(topic) !== undefined
  }

  /** How far the engine of the broker, and the deliveries of this process, are behind. */
  get backlog(): Backlog {
    return { pendingBytes: this.#openLink?.pendingBytes ?? 0, undelivered: this.#history?.undelivered }
  }

  /** Whether there may be topics with history. */
  get haveHistory(): boolean {
    return this.#history !== undefined
  }

  /** The number of subscribers in this process. */
  subscriberCount(topic: string): number {
    return this.#subscribersOf(topic).size + (this.#history?.subscriberCount(topic) ?? 0)
  }

  /**
   * The receiver gets messages of this process from now on, and those of other processes once the promise has resolved. In a
   * topic with history it gets the messages since a position first.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`, `FST_UPGRADE_NO_HISTORY` or `FST_UPGRADE_INVALID_HISTORY`
   */
  subscribe(
    topic: string,
    receiver: Receiver,
    options: TopicSubscriptionOptions<Message> = FROM_NOW_ON
  ): Promise<Subscription> {
    checkTopic(topic)
    const { since } = options
    checkSince(since)
    if (this.#history?.limitsOf(topic) !== undefined) {
      return handled(this.#history.subscribe(topic, receiver, options, since))
    }
    if (since !== undefined) throw new NoHistoryError(topic, 'recovery')
    const subscribers = this.#subscribers.get(topic)
    if (subscribers === undefined) this.#subscribers.set(topic, new Set([receiver]))
    else subscribers.add(receiver)
    if (this.#link === undefined) return SUBSCRIBED
    return handled(this.#link.subscribe('message', topic).then(() => WITHOUT_POSITION))
  }

  unsubscribe(topic: string, receiver: Receiver): void {
    this.#history?.unsubscribe(topic, receiver)
    const subscribers = this.#subscribers.get(topic)
    if (subscribers?.delete(receiver) !== true || subscribers.size > 0) return
    this.#subscribers.delete(topic)
    this.#link?.unsubscribe('message', topic)
  }

  /**
   * Resolves once the engine of the broker has accepted the message, in a topic with history with its position.
   * @param except a subscriber that does not receive the message.
   * @param id in a topic with history, only the first message with this id is published.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`, `FST_UPGRADE_NO_HISTORY` or `FST_UPGRADE_INVALID_HISTORY`
   */
  publish(
    topic: string,
    message: Message,
    except?: Receiver | undefined,
    id?: string | undefined
  ): Promise<Position | undefined> {
    const subscribers = this.#subscribersOf(topic)
    // A topic with subscribers has been checked before.
    if (subscribers.size === 0) checkTopic(topic)
    if (this.#history !== undefined) {
      const limits = this.#history.limitsOf(topic)
      if (limits !== undefined) {
        checkId(id)
        return handled(this.#history.publish(topic, message, limits, { except, id }))
      }
    }
    if (id !== undefined) throw new NoHistoryError(topic, 'publishing with an id')
    this.#deliver(subscribers, message, except)
    return this.#link === undefined ? DONE : handled(this.#link.publish('message', topic, message))
  }

  /**
   * Reads the history of a topic.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`, `FST_UPGRADE_NO_HISTORY` or `FST_UPGRADE_INVALID_HISTORY`
   */
  readHistory(topic: string, range: HistoryRange): Promise<HistoryResult> {
    return this.#historyOf(topic).read(topic, range)
  }

  /**
   * Removes the publications from the history of a topic.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC` or `FST_UPGRADE_NO_HISTORY`
   */
  removeHistory(topic: string): Promise<void> {
    return this.#historyOf(topic).remove(topic)
  }

  #historyOf(topic: string): History<Message, Receiver> {
    checkTopic(topic)
    if (this.#history?.limitsOf(topic) === undefined) throw new NoHistoryError(topic, 'this')
    return this.#history
  }

  /** Delivers broadcasts of all processes to the receivers that are in the set at the time. Called once. */
  receiveBroadcasts(receivers: ReadonlySet<Receiver>): void {
    this.#broadcastReceivers = receivers
    this.#link?.subscribe('broadcast', '').catch(() => {})
  }

  /**
   * Resolves once the engine of the broker has accepted the message.
   * @param isLocal whether to leave out the other processes.
   */
  broadcast(message: Message, isLocal: boolean): Promise<void> {
    this.#deliver(this.#broadcastReceivers, message)
    return isLocal || this.#link === undefined ? DONE : handled(this.#link.publish('broadcast', '', message))
  }

  /**
   * Adds a presence member to the topic.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`, or when `data` cannot be converted to JSON.
   * @throws {RangeError} `FST_UPGRADE_PRESENCE_TOO_LONG`
   */
  join(topic: string, id: string, data: unknown): void {
    checkTopic(topic)
    this.#presence.join(topic, { id, data })
  }

  leave(topic: string, id: string): void {
    this.#presence.leave(topic, id)
  }

  /** @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC` */
  presence(topic: string): Presence {
    checkTopic(topic)
    return this.#presence.watch(topic)
  }

  #subscribersOf(topic: string): ReadonlySet<Receiver> {
    return this.#subscribers.get(topic) ?? NO_SUBSCRIBERS
  }

  #onPublication(kind: ChannelKind, topic: string, publication: RemotePublication): void {
    if (kind === 'presence') {
      this.#presence.onPublication(topic, publication)
      return
    }
    if (kind === 'request' || kind === 'reply') {
      this.processes?.onPublication(publication)
      return
    }
    const receivers = kind === 'broadcast' ? this.#broadcastReceivers : this.#subscribersOf(topic)
    if (receivers.size === 0) return
    const { payload, isBinary, compress } = publication
    this.#deliver(receivers, this.#prepare(payload, { binary: isBinary, compress }))
  }

  /** An application may have replaced the `send` of a receiver. If it throws, the others still receive the message. */
  #deliver(receivers: ReadonlySet<Receiver>, message: Message, except?: Receiver): void {
    for (const receiver of receivers) {
      if (receiver === except) continue
      try {
        receiver.send(message)
      } catch (error) {
        this.#onError(error)
      }
    }
  }
}

const NO_SUBSCRIBERS: ReadonlySet<never> = new Set<never>()

const DONE = Promise.resolve(undefined)
const SUBSCRIBED = Promise.resolve(WITHOUT_POSITION)

const FROM_NOW_ON: TopicSubscriptionOptions<never> = { since: undefined, deliver: undefined, onLost() {} }

/** The event `broker` reports failures as well, so a promise that the application does not await must not end the process. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

const HISTORY_METHODS = ['append', 'read', 'remove']

/** @throws {TypeError} `FST_UPGRADE_BROKER_WITHOUT_HISTORY` */
function historyBroker(broker: Broker | undefined): HistoryBroker {
  if (broker === undefined) return new MemoryBroker(new MemoryHub())
  if (!hasHistory(broker)) throw new BrokerWithoutHistoryError()
  return broker
}

function hasHistory(broker: Broker): broker is HistoryBroker {
  return hasMethods(broker, HISTORY_METHODS)
}

const MAX_ID_SIZE = 256

/** @throws {TypeError} `FST_UPGRADE_INVALID_HISTORY` */
function checkId(id: unknown): void {
  if (id === undefined) return
  if (typeof id !== 'string' || id === '' || Buffer.byteLength(id) > MAX_ID_SIZE)
    throw new InvalidHistoryError('"id"', `a string of 1 to ${MAX_ID_SIZE} bytes`)
}

/** The maximum size of a topic in bytes of UTF-8. */
const MAX_TOPIC_SIZE = 1024

/** @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC` */
export function checkTopic(topic: unknown): asserts topic is string {
  const problem = problemOf(topic, MAX_TOPIC_SIZE)
  if (problem !== undefined) throw new InvalidTopicError(problem)
}

/** Whether a value can be the name of a topic. */
export function isTopic(value: unknown): value is string {
  return problemOf(value, MAX_TOPIC_SIZE) === undefined
}
