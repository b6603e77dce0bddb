import { type Deadlines, deadlinesAfter, type Waiting } from '../limits/deadline.js'
import { GOING_AWAY, POLICY_VIOLATION } from '../protocol/close-code.js'
import type { Connection } from '../protocol/connection.js'
import type { FrameWriter } from '../protocol/frame-writer.js'
import type { Violation } from '../protocol/violation.js'
import type { ByteStream } from './byte-stream.js'
import { CloseTimeoutError } from './error.js'
import { Heartbeat } from './heartbeat.js'
import type { WebSocketSettings } from './options.js'
import type { Sender } from './sender.js'
import { SlowReader } from './slow-reader.js'
import type { Stats } from './stats.js'

export type LifecycleSettings = Pick<
  WebSocketSettings,
  'closeTimeout' | 'heartbeat' | 'idleTimeout' | 'maxLifetime' | 'expiredCode'
>

const NO_LIMITS: readonly (IdleWatch | Lifetime | Expiry)[] = []

/**
 * The life of a connection after the handshake: the ways in which it ends, and everything that has a deadline. It has the
 * heartbeat, closes connections that are idle, too old or expired, and limits the time of the closing handshake.
 */
export class Lifecycle {
  readonly #stream: ByteStream
  readonly #connection: Connection
  readonly #sender: Sender
  readonly #stats: Stats
  readonly #settings: LifecycleSettings
  readonly #heartbeat: Heartbeat | undefined
  /** Few connections have any. */
  #limits = NO_LIMITS
  #closeDeadline: CloseDeadline | undefined

  constructor(
    stream: ByteStream,
    connection: Connection,
    sender: Sender,
    stats: Stats,
    settings: LifecycleSettings
  ) {
    const { heartbeat, idleTimeout, maxLifetime } = settings
    this.#stream = stream
    this.#connection = connection
    this.#sender = sender
    this.#stats = stats
    this.#settings = settings
    this.#heartbeat = heartbeat === false ? undefined : new Heartbeat(connection, sender, stats, heartbeat)
    if (idleTimeout) this.#limits = [new IdleWatch(this, stats, idleTimeout)]
    if (maxLifetime) this.#limits = [...this.#limits, new Lifetime(this, maxLifetime, Math.random())]
  }

  /** Begins the closing handshake, if none is under way, and the wait for its end. */
  close(code?: number, reason?: string | Uint8Array): void {
    if (!this.#isOpen) return
    this.#connection.close(code, reason)
    this.#beginClosing()
  }

  /** Closes the connection because it is idle or too old, or because its credentials have expired. */
  expire(limit: 'idleTimeout' | 'maxLifetime' | 'expires', reason: string, code: number = GOING_AWAY): void {
    this.#stats.onLimit(limit)
    this.close(code, reason)
  }

  /** When the credentials of the connection expire, in milliseconds since 1970. */
  get expiresAt(): number | undefined {
    return this.#expiry?.at
  }

  /**
   * Sets when the credentials expire, in place of an earlier time.
   * @param at milliseconds since 1970.
   * @returns whether the connection is still open.
   */
  expireAt(at: number): boolean {
    if (!this.#isOpen) return false
    const expiry = this.#expiry ?? new Expiry(this, this.#settings.expiredCode ?? POLICY_VIOLATION)
    if (!this.#limits.includes(expiry)) this.#limits = [...this.#limits, expiry]
    expiry.set(at)
    return this.#isOpen
  }

  get #expiry(): Expiry | undefined {
    return this.#limits.find(limit => limit instanceof Expiry)
  }

  /** Closes the connection because the peer broke a rule or exceeded a limit. */
  fail(violation: Violation): void {
    if (!this.#isOpen) return
    this.#connection.fail(violation)
    this.#beginClosing()
  }

  /** Closes the connection because of a message that breaks a rule of the application. */
  refuse(code: number, reason: string): void {
    this.#connection.refuse(code, reason)
    this.#beginClosing()
  }

  /** Sends the Close frame, and waits for the end. */
  #beginClosing(): void {
    this.#sender.flushSoon()
    this.onClosing()
  }

  get #isOpen(): boolean {
    return this.#connection.isOpen && !this.#stream.isEnded && !this.#stream.isDestroyed
  }

  /** Bytes have arrived. */
  onBytes(): void {
    // Without pings nothing shows better how far the peer has read.
    if (this.#heartbeat !== undefined) this.#heartbeat.onBytes()
    // Once the connection is closing, the Close frame shows that.
    else if (this.#connection.isOpen) this.#sender.onRead(this.#sender.written)
  }

  onPong(data: Buffer): void {
    this.#heartbeat?.onPong(data)
  }

  /** The application sends a ping without data. */
  onBarePing(): void {
    this.#heartbeat?.onBarePing()
  }

  /** The connection begins to end, on whichever side. From now on there is one deadline, and the heartbeat stops. */
  onClosing(): void {
    if (this.#closeDeadline !== undefined) return
    this.#stop()
    const { closeTimeout } = this.#settings
    this.#closeDeadline = new CloseDeadline(this.#stream, this.#connection, this.#sender, closeTimeout)
  }

  onClose(): void {
    this.#stop()
    this.#closeDeadline?.stop()
  }

  #stop(): void {
    this.#heartbeat?.stop()
    for (const limit of this.#limits) limit.stop()
  }
}

/** The number of checks of an idle connection within its timeout. */
const CHECKS = 4

/** Closes a connection on which no message has been received or sent for a time. */
class IdleWatch implements Waiting {
  readonly #lifecycle: Lifecycle
  readonly #stats: Stats
  readonly #deadlines: Deadlines
  #messages = 0
  #quietChecks = 0

  /** @param timeout milliseconds; it takes up to a quarter more. */
  constructor(lifecycle: Lifecycle, stats: Stats, timeout: number) {
    this.#lifecycle = lifecycle
    this.#stats = stats
    this.#deadlines = deadlinesAfter(Math.ceil(timeout / CHECKS))
    this.#deadlines.set(this)
  }

  onDeadline(): void {
    const { messages } = this.#stats
    this.#quietChecks = messages === this.#messages ? this.#quietChecks + 1 : 0
    this.#messages = messages
    if (this.#quietChecks === CHECKS) this.#lifecycle.expire('idleTimeout', 'idle')
    else this.#deadlines.set(this)
  }

  stop(): void {
    this.#deadlines.clear(this)
  }
}

/** The number of different lifetimes for each value of `maxLifetime`: each needs a timer. */
const LIFETIMES = 16

/** Closes a connection that has become too old. */
export class Lifetime implements Waiting {
  readonly #lifecycle: Pick<Lifecycle, 'expire'>
  readonly #deadlines: Deadlines

  /**
   * @param max milliseconds.
   * @param random from 0 to 1: connections live nine tenths of `max` at least, so that connections that were opened together
   * do not all reconnect together.
   */
  constructor(lifecycle: Pick<Lifecycle, 'expire'>, max: number, random: number) {
    this.#lifecycle = lifecycle
    const part = Math.floor(random * LIFETIMES) / LIFETIMES
    this.#deadlines = deadlinesAfter(Math.ceil(max * (1 - part / 10)))
    this.#deadlines.set(this)
  }

  onDeadline(): void {
    this.#lifecycle.expire('maxLifetime', 'lifetime over')
  }

  stop(): void {
    this.#deadlines.clear(this)
  }
}

/** The longest wait of an {@link Expiry} in milliseconds: then it looks at the clock again, which may have been set. */
const MAX_WAIT = 2 ** 16

/** Deadlines may pass a millisecond early. */
const MIN_WAIT = 2

/**
 * Closes a connection when its credentials expire, by the clock of the system: credentials name a time, not a duration. It
 * waits for a power of two milliseconds at a time, so that a few lists of deadlines serve all connections.
 */
export class Expiry implements Waiting {
  readonly #lifecycle: Pick<Lifecycle, 'expire'>
  readonly #code: number
  #deadlines: Deadlines | undefined
  #at = Infinity

  constructor(lifecycle: Pick<Lifecycle, 'expire'>, code: number) {
    this.#lifecycle = lifecycle
    this.#code = code
  }

  /** Milliseconds since 1970. */
  get at(): number {
    return this.#at
  }

  /** @param at milliseconds since 1970. A time that has passed closes the connection now. */
  set(at: number): void {
    this.#at = at
    this.onDeadline()
  }

  onDeadline(): void {
    this.stop()
    const left = this.#at - Date.now()
    if (left <= 0) {
      this.#lifecycle.expire('expires', 'expired', this.#code)
      return
    }
    this.#deadlines = deadlinesAfter(2 ** Math.floor(Math.log2(Math.min(Math.max(left, MIN_WAIT), MAX_WAIT))))
    this.#deadlines.set(this)
  }

  stop(): void {
    this.#deadlines?.clear(this)
  }
}

type ClosingSender = Pick<Sender, 'written' | 'taken' | 'unsent' | 'readByPeer' | 'acknowledged' | 'cut'>

/** Waits for the end of the closing handshake. */
export class CloseDeadline implements Waiting {
  readonly #stream: Pick<ByteStream, 'isEnded'>
  readonly #connection: { readonly output: Pick<FrameWriter, 'gaps'> }
  readonly #sender: ClosingSender
  readonly #timeout: number
  /** The value of `sender.taken` when closing began, if data was still pending. */
  readonly #takenAt: number | undefined
  #slowReader: SlowReader | undefined
  #isOver = false
  /** The closing handshake is over. The kernel delivers the data that it has taken without this process. */
  #isLast = false

  /** @param timeout milliseconds. */
  constructor(
    stream: Pick<ByteStream, 'isEnded'>,
    connection: { readonly output: Pick<FrameWriter, 'gaps'> },
    sender: ClosingSender,
    timeout: number
  ) {
    this.#stream = stream
    this.#connection = connection
    this.#sender = sender
    this.#timeout = timeout
    this.#takenAt = sender.unsent > 0 ? sender.taken : undefined
    deadlinesAfter(timeout).set(this)
  }

  stop(): void {
    this.#isOver = true
    deadlinesAfter(this.#timeout).clear(this)
  }

  onDeadline(): void {
    const sender = this.#sender
    // The Close frame may wait for this side's own thread pool, which is no fault of the peer.
    if (this.#connection.output.gaps > 0) {
      deadlinesAfter(this.#timeout).set(this)
      return
    }
    const unread = sender.written - sender.readByPeer
    this.#slowReader ??= new SlowReader(sender, unread, this.#timeout, this.#takenAt)
    this.#slowReader.ask(true, getsMoreTime => {
      if (this.#isOver) return
      if (!getsMoreTime || this.#isLast) {
        sender.cut(new CloseTimeoutError())
        return
      }
      this.#isLast = this.#stream.isEnded && sender.unsent === 0
      deadlinesAfter(this.#timeout).set(this)
    })
  }
}
