/** How many a second are allowed. A second's worth may come at once, and the last of them may go into debt. */
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
