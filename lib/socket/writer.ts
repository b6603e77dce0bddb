import type { AsyncResource } from 'node:async_hooks'
import type { Duplex } from 'node:stream'
import { isPlainSocket } from './byte-stream.js'
import { NotOpenError } from './error.js'
import { type SendCallback, SendCallbacks } from './send-callbacks.js'
import { type Acknowledged, acknowledgedBytes, takenBytes } from './send-queue.js'
import { isThenable } from './thenable.js'

/** What Node passes on as the encoding of a Buffer; its types do not know it. */
const BUFFER = 'buffer' as BufferEncoding

/** What a writer tells. */
export interface WriterEvents {
  /** A write has finished, so there is room. */
  onWritten(): void
  /** A callback threw, or rejected. */
  onCallbackError(error: unknown): void
}

/** Writes the frames of a connection to its stream, and calls back whoever waits for that. */
export class Writer {
  /** Bytes that the stream was given. */
  bytes = 0
  readonly #stream: Duplex
  /** Bytes that the socket was given past its queue and has not taken. */
  #pastQueue = 0
  /** Whether the stream has a queue that may be passed. */
  readonly #isPlain: boolean
  /** Callbacks of what waits to be written, and of the writes under way. */
  #callbacks: SendCallbacks | undefined
  #notifyWritten = false
  #writes: Set<SendCallback[]> | undefined
  readonly #scope: AsyncResource
  readonly #events: WriterEvents

  /** @param scope the async context in which callbacks and events are called. */
  constructor(stream: Duplex, scope: AsyncResource, events: WriterEvents) {
    this.#stream = stream
    this.#scope = scope
    this.#events = events
    this.#isPlain = isPlainSocket(stream)
  }

  /** Bytes that the stream was given and that the operating system has not taken. */
  get unsent(): number {
    return this.#pastQueue + this.#stream.writableLength
  }

  /** Bytes that the operating system has taken. It takes more as the peer reads. */
  get taken(): number {
    return takenBytes(this.#stream) ?? this.bytes - this.unsent
  }

  /** Bytes that the peer's system has acknowledged, counted as `taken`, where the system shows it. */
  acknowledged(): Promise<Acknowledged | undefined> | undefined {
    return acknowledgedBytes(this.#stream)
  }

  /** Whether a callback, of a stream for example, waits until bytes are taken. */
  get isAwaited(): boolean {
    for (const callbacks of this.#writes ?? []) if (callbacks.length > 0) return true
    return false
  }

  /** Calls back once what the connection holds now is written. */
  add(callback: SendCallback): void {
    this.#callbacks ??= new SendCallbacks()
    this.#callbacks.add(callback)
  }

  /** What is added from now on belongs to a frame that is not there yet, or to what is behind it. */
  leaveGap(): void {
    this.#callbacks ??= new SendCallbacks()
    this.#callbacks.leaveGap()
  }

  /** Calls `onWritten` when the writes under way and the next are done. */
  notifyWritten(): void {
    this.#notifyWritten = true
  }

  /**
   * @param buffers one at least.
   * @param gaps how many frames are not there yet and hold back what was sent after them.
   */
  write(buffers: readonly Buffer[], gaps: number): void {
    const callbacks = this.#callbacks?.take(gaps)
    const last = buffers.length - 1
    const hasBacklog = this.#pastQueue > 0 || this.#stream.writableLength > 0
    // Behind a backlog every write is watched: `onWritten` may be asked for later.
    const isWatched = callbacks !== undefined || this.#notifyWritten || hasBacklog
    if (last === 0 && !isWatched && this.#isPlain && this.#stream.writableCorked === 0) {
      this.#writePastQueue(buffers[0])
      return
    }
    if (last > 0) this.#stream.cork()
    for (let i = 0; i < last; i++) this.#writeInto(buffers[i])
    if (isWatched) this.#writeInto(buffers[last], this.#onWritten(callbacks ?? []))
    else this.#writeInto(buffers[last])
    if (last > 0) this.#stream.uncork()
  }

  #writeInto(buffer: Buffer, callback?: (error?: Error | null) => void): void {
    this.bytes += buffer.length
    this.#stream.write(buffer, callback)
  }

  /**
   * A socket with nothing to write takes what it is given at once as a rule, and its queue would only add a tick to that.
   */
  #writePastQueue(buffer: Buffer): void {
    this.bytes += buffer.length
    this.#pastQueue = buffer.length
    this.#stream._write(buffer, BUFFER, error => {
      this.#pastQueue = 0
      if (error) this.#stream.destroy(error)
      else this.#tellWritten()
    })
  }

  #onWritten(callbacks: SendCallback[]): (error?: Error | null) => void {
    this.#writes ??= new Set()
    const writes = this.#writes
    writes.add(callbacks)
    return error => {
      // What a socket did not write before it was destroyed is settled by `close`.
      if (this.#stream.destroyed || !writes.delete(callbacks)) return
      this.#scope.runInAsyncScope(this.#settle, this, callbacks, error)
      if (!error) this.#tellWritten()
    }
  }

  #tellWritten(): void {
    // A socket that is destroyed ends its writes as if they had succeeded.
    if (!this.#notifyWritten || this.#stream.destroyed) return
    this.#notifyWritten = false
    this.#scope.runInAsyncScope(this.#events.onWritten, this.#events)
  }

  /** Has `callback` called with an error, for what was not put into the connection. */
  refuse(callback: SendCallback, error?: Error): void {
    process.nextTick(() => this.#scope.runInAsyncScope(this.#settleLate, this, [callback], error))
  }

  /** The stream is gone: tells everybody who still waits. */
  close(): void {
    const unwritten = this.#callbacks?.take(0) ?? []
    for (const callbacks of this.#writes ?? []) this.#settleLate(callbacks)
    this.#writes?.clear()
    this.#settleLate(unwritten)
  }

  /** Connections end without callbacks as a rule: there is no error before somebody is told of it. */
  #settleLate(callbacks: readonly SendCallback[], error?: Error): void {
    if (callbacks.length > 0) this.#settle(callbacks, error ?? new NotOpenError())
  }

  #settle(callbacks: readonly SendCallback[], error?: Error | null): void {
    for (const callback of callbacks) {
      try {
        const result: unknown = error ? callback(error) : callback()
        if (isThenable(result)) result.then(undefined, thrown => this.#events.onCallbackError(thrown))
      } catch (thrown) {
        this.#events.onCallbackError(thrown)
      }
    }
  }
}
