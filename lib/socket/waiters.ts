interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

/** Those who wait for the same thing to happen. */
export class Waiters {
  #waiting: Waiter[] = []

  /** Settles when `resolve` or `reject` is called next. */
  wait(): Promise<void> {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  resolve(): void {
    for (const { resolve } of this.#take()) resolve()
  }

  /** @param makeError called if anybody waits. */
  reject(makeError: () => Error): void {
    if (this.#waiting.length === 0) return
    const error = makeError()
    for (const { reject } of this.#take()) reject(error)
  }

  #take(): Waiter[] {
    const waiting = this.#waiting
    this.#waiting = []
    return waiting
  }
}
