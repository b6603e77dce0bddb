import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Broker, BrokerEvents } from './broker.js'

/** The maximum time for a step of a test, in milliseconds. */
const DEADLINE = 10_000

/** Names with the characters that have a meaning in some engine. */
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

/** A broker under test, with the events that it has reported. */
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
    this.emit('event')
  }

  onUp(): void {
    this.states.push('up')
    this.emit('event')
  }

  onUnsubscribed(): void {
    this.states.push('unsubscribed')
    this.emit('event')
  }

  onDown(): void {
    this.states.push('down')
    this.emit('event')
  }

  async close(): Promise<void> {
    this.#closed ??= this.broker.close()
    await this.#closed
  }

  async until(predicate: () => boolean): Promise<void> {
    const signal = AbortSignal.timeout(DEADLINE)
    while (!predicate()) await once(this, 'event', { signal })
  }

  /** Removes the next message and returns it. */
  async next(): Promise<[channel: string, message: Buffer]> {
    await this.until(() => this.messages.length > 0)
    const [message] = this.messages.splice(0, 1)
    return message
  }
}

type ContractTest = (...subjects: readonly [Subject, Subject, Subject]) => Promise<void>

const CONTRACT: Readonly<Record<string, ContractTest>> = {
  'reports once that it is connected': async first => {
    await first.until(() => first.states.includes('up'))
    assert.deepEqual(first.states, ['up'])
  },

  'delivers any bytes to each subscriber of a channel once': async (first, second, third) => {
    await Promise.all([first.broker.subscribe('m:x'), second.broker.subscribe('m:x')])
    const messages = [BYTES, Buffer.alloc(0), Buffer.from('text'), Buffer.alloc(2 ** 20, BYTES)]
    for (const message of messages) await third.broker.publish('m:x', message)
    for (const subject of [first, second]) {
      for (const message of messages) assert.deepEqual(await subject.next(), ['m:x', message])
    }
    await checkNoMore(third, first, second)
    assert.deepEqual(third.messages, [], 'none without a subscription')
  },

  'keeps channels apart, whatever their names are': async (first, second) => {
    await Promise.all(CHANNELS.map(channel => first.broker.subscribe(channel)))
    for (const channel of [...CHANNELS, 'm:b', 'm:', 'n:a']) {
      await second.broker.publish(channel, Buffer.from(channel))
    }
    const arrived: [channel: string, message: Buffer][] = []
    for (const _ of CHANNELS) arrived.push(await first.next())
    // Messages of different channels have no order, as an engine may keep the channels on different nodes.
    assert.deepEqual(new Map(arrived), new Map(CHANNELS.map(channel => [channel, Buffer.from(channel)])))
    await checkNoMore(second, first)
  },

  'keeps the order of messages that are published without waiting': async (first, second) => {
    await first.broker.subscribe('m:x')
    const numbers = Array.from({ length: 2000 }, (_, i) => String(i))
    await Promise.all(numbers.map(number => second.broker.publish('m:x', Buffer.from(number))))
    const arrived: string[] = []
    for (const _ of numbers) arrived.push(String((await first.next())[1]))
    assert.deepEqual(arrived, numbers)
  },

  'delivers nothing after unsubscribe until it subscribes again': async (first, second) => {
    await first.broker.subscribe('m:last')
    for (const text of ['one', 'two', 'three'].map(word => Buffer.from(word))) {
      await first.broker.subscribe('m:x')
      await second.broker.publish('m:x', text)
      assert.deepEqual(await first.next(), ['m:x', text])
      await first.broker.unsubscribe('m:x')
      await second.broker.publish('m:x', BYTES)
      // An engine with several nodes may still be forwarding that message.
      await second.broker.publish('m:last', text)
      assert.deepEqual(await first.next(), ['m:last', text], 'no other message came first')
    }
  },

  'subscribes to many channels at once': async (first, second) => {
    const channels = Array.from({ length: 300 }, (_, i) => `m:${i}`)
    await Promise.all(channels.map(channel => first.broker.subscribe(channel)))
    await Promise.all(channels.map(channel => second.broker.publish(channel, Buffer.from(channel))))
    await first.until(() => first.messages.length === channels.length)
    assert.deepEqual(new Set(first.messages.map(([channel]) => channel)), new Set(channels))
  },

  'reports nothing after close, and does not affect other brokers': async (first, second, third) => {
    await Promise.all([first.broker.subscribe('m:x'), second.broker.subscribe('m:x')])
    await first.until(() => first.states.length > 0)
    await first.close()
    await third.broker.publish('m:x', Buffer.from('late'))
    assert.deepEqual(await second.next(), ['m:x', Buffer.from('late')])
    await sleep(50)
    assert.deepEqual(first.messages, [])
    assert.deepEqual(first.states, ['up'])
    await assert.rejects(first.broker.publish('m:x', BYTES), 'publish rejects after close')
  }
}

/** Checks that no more messages arrive: a last message is the next one. */
async function checkNoMore(publisher: Subject, ...subjects: readonly Subject[]): Promise<void> {
  for (const { broker } of subjects) await broker.subscribe('m:last')
  await publisher.broker.publish('m:last', BYTES)
  await Promise.all(
    subjects.map(async subject =>
      assert.deepEqual(await subject.next(), ['m:last', BYTES], 'no other message came first')
    )
  )
}

/**
 * The tests that each broker has to pass, by name. A test rejects with an error of `node:assert`, or with a timeout. The
 * contract leaves open whether a broker receives its own messages.
 * @param make creates a new broker with each call, all on the same engine, which must be running.
 */
export function brokerContract(
  make: () => Broker | Promise<Broker>
): ReadonlyMap<string, () => Promise<void>> {
  const tests = Object.entries(CONTRACT).map(([name, check]): [string, () => Promise<void>] => [
    name,
    async () => {
      const subjects: readonly [Subject, Subject, Subject] = [
        new Subject(await make()),
        new Subject(await make()),
        new Subject(await make())
      ]
      try {
        await check(...subjects)
      } finally {
        await Promise.allSettled(subjects.map(subject => subject.close()))
      }
    }
  ])
  return new Map(tests)
}
