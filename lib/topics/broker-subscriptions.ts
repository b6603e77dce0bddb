import type { Broker } from '../brokers/broker.js'

/** Milliseconds after which failed calls are retried. */
const RETRY_DELAY = 1000

interface Subscription {
  isWanted: boolean
  isActive: boolean
  /** Whether an error was reported since the subscription was last active. */
  hasFailed: boolean
  /** The call of the broker that is under way. */
  call: Promise<void> | undefined
}

/**
 * The subscriptions of a server at its broker. It makes one call at a time for each channel until the subscription is as
 * wanted, and retries failed calls.
 */
export class BrokerSubscriptions {
  readonly #broker: Broker
  readonly #onError: (channel: string, error: unknown) => void
  readonly #onRestored: (channel: string) => void
  /** By channel. */
  readonly #subscriptions = new Map<string, Subscription>()
  #retryTimer: NodeJS.Timeout | undefined
  #isClosed = false

  /**
   * @param onError called when a subscription fails or ends, once until it is active again.
   * @param onRestored called when it is active again.
   */
  constructor(
    broker: Broker,
    onError: (channel: string, error: unknown) => void,
    onRestored: (channel: string) => void = () => {}
  ) {
    this.#broker = broker
    this.#onError = onError
    this.#onRestored = onRestored
  }

  /** Resolves when messages of the channel arrive. Rejects when the first attempt fails. */
  add(channel: string): Promise<void> {
    let subscription = this.#subscriptions.get(channel)
    if (subscription === undefined) {
      subscription = { isWanted: true, isActive: false, hasFailed: false, call: undefined }
      this.#subscriptions.set(channel, subscription)
    }
    subscription.isWanted = true
    return this.#update(channel, subscription)
  }

  remove(channel: string): void {
    const subscription = this.#subscriptions.get(channel)
    if (subscription === undefined) return
    subscription.isWanted = false
    this.#update(channel, subscription).catch(() => {})
  }

  /** The engine has ended a subscription. */
  onEnd(channel: string, error: unknown): void {
    const subscription = this.#subscriptions.get(channel)
    if (subscription?.isActive !== true || this.#isClosed) return
    subscription.isActive = false
    if (subscription.isWanted) this.#fail(channel, subscription, error)
  }

  /** Retries failed calls now. */
  retry(): void {
    for (const [channel, subscription] of this.#subscriptions)
      this.#update(channel, subscription).catch(() => {})
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#retryTimer)
  }

  async #update(channel: string, subscription: Subscription): Promise<void> {
    while (!this.#isClosed) {
      if (subscription.call === undefined && subscription.isWanted === subscription.isActive) break
      subscription.call ??= this.#call(channel, subscription)
      await subscription.call
    }
    if (!subscription.isWanted && this.#subscriptions.get(channel) === subscription)
      this.#subscriptions.delete(channel)
  }

  async #call(channel: string, subscription: Subscription): Promise<void> {
    const { isWanted } = subscription
    try {
      if (isWanted) await this.#broker.subscribe(channel)
      else await this.#broker.unsubscribe(channel)
      const isRestored = isWanted && subscription.hasFailed
      subscription.isActive = isWanted
      subscription.hasFailed = false
      if (isRestored) this.#onRestored(channel)
    } catch (error) {
      this.#fail(channel, subscription, error)
      throw error
    } finally {
      subscription.call = undefined
    }
  }

  #fail(channel: string, subscription: Subscription, error: unknown): void {
    if (!subscription.isActive && !subscription.hasFailed) this.#onError(channel, error)
    subscription.hasFailed = true
    if (!this.#isClosed) this.#retryTimer ??= setTimeout(() => this.#onRetryTimer(), RETRY_DELAY).unref()
  }

  #onRetryTimer(): void {
    this.#retryTimer = undefined
    this.retry()
  }
}
