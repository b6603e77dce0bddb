import type { BrokerEvents } from './broker.js'
import { ClosedBrokerError } from './error.js'

/** Whether an engine can be reached. It tells each change once, and what is asked of the engine meets with the answer. */
export class Reachability {
  #events: BrokerEvents | undefined
  #state: 'unknown' | 'up' | 'down' | 'closed' = 'unknown'
  #reason: Error = new ClosedBrokerError()
  /** What was asked while nothing was known. */
  #waiting: (() => void)[] = []

  get isUp(): boolean {
    return this.#state === 'up'
  }

  get isClosed(): boolean {
    return this.#state === 'closed'
  }

  /** Tells the changes from now on. */
  start(events: BrokerEvents): void {
    this.#events = events
  }

  up(): void {
    if (this.#state === 'up' || this.#state === 'closed') return
    this.#state = 'up'
    // First, so that nothing that is asked from now on overtakes it.
    this.#release()
    this.#events?.onUp()
  }

  down(reason: Error): void {
    if (this.#state === 'down' || this.#state === 'closed') return
    this.#state = 'down'
    this.#reason = reason
    this.#release()
    this.#events?.onDown(reason)
  }

  /** Nothing is told any more. */
  close(): void {
    this.#state = 'closed'
    this.#reason = new ClosedBrokerError()
    this.#release()
  }

  /** Runs `work` at once while the engine can be reached, as soon as that is known at first, and rejects otherwise. */
  run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#state === 'up') return work()
    if (this.#state !== 'unknown') return Promise.reject(this.#reason)
    return new Promise(resolve => {
      this.#waiting.push(() => resolve(this.run(work)))
    })
  }

  #release(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const resume of waiting) resume()
  }
}
