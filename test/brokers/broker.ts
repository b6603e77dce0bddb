import type { Broker, BrokerEvents } from '../../lib/brokers/broker.js'

interface Call {
  readonly method: 'publish' | 'subscribe' | 'unsubscribe'
  readonly channel: string
  readonly message: Uint8Array | undefined
  readonly settle: (error?: Error) => void
}

/** A broker whose engine does what the test says. */
export class ManualBroker implements Broker {
  events: BrokerEvents | undefined
  /** What was asked and is not answered. */
  readonly calls: Call[] = []
  /** How often it was closed. */
  closes = 0
  /** What `close` waits for. */
  end: Promise<void> | undefined

  start(events: BrokerEvents): void {
    this.events = events
  }

  #ask(method: Call['method'], channel: string, message?: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error?: Error): void => (error ? reject(error) : resolve())
      this.calls.push({ method, channel, message, settle })
    })
  }

  publish(channel: string, message: Uint8Array): Promise<void> {
    return this.#ask('publish', channel, message)
  }

  subscribe(channel: string): Promise<void> {
    return this.#ask('subscribe', channel)
  }

  unsubscribe(channel: string): Promise<void> {
    return this.#ask('unsubscribe', channel)
  }

  async close(): Promise<void> {
    this.closes++
    await this.end
  }

  /** Answers the oldest question, and says what it was. */
  async answer(error?: Error): Promise<string> {
    const [call] = this.calls.splice(0, 1)
    if (call === undefined) throw new Error('nothing was asked')
    call.settle(error)
    await new Promise(resolve => setImmediate(resolve))
    return `${call.method} ${call.channel}`
  }

  get asked(): string[] {
    return this.calls.map(({ method, channel }) => `${method} ${channel}`)
  }
}
