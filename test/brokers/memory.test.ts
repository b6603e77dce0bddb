import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { MemoryBroker, MemoryHub } from '../../lib/brokers/memory.js'
import { natsBroker } from '../../lib/brokers/nats/nats.js'
import { Channels } from '../../lib/topics/channels.js'
import { type Publication, PubSub } from '../../lib/topics/pubsub.js'
import { Topics } from '../../lib/topics/topics.js'

// Topics may be as many as users or documents over the time of a process: those that nobody needs take no memory.

setFlagsFromString('--expose-gc')
const gc: () => void = runInNewContext('gc')

const COUNT = 5000
/** Long names, so that one that is kept takes more memory than all else that goes on. */
const LENGTH = 1024
const MOST = (COUNT * LENGTH) / 2

const events = { onMessage() {}, onUp() {}, onUnsubscribed() {}, onDown() {} }

function hubBroker(): MemoryBroker {
  const broker = new MemoryBroker(new MemoryHub())
  broker.start(events)
  return broker
}

/** Each gives what uses a topic and gives it up. */
const USES: Readonly<Record<string, () => (topic: string) => unknown>> = {
  topics: () => {
    const topics = new Topics<object>()
    const member = {}
    return topic => {
      topics.add(topic, member)
      topics.delete(topic, member)
    }
  },
  channels: () => {
    const channels = new Channels(hubBroker(), () => {})
    return async topic => {
      await channels.want(topic)
      channels.drop(topic)
    }
  },
  presence: () => {
    const server = new PubSub<Publication, { send(): void }>({
      broker: undefined,
      prepare: payload => ({ payload, isBinary: true, compress: true }),
      onEvent() {},
      onError() {},
      presence: { interval: 5000, timeout: 15_000 }
    })
    return topic => {
      server.join(topic, 'a', null)
      const presence = server.presence(topic)
      server.leave(topic, 'a')
      presence.close()
    }
  },
  'the broker of one process': () => {
    const broker = hubBroker()
    return async topic => {
      await broker.subscribe(topic)
      await broker.unsubscribe(topic)
    }
  },
  'brokers that are closed, of one process': () => {
    const hub = new MemoryHub()
    return async topic => {
      const broker = new MemoryBroker(hub)
      broker.start(events)
      await broker.subscribe(topic)
      await broker.close()
    }
  },
  'the broker of NATS': () => {
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
      // Each in a turn of its own.
      for (let n = 0; n < 3; n++) await broker.publish(topic, Buffer.alloc(1))
      await broker.unsubscribe(topic)
    }
  }
}

for (const [name, make] of Object.entries(USES)) {
  t.test(`topics that nobody needs take no memory: ${name}`, async t => {
    const use = make()
    const run = async (prefix: string): Promise<void> => {
      for (let n = 0; n < COUNT; n++) await use(Buffer.alloc(LENGTH, `${prefix} ${n} `).toString())
    }
    const used = async (): Promise<number> => {
      await new Promise(resolve => setImmediate(resolve))
      gc()
      return process.memoryUsage().heapUsed
    }
    // Code is compiled meanwhile.
    await run('first')
    const before = await used()
    await run('second')
    const kept = (await used()) - before
    t.ok(kept < MOST, `${kept} bytes are kept`)
  })
}
