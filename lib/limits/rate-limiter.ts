import type { RateLimit } from '../options/table.js'
import { deadlinesAfter, type Waiting } from './deadline.js'

/** The allowed tokens per second. The tokens of one second may be taken together, and the last take may overdraw them. */
export class TokenBucket {
  readonly #rate: number
  #tokens: number
  /** Milliseconds since the process began. */
  #filledAt: number

  /** @param rate tokens a second. */
  constructor(rate: number, now: number) {
    this.#rate = rate
    this.#tokens = rate
    this.#filledAt = now
  }

  /** @returns false when there was none left. */
  take(count: number, now: number): boolean {
    this.#fill(now)
    const has = this.#tokens >= 1
    this.#tokens -= count
    return has
  }

  /** Milliseconds until there is a token. */
  wait(now: number): number {
    this.#fill(now)
    return this.#tokens >= 1 ? 0 : ((1 - this.#tokens) / this.#rate) * 1000
  }

  #fill(now: number): void {
    this.#tokens = Math.min(this.#rate, this.#tokens + ((now - this.#filledAt) / 1000) * this.#rate)
    this.#filledAt = now
  }
}

/** The steps in which pauses are measured. There are few of them, so that few timers serve all connections. */
const STEP = 50
const LONGEST = 1000

/** Keeps a peer to a number of messages and bytes a second. */
export class RateLimiter implements Waiting {
  readonly #onExceeded: () => void
  readonly #onThrottle: (isThrottled: boolean) => void
  readonly #closes: boolean
  readonly #messages: TokenBucket | undefined
  readonly #bytes: TokenBucket | undefined
  #pause: number | undefined

  /**
   * @param onExceeded called for a peer that sends too much, where the policy is to close.
   * @param onThrottle called to pause reading, and to resume it when the peer is within the limit again.
   */
  constructor(
    { messages, bytes, policy }: RateLimit,
    onExceeded: () => void,
    onThrottle: (isThrottled: boolean) => void
  ) {
    const now = performance.now()
    this.#onExceeded = onExceeded
    this.#onThrottle = onThrottle
    this.#closes = policy === 'close'
    this.#messages = messages === undefined ? undefined : new TokenBucket(messages, now)
    this.#bytes = bytes === undefined ? undefined : new TokenBucket(bytes, now)
  }

  /** @returns false when the message is too much. */
  onMessage(): boolean {
    return this.#messages === undefined || this.#take(this.#messages, 1)
  }

  /** @returns false when the bytes are too much. */
  onBytes(count: number): boolean {
    return this.#bytes === undefined || this.#take(this.#bytes, count)
  }

  #take(bucket: TokenBucket, count: number): boolean {
    const now = performance.now()
    const has = bucket.take(count, now)
    if (!this.#closes) this.#throttle(now)
    else if (!has) this.#onExceeded()
    return has || !this.#closes
  }

  /** Data that was read counts although it exceeds the limit; reading pauses until the peer is within the limit again. */
  #throttle(now: number): void {
    const wait = Math.max(this.#messages?.wait(now) ?? 0, this.#bytes?.wait(now) ?? 0)
    this.stop()
    if (wait === 0) {
      this.#onThrottle(false)
      return
    }
    this.#pause = Math.min(LONGEST, STEP * Math.ceil(wait / STEP))
    deadlinesAfter(this.#pause).set(this)
    this.#onThrottle(true)
  }

  onDeadline(): void {
    this.#pause = undefined
    this.#throttle(performance.now())
  }

  stop(): void {
    if (this.#pause !== undefined) deadlinesAfter(this.#pause).clear(this)
    this.#pause = undefined
  }
}
