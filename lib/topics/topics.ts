import type { Broker } from '../brokers/broker.js'
import { type BrokerEvent, BrokerLink, type ChannelKind } from './broker-link.js'
import { InvalidTopicError } from './error.js'
import type { Presence } from './presence.js'
import { PresenceManager, type PresenceSettings } from './presence-manager.js'
import type { Publication, RemotePublication } from './publication.js'

/** A receiver of messages, such as a connection. */
export interface Subscriber<Message> {
  send(message: Message): unknown
}

export interface TopicsOptions<Message> {
  /** Undefined for a single process. */
  readonly broker: Broker | undefined
  /** Creates the message that subscribers get from a publication of another process. */
  readonly prepare: (payload: Uint8Array, options: { binary: boolean; compress: boolean }) => Message
  readonly onEvent: (event: BrokerEvent) => void
  readonly presence: PresenceSettings
  /** Called with errors of presence listeners and of subscribers' `send`. */
  readonly onError: (error: unknown) => void
}

/** Delivers messages to the subscribers of a topic: at once in this process, and through a broker in the others. */
export class Topics<Message extends Publication, Receiver extends Subscriber<Message>> {
  /** By topic. */
  readonly #subscribers = new Map<string, Set<Receiver>>()
  #broadcastReceivers: ReadonlySet<Receiver> = new Set()
  readonly #prepare: TopicsOptions<Message>['prepare']
  readonly #link: BrokerLink | undefined
  readonly #presence: PresenceManager
  readonly #onError: TopicsOptions<Message>['onError']

  constructor({ broker, prepare, onEvent, presence, onError }: TopicsOptions<Message>) {
    this.#prepare = prepare
    this.#onError = onError
    this.#link =
      broker &&
      new BrokerLink(broker, {
        onPublication: (...args) => this.#onPublication(...args),
        onEvent: event => {
          if (event.type === 'up') this.#presence.onUp()
          onEvent(event)
        }
      })
    this.#presence = new PresenceManager(presence, this.#link, onError)
  }

  /**
   * Called once, before all other methods.
   * @throws {TypeError} `FST_UPGRADE_BROKER_IN_USE`
   */
  open(): void {
    this.#link?.start()
  }

  async close(): Promise<void> {
    this.#presence.close()
    await this.#link?.close()
  }

  /** The number of messages that did not reach other processes. */
  get lost(): number {
    return this.#link?.lost ?? 0
  }

  /** The number of subscribers in this process. */
  subscriberCount(topic: string): number {
    return this.#subscribersOf(topic).size
  }

  /**
   * The receiver gets messages of this process from now on, and those of other processes once the promise has resolved.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`
   */
  subscribe(topic: string, receiver: Receiver): Promise<void> {
    checkTopic(topic)
    const subscribers = this.#subscribers.get(topic)
    if (subscribers === undefined) this.#subscribers.set(topic, new Set([receiver]))
    else subscribers.add(receiver)
    return handled(this.#link?.subscribe('message', topic))
  }

  unsubscribe(topic: string, receiver: Receiver): void {
    const subscribers = this.#subscribers.get(topic)
    if (subscribers?.delete(receiver) !== true || subscribers.size > 0) return
    this.#subscribers.delete(topic)
    this.#link?.unsubscribe('message', topic)
  }

  /**
   * Resolves once the engine of the broker has accepted the message.
   * @param except a subscriber that does not receive the message.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`
   */
  publish(topic: string, message: Message, except?: Receiver): Promise<void> {
    const subscribers = this.#subscribersOf(topic)
    // A topic with subscribers has been checked before.
    if (subscribers.size === 0) checkTopic(topic)
    this.#deliver(subscribers, message, except)
    return handled(this.#link?.publish('message', topic, message))
  }

  /** Delivers broadcasts of all processes to the receivers that are in the set at the time. Called once. */
  receiveBroadcasts(receivers: ReadonlySet<Receiver>): void {
    this.#broadcastReceivers = receivers
    void handled(this.#link?.subscribe('broadcast', ''))
  }

  /**
   * Resolves once the engine of the broker has accepted the message.
   * @param isLocal whether to leave out the other processes.
   */
  broadcast(message: Message, isLocal: boolean): Promise<void> {
    this.#deliver(this.#broadcastReceivers, message)
    return handled(isLocal ? undefined : this.#link?.publish('broadcast', '', message))
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

const DONE = Promise.resolve()

/** The event `broker` reports failures as well, so a promise that the application does not await must not end the process. */
function handled(promise: Promise<void> | undefined): Promise<void> {
  promise?.catch(() => {})
  return promise ?? DONE
}

/** The maximum size of a topic in bytes of UTF-8. */
const MAX_TOPIC_SIZE = 1024

/** @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC` */
export function checkTopic(topic: unknown): asserts topic is string {
  if (typeof topic !== 'string') throw new InvalidTopicError(`is of type ${typeof topic}`)
  const size = Buffer.byteLength(topic)
  if (size === 0 || size > MAX_TOPIC_SIZE) throw new InvalidTopicError(`has ${size} bytes`)
  // UTF-8 cannot encode half of a surrogate pair: other processes would see another topic.
  if (/\p{Surrogate}/u.test(topic)) throw new InvalidTopicError('contains half of a surrogate pair')
}
