import { type Deadlines, deadlinesAfter, type Waiting } from '../limits/deadline.js'
import type { HeartbeatSettings } from '../options/table.js'
import type { FrameParser } from '../protocol/frame-parser.js'
import type { FrameWriter } from '../protocol/frame-writer.js'
import { SilentPeerError } from './error.js'
import type { Sender } from './sender.js'
import { SlowReader } from './slow-reader.js'
import type { Stats } from './stats.js'

/** The position of the data when a ping was sent. */
interface SentPing {
  /** Bytes that were written before it, and the same with the bytes that were pending. */
  readonly at: number
  readonly upTo: number
  /** Bytes that the operating system had taken then, and the bytes that it has taken once it has all of them. */
  readonly takenAt: number
  readonly target: number
  /** The time of {@link performance.now}. */
  readonly time: number
}

/** The connection, as far as a heartbeat needs it. */
interface PingingConnection {
  readonly input: Pick<FrameParser, 'paused'>
  readonly output: Pick<FrameWriter, 'size' | 'gaps'>
  ping(data: string): void
  pong(data: string): void
}

type PingingSender = Pick<
  Sender,
  | 'isOpen'
  | 'isAwaited'
  | 'written'
  | 'taken'
  | 'unsent'
  | 'readByPeer'
  | 'onRead'
  | 'acknowledged'
  | 'flushSoon'
  | 'cut'
>

/** Pings a peer, and cuts it when it stays silent. */
export class Heartbeat implements Waiting {
  readonly #connection: PingingConnection
  readonly #sender: PingingSender
  readonly #stats: Pick<Stats, 'onLatency'>
  readonly #settings: HeartbeatSettings
  #deadlines: Deadlines
  #isPinged = false
  /** Whether no byte has arrived since the latest ping. */
  #isSilent = false
  /** The latest ping while the peer has not answered it: most connections are between two pings. */
  #sent: SentPing | undefined
  /** Pings that the peer has not answered. */
  #unanswered = 0
  /** Set while the peer has not answered in time. */
  #slowReader: SlowReader | undefined

  constructor(
    connection: PingingConnection,
    sender: PingingSender,
    stats: Pick<Stats, 'onLatency'>,
    settings: HeartbeatSettings
  ) {
    this.#connection = connection
    this.#sender = sender
    this.#stats = stats
    this.#settings = settings
    this.#deadlines = deadlinesAfter(settings.interval)
    this.#deadlines.set(this)
  }

  stop(): void {
    this.#slowReader = undefined
    this.#deadlines.clear(this)
  }

  /** Any byte is a sign of life. */
  onBytes(): void {
    this.#isSilent = false
  }

  /** The application has sent a ping without data: its answer looks like the answer to a ping of the heartbeat. */
  onBarePing(): void {
    this.#unanswered++
  }

  /** A pong arrived. Pings of the heartbeat carry no data, and neither do their answers. */
  onPong(data: Buffer): void {
    if (data.length > 0) return
    if (this.#unanswered > 0) this.#unanswered--
    if (this.#unanswered > 0 || this.#sent === undefined) return
    this.#sender.onRead(this.#sent.at)
    this.#stats.onLatency(performance.now() - this.#sent.time)
    this.#sent = undefined
  }

  onDeadline(): void {
    const { interval, timeout } = this.#settings
    if (!this.#isPinged) this.#ping()
    else if (this.#sent !== undefined && this.#owesByte) {
      this.#askForTime(this.#sent)
      return
    }
    this.#slowReader = undefined
    // Between two pings, most connections keep nothing of the last one.
    if (this.#isPinged && this.#unanswered === 0) this.#sent = undefined
    this.#isPinged = !this.#isPinged
    this.#wait(this.#isPinged ? timeout : interval - timeout)
  }

  #ping(): void {
    const { written, taken, unsent } = this.#sender
    // Frames of the same tick, and those behind a message that is being compressed, are not written yet.
    const pending = this.#connection.output.size
    this.#isSilent = true
    this.#sent = {
      at: written,
      upTo: written + pending,
      takenAt: taken,
      target: taken + unsent + pending,
      time: performance.now()
    }
    this.#unanswered++
    this.#send('ping')
  }

  /** @param kind `pong` for a sign of life that needs no answer, RFC 6455 section 5.5.3. */
  #send(kind: 'ping' | 'pong'): void {
    if (!this.#sender.isOpen) return
    this.#connection[kind]('')
    this.#sender.flushSoon()
  }

  /** Whether bytes that arrive are read at all. While they are not, silence means nothing. */
  get #isReading(): boolean {
    return !this.#connection.input.paused
  }

  get #owesByte(): boolean {
    // The ping may wait for this side's own thread pool.
    if (!this.#isSilent || this.#connection.output.gaps > 0) return false
    return this.#isReading || this.#sender.isAwaited
  }

  /** Cuts the peer, unless it may still be reading data that was sent before the ping. */
  #askForTime({ upTo, takenAt, target }: SentPing): void {
    const { timeout } = this.#settings
    const unread = upTo - this.#sender.readByPeer
    this.#slowReader ??= new SlowReader(this.#sender, unread, timeout, takenAt, target)
    const slowReader = this.#slowReader
    slowReader.ask(this.#isReading, getsMoreTime => {
      if (this.#slowReader !== slowReader) return
      if (!getsMoreTime && this.#owesByte) {
        this.#sender.cut(new SilentPeerError())
        return
      }
      // Proxies close idle connections. A second ping would make it unclear which one a pong answers.
      this.#send('pong')
      this.#wait(timeout)
    })
  }

  #wait(delay: number): void {
    this.#deadlines = deadlinesAfter(delay)
    this.#deadlines.set(this)
  }
}
