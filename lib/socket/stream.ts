import { AsyncResource } from 'node:async_hooks'
import { EventEmitter } from 'node:events'
import { Duplex, type DuplexOptions } from 'node:stream'
import { deadlinesAfter } from '../limits/deadline.js'
import { NORMAL_CLOSURE } from '../protocol/close-code.js'
import { decode, type SendData } from './codec.js'
import type { Consumer, Source } from './consumers.js'
import { NotOpenError, toError } from './error.js'
import type { SendCallback } from './sender.js'

/** `readyState` of a connection that may send. */
const OPEN = 1

/** The part of a WebSocket that a stream needs. */
export interface Sink {
  sendBytes(data: SendData, callback: SendCallback): boolean
  readonly readyState: number
  close(code: number): void
  terminate(): void
  /** Takes the errors of listeners of the stream, and errors without a listener. */
  reportError(error: unknown): void
}

/**
 * A WebSocket as a Duplex. Reading yields the payloads of the messages; written data leaves as messages, strings
 * as text when `decodeStrings` is false and bytes as binary messages. Ending it closes the connection with 1000,
 * destroying it cuts the connection. A closing handshake of the peer is a clean end: both sides of the stream end. A peer
 * that breaks the protocol, sends too much or does not read is an error of the stream.
 */
export class WebSocketStream extends Duplex implements Consumer {
  readonly #source: Source
  readonly #sink: Sink
  readonly #sourceTimeout: number
  /** Reads ahead although this side has no reader yet, so that pings are answered and a close is seen. */
  #wantsMore = true
  #closed = false
  #wasClean = false
  /** The connection has ended, something is piped into the stream, and its other side is not read. */
  #isOnlyWritten = false
  /** The error of the peer: a violation, or that it did not read. */
  #failure: Error | undefined
  #finish: ((error?: Error | null) => void) | undefined

  /** @param sourceTimeout milliseconds that a source of this stream has to end after the connection has ended. */
  constructor(source: Source, sink: Sink, sourceTimeout: number, options: DuplexOptions = {}) {
    // With autoDestroy a loop that has read everything would destroy a stream that is still written to.
    const settings = { ...options, autoDestroy: false, emitClose: true, captureRejections: true }
    super(settings)
    this.#source = source
    this.#sink = sink
    this.#sourceTimeout = sourceTimeout
    // `pipe` listens to `unpipe`, and `pipeline` with an iterable to `drain`.
    this.once('end', () => this.#endWriting(this.listenerCount('unpipe') + this.listenerCount('drain') > 0))
    this.once('finish', () => {
      if (this.readableEnded || (this.#isOnlyWritten && this.readableLength === 0)) this.destroy()
    })
    // A peer that goes away makes a write fail, and must not end a process without a listener for that. A
    // violation of the peer is no error of the application.
    this.on('error', error => {
      this.destroy(error)
      if (this.listenerCount('error') === 1 && error !== this.#failure) sink.reportError(error)
    })
  }

  /** An exception of a listener goes to the application's error handler, not to the process. */
  override emit(event: string | symbol, ...args: unknown[]): boolean {
    try {
      return Reflect.apply(super.emit, this, [event, ...args])
    } catch (error) {
      this.#sink.reportError(error)
      return true
    }
  }

  override [EventEmitter.captureRejectionSymbol](error: Error): void {
    this.#sink.reportError(error)
  }

  get wantsMore(): boolean {
    return this.#wantsMore
  }

  onMessage(data: Buffer, isBinary: boolean): void {
    try {
      this.#wantsMore = this.push(this.readableObjectMode ? decode(data, isBinary) : data)
    } catch (error) {
      // More text than a string can hold.
      this.destroy(toError(error))
    }
  }

  onEnd(failure: Error | undefined, wasClean: boolean): void {
    this.#closed = true
    this.#wasClean = wasClean
    if (failure !== undefined) {
      this.#failure = failure
      // The reader still gets the data that came before.
      if (this.readableLength === 0 || this.readableFlowing === null) this.destroy(failure)
      return
    }
    this.push(null)
    this.#finish?.()
    // A stream that is only piped into would never end.
    this.#isOnlyWritten = this.readableFlowing === null && this.listenerCount('unpipe') > 0
    if (this.#isOnlyWritten) this.#endWriting(true)
  }

  /**
   * Nothing can be written to a connection that has ended. At a clean end that is no error as long as nothing is written.
   * The source of an echo ends because this stream has ended, so it gets time for that; a source that neither writes nor
   * ends must not be kept for ever.
   */
  #endWriting(hasSource: boolean): void {
    if (!this.#wasClean || this.writableFinished) this.destroy()
    else if (hasSource)
      deadlinesAfter(this.#sourceTimeout).set({
        onDeadline: AsyncResource.bind(() => this.#onSourceTimeout())
      })
    else this.end()
  }

  #onSourceTimeout(): void {
    if (!this.writableEnded) this.destroy()
  }

  override read(size?: number): unknown {
    const chunk: unknown = super.read(size)
    // Only after the last chunk was delivered.
    if (this.#failure !== undefined && this.readableLength === 0)
      process.nextTick(() => this.destroy(this.#failure))
    return chunk
  }

  override _read(): void {
    this.#wantsMore = true
    this.#source.wanted()
  }

  override _write(chunk: SendData, _encoding: BufferEncoding, callback: SendCallback): void {
    if (this.#failure !== undefined) {
      callback(this.#failure)
      return
    }
    try {
      this.#sink.sendBytes(chunk, callback)
    } catch (error) {
      // Not thrown at the writer, which may be a pipe without an error handler.
      callback(error as Error)
    }
  }

  /** Finished when the closing handshake is. */
  override _final(callback: (error?: Error | null) => void): void {
    if (this.#closed) {
      callback()
      return
    }
    this.#finish = callback
    this.#sink.close(NORMAL_CLOSURE)
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#source.release()
    // Data that was written too late is lost, but a pending Close frame is not.
    const isClosing = error instanceof NotOpenError && this.#sink.readyState !== OPEN
    if (!this.#closed && !isClosing) this.#sink.terminate()
    callback(error)
  }
}
