/** What waits for a moment; told once when it has come. */
export interface Waiting {
  onDeadline(): void
}

/**
 * Deadlines that all lie the same time ahead. They expire in the order in which they were set, so one timer serves any
 * number of them: it waits for the first.
 */
export class Deadlines {
  readonly #delay: number
  readonly #due = new Map<Waiting, number>()
  #timer: NodeJS.Timeout | undefined

  /** @param delay milliseconds. */
  constructor(delay: number) {
    this.#delay = delay
  }

  get size(): number {
    return this.#due.size
  }

  /** Sets the deadline of `waiting`, anew if it had one. */
  set(waiting: Waiting): void {
    this.#due.delete(waiting)
    this.#due.set(waiting, performance.now() + this.#delay)
    this.#timer ??= this.#wait(this.#delay)
  }

  clear(waiting: Waiting): void {
    this.#due.delete(waiting)
    if (this.#due.size > 0) return
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /** The timer holds no process alive: what waits, a socket, does. */
  #wait(milliseconds: number): NodeJS.Timeout {
    return setTimeout(() => this.#expire(), milliseconds).unref()
  }

  #expire(): void {
    this.#timer = undefined
    const now = performance.now()
    for (const [waiting, due] of this.#due) {
      // Node's timers may fire up to a millisecond early.
      if (due > now + 1) {
        this.#timer = this.#wait(due - now)
        return
      }
      this.#due.delete(waiting)
      waiting.onDeadline()
    }
  }
}

const byDelay = new Map<number, Deadlines>()

/** The process's one list of deadlines `delay` milliseconds ahead. */
export function deadlinesAfter(delay: number): Deadlines {
  let deadlines = byDelay.get(delay)
  if (deadlines === undefined) {
    deadlines = new Deadlines(delay)
    byDelay.set(delay, deadlines)
  }
  return deadlines
}
