import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Broker, BrokerEvents } from './broker.js'

/** Milliseconds that anything may take. */
const DEADLINE = 10_000

/** Names with all that some engine gives a meaning to. */
const CHANNELS = [
  'm:a',
  'm:a.b',
  'm:*',
  'm:>',
  'm:a b',
  'm:{a}',
  'm:[a-z]?',
  'm:žluťoučký 🐎',
  'm:\\"\n',
  `m:${'x'.repeat(1024)}`
]

const BYTES = Buffer.from(Array.from({ length: 256 }, (_, i) => i))

/** A broker, and what it has told. */
class Subject extends EventEmitter implements BrokerEvents {
  readonly broker: Broker
  readonly messages: [channel: string, message: Buffer][] = []
  readonly states: ('up' | 'down' | 'unsubscribed')[] = []
  #closed: Promise<void> | undefined

  constructor(broker: Broker) {
    super()
    this.broker = broker
    broker.start(this)
  }

  onMessage(channel: string, message: Uint8Array): void {
    this.messages.push([channel, Buffer.from(message)])
    this.emit('news')
  }

  onUp(): void {
    this.states.push('up')
    this.emit('news')
  }

  onUnsubscribed(): void {
    this.states.push('unsubscribed')
    this.emit('news')
  }

  onDown(): void {
    this.states.push('down')
    this.emit('news')
  }

  async close(): Promise<void> {
    this.#closed ??= this.broker.close()
    await this.#closed
  }

  async until(predicate: () => boolean): Promise<void> {
    const signal = AbortSignal.timeout(DEADLINE)
    while (!predicate()) await once(this, 'news', { signal })
  }

  /** The next message. */
  async next(): Promise<[channel: string, message: Buffer]> {
    await this.until(() => this.messages.length > 0)
    const [message] = this.messages.splice(0, 1)
    return message
  }
}

type Work = (...subjects: readonly [Subject, Subject, Subject]) => Promise<void>

const CONTRACT: Readonly<Record<string, Work>> = {
  'tells that the engine can be reached': async first => {
    await first.until(() => first.states.includes('up'))
    assert.deepEqual(first.states, ['up'])
  },

  'carries any bytes to every subscriber of a channel, once': async (first, second, third) => {
    await Promise.all([first.broker.subscribe('m:x'), second.broker.subscribe('m:x')])
    const messages = [BYTES, Buffer.alloc(0), Buffer.from('text'), Buffer.alloc(2 ** 20, BYTES)]
    for (const message of messages) await third.broker.publish('m:x', message)
    for (const subject of [first, second]) {
      for (const message of messages) assert.deepEqual(await subject.next(), ['m:x', message])
    }
    await settled(third, first, second)
    assert.deepEqual(third.messages, [], 'not to who is not subscribed')
  },

  'tells channels apart, whatever their names': async (first, second) => {
    await Promise.all(CHANNELS.map(channel => first.broker.subscribe(channel)))
    for (const channel of [...CHANNELS, 'm:b', 'm:', 'n:a']) {
      await second.broker.publish(channel, Buffer.from(channel))
    }
    const arrived: [channel: string, message: Buffer][] = []
    for (const _ of CHANNELS) arrived.push(await first.next())
    // There is no order between channels, which may be in different places of an engine.
    assert.deepEqual(new Map(arrived), new Map(CHANNELS.map(channel => [channel, Buffer.from(channel)])))
    await settled(second, first)
  },

  'keeps the order of a publisher, who waits for nothing': async (first, second) => {
    await first.broker.subscribe('m:x')
    const numbers = Array.from({ length: 2000 }, (_, i) => String(i))
    await Promise.all(numbers.map(number => second.broker.publish('m:x', Buffer.from(number))))
    const arrived: string[] = []
    for (const _ of numbers) arrived.push(String((await first.next())[1]))
    assert.deepEqual(arrived, numbers)
  },

  'stops with unsubscribe, and begins again with subscribe': async (first, second) => {
    await first.broker.subscribe('m:last')
    for (const text of ['one', 'two', 'three'].map(word => Buffer.from(word))) {
      await first.broker.subscribe('m:x')
      await second.broker.publish('m:x', text)
      assert.deepEqual(await first.next(), ['m:x', text])
      await first.broker.unsubscribe('m:x')
      await second.broker.publish('m:x', BYTES)
      // An engine of several servers may be still passing that on.
      await second.broker.publish('m:last', text)
      assert.deepEqual(await first.next(), ['m:last', text], 'nothing before')
    }
  },

  'takes many channels at once': async (first, second) => {
    const channels = Array.from({ length: 300 }, (_, i) => `m:${i}`)
    await Promise.all(channels.map(channel => first.broker.subscribe(channel)))
    await Promise.all(channels.map(channel => second.broker.publish(channel, Buffer.from(channel))))
    await first.until(() => first.messages.length === channels.length)
    assert.deepEqual(new Set(first.messages.map(([channel]) => channel)), new Set(channels))
  },

  'tells nothing once it is closed, and leaves others alone': async (first, second, third) => {
    await Promise.all([first.broker.subscribe('m:x'), second.broker.subscribe('m:x')])
    await first.until(() => first.states.length > 0)
    await first.close()
    await third.broker.publish('m:x', Buffer.from('late'))
    assert.deepEqual(await second.next(), ['m:x', Buffer.from('late')])
    await sleep(50)
    assert.deepEqual(first.messages, [])
    assert.deepEqual(first.states, ['up'])
    await assert.rejects(first.broker.publish('m:x', BYTES), 'what is published then is refused')
  }
}

/** Nothing more comes of what was published before: shown by a last message that does. */
async function settled(publisher: Subject, ...subjects: readonly Subject[]): Promise<void> {
  for (const { broker } of subjects) await broker.subscribe('m:last')
  await publisher.broker.publish('m:last', BYTES)
  await Promise.all(
    subjects.map(async subject => assert.deepEqual(await subject.next(), ['m:last', BYTES], 'nothing before'))
  )
}

/**
 * What every broker has to do, as tests by name; they throw what `node:assert` throws. Whether a broker that publishes gets
 * its own message is not asked.
 * @param make gives a broker of its own with each call, all on the same engine, which is there.
 */
export function brokerContract(
  make: () => Broker | Promise<Broker>
): ReadonlyMap<string, () => Promise<void>> {
  const tests = Object.entries(CONTRACT).map(([name, work]): [string, () => Promise<void>] => [
    name,
    async () => {
      const subjects: readonly [Subject, Subject, Subject] = [
        new Subject(await make()),
        new Subject(await make()),
        new Subject(await make())
      ]
      try {
        await work(...subjects)
      } finally {
        await Promise.allSettled(subjects.map(subject => subject.close()))
      }
    }
  ])
  return new Map(tests)
}
