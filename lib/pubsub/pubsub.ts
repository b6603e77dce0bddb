import type { Broker } from './broker.js'
import { type BrokerEvent, Bus, type ChannelKind } from './bus.js'
import type { Envelope } from './envelope.js'
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
}

/** Delivers messages to the subscribers of a topic: those of this process at once, those of others through a broker. */
export class PubSub<Message extends Publication, Member extends Subscriber<Message>> {
  readonly #topics = new Topics<Member>()
  readonly #prepare: PubSubOptions<Message>['prepare']
  readonly #bus: Bus | undefined

  constructor({ broker, prepare, onEvent }: PubSubOptions<Message>) {
    this.#prepare = prepare
    this.#bus = broker && new Bus(broker, { onEvent, onEnvelope: (...args) => this.#onEnvelope(...args) })
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
    checkTopic(topic)
    this.#deliver(topic, message, except)
    return handled(this.#bus?.publish('message', topic, message.payload, message))
  }

  async close(): Promise<void> {
    await this.#bus?.close()
  }

  #deliver(topic: string, message: Message, except?: Member): void {
    for (const member of this.#topics.membersOf(topic)) if (member !== except) member.send(message)
  }

  #onEnvelope(kind: ChannelKind, topic: string, { payload, isBinary, compress }: Envelope): void {
    if (kind === 'message') this.#deliver(topic, this.#prepare(payload, { binary: isBinary, compress }))
  }
}

const DONE = Promise.resolve()

/** Who does not wait for the promise is told by events of what went wrong; it must not end the process. */
function handled(promise: Promise<void> | undefined): Promise<void> {
  promise?.catch(() => {})
  return promise ?? DONE
}
