import type { BrokerEvents } from './broker.js'
import { ClosedBrokerError, InvalidBrokerOptionError } from './error.js'

// Common to all brokers that have an engine, such as Redis or NATS.

/** Whether a broker is connected to its engine. It reports each change once and decides whether calls go ahead. */
export class EngineState {
  #events: BrokerEvents | undefined
  #state: 'connecting' | 'connected' | 'disconnected' | 'closed' = 'connecting'
  /** Why calls are rejected while the engine is disconnected or the broker is closed. */
  #reason: Error = new ClosedBrokerError()
  /** Calls made before the first attempt to connect has an outcome. */
  #pending: (() => void)[] = []

  get isConnected(): boolean {
    return this.#state === 'connected'
  }

  get isClosed(): boolean {
    return this.#state === 'closed'
  }

  /** Reports changes to `events` from now on. */
  start(events: BrokerEvents): void {
    this.#events = events
  }

  connected(): void {
    if (this.#state === 'connected' || this.#state === 'closed') return
    this.#state = 'connected'
    // Before the event, so that calls made by its listeners do not overtake the pending ones.
    this.#settlePending()
    this.#events?.onUp()
  }

  disconnected(reason: Error): void {
    if (this.#state === 'disconnected' || this.#state === 'closed') return
    this.#state = 'disconnected'
    this.#reason = reason
    this.#settlePending()
    this.#events?.onDown(reason)
  }

  /** Reports nothing and rejects all calls from now on. */
  close(): void {
    this.#state = 'closed'
    this.#reason = new ClosedBrokerError()
    this.#settlePending()
  }

  /** Makes a call if the engine is connected. Before the first connection it waits; otherwise it rejects at once. */
  run<T>(call: () => Promise<T>): Promise<T> {
    if (this.#state === 'connected') return call()
    if (this.#state !== 'connecting') return Promise.reject(this.#reason)
    return new Promise(resolve => {
      this.#pending.push(() => resolve(this.run(call)))
    })
  }

  #settlePending(): void {
    const pending = this.#pending
    this.#pending = []
    for (const settle of pending) settle()
  }
}

/** Calls back if the engine does not reply in time. */
export class ReplyTimeout {
  readonly #timer: NodeJS.Timeout
  #immediate: NodeJS.Immediate | undefined

  constructor(milliseconds: number, onTimeout: () => void) {
    this.#timer = setTimeout(() => {
      // If this process was blocked, the reply may already be in the socket: read it first.
      this.#immediate = setImmediate(onTimeout)
    }, milliseconds)
  }

  cancel(): void {
    clearTimeout(this.#timer)
    clearImmediate(this.#immediate)
  }
}

/** Whether a client has these methods. */
export function hasMethods(client: unknown, names: readonly string[]): boolean {
  return names.every(name => typeof Reflect.get(Object(client), name) === 'function')
}

/** The maximum delay of a timer. */
const MAX_TIMEOUT = 2 ** 31 - 1

/** @throws {TypeError} `FST_UPGRADE_INVALID_BROKER_OPTION` */
export function checkTimeout(timeout: number): void {
  if (Number.isInteger(timeout) && timeout >= 1 && timeout <= MAX_TIMEOUT) return
  throw new InvalidBrokerOptionError('timeout', `an integer from 1 to ${MAX_TIMEOUT}`)
}
