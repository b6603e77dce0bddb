import type { WebSocketOwner } from './options.js'

/** The events of a WebSocket and their arguments. On a route with the schema `receive`, `Data` is the value of a message. */
export interface WebSocketEvents<Data = Buffer> {
  message: [data: Data, isBinary: boolean]
  /** `error` says why this side has ended the connection, unless the application asked for it. */
  close: [code: number, reason: Buffer, error?: Error | undefined]
  /** The peer broke the protocol or did not read; `close` follows. It is not thrown when it has no listener. */
  error: [error: Error]
  ping: [data: Buffer]
  pong: [data: Buffer]
  /** After `send` returned false: no more than `highWaterMark` bytes are pending. */
  drain: []
  /** With `backpressure: 'drop'`: the number of messages that were dropped in this tick. */
  drop: [count: number]
  open: []
}

/** Whether a value can be awaited, whatever library made it. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}

/** A WebSocket, as far as its events go. */
export interface Emitter {
  readonly emit: (...args: never[]) => unknown
  listenerCount(event: keyof WebSocketEvents): number
}

/**
 * Emits the events of a WebSocket and calls its callbacks. An exception or rejection of the application goes to the owner
 * of the socket, never to the process.
 */
export class Emission {
  readonly #socket: Emitter
  readonly #owner: WebSocketOwner<Emitter>
  #failure: Error | undefined

  constructor(socket: Emitter, owner: WebSocketOwner<Emitter>) {
    this.#socket = socket
    this.#owner = owner
  }

  /** The first error that the event `error` has, or will have: the peer's fault, or a peer that does not read. */
  get failure(): Error | undefined {
    return this.#failure
  }

  listenerCount(event: keyof WebSocketEvents): number {
    return this.#socket.listenerCount(event)
  }

  emit(event: keyof WebSocketEvents, ...args: readonly unknown[]): void {
    try {
      Reflect.apply(this.#socket.emit, this.#socket, [event, ...args])
    } catch (error) {
      this.reportError(error)
    }
  }

  /** Emits `error` if it has a listener. */
  emitError(error: Error): void {
    this.setFailure(error)
    this.#owner.onPeerError(error)
    if (this.listenerCount('error') > 0) this.emit('error', error)
  }

  /** Notes an error that is emitted later. */
  setFailure(error: Error): void {
    this.#failure ??= error
  }

  /** The connection has ended. Most connections end without an error, and listeners written for `ws` expect two arguments. */
  emitClose(code: number, reason: Buffer, error: Error | undefined): void {
    this.#owner.onClose(this.#socket, code, error)
    this.emit('close', code, reason, ...(error ? [error] : []))
  }

  /** Calls a function of the application. */
  call(callback: (error?: Error) => unknown, error: Error | undefined): void {
    try {
      const result = error === undefined ? callback() : callback(error)
      if (isThenable(result)) result.then(undefined, thrown => this.reportError(thrown))
    } catch (thrown) {
      this.reportError(thrown)
    }
  }

  reportError(error: unknown): void {
    this.#owner.onError(this.#socket, error)
  }
}
