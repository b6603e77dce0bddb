import { type Deadlines, deadlinesAfter, type Waiting } from '../limits/deadline.js'
import type { HeartbeatSettings } from '../options/table.js'
import type { Connection } from '../protocol/connection.js'
import { Patience } from './patience.js'
import type { Writer } from './writer.js'

/** What a heartbeat watches. */
export interface Heart {
  /** Whether no byte arrived since this was last set to true. */
  isSilent: boolean
  /** Writes the pings, behind all data that was sent before. */
  readonly writer: Pick<Writer, 'bytes' | 'unsent' | 'taken' | 'acknowledged' | 'isAwaited'>
  /** What waits for this side's own thread pool. */
  readonly connection: Pick<Connection, 'bufferedAmount' | 'gaps'>
  /** Whether bytes that arrive are read at all; while they are not, silence means nothing. */
  readonly isReading: boolean
  /** Whether the application waits for the peer although nothing is read. */
  readonly awaitsPeer: boolean
  /** Bytes, of those that were sent, that the peer is known to have read. */
  readByPeer: number
  /** @param kind `pong` for a sign of life that wants no answer, RFC 6455 section 5.5.3. */
  ping(kind: 'ping' | 'pong'): void
  /** Nothing was heard in time. */
  onSilence(): void
}

/** How far the data was when a ping was sent. */
interface SentPing {
  /** Bytes that were written before it, and with those that the connection still had. */
  readonly at: number
  readonly upTo: number
  /** Bytes that the operating system had taken then, and the bytes that it has taken once it has all of them. */
  readonly takenAt: number
  readonly target: number
}

/** Pings a peer and gives up on one that stays silent. */
export class Heartbeat implements Waiting {
  readonly #heart: Heart
  readonly #options: HeartbeatSettings
  #waitsFor: Deadlines
  #pinged = false
  /** The latest ping while the peer has not answered it: most connections are between two pings. */
  #sent: SentPing | undefined
  /** Pings that the peer has not answered. */
  #unanswered = 0
  /** With a peer that did not answer in time. */
  #patience: Patience | undefined

  constructor(heart: Heart, options: HeartbeatSettings) {
    this.#heart = heart
    this.#options = options
    this.#waitsFor = deadlinesAfter(options.interval)
    this.#waitsFor.set(this)
  }

  stop(): void {
    this.#patience = undefined
    this.#waitsFor.clear(this)
  }

  /** The application has sent a ping without data: its answer looks like one to a ping of these. */
  onBarePing(): void {
    this.#unanswered++
  }

  /** A pong came. Pings of the application carry data as a rule; these carry none, and so do their answers. */
  onPong(data: Buffer): void {
    if (data.length > 0) return
    if (this.#unanswered > 0) this.#unanswered--
    if (this.#unanswered > 0 || this.#sent === undefined) return
    this.#heart.readByPeer = this.#sent.at
    this.#sent = undefined
  }

  onDeadline(): void {
    const { interval, timeout } = this.#options
    if (!this.#pinged) this.#ping()
    else if (this.#isSilent) {
      this.#doubt()
      return
    }
    this.#patience = undefined
    this.#pinged = !this.#pinged
    this.#wait(this.#pinged ? timeout : interval - timeout)
  }

  #ping(): void {
    const heart = this.#heart
    heart.isSilent = true
    const at = heart.writer.bytes
    const takenAt = heart.writer.taken
    // Frames of the same tick, and those behind a message that is being compressed, are not written yet.
    const { bufferedAmount } = heart.connection
    const target = takenAt + heart.writer.unsent + bufferedAmount
    this.#sent = { at, upTo: at + bufferedAmount, takenAt, target }
    this.#unanswered++
    heart.ping('ping')
  }

  /** Whether the peer owes a byte. */
  get #isSilent(): boolean {
    const { connection, isReading, awaitsPeer, isSilent, writer } = this.#heart
    // The ping may wait for this side's own thread pool.
    if (!isSilent || connection.gaps > 0) return false
    return isReading || awaitsPeer || writer.isAwaited
  }

  /** Cuts the peer, unless it may still be reading what was sent before the ping. */
  #doubt(): void {
    const heart = this.#heart
    const { timeout } = this.#options
    const { upTo = 0, takenAt, target } = this.#sent ?? {}
    const unread = upTo - heart.readByPeer
    this.#patience ??= new Patience(heart.writer, unread, timeout, takenAt, target)
    const patience = this.#patience
    patience.ask(heart.isReading, waits => {
      if (this.#patience !== patience) return
      if (!waits && this.#isSilent) {
        heart.onSilence()
        return
      }
      // Proxies end a connection on which nothing comes. Another ping would leave open which of them a pong answers.
      heart.ping('pong')
      this.#wait(timeout)
    })
  }

  #wait(delay: number): void {
    this.#waitsFor = deadlinesAfter(delay)
    this.#waitsFor.set(this)
  }
}
