import t from 'tap'
import type { BrokerEvents } from '../../lib/pubsub/broker.js'
import { brokerContract } from '../../lib/pubsub/broker-contract.js'
import { MemoryBroker, MemoryHub } from '../../lib/pubsub/memory-broker.js'

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
    hub =>
      new (class extends MemoryBroker {
        override receive(channel: string, message: Uint8Array): void {
          super.receive(channel, message)
          super.receive(channel, message)
        }
      })(hub)
  ],
  'takes bytes for text': [
    'carries any bytes to every subscriber of a channel, once',
    hub =>
      new (class extends MemoryBroker {
        override receive(channel: string, message: Uint8Array): void {
          super.receive(channel, Buffer.from(Buffer.from(message).toString()))
        }
      })(hub)
  ],
  'cuts the names of channels': [
    'tells channels apart, whatever their names',
    hub =>
      new (class extends MemoryBroker {
        override receive(channel: string, message: Uint8Array): void {
          super.receive(channel.slice(0, 100), message)
        }
      })(hub)
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
  'takes no end': [
    'tells nothing once it is closed, and leaves others alone',
    hub =>
      new (class extends MemoryBroker {
        override async close(): Promise<void> {}
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
