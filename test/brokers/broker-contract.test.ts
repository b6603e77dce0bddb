import t from 'tap'
import type {
  AppendOptions,
  BrokerEvents,
  HistoryPage,
  Position,
  ReadOptions
} from '../../lib/brokers/broker.js'
import { brokerContract, historyContract } from '../../lib/brokers/broker-contract.js'
import { MemoryBroker, MemoryHub } from '../../lib/brokers/memory.js'

/** A memory broker that handles received messages in its own way. `pass` is the correct way. */
function receiving(
  receive: (pass: MemoryBroker['receive'], channel: string, message: Uint8Array) => void
): (hub: MemoryHub) => MemoryBroker {
  return hub =>
    new (class extends MemoryBroker {
      override receive(channel: string, message: Uint8Array): void {
        receive((...args) => super.receive(...args), channel, message)
      }
    })(hub)
}

/** Brokers that break the contract, each with the test that has to fail. */
const BROKEN: Readonly<Record<string, readonly [test: string, (hub: MemoryHub) => MemoryBroker]>> = {
  'reports a disconnect first': [
    'reports once that it is connected',
    hub =>
      new (class extends MemoryBroker {
        override start(events: BrokerEvents): void {
          events.onDown()
          super.start(events)
        }
      })(hub)
  ],
  'reports the end of a subscription': [
    'reports once that it is connected',
    hub =>
      new (class extends MemoryBroker {
        override start(events: BrokerEvents): void {
          events.onUnsubscribed('m:x', new Error('gone'))
          super.start(events)
        }
      })(hub)
  ],
  'delivers each message twice': [
    'delivers any bytes to each subscriber of a channel once',
    receiving((pass, channel, message) => {
      pass(channel, message)
      pass(channel, message)
    })
  ],
  'delivers large messages twice': [
    'delivers any bytes to each subscriber of a channel once',
    receiving((pass, channel, message) => {
      pass(channel, message)
      if (message.length > 1000) pass(channel, message)
    })
  ],
  'changes small messages': [
    'delivers any bytes to each subscriber of a channel once',
    receiving((pass, channel, message) => {
      pass(channel, message.length > 4 ? message : Buffer.alloc(message.length))
    })
  ],
  'subscribes by itself': [
    'delivers any bytes to each subscriber of a channel once',
    hub =>
      new (class extends MemoryBroker {
        override start(events: BrokerEvents): void {
          super.start(events)
          void this.subscribe('m:x')
        }
      })(hub)
  ],
  'converts bytes to text': [
    'delivers any bytes to each subscriber of a channel once',
    receiving((pass, channel, message) => {
      pass(channel, Buffer.from(Buffer.from(message).toString()))
    })
  ],
  'truncates the names of channels': [
    'keeps channels apart, whatever their names are',
    receiving((pass, channel, message) => {
      pass(channel.slice(0, 100), message)
    })
  ],
  'delivers messages of channels with long names twice': [
    'keeps channels apart, whatever their names are',
    receiving((pass, channel, message) => {
      pass(channel, message)
      if (channel.length > 1000) pass(channel, message)
    })
  ],
  'swaps messages': [
    'keeps the order of messages that are published without waiting',
    hub =>
      new (class extends MemoryBroker {
        #held: Uint8Array | undefined
        override receive(channel: string, message: Uint8Array): void {
          const held = this.#held
          this.#held = held === undefined ? message : undefined
          if (held === undefined) return
          super.receive(channel, message)
          super.receive(channel, held)
        }
      })(hub)
  ],
  'ignores unsubscribe': [
    'delivers nothing after unsubscribe until it subscribes again',
    hub =>
      new (class extends MemoryBroker {
        override async unsubscribe(): Promise<void> {}
      })(hub)
  ],
  'repeats the first message of a channel': [
    'delivers nothing after unsubscribe until it subscribes again',
    hub =>
      new (class extends MemoryBroker {
        #first: Uint8Array | undefined
        override receive(channel: string, message: Uint8Array): void {
          this.#first ??= message
          super.receive(channel, channel === 'm:x' ? this.#first : message)
        }
      })(hub)
  ],
  'mixes up one of many channels': [
    'subscribes to many channels at once',
    receiving((pass, channel, message) => {
      pass(channel === 'm:299' ? 'm:0' : channel, message)
    })
  ],
  'ignores close': [
    'reports nothing after close, and does not affect other brokers',
    hub =>
      new (class extends MemoryBroker {
        override async close(): Promise<void> {}
      })(hub)
  ],
  'delivers messages after close': [
    'reports nothing after close, and does not affect other brokers',
    hub =>
      new (class extends MemoryBroker {
        #isClosed = false
        override async publish(channel: string, message: Uint8Array): Promise<void> {
          if (this.#isClosed) throw new Error('closed')
          await super.publish(channel, message)
        }
        override async close(): Promise<void> {
          this.#isClosed = true
        }
      })(hub)
  ],
  'reports a disconnect when it is closed': [
    'reports nothing after close, and does not affect other brokers',
    hub =>
      new (class extends MemoryBroker {
        #events: BrokerEvents | undefined
        override start(events: BrokerEvents): void {
          this.#events = events
          super.start(events)
        }
        override async close(): Promise<void> {
          await super.close()
          this.#events?.onDown()
        }
      })(hub)
  ],
  'publishes after close': [
    'reports nothing after close, and does not affect other brokers',
    hub =>
      new (class extends MemoryBroker {
        override async publish(channel: string, message: Uint8Array): Promise<void> {
          hub.publish(channel, message)
        }
      })(hub)
  ],
  'publishes a message when it is closed': [
    'reports nothing after close, and does not affect other brokers',
    hub =>
      new (class extends MemoryBroker {
        override async close(): Promise<void> {
          await super.close()
          hub.publish('m:x', Buffer.from('the end'))
        }
      })(hub)
  ]
}

for (const [how, [name, make]] of Object.entries(BROKEN)) {
  t.test(`the contract rejects a broker that ${how}`, async t => {
    const hub = new MemoryHub()
    const test = brokerContract(() => make(hub)).get(name)
    await t.rejects(async () => test?.(), { code: 'ERR_ASSERTION' })
  })
}

t.test('the contract closes each of its brokers once', async t => {
  for (const name of brokerContract(() => new MemoryBroker(new MemoryHub())).keys()) {
    const hub = new MemoryHub()
    const closes: number[] = []
    const test = brokerContract(() => {
      const index = closes.push(0) - 1
      return new (class extends MemoryBroker {
        override async close(): Promise<void> {
          closes[index]++
          await super.close()
        }
      })(hub)
    }).get(name)
    await test?.()
    t.strictSame(closes, [1, 1, 1], name)
  }
})

/** A memory broker whose history works in another way. `super` is the correct way. */
class Changed extends MemoryBroker {
  readonly hub: MemoryHub

  constructor(hub: MemoryHub) {
    super(hub)
    this.hub = hub
  }
}

/** Brokers that break the contract of histories, each with the test that has to fail. */
const BROKEN_HISTORY: Readonly<
  Record<string, readonly [test: string, new (hub: MemoryHub) => MemoryBroker]>
> = {
  'delivers appended messages without their positions': [
    'delivers appended messages to all subscribers with their positions, the publisher included',
    class extends Changed {
      override receive(channel: string, message: Uint8Array): void {
        super.receive(channel, message)
      }
    }
  ],
  'skips an offset': [
    'numbers messages that several processes append at once without gaps, and delivers them in order',
    class extends Changed {
      override async read(channel: string, options: ReadOptions): Promise<HistoryPage> {
        const { messages, position } = await super.read(channel, options)
        return { position, messages: messages.filter(({ offset }) => offset !== 7) }
      }
    }
  ],
  'swaps two messages': [
    'numbers messages that several processes append at once without gaps, and delivers them in order',
    class extends Changed {
      #held: readonly [string, Uint8Array, Position?] | undefined
      override receive(...args: readonly [string, Uint8Array, Position?]): void {
        if (args[2]?.offset === 7) this.#held = args
        else super.receive(...args)
        if (args[2]?.offset === 8 && this.#held !== undefined) super.receive(...this.#held)
      }
    }
  ],
  'ignores since': [
    'reads from an offset in both directions, and always says the position',
    class extends Changed {
      override read(channel: string, { since, ...options }: ReadOptions): Promise<HistoryPage> {
        return super.read(channel, options)
      }
    }
  ],
  'ignores reverse': [
    'reads from an offset in both directions, and always says the position',
    class extends Changed {
      override read(channel: string, { reverse, ...options }: ReadOptions): Promise<HistoryPage> {
        return super.read(channel, options)
      }
    }
  ],
  'ignores the size': [
    'keeps as many messages as the size says',
    class extends Changed {
      override append(channel: string, message: Uint8Array, options: AppendOptions): Promise<Position> {
        return super.append(channel, message, { ...options, size: 1000 })
      }
    }
  ],
  'loses the position with the messages': [
    'forgets messages after their time, and keeps the position',
    class extends Changed {
      override async read(channel: string, options: ReadOptions): Promise<HistoryPage> {
        const { messages, position } = await super.read(channel, options)
        return { messages, position: messages.length === 0 ? { ...position, offset: 0 } : position }
      }
    }
  ],
  'ignores ids': [
    'appends a message with a known id only once',
    class extends Changed {
      override append(
        channel: string,
        message: Uint8Array,
        { id, ...options }: AppendOptions
      ): Promise<Position> {
        return super.append(channel, message, options)
      }
    }
  ],
  'publishes a message with a known id again': [
    'appends a message with a known id only once',
    class extends Changed {
      override async append(channel: string, message: Uint8Array, options: AppendOptions): Promise<Position> {
        const position = await super.append(channel, message, options)
        if (options.id !== undefined) this.hub.publish(channel, message, position)
        return position
      }
    }
  ],
  'shares ids between channels': [
    'appends a message with a known id only once',
    class extends Changed {
      override append(channel: string, message: Uint8Array, options: AppendOptions): Promise<Position> {
        return super.append(options.id === undefined ? channel : 'h:x', message, options)
      }
    }
  ],
  'ignores remove': [
    'removes messages and keeps the position',
    class extends Changed {
      override async remove(): Promise<void> {}
    }
  ],
  'mixes up channels': [
    'keeps the histories of channels apart, whatever their names are',
    class extends Changed {
      override append(channel: string, message: Uint8Array, options: AppendOptions): Promise<Position> {
        return super.append(channel === 'h:}{' ? 'h:{' : channel, message, options)
      }
    }
  ],
  'appends after close': [
    'appends and reads nothing after close',
    class extends Changed {
      override async append(channel: string, message: Uint8Array, options: AppendOptions): Promise<Position> {
        return this.hub.append(channel, message, options)
      }
    }
  ]
}

for (const [how, [name, Broken]] of Object.entries(BROKEN_HISTORY)) {
  t.test(`the contract of histories rejects a broker that ${how}`, async t => {
    const hub = new MemoryHub()
    const test = historyContract(() => new Broken(hub)).get(name)
    await t.rejects(async () => test?.(), { code: 'ERR_ASSERTION' })
  })
}
