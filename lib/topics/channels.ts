import type { Broker } from '../brokers/broker.js'

/** Milliseconds after which a subscription that failed is tried again. */
const RETRY = 1000

/** One channel of a broker: what is wanted of it, and what is. */
class Channel {
  isWanted = false
  isSubscribed = false
  /** Whether it was told that it cannot be subscribed to. */
  hasFailed = false
  /** Settles with the step that is under way. */
  step: Promise<void> | undefined
}

/**
 * Keeps the subscriptions of a broker in step with what is wanted, one step at a time for each channel, however often that
 * changes meanwhile. What fails is tried again.
 */
export class Channels {
  readonly #broker: Broker
  readonly #onError: (channel: string, error: unknown) => void
  readonly #channels = new Map<string, Channel>()
  #retry: NodeJS.Timeout | undefined
  #isClosed = false

  /** @param onError told once when a channel cannot be subscribed to, until it can. */
  constructor(broker: Broker, onError: (channel: string, error: unknown) => void) {
    this.#broker = broker
    this.#onError = onError
  }

  /** Resolves when messages of the channel arrive; rejects when the first attempt fails. */
  want(name: string): Promise<void> {
    let channel = this.#channels.get(name)
    if (channel === undefined) {
      channel = new Channel()
      this.#channels.set(name, channel)
    }
    channel.isWanted = true
    return this.#settle(name, channel)
  }

  /** Messages of the channel are of no use any more. */
  drop(name: string): void {
    const channel = this.#channels.get(name)
    if (channel === undefined) return
    channel.isWanted = false
    this.#settle(name, channel).catch(() => {})
  }

  /** A channel is subscribed to no longer. */
  lose(name: string, error: unknown): void {
    const channel = this.#channels.get(name)
    if (channel?.isSubscribed !== true || this.#isClosed) return
    channel.isSubscribed = false
    if (channel.isWanted) this.#fail(name, channel, error)
  }

  /** Tries again what has failed. */
  retry(): void {
    for (const [name, channel] of this.#channels) this.#settle(name, channel).catch(() => {})
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#retry)
  }

  async #settle(name: string, channel: Channel): Promise<void> {
    while (!this.#isClosed) {
      if (channel.step === undefined && channel.isWanted === channel.isSubscribed) break
      channel.step ??= this.#step(name, channel)
      await channel.step
    }
    if (!channel.isWanted && this.#channels.get(name) === channel) this.#channels.delete(name)
  }

  async #step(name: string, channel: Channel): Promise<void> {
    const { isWanted } = channel
    try {
      if (isWanted) await this.#broker.subscribe(name)
      else await this.#broker.unsubscribe(name)
      channel.isSubscribed = isWanted
      channel.hasFailed = false
    } catch (error) {
      this.#fail(name, channel, error)
      throw error
    } finally {
      channel.step = undefined
    }
  }

  #fail(name: string, channel: Channel, error: unknown): void {
    if (!channel.isSubscribed && !channel.hasFailed) this.#onError(name, error)
    channel.hasFailed = true
    if (!this.#isClosed) this.#retry ??= setTimeout(() => this.#onRetry(), RETRY).unref()
  }

  #onRetry(): void {
    this.#retry = undefined
    this.retry()
  }
}
