import { EventEmitter, once } from 'node:events'
import type { Broker, BrokerEvents, Position } from '../../lib/index.js'
import { withDeadline } from '../helpers/timeout.js'

/** Records the events of a broker. */
export class Recorder extends EventEmitter implements BrokerEvents {
  readonly states: ('up' | 'down')[] = []
  readonly messages: string[] = []
  /** Of all messages. */
  readonly positions: (Position | undefined)[] = []
  readonly errors: (Error | undefined)[] = []

  onMessage(channel: string, message: Uint8Array, position?: Position): void {
    this.positions.push(position)
    this.messages.push(`${channel} ${Buffer.from(message)}`)
    this.emit('event')
  }

  onUp(): void {
    this.states.push('up')
    this.emit('event')
  }

  onUnsubscribed(): void {}

  onDown(error?: Error): void {
    this.states.push('down')
    this.errors.push(error)
    this.emit('event')
  }

  /** Resolves when these are the states so far. */
  async until(...states: readonly ('up' | 'down')[]): Promise<void> {
    await this.#wait(() => this.states.length >= states.length, `the states ${states}`)
    if (this.states.join() !== states.join()) throw new Error(`${this.states} instead of ${states}`)
  }

  /** Removes the next message and returns it. */
  async next(): Promise<string> {
    await this.#wait(() => this.messages.length > 0, 'a message')
    return String(this.messages.shift())
  }

  async #wait(predicate: () => boolean, what: string): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!predicate()) await once(this, 'event')
    }
    await withDeadline(wait(), 10_000, what)
  }
}

/** Starts a broker, and closes it when `t` ends. */
export function record(t: { teardown(fn: () => unknown): unknown }, broker: Broker): Recorder {
  const recorder = new Recorder()
  broker.start(recorder)
  t.teardown(() => broker.close())
  return recorder
}
