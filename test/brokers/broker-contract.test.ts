import t from 'tap'
import type { BrokerEvents } from '../../lib/brokers/broker.js'
import { brokerContract } from '../../lib/brokers/broker-contract.js'
import { MemoryBroker, MemoryHub } from '../../lib/brokers/memory.js'

/** A broker that does something of its own with what it receives; `pass` is what it should do. */
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

/** Brokers that break the contract, each with a test of it that has to notice. */
const BROKEN: Readonly<Record<string, readonly [test: string, (hub: MemoryHub) => MemoryBroker]>> = {
  'loses its engine': [
    'tells that the engine can be reached',
    hub =>
      new (class extends MemoryBroker {
        override start(events: BrokerEvents): void {
          events.onDown()
          super.start(events)
        }
      })(hub)
  ],
  'loses a subscription': [
    'tells that the engine can be reached',
    hub =>
      new (class extends MemoryBroker {
        override start(events: BrokerEvents): void {
          events.onUnsubscribed('m:x', new Error('gone'))
          super.start(events)
        }
      })(hub)
  ],
  'tells everything twice': [
    'carries any bytes to every subscriber of a channel, once',
    receiving((pass, channel, message) => {
      pass(channel, message)
      pass(channel, message)
    })
  ],
  'repeats what is large': [
    'carries any bytes to every subscriber of a channel, once',
    receiving((pass, channel, message) => {
      pass(channel, message)
      if (message.length > 1000) pass(channel, message)
    })
  ],
  'changes what is small': [
    'carries any bytes to every subscriber of a channel, once',
    receiving((pass, channel, message) => {
      pass(channel, message.length > 4 ? message : Buffer.alloc(message.length))
    })
  ],
  'is subscribed without being asked': [
    'carries any bytes to every subscriber of a channel, once',
    hub =>
      new (class extends MemoryBroker {
        override start(events: BrokerEvents): void {
          super.start(events)
          void this.subscribe('m:x')
        }
      })(hub)
  ],
  'takes bytes for text': [
    'carries any bytes to every subscriber of a channel, once',
    receiving((pass, channel, message) => {
      pass(channel, Buffer.from(Buffer.from(message).toString()))
    })
  ],
  'cuts the names of channels': [
    'tells channels apart, whatever their names',
    receiving((pass, channel, message) => {
      pass(channel.slice(0, 100), message)
    })
  ],
  'repeats what comes in channels with long names': [
    'tells channels apart, whatever their names',
    receiving((pass, channel, message) => {
      pass(channel, message)
      if (channel.length > 1000) pass(channel, message)
    })
  ],
  'swaps messages': [
    'keeps the order of a publisher, who waits for nothing',
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
  'stays subscribed': [
    'stops with unsubscribe, and begins again with subscribe',
    hub =>
      new (class extends MemoryBroker {
        override async unsubscribe(): Promise<void> {}
      })(hub)
  ],
  'tells the first message of a channel again': [
    'stops with unsubscribe, and begins again with subscribe',
    hub =>
      new (class extends MemoryBroker {
        #first: Uint8Array | undefined
        override receive(channel: string, message: Uint8Array): void {
          this.#first ??= message
          super.receive(channel, channel === 'm:x' ? this.#first : message)
        }
      })(hub)
  ],
  'mixes up some of many channels': [
    'takes many channels at once',
    receiving((pass, channel, message) => {
      pass(channel === 'm:299' ? 'm:0' : channel, message)
    })
  ],
  'takes no end': [
    'tells nothing once it is closed, and leaves others alone',
    hub =>
      new (class extends MemoryBroker {
        override async close(): Promise<void> {}
      })(hub)
  ],
  'goes on telling messages when it is closed': [
    'tells nothing once it is closed, and leaves others alone',
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
  'takes its end for an outage': [
    'tells nothing once it is closed, and leaves others alone',
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
  'publishes when it is closed': [
    'tells nothing once it is closed, and leaves others alone',
    hub =>
      new (class extends MemoryBroker {
        override async publish(channel: string, message: Uint8Array): Promise<void> {
          hub.publish(channel, message)
        }
      })(hub)
  ],
  'troubles others with its end': [
    'tells nothing once it is closed, and leaves others alone',
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
  t.test(`the contract notices a broker that ${how}`, async t => {
    const hub = new MemoryHub()
    const test = brokerContract(() => make(hub)).get(name)
    await t.rejects(async () => test?.(), { code: 'ERR_ASSERTION' })
  })
}

t.test('the contract closes each broker that it was given, once', async t => {
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
