import type { Broker } from '../brokers/broker.js'
import { type BrokerEvent, Bus, type BusEvents, type ChannelKind } from './bus.js'
import type { Envelope } from './envelope.js'
import type { Presence } from './presence.js'
import { type PresenceSettings, Presences } from './presences.js'
import { checkTopic } from './topic.js'
import { Topics } from './topics.js'

/** What is published: it is framed, and compressed, once for all that it is sent to. */
export interface Publication {
  readonly payload: string | Uint8Array
  readonly isBinary: boolean
  readonly compress: boolean
}

/** Whoever is subscribed. */
export interface Subscriber<Message> {
  send(message: Message): unknown
}

export interface PubSubOptions<Message> {
  /** None for one process alone. */
  readonly broker: Broker | undefined
  /** Makes a message of what another process published. */
  readonly prepare: (payload: Uint8Array, options: { binary: boolean; compress: boolean }) => Message
  readonly onEvent: (event: BrokerEvent) => void
  readonly presence: PresenceSettings
  /** Told what a listener throws or rejects with, and what a member throws that is sent a message. */
  readonly onError: (error: unknown) => void
}

/** Delivers messages to the subscribers of a topic: those of this process at once, those of others through a broker. */
export class PubSub<Message extends Publication, Member extends Subscriber<Message>> implements BusEvents {
  readonly #topics = new Topics<Member>()
  /** The receivers of broadcasts. */
  #everyone: ReadonlySet<Member> = new Set()
  readonly #prepare: PubSubOptions<Message>['prepare']
  readonly #bus: Bus | undefined
  readonly #presences: Presences
  readonly #onEvent: PubSubOptions<Message>['onEvent']
  readonly #onError: PubSubOptions<Message>['onError']

  constructor({ broker, prepare, onEvent, presence, onError }: PubSubOptions<Message>) {
    this.#prepare = prepare
    this.#onEvent = onEvent
    this.#onError = onError
    this.#bus = broker && new Bus(broker, this)
    this.#presences = new Presences(presence, this.#bus, onError)
  }

  /**
   * Called once, before anything else.
   * @throws {TypeError} `FST_UPGRADE_BROKER_IN_USE`
   */
  open(): void {
    this.#bus?.start()
  }

  /** Messages that did not get to other processes. */
  get lost(): number {
    return this.#bus?.lost ?? 0
  }

  /** Subscribers of this process. */
  subscriberCount(topic: string): number {
    return this.#topics.membersOf(topic).size
  }

  /**
   * The member gets what this process publishes from now on, and what others publish once the promise has resolved.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`
   */
  subscribe(topic: string, member: Member): Promise<void> {
    checkTopic(topic)
    this.#topics.add(topic, member)
    return handled(this.#bus?.subscribe('message', topic))
  }

  unsubscribe(topic: string, member: Member): void {
    if (this.#topics.delete(topic, member)) this.#bus?.unsubscribe('message', topic)
  }

  /**
   * Resolves when the engine of the broker has the message.
   * @param except who does not get it.
   * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC`
   */
  publish(topic: string, message: Message, except?: Member): Promise<void> {
    const members = this.#topics.membersOf(topic)
    // Who is subscribed to it has been checked.
    if (members.size === 0) checkTopic(topic)
    this.#deliver(members, message, except)
    return handled(this.#bus?.publish('message', topic, message.payload, message))
  }

  /** Delivers broadcasts, of this process and of others, to the members that this set has at the time. Called once. */
  receiveBroadcasts(everyone: ReadonlySet<Member>): void {
    this.#everyone = everyone
    void handled(this.#bus?.subscribe('broadcast', ''))
  }

  /**
   * Resolves when the engine of the broker has the message.
   * @param isLocal whether other processes do not get it.
   */
  broadcast(message: Message, isLocal: boolean): Promise<void> {
    this.#deliver(this.#everyone, message)
    return handled(isLocal ? undefined : this.#bus?.publish('broadcast', '', message.payload, message))
  }

  /**
   * Has everyone who watches the topic see a member.
   * @throws {TypeError} when `data` cannot become JSON.
   */
  join(topic: string, id: string, data: unknown): void {
    checkTopic(topic)
    this.#presences.join(topic, { id, data })
  }

  leave(topic: string, id: string): void {
    this.#presences.leave(topic, id)
  }

  /** @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC` */
  presence(topic: string): Presence {
    checkTopic(topic)
    return this.#presences.watch(topic)
  }

  async close(): Promise<void> {
    this.#presences.close()
    await this.#bus?.close()
  }

  /** @internal */
  onEvent(event: BrokerEvent): void {
    if (event.type === 'up') this.#presences.onUp()
    this.#onEvent(event)
  }

  /** An application may have put a `send` of its own on a member: what that throws keeps nobody from the message. */
  #deliver(members: ReadonlySet<Member>, message: Message, except?: Member): void {
    for (const member of members) {
      if (member === except) continue
      try {
        member.send(message)
      } catch (error) {
        this.#onError(error)
      }
    }
  }

  /** @internal */
  onEnvelope(kind: ChannelKind, topic: string, envelope: Envelope): void {
    const { payload, isBinary, compress } = envelope
    if (kind === 'presence') {
      this.#presences.onEnvelope(topic, envelope)
      return
    }
    const members = kind === 'broadcast' ? this.#everyone : this.#topics.membersOf(topic)
    if (members.size > 0) this.#deliver(members, this.#prepare(payload, { binary: isBinary, compress }))
  }
}

const DONE = Promise.resolve()

/** Who does not wait for the promise is told by events of what went wrong; it must not end the process. */
function handled(promise: Promise<void> | undefined): Promise<void> {
  promise?.catch(() => {})
  return promise ?? DONE
}
