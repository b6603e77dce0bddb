import type { RateLimit } from '../options/table.js'
import type { Connection } from '../protocol/connection.js'
import { CONTROL_FLOOD, MESSAGE_TIMEOUT, OVERLOADED } from '../protocol/violation.js'
import { BudgetShare, type BufferBudget } from './buffer-budget.js'
import { MessageDeadline } from './message-deadline.js'
import { type RateLimited, RateLimiter } from './rate-limiter.js'
import { TokenBucket } from './token-bucket.js'

/** What a peer may do; nothing is limited that is not given. RFC 6455 section 10.4. */
export interface PeerLimitSettings {
  /** Milliseconds from the first byte of a message to its last. */
  readonly messageTimeout?: number | false
  /** Control frames a second. */
  readonly maxControlFrames?: number | false
  readonly rateLimit?: RateLimit | false
  /** Shared with other connections. */
  readonly budget?: BufferBudget | undefined
}

export interface Limited extends RateLimited {
  readonly connection: Connection
}

/** Keeps a peer to its limits. */
export class PeerLimits {
  /** Messages that have come. */
  messages = 0
  readonly #limited: Limited
  readonly #settings: PeerLimitSettings
  /** Made when they are needed: most peers send each message in one piece. */
  #messageDeadline: MessageDeadline | undefined
  readonly #rate: RateLimiter | undefined
  #controlFrames: TokenBucket | undefined
  #share: BudgetShare | undefined

  constructor(limited: Limited, settings: PeerLimitSettings) {
    this.#limited = limited
    this.#settings = settings
    const { rateLimit } = settings
    this.#rate = rateLimit ? new RateLimiter(rateLimit, limited) : undefined
  }

  /** @returns whether bytes that came may be looked at. */
  admitBytes(count: number): boolean {
    return this.#rate === undefined || this.#rate.onBytes(count)
  }

  /** @returns whether a message that came may be told. */
  admitMessage(): boolean {
    this.messages++
    return this.#rate === undefined || this.#rate.onMessage()
  }

  /** @returns whether a control frame that came may be told. */
  admitControl(): boolean {
    const { maxControlFrames } = this.#settings
    if (!maxControlFrames) return true
    const now = performance.now()
    this.#controlFrames ??= new TokenBucket(maxControlFrames, now)
    if (this.#controlFrames.take(1, now)) return true
    this.#limited.onLimit(CONTROL_FLOOD)
    return false
  }

  /**
   * Looks after a message that has not come to its end.
   * @param isReading what waits because nobody reads is not the peer's fault.
   */
  watch(isReading: boolean): void {
    const { isUnfinished, heldBytes } = this.#limited.connection
    const { messageTimeout, budget } = this.#settings
    if (isUnfinished && messageTimeout) this.#messageDeadline ??= this.#newDeadline(messageTimeout)
    this.#messageDeadline?.update(isUnfinished && isReading, this.messages)
    this.#share = BudgetShare.of(this.#share, budget, heldBytes)
    if (this.#share?.hold(heldBytes) === true) this.#limited.onLimit(OVERLOADED)
  }

  #newDeadline(timeout: number): MessageDeadline {
    return new MessageDeadline(timeout, () => this.#limited.onLimit(MESSAGE_TIMEOUT))
  }

  /** There is another deadline now. */
  stop(): void {
    this.#messageDeadline?.clear()
  }

  /** The connection is gone. */
  close(): void {
    this.stop()
    this.#rate?.stop()
    this.#share?.hold(0)
  }
}
