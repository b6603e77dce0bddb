import { EventEmitter, once } from 'node:events'
import type { Broker, BrokerEvents } from '../../lib/index.js'
import { withDeadline } from '../helpers/timeout.js'

/** What a broker tells. */
export class Recorder extends EventEmitter implements BrokerEvents {
  readonly states: ('up' | 'down')[] = []
  readonly messages: string[] = []
  readonly errors: (Error | undefined)[] = []

  onMessage(channel: string, message: Uint8Array): void {
    this.messages.push(`${channel} ${Buffer.from(message)}`)
    this.emit('news')
  }

  onUp(): void {
    this.states.push('up')
    this.emit('news')
  }

  onUnsubscribed(): void {}

  onDown(error?: Error): void {
    this.states.push('down')
    this.errors.push(error)
    this.emit('news')
  }

  async until(...states: readonly ('up' | 'down')[]): Promise<void> {
    await this.#wait(() => this.states.length >= states.length, `the states ${states}`)
    if (this.states.join() !== states.join()) throw new Error(`${this.states} instead of ${states}`)
  }

  async next(): Promise<string> {
    await this.#wait(() => this.messages.length > 0, 'a message')
    return String(this.messages.shift())
  }

  async #wait(predicate: () => boolean, what: string): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!predicate()) await once(this, 'news')
    }
    await withDeadline(wait(), 10_000, what)
  }
}

/** A broker that has started, closed when `t` ends. */
export function record(t: { teardown(fn: () => unknown): unknown }, broker: Broker): Recorder {
  const recorder = new Recorder()
  broker.start(recorder)
  t.teardown(() => broker.close())
  return recorder
}
