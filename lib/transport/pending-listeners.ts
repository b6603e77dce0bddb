import { isThenable } from './thenable.js'

type MessageListener = (...args: never[]) => unknown

/** A listener as `EventEmitter` keeps those of `once`: `off` and `listeners` know the one that it stands for. */
interface Wrapper extends MessageListener {
  listener?: MessageListener
}

/** Counts the `message` listeners that are still at work on a message, so that no more are read than they keep up with. */
export class PendingListeners {
  readonly #most: number
  readonly #reader: { updateSoon(): void }
  #pending = 0

  /**
   * @param most how many may be at work while more is read.
   * @param reader asks {@link areBehind} again when that may have changed.
   */
  constructor(most: number, reader: { updateSoon(): void }) {
    this.#most = most
    this.#reader = reader
  }

  get areBehind(): boolean {
    return this.#pending >= this.#most
  }

  /** The listener to add in place of one of the application. Those of `once` come wrapped, and get one message only. */
  count(listener: unknown): unknown {
    if (!isFunction(listener) || 'listener' in listener) return listener
    const pending = this
    const wrapper: Wrapper = function (this: unknown, ...args: never[]): unknown {
      const result: unknown = Reflect.apply(listener, this, args)
      if (isThenable(result)) pending.#add(result)
      return result
    }
    wrapper.listener = listener
    return wrapper
  }

  #add(work: PromiseLike<unknown>): void {
    if (++this.#pending === this.#most) this.#reader.updateSoon()
    const done = (): void => {
      if (this.#pending-- === this.#most) this.#reader.updateSoon()
    }
    work.then(done, done)
  }
}

function isFunction(value: unknown): value is MessageListener {
  return typeof value === 'function'
}
