/** Taken once, so that tests which fake timers do not stop sending and reading. */
export const { setImmediate } = globalThis

/** An object with a deadline. It is called once when the deadline has passed. */
export interface Waiting {
  onDeadline(): void
}

/** The longest delay that Node's timers know; they take a longer one for 1. */
const MAX_DELAY = 2 ** 31 - 1

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
    // Whole numbers take no memory of their own.
    this.#due.set(waiting, Math.ceil(performance.now()) + this.#delay)
    this.#timer ??= this.#wait(this.#delay)
  }

  clear(waiting: Waiting): void {
    this.#due.delete(waiting)
    if (this.#due.size > 0) return
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /**
   * The timer does not keep the process alive; the sockets do. When the process was busy past the deadline, data that
   * arrived meanwhile is read first, so that a peer that answered in time is not cut.
   */
  #wait(milliseconds: number): NodeJS.Timeout {
    const onTimeout = (): void => void setImmediate(() => this.#expire(timer))
    const timer = setTimeout(onTimeout, Math.min(milliseconds, MAX_DELAY)).unref()
    return timer
  }

  #expire(timer: NodeJS.Timeout): void {
    if (this.#timer !== timer) return
    const now = performance.now()
    for (const [waiting, due] of this.#due) {
      // Node's timers may fire up to a millisecond early.
      if (due > now + 1) {
        // The call may have set a new deadline, and a timer with it.
        clearTimeout(this.#timer)
        this.#timer = this.#wait(due - now)
        return
      }
      this.#due.delete(waiting)
      waiting.onDeadline()
    }
    this.#timer = undefined
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
