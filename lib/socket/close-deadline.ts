import { deadlinesAfter, type Waiting } from '../limits/deadline.js'
import type { Connection } from '../protocol/connection.js'
import { CloseTimeoutError } from './error.js'
import { Patience } from './patience.js'
import type { Writer } from './writer.js'

/** The connection that a {@link CloseDeadline} is for. */
export interface Closing {
  readonly connection: Pick<Connection, 'gaps'>
  /** Whether this side has ended the stream: the closing handshake is over. */
  readonly isEnded: boolean
  readonly writer: Pick<Writer, 'bytes' | 'unsent' | 'taken' | 'acknowledged'>
  /** Bytes, of those that were sent, that the peer is known to have read. */
  readonly readByPeer: number
  terminate(reason: Error): void
}

/** Waits for the end of the closing handshake. */
export class CloseDeadline implements Waiting {
  readonly #closing: Closing
  readonly #timeout: number
  /** How much the operating system had taken of what was sent before, if not all. */
  readonly #takenAt: number | undefined
  #patience: Patience | undefined
  #isOver = false
  /** The closing handshake is over. What the kernel has taken it delivers without this process. */
  #isLast = false

  /** @param timeout milliseconds. */
  constructor(closing: Closing, timeout: number) {
    this.#closing = closing
    this.#timeout = timeout
    const { taken, unsent } = closing.writer
    this.#takenAt = unsent > 0 ? taken : undefined
    deadlinesAfter(timeout).set(this)
  }

  stop(): void {
    this.#isOver = true
    deadlinesAfter(this.#timeout).clear(this)
  }

  onDeadline(): void {
    const { connection, isEnded, writer, readByPeer } = this.#closing
    // The Close frame may wait for this side's own thread pool, which is no fault of the peer.
    if (connection.gaps > 0) {
      deadlinesAfter(this.#timeout).set(this)
      return
    }
    this.#patience ??= new Patience(writer, writer.bytes - readByPeer, this.#timeout, this.#takenAt)
    this.#patience.ask(true, waits => {
      if (this.#isOver) return
      if (!waits || this.#isLast) {
        this.#closing.terminate(new CloseTimeoutError())
        return
      }
      this.#isLast = isEnded && writer.unsent === 0
      deadlinesAfter(this.#timeout).set(this)
    })
  }
}
