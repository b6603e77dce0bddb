/** Bytes from which on what a connection holds counts: most hold less, and looking after them would cost more. */
export const COUNTED_FROM = 65_536

/**
 * What all connections together may hold in memory, of what waits to be sent and of messages that are not complete. A
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

  /** A part of the budget, for one holder. */
  share(): BudgetShare {
    return new BudgetShare(bytes => {
      this.#used += bytes
      return this.isExceeded
    })
  }
}

/** What one holder has of a budget. */
export class BudgetShare {
  readonly #change: (bytes: number) => boolean
  #held = 0

  constructor(change: (bytes: number) => boolean) {
    this.#change = change
  }

  /**
   * @param bytes what the holder holds now.
   * @returns whether it has grown past what all may hold.
   */
  hold(bytes: number): boolean {
    const counted = bytes < COUNTED_FROM ? 0 : bytes
    if (counted === this.#held) return false
    const growth = counted - this.#held
    this.#held = counted
    return this.#change(growth) && growth > 0
  }
}
