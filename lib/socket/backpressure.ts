import { BudgetShare, type BufferBudget } from '../limits/buffer-budget.js'
import { sizeOfHeader } from '../protocol/frame-header.js'
import { BudgetExceededError, BufferOverflowError, NotOpenError } from './error.js'
import { PreparedMessage } from './prepared-message.js'
import type { SendCallback } from './send-callbacks.js'
import { Waiters } from './waiters.js'

/** Bytes in UTF-8 that a UTF-16 code unit may take. */
const BYTES_A_UNIT = 3

export interface BackpressureSettings {
  /** Bytes waiting to be sent above which `send` returns false. */
  readonly highWaterMark: number
  /**
   * Pending bytes above which the connection is cut, or messages are dropped. A message that is sent while
   * there is room does not count, however large it is. `false`: no limit.
   */
  readonly maxBufferedAmount: number | false
  /** What happens then. Default: `close`. */
  readonly backpressure?: 'close' | 'drop'
  /** Shared with the other connections. */
  readonly budget?: BufferBudget | undefined
}

/** The connection that a {@link Backpressure} looks after. */
export interface Pressured {
  readonly bufferedAmount: number
  /** Bytes of it that wait for whoever sends a message in fragments, not for the peer. */
  readonly heldBytes: number
  readonly isOpen: boolean
  /** Somebody waits for the peer to read. */
  awaitsPeer: boolean
  /** Has `onWritten` called once something was written. */
  notifyWritten(): void
}

export interface BackpressureEvents {
  /** There is room again. */
  onDrain(): void
  /** So many messages were dropped in this tick. */
  onDrop(count: number): void
  /** More waits than may. */
  onOverflow(error: Error): void
}

type Sendable = PreparedMessage | string | Uint8Array

function sizeOf(message: Sendable): number {
  return message instanceof PreparedMessage ? message.size : Buffer.byteLength(message)
}

/** What follows from settings. */
interface Bounds {
  readonly limit: number
  /**
   * While no more bytes wait, the peer is not behind, and a message of any size is accepted. As `send` returns true then,
   * a caller that awaits `drained()` never reaches the limit.
   */
  readonly room: number
  /** The length from which on a string or bytes may pass the limit although there is room. */
  readonly largeFrom: number
}

/** The connections of a route share their settings. */
const bounds = new WeakMap<BackpressureSettings, Bounds>()

function boundsOf(settings: BackpressureSettings): Bounds {
  const known = bounds.get(settings)
  if (known !== undefined) return known
  const { highWaterMark, maxBufferedAmount } = settings
  const limit = maxBufferedAmount === false ? Number.POSITIVE_INFINITY : maxBufferedAmount
  const room = highWaterMark < limit ? highWaterMark : 0
  const largeFrom = Math.floor((limit - room - sizeOfHeader(limit, false)) / BYTES_A_UNIT)
  const made = { limit, room, largeFrom }
  bounds.set(settings, made)
  return made
}

/** What happens when a connection sends faster than its peer reads. */
export class Backpressure {
  // What each message asks stands first: with many connections its cost is what has to come from memory.
  /** Whether messages for which there is no room are dropped. */
  readonly drops: boolean
  readonly #pressured: Pressured
  readonly #settings: BackpressureSettings
  readonly #bounds: Bounds
  /** Bytes of messages that do not count, as they were sent while there was room; until they are written. */
  #exempt = 0
  /** Made when it is needed, as most connections never hold much. */
  #share: BudgetShare | undefined
  /** Somebody was told that there is no room. */
  #isFull = false
  readonly #events: BackpressureEvents
  /** Messages that were dropped. */
  dropped = 0
  #waiters: Waiters | undefined
  /** Those that nobody was told of. */
  #untold = 0
  /** The first fragment of a message was dropped, and the rest has to be. */
  #dropsFragments = false

  constructor(pressured: Pressured, events: BackpressureEvents, settings: BackpressureSettings) {
    this.#pressured = pressured
    this.#events = events
    this.#settings = settings
    this.#bounds = boundsOf(settings)
    this.drops = settings.backpressure === 'drop'
  }

  /**
   * Whether a message, or a fragment of one, may be sent; else it was dropped. Not asked unless `drops`.
   * @param isContinuation whether a message was begun in fragments and is not finished.
   */
  admits(message: Sendable, fin: boolean, isContinuation: boolean): boolean {
    const size = sizeOf(message)
    // It is none of those that are sent in fragments.
    if (message instanceof PreparedMessage) return this.#admitsWhole(size)
    if (this.#dropsFragments) {
      this.#dropsFragments = !fin
      return false
    }
    // A message that was begun is finished: the peer has its first part.
    if (isContinuation || this.#fits(size)) return true
    this.#dropsFragments = !fin
    this.#drop()
    return false
  }

  #admitsWhole(size: number): boolean {
    if (this.#fits(size)) return true
    this.#drop()
    return false
  }

  #fits(size: number): boolean {
    const { budget, highWaterMark } = this.#settings
    const { room, limit } = this.#bounds
    const waiting = this.#pressured.bufferedAmount
    if (waiting > room && waiting - this.#exempt + size > limit) return false
    return waiting <= highWaterMark || budget?.isExceeded !== true
  }

  /**
   * Called before a message, or a fragment of one, is sent. Where it would pass the limit although there is room, it does
   * not count until it is written: the limit is for a peer that falls behind.
   * @param length of the string or of the bytes.
   * @returns the callback to send it with.
   */
  exempt(message: Sendable, length: number, callback: SendCallback | undefined): SendCallback | undefined {
    const { largeFrom, room, limit } = this.#bounds
    if (length < largeFrom) return callback
    const waiting = this.#pressured.bufferedAmount
    const payload = sizeOf(message)
    const size = sizeOfHeader(payload, false) + payload
    if (waiting > room || waiting + size <= limit) return callback
    this.#exempt += size
    return error => {
      this.#exempt -= size
      return callback?.(error)
    }
  }

  /**
   * Whether more may be sent. A peer that does not read at all costs the connection.
   * @param afterControl whether a control frame was sent, which is not dropped.
   */
  hasRoom(afterControl = false): boolean {
    const { highWaterMark, budget } = this.#settings
    const { limit } = this.#bounds
    const waiting = this.#pressured.bufferedAmount
    const share = BudgetShare.of(this.#share, budget, waiting)
    const exceeds = share?.hold(waiting) === true
    this.#share = share
    // It is given back as it is written.
    if (share?.isHeld) this.#pressured.notifyWritten()
    if (waiting <= highWaterMark && waiting <= limit) return true
    // Whoever sends the fragments would wait for ever.
    const unread = waiting - this.#pressured.heldBytes
    const hasRoom = unread <= highWaterMark && unread <= limit
    const isCut = !this.drops || (afterControl && !hasRoom)
    if (waiting - this.#exempt > limit && isCut) this.#overflow(new BufferOverflowError(limit))
    else if (exceeds && isCut) this.#overflow(new BudgetExceededError(share.limit))
    else if (hasRoom) return true
    else this.#pressured.notifyWritten()
    this.#isFull = true
    return false
  }

  #overflow(error: Error): void {
    if (this.#pressured.isOpen) this.#events.onOverflow(error)
  }

  /** Resolves once there is room. */
  drained(): Promise<void> {
    if (this.hasRoom()) return Promise.resolve()
    this.#waiters ??= new Waiters()
    this.#pressured.awaitsPeer = true
    return this.#waiters.wait()
  }

  /** Something was written. */
  onWritten(): void {
    if (!this.hasRoom() || !this.#isFull) return
    this.#isFull = false
    this.#pressured.awaitsPeer = false
    this.#waiters?.resolve()
    this.#events.onDrain()
  }

  /** The connection is gone. */
  onClose(): void {
    this.#share?.hold(0)
    this.#waiters?.reject(() => new NotOpenError())
  }

  #drop(): void {
    this.dropped++
    this.#untold++
    if (this.#untold > 1) return
    process.nextTick(() => {
      const count = this.#untold
      this.#untold = 0
      this.#events.onDrop(count)
    })
  }
}
