import type { Sender } from './sender.js'

/**
 * Bytes a second. A peer that reads faster is not cut, even when no progress is visible: the data may be in the buffers of
 * a proxy, or in those of the peer's own system.
 */
const LOWEST_RATE = 4096

/** Timeouts without any progress after which a peer is cut, however much was sent to it; the first is not counted. */
const MAX_TIMEOUTS = 100

/**
 * Decides whether a peer that has not answered in time gets another timeout, as it may still be reading data that was
 * sent before the frame that it has to answer. Called after each timeout.
 */
export class SlowReader {
  readonly #sender: Pick<Sender, 'taken' | 'acknowledged'>
  readonly #timeout: number
  /** The bytes that had been delivered at the last check for progress. */
  #position: number
  /** The position at which that frame begins, or a later one: progress beyond it shows nothing. */
  readonly #target: number
  /** Timeouts that the peer gets without progress. */
  readonly #granted: number
  #left: number

  /**
   * @param unread bytes before the frame that the peer is not known to have read.
   * @param timeout milliseconds.
   * @param position `sender.taken` at the time when the frame was sent; without it, the first look shows no progress.
   * @param target the value of `sender.taken` that includes everything sent before the frame.
   */
  constructor(
    sender: Pick<Sender, 'unsent' | 'taken' | 'acknowledged'>,
    unread: number,
    timeout: number,
    position = Infinity,
    target: number = sender.taken + sender.unsent
  ) {
    this.#sender = sender
    this.#timeout = timeout
    this.#position = position
    this.#target = target
    this.#granted = Math.min(Math.floor((unread * 1000) / (LOWEST_RATE * timeout)), MAX_TIMEOUTS)
    this.#left = this.#granted
  }

  /**
   * @param isHeard whether an answer would be read. If not, any progress is a sign of life.
   * @param decide called synchronously, or after the queue of the kernel was read.
   */
  ask(isHeard: boolean, decide: (getsMoreTime: boolean) => void): void {
    const began = performance.now()
    const judge = (least = this.#sender.taken, most = least): void => {
      // The look may have taken longer than a timeout.
      const timeouts = 1 + Math.floor((performance.now() - began) / this.#timeout)
      decide(this.#judge(isHeard, least, most, timeouts))
    }
    // Most silent peers have disappeared, and little was sent to them. The kernel is not asked about these.
    const look = this.#granted > 0 ? this.#sender.acknowledged() : undefined
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
