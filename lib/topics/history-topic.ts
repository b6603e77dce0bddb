import type { HistoryBroker, HistoryPage, Position, StoredMessage } from '../brokers/broker.js'
import { historyGap, historyRecovery } from '../diagnostics.js'
import type { BrokerEvent, BrokerLink } from './broker-link.js'
import { type Deliver, HistoryEntry, type Prepare } from './history-entry.js'
import { decodePublication, type Publication } from './publication.js'

/** Messages that a process reads at a time to fill a gap. */
const PAGE = 100

/** The maximum of bytes that wait while a gap is filled. The rest is read from the history. */
const MAX_QUEUE = 4 * 2 ** 20

/** The maximum of bytes that are kept for subscribers that recover at the same time. */
const MAX_RECENT = 8 * 2 ** 20

/** Bytes that a message counts besides its own. */
const MESSAGE_COST = 256

/** Milliseconds after which a refused read is retried. */
const RETRY_DELAY = 1000

/** The outcome of a subscription. */
export interface Subscription {
  /** Whether the missed messages were delivered, all of them. False without `since`. */
  readonly recovered: boolean
  /**
   * The position of the last message before those that follow. Undefined in a topic without history, and when the
   * subscription has ended before it began.
   */
  readonly position: Position | undefined
}

/** How a receiver is subscribed. */
export interface SubscriptionOptions<Message> {
  readonly deliver: Deliver<Message> | undefined
  /** Called when messages were missed, which the history does not have. Those after the position follow. */
  readonly onLost: (position: Position) => void
}

/** Where recovery begins: after a position, or before the last message. */
export type Since = Position | 'last'

/** The parts that all topics of a server share. */
export interface HistoryTopicContext<Message> {
  /** The server of the topics, for the diagnostics channels. */
  readonly server: object
  readonly link: BrokerLink<HistoryBroker>
  readonly prepare: Prepare<Message>
  readonly maxRecovered: number
  readonly onEvent: (event: BrokerEvent) => void
  readonly onError: (error: unknown) => void
}

interface Receiver<Message> {
  send(message: Message): unknown
}

/** A receiver that recovers. */
interface Join<Message> {
  readonly options: SubscriptionOptions<Message>
  outcome: Promise<Subscription> | undefined
}

/** The progress of a receiver that recovers. */
interface Recovery<Message extends Publication> {
  readonly start: Position
  /** The offset up to which the missed messages are known. */
  reached: number
  readonly missed: (HistoryEntry<Message> | undefined)[]
}

interface Queued {
  readonly message: Uint8Array
  readonly position: Position
}

/** Before the first read. */
const UNKNOWN: Position = { offset: 0, epoch: '' }

export const WITHOUT_POSITION: Subscription = { recovered: false, position: undefined }

/**
 * The subscribers of a topic with history, in this process. They get each message in the order of the offsets. Messages that
 * the engine did not deliver are read from the history first.
 */
export class HistoryTopic<Message extends Publication, To extends Receiver<Message>> {
  readonly #topic: string
  readonly #context: HistoryTopicContext<Message>
  /** The receivers that have everything up to the position. */
  readonly #live = new Map<To, SubscriptionOptions<Message>>()
  /** The receivers that recover. */
  readonly #joins = new Map<To, Join<Message>>()
  /** Subscribed connections that do not receive their own messages, by number. */
  readonly #senders = new Map<number, To>()
  /** Of the last message that was delivered. */
  #position: Position = UNKNOWN
  /** Messages that cannot be delivered yet. */
  readonly #queue: Queued[] = []
  #queueBytes = 0
  /** Of the last message that the engine has delivered. */
  #latest: Position = UNKNOWN
  /** Messages that were read from the history since the gap began, and whether some of them were lost. */
  #gap = { publications: 0, isLost: false }
  /** While receivers recover, the messages of this epoch that were delivered or read, by offset. */
  readonly #recent = new Map<number, HistoryEntry<Message> | undefined>()
  #recentBytes = 0
  /** The highest offset of this epoch that the history is known to have lost. */
  #gone = 0
  /** The read of a receiver that recovers. The others wait for it, as it may have their messages too. */
  #lookup: Promise<Position | undefined> | undefined
  /** Whether `send` of a receiver is running, which may publish. */
  #isDelivering = false
  #reading: Promise<void> | undefined
  /** Whether the history has to be read once more. */
  #mustRead = false
  #retry: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(topic: string, context: HistoryTopicContext<Message>) {
    this.#topic = topic
    this.#context = context
  }

  get size(): number {
    return this.#live.size + this.#joins.size
  }

  /** Of the last message that was delivered; undefined before it is known. */
  get position(): Position | undefined {
    return this.#position === UNKNOWN ? undefined : this.#position
  }

  /** Publications that the engine has delivered, and that wait for earlier ones. */
  get undelivered(): number {
    const { offset, epoch } = this.#latest
    if (epoch !== this.#position.epoch) return this.#queue.length
    return Math.max(offset - this.#position.offset, 0)
  }

  /**
   * Resolves when the receiver has the messages since then, and gets those that follow. Without `since`, it gets those that
   * follow from now on.
   */
  subscribe(
    receiver: To,
    options: SubscriptionOptions<Message>,
    since: Since | undefined
  ): Promise<Subscription> {
    if (since === undefined) {
      const join = this.#joins.get(receiver)
      if (join?.outcome !== undefined) return join.outcome
      this.#live.set(receiver, options)
      return this.#follow(receiver)
    }
    this.#live.delete(receiver)
    const join: Join<Message> = { options, outcome: undefined }
    this.#joins.set(receiver, join)
    join.outcome = this.#recover(receiver, join, since)
    return join.outcome
  }

  /**
   * @param number that of {@link addSender}, if the receiver has one.
   * @returns whether the receiver was subscribed.
   */
  unsubscribe(receiver: To, number = 0): boolean {
    this.#senders.delete(number)
    const wasJoining = this.#endJoin(receiver)
    return this.#live.delete(receiver) || wasJoining
  }

  /**
   * Messages with the number of this receiver are not delivered to it.
   * @returns false when it is not subscribed.
   */
  addSender(number: number, receiver: To): boolean {
    const isSubscribed = this.#live.has(receiver) || this.#joins.has(receiver)
    if (isSubscribed) this.#senders.set(number, receiver)
    return isSubscribed
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#retry)
  }

  /** The engine has delivered a message. */
  onMessage(message: Uint8Array, position: Position): void {
    this.#latest = position
    this.#queue.push({ message, position })
    this.#queueBytes += message.length + MESSAGE_COST
    if (this.#isIdle) this.#deliverQueue()
    else if (this.#queueBytes > MAX_QUEUE) {
      this.#clearQueue()
      this.#mustRead = true
    }
  }

  /** Whether messages can be delivered as they arrive. */
  get #isIdle(): boolean {
    const isReading = this.#reading !== undefined || this.#retry !== undefined
    return !isReading && !this.#isDelivering && this.#position !== UNKNOWN
  }

  /** Reads the messages that the engine did not deliver. Rejects when the engine refuses it; then it is retried. */
  read(): Promise<void> {
    this.#mustRead = true
    this.#reading ??= this.#readAll()
    return this.#reading
  }

  // ---- following the engine

  async #follow(receiver: To): Promise<Subscription> {
    await this.#start()
    return this.#live.has(receiver) ? { recovered: false, position: this.#position } : WITHOUT_POSITION
  }

  /** Resolves when messages arrive, and the position is known. */
  async #start(): Promise<void> {
    if (this.#position !== UNKNOWN) return
    const { link } = this.#context
    // After an outage, the subscribers may have left.
    await link.persist(async () => this.#isClosed || link.subscribe('history', this.#topic))
    await this.read()
  }

  async #readAll(): Promise<void> {
    clearTimeout(this.#retry)
    this.#retry = undefined
    try {
      while (this.#mustRead && !this.#isClosed) {
        this.#mustRead = false
        await this.#readPage()
      }
      this.#reportGap()
    } catch (error) {
      if (!this.#isClosed) this.#onRefusal(error)
      throw error
    } finally {
      this.#reading = undefined
    }
  }

  /** The history was read to its end. */
  #reportGap(): void {
    const { publications, isLost } = this.#gap
    if (publications === 0 && !isLost) return
    this.#gap = { publications: 0, isLost: false }
    if (!historyGap.hasSubscribers) return
    const { server } = this.#context
    historyGap.publish({ server, topic: this.#topic, filled: !isLost, publications })
  }

  #onRefusal(error: unknown): void {
    if (error instanceof Error) {
      this.#context.onEvent({ type: 'unsubscribed', topic: this.#topic, error })
    }
    this.#retry = setTimeout(() => void this.read().catch(() => {}), RETRY_DELAY).unref()
  }

  async #readPage(): Promise<void> {
    const { link } = this.#context
    const last = this.#position
    const options = last === UNKNOWN ? { limit: 0 } : { since: last.offset, limit: PAGE }
    const page = await link.persist(() => link.read(this.#topic, options))
    if (this.#isClosed) return
    if (last === UNKNOWN) this.#position = page.position
    else this.#deliverPage(last, page)
    // Deliver the queue only when nothing in front of it is missing.
    if (this.#position.offset < page.position.offset || !this.#takeQueue()) this.#mustRead = true
  }

  #deliverPage(last: Position, { messages, position }: HistoryPage): void {
    const { epoch } = position
    let isComplete = epoch === last.epoch && position.offset >= last.offset
    for (const { offset, message } of messages) {
      isComplete = isComplete && offset === this.#position.offset + 1
      if (!isComplete) break
      this.#gap.publications++
      this.#deliver(message, { offset, epoch })
    }
    // The history is another one, or does not reach back to the last message.
    if (!isComplete || (messages.length === 0 && position.offset > last.offset)) this.#lose(position)
  }

  #lose(position: Position): void {
    this.#gap.isLost = true
    this.#position = position
    this.#gone = 0
    this.#clearRecent()
    for (const { onLost } of [...this.#live.values()]) onLost(position)
  }

  /** Delivers the messages that follow the last one. */
  #deliverQueue(): void {
    if (!this.#takeQueue() || this.#mustRead) this.read().catch(() => {})
  }

  /** @returns false at a gap. The history is read next, and has the messages up to the one after the gap. */
  #takeQueue(): boolean {
    // Grows while messages are delivered.
    const queue = this.#queue
    for (let index = 0; index < queue.length; index++) {
      const { message, position } = queue[index]
      const { offset, epoch } = this.#position
      if (position.epoch === epoch && position.offset <= offset) continue
      if (position.epoch === epoch && position.offset === offset + 1) {
        this.#deliver(message, position)
        continue
      }
      this.#queueBytes = 0
      queue.splice(0, index + 1)
      for (const rest of queue) this.#queueBytes += rest.message.length + MESSAGE_COST
      return false
    }
    this.#clearQueue()
    return true
  }

  #clearQueue(): void {
    this.#queue.length = 0
    this.#queueBytes = 0
  }

  // ---- delivering

  #deliver(message: Uint8Array, position: Position): void {
    this.#position = position
    const entry = this.#entryOf({ offset: position.offset, message }, position.epoch)
    if (entry === undefined) return
    this.#isDelivering = true
    for (const [receiver, { deliver }] of this.#live) this.#send(receiver, entry, deliver)
    this.#isDelivering = false
  }

  #send(receiver: To, entry: HistoryEntry<Message>, deliver: Deliver<Message> | undefined): void {
    const { link, prepare, onError } = this.#context
    const { origin, sender } = entry.remote
    if (sender !== 0 && origin === link.origin && this.#senders.get(sender) === receiver) return
    const message = entry.messageFor(deliver, prepare, onError)
    if (message === undefined) return
    try {
      receiver.send(message)
    } catch (error) {
      onError(error)
    }
  }

  /** @returns undefined for a message that no process of this application published. */
  #entryOf({ offset, message }: StoredMessage, epoch: string): HistoryEntry<Message> | undefined {
    if (this.#recent.has(offset)) return this.#recent.get(offset)
    const remote = decodePublication(message)
    if (remote === undefined) this.#context.onEvent({ type: 'invalid', topic: this.#topic })
    const entry = remote && new HistoryEntry<Message>(this.#topic, { offset, epoch }, remote)
    if (this.#joins.size > 0) {
      this.#recentBytes += message.length + MESSAGE_COST
      if (this.#recentBytes > MAX_RECENT) this.#clearRecent()
      this.#recent.set(offset, entry)
    }
    return entry
  }

  #clearRecent(): void {
    this.#recent.clear()
    this.#recentBytes = 0
  }

  // ---- recovery

  async #recover(receiver: To, join: Join<Message>, since: Since): Promise<Subscription> {
    try {
      await this.#start()
      return await this.#catchUp(receiver, join, since)
    } catch (error) {
      // Another subscription may have replaced this one.
      if (this.#joins.get(receiver) !== join) return WITHOUT_POSITION
      this.#endJoin(receiver)
      throw error
    }
  }

  /**
   * Collects the missed messages until they reach those that the other receivers have, and delivers them then, in one turn:
   * no message comes in between. Messages that arrive while the history is read are among the recent ones.
   */
  async #catchUp(receiver: To, join: Join<Message>, since: Since): Promise<Subscription> {
    const start = since === 'last' ? beforeLast(this.#position) : since
    const recovery: Recovery<Message> = { start, reached: start.offset, missed: [] }
    while (this.#joins.get(receiver) === join) {
      const { offset, epoch } = this.#position
      if (epoch === start.epoch && offset >= start.offset) {
        if (offset - start.offset > this.#context.maxRecovered || start.offset < this.#gone) break
        for (; recovery.reached < offset && this.#recent.has(recovery.reached + 1); recovery.reached++)
          recovery.missed.push(this.#recent.get(recovery.reached + 1))
        if (recovery.reached >= offset) return this.#admit(receiver, join, recovery.missed)
      }
      if (this.#lookup === undefined) {
        if (!(await this.#lookUp(recovery))) break
        continue
      }
      const found = await this.#lookup
      if (found?.epoch === this.#position.epoch && found.epoch !== start.epoch) break
    }
    return this.#admit(receiver, join, undefined)
  }

  /** Reads missed messages. @returns false when they cannot be recovered. */
  async #lookUp(recovery: Recovery<Message>): Promise<boolean> {
    const reading = this.#readMissed(recovery)
    this.#lookup = reading.then(
      ({ position }) => position,
      () => undefined
    )
    return (await reading).isRecoverable
  }

  async #readMissed(recovery: Recovery<Message>): Promise<{ position: Position; isRecoverable: boolean }> {
    const { link, maxRecovered } = this.#context
    const options = { since: recovery.reached, limit: maxRecovered }
    try {
      const page = await link.persist(() => link.read(this.#topic, options))
      return { position: page.position, isRecoverable: await this.#takePage(recovery, page) }
    } finally {
      // The waiting receivers go on after this.
      this.#lookup = undefined
    }
  }

  async #takePage(recovery: Recovery<Message>, { messages, position }: HistoryPage): Promise<boolean> {
    const { start, missed } = recovery
    const isBehind = messages.length === 0 && position.offset < this.#position.offset
    if (isBehind || position.epoch !== this.#position.epoch) {
      // The history has changed. This process has to find out first.
      await this.read()
      return true
    }
    if (position.epoch !== start.epoch || position.offset < start.offset) return false
    // When one is missing, they do not reach the position.
    for (const message of messages) {
      missed.push(this.#entryOf(message, position.epoch))
      recovery.reached++
    }
    if (recovery.reached < position.offset) {
      this.#gone = Math.max(this.#gone, (messages[0]?.offset ?? position.offset + 1) - 1)
      return false
    }
    // The client may have been at a process that is ahead of this one.
    if (this.#position.offset < start.offset) await this.read()
    return true
  }

  /** @param missed undefined when not all missed messages can be delivered. */
  #admit(
    receiver: To,
    join: Join<Message>,
    missed: readonly (HistoryEntry<Message> | undefined)[] | undefined
  ): Subscription {
    if (this.#joins.get(receiver) !== join) return WITHOUT_POSITION
    const { options } = join
    this.#isDelivering = true
    for (const entry of missed ?? []) {
      // Later ones follow, as for all receivers.
      if (entry !== undefined && entry.offset <= this.#position.offset)
        this.#send(receiver, entry, options.deliver)
    }
    this.#isDelivering = false
    if (this.#joins.get(receiver) !== join) return WITHOUT_POSITION
    this.#live.set(receiver, options)
    this.#endJoin(receiver)
    const recovered = missed !== undefined
    if (historyRecovery.hasSubscribers) {
      const { server } = this.#context
      historyRecovery.publish({ server, topic: this.#topic, recovered, publications: missed?.length ?? 0 })
    }
    if (this.#isIdle) this.#deliverQueue()
    return { recovered, position: this.#position }
  }

  #endJoin(receiver: To): boolean {
    const wasJoining = this.#joins.delete(receiver)
    if (this.#joins.size === 0) this.#clearRecent()
    return wasJoining
  }
}

/** The position before the last message. */
function beforeLast({ offset, epoch }: Position): Position {
  return { offset: Math.max(offset - 1, 0), epoch }
}
