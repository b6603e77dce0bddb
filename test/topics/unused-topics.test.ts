import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { MemoryBroker, MemoryHub } from '../../lib/brokers/memory.js'
import { natsBroker } from '../../lib/brokers/nats/nats.js'
import { BrokerSubscriptions } from '../../lib/topics/broker-subscriptions.js'
import type { Publication } from '../../lib/topics/publication.js'
import { Topics } from '../../lib/topics/topics.js'

// A process may see as many topics as it has users or documents. Unused topics must not keep memory.

setFlagsFromString('--expose-gc')
const gc: () => void = runInNewContext('gc')

const COUNT = 5000
/** Long names, so that a leak of them exceeds all other changes of memory use. */
const LENGTH = 1024
const LIMIT = (COUNT * LENGTH) / 2

const events = { onMessage() {}, onUp() {}, onUnsubscribed() {}, onDown() {} }

function memoryBroker(): MemoryBroker {
  const broker = new MemoryBroker(new MemoryHub())
  broker.start(events)
  return broker
}

function makeTopics(): Topics<Publication, { send(): void }> {
  return new Topics<Publication, { send(): void }>({
    server: {},
    broker: undefined,
    prepare: payload => ({ payload, isBinary: true, compress: true }),
    onEvent() {},
    onError() {},
    presence: { interval: 5000, timeout: 15_000 },
    history: undefined,
    maxRecovered: 300
  })
}

/** Each returns a function that uses a topic and releases it. */
const USES: Readonly<Record<string, () => (topic: string) => unknown>> = {
  topics: () => {
    const topics = makeTopics()
    const receiver = { send() {} }
    return topic => {
      void topics.subscribe(topic, receiver)
      topics.unsubscribe(topic, receiver)
    }
  },
  presence: () => {
    const topics = makeTopics()
    return topic => {
      topics.join(topic, 'a', null)
      const presence = topics.presence(topic)
      topics.leave(topic, 'a')
      presence.close()
    }
  },
  'broker subscriptions': () => {
    const subscriptions = new BrokerSubscriptions(memoryBroker(), () => {})
    return async topic => {
      await subscriptions.add(topic)
      subscriptions.remove(topic)
    }
  },
  'the memory broker': () => {
    const broker = memoryBroker()
    return async topic => {
      await broker.subscribe(topic)
      await broker.unsubscribe(topic)
    }
  },
  'closed memory brokers on one hub': () => {
    const hub = new MemoryHub()
    return async topic => {
      const broker = new MemoryBroker(hub)
      broker.start(events)
      await broker.subscribe(topic)
      await broker.close()
    }
  },
  'the NATS broker': () => {
    const broker = natsBroker({
      publish() {},
      subscribe: () => ({ unsubscribe() {} }),
      flush: async () => {},
      async *status() {
        await new Promise(() => {})
      }
    })
    broker.start(events)
    return async topic => {
      await broker.subscribe(topic)
      // Each in its own turn of the event loop.
      for (let n = 0; n < 3; n++) await broker.publish(topic, Buffer.alloc(1))
      await broker.unsubscribe(topic)
    }
  }
}

for (const [name, make] of Object.entries(USES)) {
  t.test(`unused topics keep no memory: ${name}`, async t => {
    const use = make()
    const run = async (prefix: string): Promise<void> => {
      for (let n = 0; n < COUNT; n++) await use(Buffer.alloc(LENGTH, `${prefix} ${n} `).toString())
    }
    const used = async (): Promise<number> => {
      await new Promise(resolve => setImmediate(resolve))
      gc()
      return process.memoryUsage().heapUsed
    }
    // The first run compiles the code.
    await run('first')
    const before = await used()
    await run('second')
    const kept = (await used()) - before
    t.ok(kept < LIMIT, `${kept} bytes are kept`)
  })
}
