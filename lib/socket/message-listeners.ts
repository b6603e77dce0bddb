import { EventEmitter } from 'node:events'
import { isThenable } from './thenable.js'

type MessageListener = (...args: never[]) => unknown

/** The WebSocket whose listeners they are. */
export interface Listened {
  readonly emit: (...args: never[]) => unknown
  rawListeners(event: 'message'): readonly MessageListener[]
  /** Told what a listener rejects with. */
  reportError(error: unknown): void
}

/**
 * Tells the `message` listeners of a WebSocket, and counts those that are still at work on a message, so that no more are
 * read than they keep up with. It calls them itself, as `emit` does not give away what they return.
 */
export class MessageListeners {
  readonly #socket: Listened
  readonly #most: number
  readonly #reader: { updateSoon(): void }
  /** Asked for again when they have changed. */
  #listeners: readonly MessageListener[] | undefined
  #pending = 0

  /**
   * @param most how many may be at work while more is read.
   * @param reader asks {@link areBehind} again when that may have changed.
   */
  constructor(socket: Listened, most: number, reader: { updateSoon(): void }) {
    this.#socket = socket
    this.#most = most
    this.#reader = reader
  }

  get areBehind(): boolean {
    return this.#pending >= this.#most
  }

  /** Listeners were added or removed. */
  change(): void {
    this.#listeners = undefined
  }

  /** @throws what a listener throws; those after it are not told, as with `emit`. */
  tell(data: unknown, isBinary: boolean): void {
    const socket = this.#socket
    // Whoever has put another `emit` in its place wants to see the messages.
    if (socket.emit !== EventEmitter.prototype.emit) {
      Reflect.apply(socket.emit, socket, ['message', data, isBinary])
      return
    }
    this.#listeners ??= socket.rawListeners('message')
    for (const listener of this.#listeners) {
      const result: unknown = Reflect.apply(listener, socket, [data, isBinary])
      if (isThenable(result)) this.#add(result)
    }
  }

  #add(work: PromiseLike<unknown>): void {
    if (++this.#pending === this.#most) this.#reader.updateSoon()
    const done = (): void => {
      if (this.#pending-- === this.#most) this.#reader.updateSoon()
    }
    work.then(done, error => {
      done()
      this.#socket.reportError(error)
    })
  }
}
