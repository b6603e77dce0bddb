import t from 'tap'
import type { BrokerEvents } from '../../lib/brokers/broker.js'
import { brokerContract } from '../../lib/brokers/broker-contract.js'
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
