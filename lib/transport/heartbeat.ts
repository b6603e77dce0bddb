import { type Deadlines, deadlinesAfter, type Waiting } from './deadline.js'

export interface HeartbeatOptions {
  /** Milliseconds between two pings. */
  readonly interval: number
  /** Milliseconds that a peer has after a ping to send a byte, whatever it be. At most `interval`. */
  readonly timeout: number
}

/** What a heartbeat watches. */
export interface Heart {
  /** Whether a byte arrived since this was last set to false, or the peer took some of what waited for it. */
  isAlive: boolean
  /** Whether bytes that arrive are read at all; while they are not, silence means nothing. */
  readonly isReading: boolean
  /** Whether it is the peer that is waited for although nothing is read. */
  readonly awaitsPeer: boolean
  ping(): void
  /** Nothing was heard in time. */
  onSilence(): void
}

/** Pings a peer and gives up on one that stays silent. */
export class Heartbeat implements Waiting {
  readonly #heart: Heart
  readonly #options: HeartbeatOptions
  #waitsFor: Deadlines
  #pinged = false

  constructor(heart: Heart, options: HeartbeatOptions) {
    this.#heart = heart
    this.#options = options
    this.#waitsFor = deadlinesAfter(options.interval)
    this.#waitsFor.set(this)
  }

  stop(): void {
    this.#waitsFor.clear(this)
  }

  onDeadline(): void {
    if (!this.#pinged) {
      this.#heart.isAlive = false
      this.#heart.ping()
    } else if ((this.#heart.isReading || this.#heart.awaitsPeer) && !this.#heart.isAlive) {
      this.#heart.onSilence()
      return
    }
    const { interval, timeout } = this.#options
    this.#pinged = !this.#pinged
    this.#waitsFor = deadlinesAfter(this.#pinged ? timeout : interval - timeout)
    this.#waitsFor.set(this)
  }
}
