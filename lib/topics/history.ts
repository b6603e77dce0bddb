import type { HistoryBroker, HistoryLimits, Position, StoredMessage } from '../brokers/broker.js'
import type { BrokerLink } from './broker-link.js'
import { InvalidHistoryError } from './error.js'
import { HistoryEntry, type TopicPublication } from './history-entry.js'
import {
  HistoryTopic,
  type HistoryTopicContext,
  type Since,
  type Subscription,
  type SubscriptionOptions
} from './history-topic.js'
import { decodePublication, type Publication } from './publication.js'

/** The limits of the history of a topic, or of all topics. Undefined for a topic without history. */
export type HistoryOption = HistoryLimits | ((topic: string) => HistoryLimits | undefined)

/** The publications that {@link History.read} returns. */
export interface HistoryRange {
  /** Only publications after this position; with `reverse` those before it. Default: the first, or the last. */
  readonly since?: Position | undefined
  /** The maximum of publications, 0 to 10,000. Default: 100. */
  readonly limit?: number | undefined
  /** Whether to start with the newest publication. Default: false. */
  readonly reverse?: boolean | undefined
}

/** A part of the history of a topic. */
export interface HistoryResult {
  readonly publications: readonly TopicPublication[]
  /** The position of the last publication of the topic. */
  readonly position: Position
  /** Whether nothing is missing between `since` and the publications. */
  readonly recovered: boolean
}

const MAX_LIMIT = 10_000

/** The topics with history of a server. */
export class History<Message extends Publication, To extends object & { send(message: Message): unknown }> {
  readonly #option: HistoryOption
  readonly #context: HistoryTopicContext<Message>
  readonly #link: BrokerLink<HistoryBroker>
  /** The topics with subscribers in this process. */
  readonly #topics = new Map<string, HistoryTopic<Message, To>>()
  /** The numbers of the receivers that have published to other receivers. */
  readonly #numbers = new WeakMap<To, number>()
  #lastNumber = 0

  constructor(option: HistoryOption, context: HistoryTopicContext<Message>) {
    this.#option = option
    this.#context = context
    this.#link = context.link
  }

  /** @returns undefined for a topic without history. */
  limitsOf(topic: string): HistoryLimits | undefined {
    return typeof this.#option === 'function' ? this.#option(topic) : this.#option
  }

  async subscribe(
    topic: string,
    receiver: To,
    options: SubscriptionOptions<Message>,
    since: Since | undefined
  ): Promise<Subscription> {
    let subscribers = this.#topics.get(topic)
    if (subscribers === undefined) {
      subscribers = new HistoryTopic(topic, this.#context)
      this.#topics.set(topic, subscribers)
    }
    try {
      return await subscribers.subscribe(receiver, options, since)
    } finally {
      this.#release(topic, subscribers)
    }
  }

  unsubscribe(topic: string, receiver: To): void {
    const subscribers = this.#topics.get(topic)
    if (subscribers?.unsubscribe(receiver, this.#numbers.get(receiver)) === true)
      this.#release(topic, subscribers)
  }

  subscriberCount(topic: string): number {
    return this.#topics.get(topic)?.size ?? 0
  }

  /** The topics with subscribers in this process. */
  topics(): Iterable<string> {
    return this.#topics.keys()
  }

  /** The offset of the last publication that was delivered; undefined without subscribers, and before it is known. */
  offsetOf(topic: string): number | undefined {
    return this.#topics.get(topic)?.position?.offset
  }

  /** Publications that wait for earlier ones, of all topics. */
  get undelivered(): number {
    let undelivered = 0
    for (const topic of this.#topics.values()) undelivered += topic.undelivered
    return undelivered
  }

  publish(
    topic: string,
    message: Message,
    limits: HistoryLimits,
    { except, id }: { readonly except: To | undefined; readonly id: string | undefined }
  ): Promise<Position> {
    const sender = except === undefined ? 0 : this.#numberOf(topic, except)
    const { size, ttl } = limits
    return this.#link.append(topic, message, sender, { size, ttl, id })
  }

  /** @throws {TypeError} `FST_UPGRADE_INVALID_HISTORY` */
  async read(topic: string, { since, limit = 100, reverse = false }: HistoryRange): Promise<HistoryResult> {
    if (!Number.isInteger(limit) || limit < 0 || limit > MAX_LIMIT) {
      throw new InvalidHistoryError('"limit"', `an integer from 0 to ${MAX_LIMIT}`)
    }
    if (since !== undefined && !isPosition(since)) throw new InvalidHistoryError('"since"', POSITION)
    const { messages, position } = await this.#link.read(topic, { since: since?.offset, limit, reverse })
    const isSame = since === undefined || since.epoch === position.epoch
    if (!isSame || (since !== undefined && since.offset > position.offset)) {
      return { publications: [], position, recovered: false }
    }
    return {
      publications: messages.flatMap(message => this.#publicationOf(topic, message, position.epoch)),
      position,
      recovered: continues(messages, position, since?.offset, reverse)
    }
  }

  remove(topic: string): Promise<void> {
    return this.#link.remove(topic)
  }

  // Events of the link.

  onMessage(topic: string, message: Uint8Array, position: Position): void {
    this.#topics.get(topic)?.onMessage(message, position)
  }

  /** Messages of the topic arrive again. */
  onRestored(topic: string): void {
    this.#topics
      .get(topic)
      ?.read()
      .catch(() => {})
  }

  onUp(): void {
    for (const topic of this.#topics.keys()) this.onRestored(topic)
  }

  close(): void {
    for (const topic of this.#topics.values()) topic.close()
  }

  #release(topic: string, subscribers: HistoryTopic<Message, To>): void {
    if (subscribers.size > 0 || this.#topics.get(topic) !== subscribers) return
    this.#topics.delete(topic)
    subscribers.close()
    this.#link.unsubscribe('history', topic)
  }

  /** @returns 0 for a receiver that is not subscribed, which needs no number. */
  #numberOf(topic: string, receiver: To): number {
    let number = this.#numbers.get(receiver)
    if (number === undefined) {
      number = ++this.#lastNumber
      this.#numbers.set(receiver, number)
    }
    return this.#topics.get(topic)?.addSender(number, receiver) === true ? number : 0
  }

  /** Without the messages that no process of this application published. */
  #publicationOf(topic: string, { offset, message }: StoredMessage, epoch: string): TopicPublication[] {
    const remote = decodePublication(message)
    if (remote === undefined) return []
    return [new HistoryEntry<Message>(topic, { offset, epoch }, remote).toPublication()]
  }
}

/** Whether no message is missing between the offset and the first of the messages. */
function continues(
  messages: readonly StoredMessage[],
  position: Position,
  since: number | undefined,
  reverse: boolean
): boolean {
  if (since === undefined) return true
  const expected = reverse ? since - 1 : since + 1
  // Nothing is expected before the first offset or after the last.
  if (expected < 1 || expected > position.offset) return true
  return messages.length === 0 ? false : messages[0]?.offset === expected
}

const POSITION = 'a position: an "offset" from 0 to 2^53 - 1 and an "epoch" of at most 100 characters'

const MAX_EPOCH = 100

function isPosition(value: unknown): value is Position {
  const epoch: unknown = Reflect.get(Object(value), 'epoch')
  const offset: unknown = Reflect.get(Object(value), 'offset')
  return (
    Number.isSafeInteger(offset) &&
    Number(offset) >= 0 &&
    typeof epoch === 'string' &&
    epoch.length <= MAX_EPOCH
  )
}

/** @throws {TypeError} `FST_UPGRADE_INVALID_HISTORY` */
export function checkSince(since: unknown): void {
  if (since !== undefined && since !== 'last' && !isPosition(since)) {
    throw new InvalidHistoryError('"since"', `'last' or ${POSITION}`)
  }
}
