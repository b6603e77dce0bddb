import type { Writer } from './writer.js'

/**
 * Bytes a second. A peer that reads faster is not cut, even when no progress is visible: the data may be in the buffers of
 * a proxy, or in those of the peer's own system.
 */
const LOWEST_RATE = 4096

/** Timeouts without any progress after which a peer is cut, however much was sent to it; the first is not counted. */
const MOST_TIMEOUTS = 100

/**
 * Decides whether a peer that has not answered in time gets another timeout, as it may still be reading what was sent
 * before the frame that it has to answer. Asked after each timeout.
 */
export class Patience {
  readonly #writer: Pick<Writer, 'taken' | 'acknowledged'>
  readonly #timeout: number
  /** How far the sent data had come at the last check for progress. */
  #position: number
  /** The position at which that frame begins, or a later one: progress beyond it shows nothing. */
  readonly #target: number
  /** Timeouts that the peer gets without progress. */
  readonly #granted: number
  #left: number

  /**
   * @param unread bytes before the frame that the peer is not known to have read.
   * @param timeout milliseconds.
   * @param position `writer.taken` at the time when the frame was sent; without it, the first look shows no progress.
   * @param target what `writer.taken` becomes when it includes all that was sent before the frame.
   */
  constructor(
    writer: Pick<Writer, 'unsent' | 'taken' | 'acknowledged'>,
    unread: number,
    timeout: number,
    position = Infinity,
    target: number = writer.taken + writer.unsent
  ) {
    this.#writer = writer
    this.#timeout = timeout
    this.#position = position
    this.#target = target
    this.#granted = Math.min(Math.floor((unread * 1000) / (LOWEST_RATE * timeout)), MOST_TIMEOUTS)
    this.#left = this.#granted
  }

  /**
   * @param isHeard whether an answer would be read. If not, any progress is a sign of life.
   * @param decide called at once, or after a look at the kernel's queue.
   */
  ask(isHeard: boolean, decide: (waits: boolean) => void): void {
    const began = performance.now()
    const judge = (least = this.#writer.taken, most = least): void => {
      // The look may have taken longer than a timeout.
      const timeouts = 1 + Math.floor((performance.now() - began) / this.#timeout)
      decide(this.#judge(isHeard, least, most, timeouts))
    }
    // Most silent peers have disappeared, and little was sent to them. The kernel is not asked about these.
    const look = this.#granted > 0 ? this.#writer.acknowledged() : undefined
    if (look === undefined) judge()
    else look.then(seen => judge(seen?.atLeast, seen?.atMost))
  }

  #judge(isHeard: boolean, least: number, most: number, timeouts: number): boolean {
    const hasMoved = least > this.#position && (this.#position < this.#target || !isHeard)
    this.#position = most
    if (hasMoved) this.#left = this.#granted
    else this.#left -= timeouts
    return hasMoved || this.#left >= 0
  }
}
