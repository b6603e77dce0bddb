import { type Deadlines, deadlinesAfter, type Waiting } from '../limits/deadline.js'

/** Whoever ends after a time. */
export interface Mortal {
  /** Messages that were received and sent so far. */
  readonly messages: number
  onIdle(): void
  onOld(): void
}

/** How often within its time an idle connection is looked at. */
const LOOKS = 4

/** Ends a connection on which no message has come or gone for a time. */
export class IdleWatch implements Waiting {
  readonly #mortal: Mortal
  readonly #deadlines: Deadlines
  #messages: number
  #quietLooks = 0

  /** @param timeout milliseconds; it takes up to a quarter more. */
  constructor(mortal: Mortal, timeout: number) {
    this.#mortal = mortal
    this.#messages = mortal.messages
    this.#deadlines = deadlinesAfter(Math.ceil(timeout / LOOKS))
    this.#deadlines.set(this)
  }

  onDeadline(): void {
    const { messages } = this.#mortal
    this.#quietLooks = messages === this.#messages ? this.#quietLooks + 1 : 0
    this.#messages = messages
    if (this.#quietLooks === LOOKS) this.#mortal.onIdle()
    else this.#deadlines.set(this)
  }

  stop(): void {
    this.#deadlines.clear(this)
  }
}

/** Different lifetimes that connections of one limit get: each has a timer. */
const LIFETIMES = 16

/** Ends a connection that has become old. */
export class Lifetime implements Waiting {
  readonly #mortal: Mortal
  readonly #deadlines: Deadlines

  /**
   * @param most milliseconds.
   * @param random from 0 to 1: connections live nine tenths of `most` at least, so that those which came together do not
   * come back together.
   */
  constructor(mortal: Mortal, most: number, random: number) {
    this.#mortal = mortal
    const part = Math.floor(random * LIFETIMES) / LIFETIMES
    this.#deadlines = deadlinesAfter(Math.ceil(most * (1 - part / 10)))
    this.#deadlines.set(this)
  }

  onDeadline(): void {
    this.#mortal.onOld()
  }

  stop(): void {
    this.#deadlines.clear(this)
  }
}
