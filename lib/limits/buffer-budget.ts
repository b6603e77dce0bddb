/** The bytes from which a connection counts: most hold less, and counting them would cost more than it saves. */
const COUNTED_FROM = 65_536

/**
 * The memory that all connections together may hold: pending output and unfinished messages. A
 * connection counts from {@link COUNTED_FROM} bytes on.
 */
export class BufferBudget {
  readonly limit: number
  #used = 0

  /** @param limit bytes. */
  constructor(limit: number) {
    this.limit = limit
  }

  get used(): number {
    return this.#used
  }

  get isExceeded(): boolean {
    return this.#used > this.limit
  }

  /** Adds bytes, or releases them if the number is negative. */
  take(bytes: number): void {
    this.#used += bytes
  }
}

/** The share of one holder in a budget. */
export class BudgetShare {
  readonly #budget: BufferBudget
  #held = 0

  constructor(budget: BufferBudget) {
    this.#budget = budget
  }

  /** The share of a holder of this number of bytes: created when they count, as most never do. */
  static of(
    share: BudgetShare | undefined,
    budget: BufferBudget | undefined,
    bytes: number
  ): BudgetShare | undefined {
    const counts = share === undefined && budget !== undefined && bytes >= COUNTED_FROM
    return counts ? new BudgetShare(budget) : share
  }

  /** Bytes that all may hold. */
  get limit(): number {
    return this.#budget.limit
  }

  /** Whether anything counts. */
  get isHeld(): boolean {
    return this.#held > 0
  }

  /**
   * @param bytes that the holder holds now.
   * @returns whether it has grown past what all may hold.
   */
  hold(bytes: number): boolean {
    const counted = bytes < COUNTED_FROM ? 0 : bytes
    if (counted === this.#held) return false
    const growth = counted - this.#held
    this.#held = counted
    this.#budget.take(growth)
    return growth > 0 && this.#budget.isExceeded
  }
}
