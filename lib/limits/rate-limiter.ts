import type { RateLimit } from '../options/table.js'
import { RATE_EXCEEDED, type Violation } from '../protocol/violation.js'
import { deadlinesAfter, type Waiting } from './deadline.js'
import { TokenBucket } from './token-bucket.js'

export interface RateLimited {
  /** The peer sent too much. */
  onLimit(violation: Violation): void
  /** Reading stops, or goes on. */
  setThrottled(isThrottled: boolean): void
}

/** Steps in which pauses are measured: few different ones, so that few timers serve all connections. */
const STEP = 50
const LONGEST = 1000

/** Keeps a peer to a number of messages and bytes a second. */
export class RateLimiter implements Waiting {
  readonly #limited: RateLimited
  readonly #closes: boolean
  readonly #messages: TokenBucket | undefined
  readonly #bytes: TokenBucket | undefined
  #pause: number | undefined

  constructor({ messages, bytes, policy }: RateLimit, limited: RateLimited) {
    const now = performance.now()
    this.#limited = limited
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
    else if (!has) this.#limited.onLimit(RATE_EXCEEDED)
    return has || !this.#closes
  }

  /** What was read counts although it was too much; nothing is read until that is made up for. */
  #throttle(now: number): void {
    const wait = Math.max(this.#messages?.wait(now) ?? 0, this.#bytes?.wait(now) ?? 0)
    this.stop()
    if (wait === 0) {
      this.#limited.setThrottled(false)
      return
    }
    this.#pause = Math.min(LONGEST, STEP * Math.ceil(wait / STEP))
    deadlinesAfter(this.#pause).set(this)
    this.#limited.setThrottled(true)
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
