import { EventEmitter } from 'node:events'
import type { DiagnosedSocket } from '../diagnostics.js'
import { type BinaryType, decode, decodeForListener } from './codec.js'
import { AlreadyReadError } from './error.js'
import { type Emission, isThenable } from './events.js'
import type { MessageDecoder, MessageTracer, WebSocketSettings } from './options.js'

/** Takes messages one by one; reading pauses while `wantsMore` is false. */
export interface Consumer {
  readonly wantsMore: boolean
  onMessage(data: Buffer, isBinary: boolean): void
  /**
   * The connection is closed.
   * @param failure the error of the event `error`, if there was one: then the messages so far are not all.
   * @param wasClean whether the closing handshake was finished and this side did not cut the connection.
   */
  onEnd(failure: Error | undefined, wasClean: boolean): void
}

/** The part of the {@link Consumers} that a consumer needs. */
export interface Source {
  /** `wantsMore` may have changed. */
  wanted(): void
  /** Detaches the consumer. */
  release(): void
}

type MessageListener = (...args: never[]) => unknown

/** The WebSocket whose messages are consumed. */
export interface ConsumingSocket extends DiagnosedSocket {
  readonly emit: (...args: never[]) => unknown
  readonly binaryType: BinaryType
  rawListeners(event: 'message'): readonly MessageListener[]
  listenerCount(event: string): number
}

interface KeptMessage {
  readonly data: Buffer
  readonly isBinary: boolean
}

/** The receiver, as far as the consumers direct it. */
export interface Reading {
  /** Whether messages may still be sent. */
  readonly isOpen: boolean
  setReading(isWanted: boolean): void
  /** There are as many pending messages as `maxPendingMessages` allows. */
  onMaxPending(): void
  /** Calls a function in the async context of the connection. */
  run<Arguments extends unknown[]>(
    work: (...args: Arguments) => void,
    owner: object,
    ...args: Arguments
  ): void
}

/**
 * The consumers of a WebSocket's messages: listeners of `message`, and an iterator or a stream. They decide when the
 * connection is read, so that no message is lost: while a consumer wants messages, or once the handler is done without
 * having added one. With a listener of `close`, `ping` or `pong` the connection is read up to the next message, which is
 * kept.
 */
export class Consumers implements Source {
  readonly #socket: ConsumingSocket
  readonly #emission: Emission
  readonly #reading: Reading
  readonly #settings: Pick<WebSocketSettings, 'maxPendingMessages' | 'keepsMessages'>
  readonly #decoder: MessageDecoder<ConsumingSocket> | undefined
  readonly #tracer: MessageTracer<ConsumingSocket> | undefined
  /** Whether messages go straight to the listeners, without a check before each. */
  #isDirect = false
  /** Unset when listeners are added or removed. */
  #listeners: readonly MessageListener[] | undefined
  /** Messages that asynchronous listeners are working on. */
  #pending = 0
  /** The iterator or the stream. */
  #consumer: Consumer | undefined
  #isPaused = false
  /** Whether to read although there is no consumer. */
  #readsAlways = false
  /** Messages without a consumer, in order. */
  #kept: KeptMessage[] | undefined
  /** Whether the end was clean; undefined while the connection is open. */
  #end: 'clean' | 'unclean' | undefined
  /** Whether an update is due at the end of the tick. */
  #isUpdateDue = false

  constructor(
    socket: ConsumingSocket,
    emission: Emission,
    reading: Reading,
    settings: Pick<WebSocketSettings, 'maxPendingMessages' | 'keepsMessages'>,
    decoder: MessageDecoder<ConsumingSocket> | undefined,
    tracer: MessageTracer<ConsumingSocket> | undefined
  ) {
    this.#socket = socket
    this.#emission = emission
    this.#reading = reading
    this.#settings = settings
    this.#decoder = decoder
    this.#tracer = tracer
    if (this.#keepsAll) this.updateSoon()
  }

  /** Whether everything is read from the start, and messages are kept until a consumer takes them. */
  get #keepsAll(): boolean {
    return this.#settings.keepsMessages === true
  }

  // ---- calls of the application

  get isPaused(): boolean {
    return this.#isPaused
  }

  setPaused(isPaused: boolean): void {
    if (isPaused && this.#end !== undefined) return
    this.#isPaused = isPaused
    this.updateSoon()
  }

  /** Reads from now on although there is no consumer, so that pings are answered and a close is seen. */
  readAlways(): void {
    this.#readsAlways = true
    this.updateSoon()
  }

  /** @throws {AlreadyReadError} while another iterator or stream reads. */
  checkUnread(): void {
    if (this.#consumer !== undefined) throw new AlreadyReadError()
  }

  /** Delivers every message to a consumer from now on; on a closed connection the kept messages, then the end. */
  consume<Kind extends Consumer>(consumer: Kind): Kind {
    if (this.#isOver) {
      consumer.onEnd(this.#emission.failure, this.#end === 'clean')
      return consumer
    }
    this.checkUnread()
    this.#consumer = consumer
    this.updateSoon()
    return consumer
  }

  /** An iterator over the messages. */
  iterate(): AsyncIterableIterator<unknown> {
    return this.consume(new MessageIterator(this))
  }

  wanted(): void {
    this.#update()
  }

  release(): void {
    this.#consumer = undefined
    this.updateSoon()
  }

  /** Listeners were added or removed. */
  onListenersChanged(): void {
    this.#listeners = undefined
    this.updateSoon()
  }

  // ---- Messages

  onMessage(data: Buffer, isBinary: boolean): void {
    if (this.#isDirect) {
      this.#notifyListeners(data, isBinary)
      return
    }
    if (this.#kept === undefined && this.#isTaken && (!this.#keepsAll || this.#isWanted)) {
      this.#deliver(data, isBinary)
      if (this.#consumer === undefined) return
    } else {
      this.#kept ??= []
      this.#kept.push({ data, isBinary })
    }
    this.#update()
  }

  #deliver(data: Buffer, isBinary: boolean): void {
    if (this.#decoder !== undefined) {
      this.#deliverDecoded(this.#decoder, data, isBinary)
      return
    }
    this.#consumer?.onMessage(data, isBinary)
    this.#notifyListeners(data, isBinary)
  }

  /** A message is decoded when it is delivered, not when it arrives, so that a refused one is refused in its turn. */
  #deliverDecoded(decoder: MessageDecoder<ConsumingSocket>, data: Buffer, isBinary: boolean): void {
    const consumer = this.#consumer
    const iterator = consumer instanceof MessageIterator ? consumer : undefined
    if (consumer !== iterator) {
      // A stream delivers bytes.
      consumer?.onMessage(data, isBinary)
      if (this.#socket.listenerCount('message') === 0) return
    }
    let value: unknown
    try {
      value = decoder.decode(data, isBinary)
    } catch (error) {
      this.#onUndecoded(decoder, error)
      return
    }
    iterator?.onValue(value)
    try {
      this.#callListeners(value, isBinary)
    } catch (error) {
      this.#emission.reportError(error)
    }
  }

  #onUndecoded(decoder: MessageDecoder<ConsumingSocket>, thrown: unknown): void {
    try {
      const result = decoder.onUndecoded(this.#socket, thrown)
      if (isThenable(result)) this.#await(result)
    } catch (error) {
      this.#emission.reportError(error)
    }
  }

  #notifyListeners(data: Buffer, isBinary: boolean): void {
    try {
      this.#callListeners(decodeForListener(data, isBinary, this.#socket.binaryType), isBinary)
    } catch (error) {
      this.#emission.reportError(error)
    }
  }

  /** Calls the listeners itself, as `emit` does not return their results. The first exception ends the round, as in `emit`. */
  #callListeners(decoded: unknown, isBinary: boolean): void {
    const socket = this.#socket
    // Code that has replaced `emit` wants to see the messages.
    if (socket.emit !== EventEmitter.prototype.emit) {
      this.#emission.emit('message', decoded, isBinary)
      return
    }
    this.#listeners ??= socket.rawListeners('message')
    if (this.#tracer !== undefined && this.#listeners.length > 0) {
      this.#traceListeners(this.#tracer, this.#listeners, decoded, isBinary)
      return
    }
    this.#callEach(this.#listeners, decoded, isBinary)
  }

  #traceListeners(
    tracer: MessageTracer<ConsumingSocket>,
    listeners: readonly MessageListener[],
    decoded: unknown,
    isBinary: boolean
  ): void {
    tracer.traceMessage(this.#socket, isBinary, () => {
      const pending: PromiseLike<unknown>[] = []
      this.#callEach(listeners, decoded, isBinary, pending)
      return pending
    })
  }

  /** @param pending gets the promises of asynchronous listeners. */
  #callEach(
    listeners: readonly MessageListener[],
    decoded: unknown,
    isBinary: boolean,
    pending?: PromiseLike<unknown>[]
  ): void {
    for (const listener of listeners) {
      const result: unknown = Reflect.apply(listener, this.#socket, [decoded, isBinary])
      if (!isThenable(result)) continue
      this.#await(result)
      pending?.push(result)
    }
  }

  /** Counts asynchronous listeners, so that no more messages are read than they keep up with. */
  #await(work: PromiseLike<unknown>): void {
    const max = this.#maxPending
    if (++this.#pending === max) {
      this.#reading.onMaxPending()
      this.updateSoon()
    }
    const done = (): void => {
      if (this.#pending-- === max) this.updateSoon()
    }
    work.then(done, error => {
      done()
      this.#emission.reportError(error)
    })
  }

  get #maxPending(): number {
    return this.#settings.maxPendingMessages || Number.POSITIVE_INFINITY
  }

  /** Drops the messages that no consumer has taken yet. */
  dropKept(): void {
    this.#kept = undefined
  }

  // ---- When to read

  /** Stops reading immediately, but kept messages are not delivered before the caller has returned. */
  updateSoon(): void {
    this.#isDirect = false
    if (!this.#isRead) this.#reading.setReading(false)
    else if (!this.#isUpdateDue) {
      this.#isUpdateDue = true
      process.nextTick(updateNow, this)
    }
  }

  /** @internal */
  updateNow(): void {
    this.#isUpdateDue = false
    this.#update()
  }

  #update(): void {
    if (this.#kept !== undefined) this.#deliverKept()
    this.#isDirect =
      this.#decoder === undefined && this.#isWanted && this.#consumer === undefined && this.#isTaken
    this.#reading.setReading(this.#isRead)
  }

  /** Whether a message that arrives has a consumer. */
  get #isTaken(): boolean {
    return this.#consumer !== undefined || this.#readsAlways || this.#socket.listenerCount('message') > 0
  }

  get #isWanted(): boolean {
    // Once the connection is closing, everything up to the peer's Close frame is read.
    const isBehind = this.#pending >= this.#maxPending && this.#reading.isOpen
    if (this.#isPaused || isBehind) return false
    if (this.#consumer !== undefined) return this.#consumer.wantsMore
    return this.#isTaken || (this.#kept === undefined && this.#isWatched)
  }

  /** Whether the connection is read, although a message may have to wait for a consumer. */
  get #isRead(): boolean {
    return this.#isWanted || (this.#keepsAll && !this.#isPaused)
  }

  get #isWatched(): boolean {
    const socket = this.#socket
    return socket.listenerCount('close') + socket.listenerCount('ping') + socket.listenerCount('pong') > 0
  }

  #deliverKept(): void {
    while (this.#isWanted && this.#isTaken) {
      const next = this.#kept?.shift()
      if (next === undefined) {
        this.#kept = undefined
        break
      }
      this.#reading.run(this.#deliver, this, next.data, next.isBinary)
    }
    this.#endConsumer()
  }

  // ---- The end

  get hasEnded(): boolean {
    return this.#end !== undefined
  }

  /**
   * The connection is closed.
   * @param wasClean whether the closing handshake was finished and this side did not cut the connection.
   */
  onEnd(wasClean: boolean): void {
    this.#isPaused = false
    this.#end = wasClean ? 'clean' : 'unclean'
    if (!this.#keepsAll) this.#kept = undefined
    this.#endConsumer()
  }

  /** Whether no message will be delivered any more. */
  get #isOver(): boolean {
    return this.#end !== undefined && this.#kept === undefined
  }

  #endConsumer(): void {
    if (!this.#isOver) return
    this.#consumer?.onEnd(this.#emission.failure, this.#end === 'clean')
    this.#consumer = undefined
  }
}

function updateNow(consumers: Consumers): void {
  consumers.updateNow()
}

interface Waiting {
  readonly resolve: (result: IteratorResult<unknown, undefined>) => void
  readonly reject: (error: unknown) => void
}

/**
 * Iterates over the messages of a connection. A message is read when the loop requests it. The loop ends when the
 * connection closes, for whatever reason.
 */
export class MessageIterator implements Consumer, AsyncIterableIterator<unknown> {
  readonly #source: Source
  #waiting: Waiting[] = []
  #isEnded = false

  constructor(source: Source) {
    this.#source = source
  }

  get wantsMore(): boolean {
    return this.#waiting.length > 0
  }

  next(): Promise<IteratorResult<unknown, undefined>> {
    if (this.#isEnded) return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#source.wanted()
    })
  }

  return(): Promise<IteratorResult<unknown, undefined>> {
    if (!this.#isEnded) {
      this.onEnd()
      this.#source.release()
    }
    return Promise.resolve({ done: true, value: undefined })
  }

  onMessage(data: Buffer, isBinary: boolean): void {
    const waiting = this.#waiting.shift()
    try {
      waiting?.resolve({ done: false, value: decode(data, isBinary) })
    } catch (error) {
      // More text than a string can hold is an error of the loop, not of the process.
      waiting?.reject(error)
      void this.return()
    }
  }

  /** Takes a message that is decoded already. */
  onValue(value: unknown): void {
    this.#waiting.shift()?.resolve({ done: false, value })
  }

  onEnd(): void {
    this.#isEnded = true
    for (const { resolve } of this.#waiting) resolve({ done: true, value: undefined })
    this.#waiting = []
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}
