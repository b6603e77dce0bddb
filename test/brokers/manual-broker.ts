import type { Broker, BrokerEvents } from '../../lib/brokers/broker.js'

interface Call {
  readonly method: 'publish' | 'subscribe' | 'unsubscribe'
  readonly channel: string
  readonly message: Uint8Array | undefined
  readonly settle: (error?: Error) => void
}

/** A broker whose calls settle when the test says so. */
export class ManualBroker implements Broker {
  events: BrokerEvents | undefined
  /** The calls that have not settled. */
  readonly calls: Call[] = []
  /** The number of calls of `close`. */
  closes = 0
  /** The promise that `close` waits for. */
  end: Promise<void> | undefined

  start(events: BrokerEvents): void {
    this.events = events
  }

  publish(channel: string, message: Uint8Array): Promise<void> {
    return this.#call('publish', channel, message)
  }

  subscribe(channel: string): Promise<void> {
    return this.#call('subscribe', channel)
  }

  unsubscribe(channel: string): Promise<void> {
    return this.#call('unsubscribe', channel)
  }

  async close(): Promise<void> {
    this.closes++
    await this.end
  }

  /** The names of the calls that have not settled. */
  get pending(): string[] {
    return this.calls.map(({ method, channel }) => `${method} ${channel}`)
  }

  /** Settles the oldest call and returns its name. */
  async settle(error?: Error): Promise<string> {
    const [call] = this.calls.splice(0, 1)
    if (call === undefined) throw new Error('no call is pending')
    call.settle(error)
    await new Promise(resolve => setImmediate(resolve))
    return `${call.method} ${call.channel}`
  }

  #call(method: Call['method'], channel: string, message?: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error?: Error): void => (error ? reject(error) : resolve())
      this.calls.push({ method, channel, message, settle })
    })
  }
}
