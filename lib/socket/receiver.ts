import type { Duplex } from 'node:stream'
import { BudgetShare } from '../limits/buffer-budget.js'
import { MessageDeadline } from '../limits/message-deadline.js'
import { RateLimiter, TokenBucket } from '../limits/rate-limiter.js'
import { ABNORMAL_CLOSURE } from '../protocol/close-code.js'
import { Connection, type ConnectionEvents } from '../protocol/connection.js'
import type { CompressionExtension } from '../protocol/extension.js'
import {
  CONTROL_FLOOD,
  MESSAGE_TIMEOUT,
  OVERLOADED,
  RATE_EXCEEDED,
  type Violation
} from '../protocol/violation.js'
import { ByteStream, type ByteStreamReader } from './byte-stream.js'
import { Consumers, type ConsumingSocket, type Reading } from './consumers.js'
import { Emission } from './events.js'
import { Lifecycle } from './lifecycle.js'
import type { ConnectionSetup, WebSocketSettings } from './options.js'
import { Sender } from './sender.js'
import { Stats } from './stats.js'

/**
 * Receives messages: takes the bytes of the stream, applies the limits, has the protocol parse them, inflates
 * compressed messages and passes each message to the consumers. It creates the other parts of a connection, as all of them
 * react to received data.
 */
export class Receiver implements ByteStreamReader, ConnectionEvents, Reading {
  readonly connection: Connection
  readonly stats: Stats
  readonly sender: Sender
  readonly lifecycle: Lifecycle
  readonly consumers: Consumers
  readonly #stream: ByteStream
  readonly #emission: Emission
  readonly #settings: WebSocketSettings
  readonly #extension: CompressionExtension | undefined
  /** Whether the consumers want messages. */
  #isWanted = false
  /** Whether a message is being inflated in the thread pool. */
  #isInflating = false
  /** Whether the message that is being delivered was compressed. */
  #isCompressed = false
  /** Called once when an inflated message is wanted. */
  #onWanted: (() => void) | undefined
  /** Whether reading stops because of `rateLimit`. */
  #isThrottled = false
  readonly #rate: RateLimiter | undefined
  // Created when they are needed: most peers send each message in one piece, and few control frames.
  #controlFrames: TokenBucket | undefined
  #messageDeadline: MessageDeadline | undefined
  #share: BudgetShare | undefined

  constructor(socket: ConsumingSocket, duplex: Duplex, setup: ConnectionSetup<ConsumingSocket>) {
    const { role, settings, extension, maskingKey, owner, decoder, tracer } = setup
    const { maxPayload, rateLimit } = settings
    const isCompressible = extension !== undefined
    this.stats = new Stats(socket)
    this.#stream = new ByteStream(duplex)
    this.connection = new Connection({ role, maxPayload, isCompressible, maskingKey }, this)
    this.connection.input.pause()
    this.#emission = new Emission(socket, owner)
    this.#settings = settings
    this.#extension = extension
    this.sender = new Sender(this.#stream, this.connection, this.#emission, this.stats, {
      settings,
      isClient: role === 'client',
      extension
    })
    this.lifecycle = new Lifecycle(this.#stream, this.connection, this.sender, this.stats, settings)
    this.consumers = new Consumers(socket, this.#emission, this, settings, decoder, tracer)
    this.#rate = rateLimit
      ? new RateLimiter(
          rateLimit,
          () => this.#fail(RATE_EXCEEDED),
          isThrottled => this.#setThrottled(isThrottled)
        )
      : undefined
    this.#stream.start(this)
  }

  // ---- Messages

  onChunk(chunk: Buffer, isSole: boolean): void {
    const { connection } = this
    this.stats.onBytesReceived(chunk.length)
    if (this.#rate !== undefined && !this.#rate.onBytes(chunk.length)) return
    connection.input.push(chunk, isSole)
    this.#watchMessage()
    this.lifecycle.onBytes()
    if (connection.input.paused && !this.#stream.isEnded) this.#stream.pause()
    // The answers of the protocol itself: pongs and Close frames.
    if (connection.hasOutput || !connection.isOpen) this.#afterEvents()
  }

  onMessage(data: Buffer, isBinary: boolean): void {
    this.stats.onMessageReceived(data.length, isBinary, this.#isCompressed)
    if (this.#rate === undefined || this.#rate.onMessage()) this.consumers.onMessage(data, isBinary)
  }

  onCompressed(data: Buffer, isBinary: boolean): void {
    // A write failed while earlier messages were delivered: nothing can be held back now.
    if (this.#stream.isDestroyed) {
      this.connection.input.pause()
      return
    }
    const inflated = this.#extension?.decompressor.decompress(data, this.#settings.maxPayload)
    if (inflated instanceof Promise) void this.#inflateLater(inflated, isBinary)
    else if (inflated !== undefined) this.#onInflated(inflated, isBinary)
  }

  /** Nothing is parsed while the thread pool inflates a message, nor until a consumer wants it. */
  async #inflateLater(inflated: Promise<Buffer | Violation>, isBinary: boolean): Promise<void> {
    this.#isInflating = true
    this.#update()
    const result = await inflated
    // A violation is answered although nothing is read.
    while (Buffer.isBuffer(result) && !this.#wantsMessages) await this.#untilWanted()
    this.#stream.runInAsyncScope(this.#finishInflating, this, result, isBinary)
  }

  #finishInflating(result: Buffer | Violation, isBinary: boolean): void {
    if (this.#stream.isDestroyed) return
    this.#isInflating = false
    this.#onInflated(result, isBinary)
    this.#update()
    this.#afterEvents()
  }

  #untilWanted(): Promise<void> {
    return new Promise(resolve => {
      this.#onWanted = resolve
    })
  }

  #onInflated(result: Buffer | Violation, isBinary: boolean): void {
    if (!Buffer.isBuffer(result)) {
      this.connection.fail(result)
      return
    }
    this.#isCompressed = true
    this.connection.receiveInflated(result, isBinary)
    this.#isCompressed = false
  }

  // ---- Control frames

  onPing(data: Buffer): void {
    if (!this.#admitsControl()) return
    this.sender.flushPongs()
    this.#emission.emit('ping', data)
    // The answers to pings count too.
    this.sender.hasRoom(true)
  }

  onPong(data: Buffer): void {
    this.lifecycle.onPong(data)
    if (this.#admitsControl()) this.#emission.emit('pong', data)
  }

  /** The stream ends when the closing handshake does. */
  onClose(): void {}

  onFail(error: Error): void {
    this.stats.onFailure(error)
    this.#stream.setCutReason(error)
    this.#emission.emitError(error)
  }

  #admitsControl(): boolean {
    const { maxControlFrames } = this.#settings
    if (!maxControlFrames) return true
    const now = performance.now()
    this.#controlFrames ??= new TokenBucket(maxControlFrames, now)
    if (this.#controlFrames.take(1, now)) return true
    this.#fail(CONTROL_FLOOD)
    return false
  }

  /** Closes the connection, in the async context of the connection wherever the violation was detected. */
  #fail(violation: Violation): void {
    this.#stream.runInAsyncScope(this.lifecycle.fail, this.lifecycle, violation)
  }

  /** Closes the connection because of a message that the application refuses. No later message is delivered. */
  refuse(closeCode: number, reason: string, error: Error): void {
    this.consumers.dropKept()
    if (!this.isOpen) return
    this.lifecycle.refuse(closeCode, reason)
    this.onFail(error)
  }

  // ---- Reading

  get isOpen(): boolean {
    return this.sender.isOpen
  }

  /** The name of the extension in use; empty for none. */
  get extension(): string {
    return this.#extension?.name ?? ''
  }

  get closeTimeout(): number {
    return this.#settings.closeTimeout
  }

  get isClosed(): boolean {
    return this.consumers.hasEnded
  }

  /**
   * Reads from now on, or stops: the stream delivers at most one more chunk, then its backpressure reaches the peer. Chunks
   * that a destroyed stream has delivered can be held back too.
   */
  setReading(isWanted: boolean): void {
    if (this.#isWanted === isWanted || (isWanted ? this.#stream.isDestroyed : this.#stream.isClosed)) return
    this.#isWanted = isWanted
    this.#update()
  }

  onMaxPending(): void {
    this.stats.onLimit('maxPendingMessages')
  }

  #setThrottled(isThrottled: boolean): void {
    if (this.#isThrottled === isThrottled) return
    this.#isThrottled = isThrottled
    if (isThrottled) this.stats.onLimit('rateLimit')
    if (!this.#stream.isDestroyed) this.#update()
  }

  get #wantsMessages(): boolean {
    return this.#isWanted && !this.#isThrottled
  }

  get #isReading(): boolean {
    return this.#wantsMessages && !this.#isInflating
  }

  #update(): void {
    if (this.#wantsMessages) {
      this.#onWanted?.()
      this.#onWanted = undefined
    }
    if (this.#isReading) this.#stream.runInAsyncScope(this.#resume, this)
    else {
      this.connection.input.pause()
      this.#watchMessage()
    }
  }

  #resume(): void {
    if (this.#stream.isDestroyed) return
    const { input } = this.connection
    input.resume()
    // A consumer that takes messages one by one gets everything that is parsed already before more is read.
    if (!input.paused) this.#stream.resume()
    if (this.#stream.hasPeerEnded) this.onStreamEnd()
    this.#watchMessage()
    this.#afterEvents()
  }

  #afterEvents(): void {
    this.sender.flushSoon()
    if (!this.connection.isOpen) this.lifecycle.onClosing()
  }

  /** Applies the limits of a message that has begun and not ended. While nothing is read, it is not the peer's fault. */
  #watchMessage(): void {
    const { isUnfinished, heldBytes } = this.connection.input
    const { messageTimeout, budget } = this.#settings
    if (isUnfinished && messageTimeout)
      this.#messageDeadline ??= new MessageDeadline(messageTimeout, () => this.#fail(MESSAGE_TIMEOUT))
    const isAwaited = isUnfinished && this.#isReading && this.connection.isOpen
    this.#messageDeadline?.update(isAwaited, this.stats.messagesReceived)
    this.#share = BudgetShare.of(this.#share, budget, heldBytes)
    if (this.#share?.hold(heldBytes) === true) this.#fail(OVERLOADED)
  }

  /** Calls a function in the async context of the connection. */
  run<Arguments extends unknown[]>(
    work: (...args: Arguments) => void,
    owner: object,
    ...args: Arguments
  ): void {
    this.#stream.runInAsyncScope(work, owner, ...args)
  }

  /** Passes an error of the application to the owner of the socket. */
  reportError(error: unknown): void {
    this.#emission.reportError(error)
  }

  // ---- The end

  /** The peer sends no more. Data that it sent before may still have to be parsed, inflated or consumed. */
  onStreamEnd(): void {
    if (this.connection.input.hasUnread || this.#isInflating) return
    this.sender.finish()
    this.lifecycle.onClosing()
  }

  onStreamClose(): void {
    const { connection } = this
    const { cutReason } = this.#stream
    this.#messageDeadline?.clear()
    this.#rate?.stop()
    this.#share?.hold(0)
    this.lifecycle.onClose()
    this.sender.onClose()
    this.consumers.onEnd(connection.closeCode !== ABNORMAL_CLOSURE && cutReason === undefined)
    this.#emission.emitClose(connection.closeCode, connection.closeReason, cutReason)
  }
}
