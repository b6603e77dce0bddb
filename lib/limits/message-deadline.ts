import { deadlinesAfter, type Waiting } from './deadline.js'

/** The time in which a peer has to complete a message, so that slowly sent messages do not hold memory. */
export class MessageDeadline implements Waiting {
  readonly #timeout: number
  readonly #onTimeout: () => void
  /** The message that is waited for, by its number. */
  #awaited: number | undefined

  /** @param timeout milliseconds. */
  constructor(timeout: number, onTimeout: () => void) {
    this.#timeout = timeout
    this.#onTimeout = onTimeout
  }

  /**
   * Something was read.
   * @param isUnfinished whether a message, or the header of a frame, is.
   * @param finished how many messages have come.
   */
  update(isUnfinished: boolean, finished: number): void {
    if (!isUnfinished) this.clear()
    else if (this.#awaited !== finished) {
      this.#awaited = finished
      deadlinesAfter(this.#timeout).set(this)
    }
  }

  /** Nothing is read for now: that is no fault of the peer. */
  clear(): void {
    if (this.#awaited === undefined) return
    this.#awaited = undefined
    deadlinesAfter(this.#timeout).clear(this)
  }

  onDeadline(): void {
    this.#awaited = undefined
    this.#onTimeout()
  }
}
