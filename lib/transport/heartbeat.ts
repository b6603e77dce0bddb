import type { Connection } from '../core/connection.js'
import { type Deadlines, deadlinesAfter, type Waiting } from './deadline.js'
import type { Progress, Writer } from './writer.js'

export interface HeartbeatOptions {
  /** Milliseconds between two pings. */
  readonly interval: number
  /** Milliseconds that a peer has after a ping to send a byte, whatever it be. At most `interval`. */
  readonly timeout: number
}

/** What a heartbeat watches. */
export interface Heart {
  /** Whether no byte arrived since this was last set to true. */
  isSilent: boolean
  /** What waits for the peer to read. */
  readonly writer: Pick<Writer, 'unsent' | 'progress'>
  /** What waits for this side's own thread pool. */
  readonly connection: Pick<Connection, 'gaps'>
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
  /** Of the writing, when the ping was sent behind something that waited. */
  #progress: Progress | undefined

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
    const heart = this.#heart
    if (!this.#pinged) {
      heart.isSilent = true
      this.#progress = heart.writer.unsent > 0 ? heart.writer.progress : undefined
      heart.ping()
    } else if ((heart.isReading || heart.awaitsPeer) && !this.#isAlive) {
      heart.onSilence()
      return
    }
    const { interval, timeout } = this.#options
    this.#pinged = !this.#pinged
    this.#waitsFor = deadlinesAfter(this.#pinged ? timeout : interval - timeout)
    this.#waitsFor.set(this)
  }

  get #isAlive(): boolean {
    const { connection, isSilent, writer } = this.#heart
    // The ping waits for this side.
    if (connection.gaps > 0 || !isSilent) return true
    if (this.#progress === undefined) return false
    // It may wait behind a message that the peer is still reading.
    const { taken, queued } = writer.progress
    return taken > this.#progress.taken || queued !== this.#progress.queued
  }
}
