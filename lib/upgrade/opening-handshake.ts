import type { Release } from '../limits/connection-limiter.js'
import { type Deadlines, deadlinesAfter, type Waiting } from '../limits/deadline.js'
import type { Refusal } from '../protocol/handshake/request.js'
import type { ChannelOwner, UpgradeChannel } from './channel.js'
import { HandshakeTimeoutError } from './error.js'

/** Milliseconds that a refused client has to read its answer and to close. */
const LINGER = 5_000

/** Shared, as most handshakes are not limited. */
const NO_SLOTS: readonly Release[] = []
const releaseNothing: Release = () => {}

/** An opening handshake until it is accepted or its channel has closed: its deadline, and the connection slots that it takes. */
export class OpeningHandshake<Channel extends UpgradeChannel = UpgradeChannel>
  implements ChannelOwner, Waiting
{
  readonly channel: Channel
  readonly #pending: Set<OpeningHandshake<Channel>>
  #deadline: Deadlines | undefined
  #slots = NO_SLOTS
  #isOver = false

  /** @param pending the handshakes of a server that are not over. */
  constructor(channel: Channel, pending: Set<OpeningHandshake<Channel>>) {
    this.channel = channel
    this.#pending = pending
    pending.add(this)
  }

  /** Whether the stream belongs to the WebSocket or another owner, or is closed. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** Whether there is nothing left to answer. */
  get isAnswered(): boolean {
    return this.#isOver || this.channel.isAnswered
  }

  // Admission

  /**
   * Takes a slot of each limiter. When one has none, the handshake releases all that it has.
   * @param key what the limiters count by: the remote address, or the user.
   * @returns whether each had a free slot.
   */
  takeSlots<Key>(limiters: readonly { take(key: Key): Release | undefined }[], key: Key): boolean {
    const slots = [...this.#slots]
    this.#slots = slots
    for (const limiter of limiters) {
      const release = limiter.take(key)
      if (release === undefined) {
        this.#releaseSlots()
        return false
      }
      slots.push(release)
    }
    return true
  }

  /** Hands the slots to the connection, which releases them when it ends. */
  keepSlots(): Release {
    const slots = this.#slots
    if (slots === NO_SLOTS) return releaseNothing
    this.#slots = NO_SLOTS
    return () => {
      for (const release of slots) release()
    }
  }

  #releaseSlots(): void {
    this.keepSlots()()
  }

  // The deadline

  /** Starts when the turn of the handshake has come: the time before is that of earlier responses on its connection. */
  startDeadline(timeout: number): void {
    if (!this.#isOver && this.#deadline === undefined) this.#setDeadline(timeout)
  }

  /** Restarts the deadline if it is running. */
  protected restartDeadline(timeout: number): void {
    if (this.#deadline !== undefined) this.#setDeadline(timeout)
  }

  /** An answer is on its way: sending it, reading it and closing share the time of a refused client. */
  protected linger(): void {
    this.#setDeadline(LINGER)
  }

  #setDeadline(timeout: number): void {
    this.#deadline?.clear(this)
    this.#deadline = deadlinesAfter(timeout)
    this.#deadline.set(this)
  }

  onDeadline(): void {
    if (this.isAnswered) this.channel.destroy()
    else {
      const { statusCode = 503, message } = new HandshakeTimeoutError()
      this.refuse({ status: statusCode, message, headers: {} })
    }
  }

  // The answer

  /**
   * Refuses the handshake unless it is answered.
   * @throws {TypeError} when the refusal cannot be sent.
   */
  refuse(refusal: Omit<Refusal, 'code'>): void {
    if (!this.isAnswered) this.channel.refuse(refusal)
  }

  onRefused(): void {
    this.#releaseSlots()
    this.linger()
  }

  onAccepted(): void {
    this.#end()
  }

  onClose(): void {
    this.#end()
    this.#releaseSlots()
  }

  /** Leaves the request to another application, or to another listener of the server. */
  release(): void {
    this.channel.release()
    this.#end()
  }

  #end(): void {
    this.#isOver = true
    this.#deadline?.clear(this)
    this.#deadline = undefined
    this.#pending.delete(this)
  }
}
