import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Broker, BrokerEvents, HistoryBroker, Position, StoredMessage } from './broker.js'

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
class Subject<Tested extends Broker = Broker> extends EventEmitter implements BrokerEvents {
  readonly broker: Tested
  readonly messages: [channel: string, message: Buffer][] = []
  /** The messages with a position. */
  readonly appended: (Position & { readonly channel: string; readonly message: Buffer })[] = []
  readonly states: ('up' | 'down' | 'unsubscribed')[] = []
  #closed: Promise<void> | undefined

  /** The number of messages that have arrived and were not removed. */
  get count(): number {
    return this.messages.length + this.appended.length
  }

  constructor(broker: Tested) {
    super()
    this.broker = broker
    broker.start(this)
  }

  onMessage(channel: string, message: Uint8Array, position?: Position): void {
    if (position === undefined) this.messages.push([channel, Buffer.from(message)])
    else this.appended.push({ channel, message: Buffer.from(message), ...position })
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

type HistoryTest = (...brokers: readonly [HistorySubject, HistorySubject, HistorySubject]) => Promise<void>
type HistorySubject = Subject<HistoryBroker>

/** Limits that do not matter in a test. */
const AMPLE = { size: 10_000, ttl: 600_000 }

const HISTORY_CONTRACT: Readonly<Record<string, HistoryTest>> = {
  'delivers appended messages to all subscribers with their positions, the publisher included': async (
    first,
    second,
    third
  ) => {
    await Promise.all([first.broker.subscribe('h:x'), second.broker.subscribe('h:x')])
    const messages = [BYTES, Buffer.alloc(0), Buffer.from('text'), Buffer.alloc(2 ** 20, BYTES)]
    const positions: Position[] = []
    for (const message of messages) positions.push(await first.broker.append('h:x', message, AMPLE))
    assert.deepEqual(
      positions.map(({ offset }) => offset),
      [1, 2, 3, 4]
    )
    for (const subject of [first, second]) {
      await subject.until(() => subject.count >= messages.length)
      assert.deepEqual(
        subject.appended,
        messages.map((message, i) => ({ channel: 'h:x', message, ...positions[i] }))
      )
    }
    assert.deepEqual(new Set(positions.map(({ epoch }) => epoch)).size, 1, 'in one epoch')
    const page = await third.broker.read('h:x', { limit: 10 })
    assert.deepEqual(stored(page.messages), messages.map(String))
    assert.deepEqual(page.position, positions.at(-1))
    assert.deepEqual(third.appended, [], 'none without a subscription')
  },

  'numbers messages that several processes append at once without gaps, and delivers them in order': async (
    first,
    second,
    third
  ) => {
    await Promise.all([first, third].map(({ broker }) => broker.subscribe('h:x')))
    const numbers = Array.from({ length: 500 }, (_, i) => String(i))
    await Promise.all(
      [first, second].flatMap(({ broker }, index) =>
        numbers.map(number => broker.append('h:x', Buffer.from(`${index} ${number}`), AMPLE))
      )
    )
    const { messages } = await second.broker.read('h:x', { limit: 1001 })
    assert.deepEqual(
      messages.map(({ offset }) => offset),
      Array.from({ length: 1000 }, (_, i) => i + 1)
    )
    for (const subject of [first, third]) {
      await subject.until(() => subject.appended.length >= 1000)
      assert.deepEqual(
        subject.appended.map(({ offset, message }) => ({ offset, message: String(message) })),
        messages.map(({ offset, message }) => ({ offset, message: String(Buffer.from(message)) }))
      )
    }
  },

  'reads from an offset in both directions, and always says the position': async (first, second) => {
    const empty = await first.broker.read('h:x', { limit: 5 })
    assert.deepEqual(empty.messages, [])
    assert.equal(empty.position.offset, 0)
    for (const text of ['a', 'b', 'c', 'd', 'e']) await first.broker.append('h:x', Buffer.from(text), AMPLE)
    const { epoch } = empty.position
    const READS = [
      [{ limit: 2 }, 'ab'],
      [{ limit: 0 }, ''],
      [{ since: 0, limit: 10 }, 'abcde'],
      [{ since: 3, limit: 10 }, 'de'],
      [{ since: 3, limit: 1 }, 'd'],
      [{ since: 5, limit: 10 }, ''],
      [{ since: 99, limit: 10 }, ''],
      [{ limit: 2, reverse: true }, 'ed'],
      [{ since: 3, limit: 10, reverse: true }, 'ba'],
      [{ since: 99, limit: 1, reverse: true }, 'e'],
      [{ since: 1, limit: 10, reverse: true }, '']
    ] as const
    for (const [options, expected] of READS) {
      const { messages, position } = await second.broker.read('h:x', options)
      assert.equal(stored(messages).join(''), expected, JSON.stringify(options))
      assert.deepEqual(position, { offset: 5, epoch }, 'the epoch begins with the first read')
    }
    const [last] = (await second.broker.read('h:x', { limit: 1, reverse: true })).messages
    assert.equal(last.offset, 5)
  },

  'keeps as many messages as the size says': async first => {
    for (const text of ['a', 'b', 'c', 'd']) {
      await first.broker.append('h:x', Buffer.from(text), { ...AMPLE, size: 2 })
    }
    const { messages, position } = await first.broker.read('h:x', { since: 0, limit: 10 })
    assert.deepEqual(
      messages.map(({ offset }) => offset),
      [3, 4]
    )
    assert.equal(position.offset, 4)
  },

  'forgets messages after their time, and keeps the position': async (first, second) => {
    const before = await first.broker.append('h:x', BYTES, { size: 10, ttl: 20 })
    await first.broker.append('h:y', BYTES, AMPLE)
    const signal = AbortSignal.timeout(DEADLINE)
    for (;;) {
      const { messages, position } = await second.broker.read('h:x', { limit: 10 })
      assert.deepEqual(position, before)
      if (messages.length === 0) break
      await sleep(5, undefined, { signal })
    }
    assert.deepEqual(await second.broker.append('h:x', BYTES, AMPLE), { ...before, offset: 2 })
    const { messages } = await first.broker.read('h:x', { limit: 10 })
    assert.deepEqual(
      messages.map(({ offset }) => offset),
      [2]
    )
    assert.equal((await first.broker.read('h:y', { limit: 10 })).messages.length, 1)
  },

  'appends a message with a known id only once': async (first, second, third) => {
    await third.broker.subscribe('h:x')
    const positions = await Promise.all(
      [first, second, first, second].map(({ broker }) =>
        broker.append('h:x', Buffer.from('once'), { ...AMPLE, id: 'a:{b}' })
      )
    )
    for (const position of positions) assert.deepEqual(position, positions[0])
    const next = await first.broker.append('h:x', Buffer.from('next'), { ...AMPLE, id: 'a:{c}' })
    assert.equal(next.offset, 2)
    assert.equal((await first.broker.append('h:y', BYTES, { ...AMPLE, id: 'a:{c}' })).offset, 1)
    assert.equal((await first.broker.append('h:x', BYTES, { ...AMPLE, id: 'a:{b}' })).offset, 1)
    await third.until(() => third.appended.length >= 2)
    assert.deepEqual(
      third.appended.map(({ message }) => String(message)),
      ['once', 'next']
    )
  },

  'removes messages and keeps the position': async (first, second) => {
    const before = await first.broker.append('h:x', BYTES, AMPLE)
    await second.broker.remove('h:x')
    await second.broker.remove('h:never')
    assert.deepEqual(await first.broker.read('h:x', { limit: 10 }), { messages: [], position: before })
    assert.deepEqual(await first.broker.append('h:x', BYTES, AMPLE), { ...before, offset: 2 })
  },

  'keeps the histories of channels apart, whatever their names are': async (first, second) => {
    const channels = [...CHANNELS, 'h:}{', 'h:{', 'h:}', 'h:%7B', 'h:{}a{b}', 'm:']
    await Promise.all(channels.map(channel => first.broker.subscribe(channel)))
    await Promise.all(channels.map(channel => second.broker.append(channel, Buffer.from(channel), AMPLE)))
    await first.until(() => first.appended.length >= channels.length)
    for (const { channel, message, offset } of first.appended) {
      assert.equal(String(message), channel)
      assert.equal(offset, 1)
    }
    assert.deepEqual(new Set(first.appended.map(({ channel }) => channel)), new Set(channels))
    for (const channel of channels) {
      assert.deepEqual(stored((await first.broker.read(channel, { limit: 10 })).messages), [channel])
    }
  },

  'appends and reads nothing after close': async (first, second) => {
    await first.until(() => first.states.length > 0)
    await first.close()
    await assert.rejects(first.broker.append('h:x', BYTES, AMPLE))
    await assert.rejects(first.broker.read('h:x', { limit: 1 }))
    await assert.rejects(first.broker.remove('h:x'))
    assert.equal((await second.broker.read('h:x', { limit: 1 })).position.offset, 0)
  }
}

function stored(messages: readonly StoredMessage[]): string[] {
  return messages.map(({ message }) => String(Buffer.from(message)))
}

/**
 * The tests that each broker has to pass, by name. A test rejects with an error of `node:assert`, or with a timeout. The
 * contract leaves open whether a broker receives its own messages.
 * @param make creates a new broker with each call, all on the same engine, which must be running.
 */
export function brokerContract(
  make: () => Broker | Promise<Broker>
): ReadonlyMap<string, () => Promise<void>> {
  return testsOf(CONTRACT, make)
}

/**
 * The further tests that each broker with history has to pass, by name.
 * @param make as in {@link brokerContract}. The channels `h:x` and `h:y` must have no history before each test, so each test
 * needs another prefix, or an engine that was cleared.
 */
export function historyContract(
  make: () => HistoryBroker | Promise<HistoryBroker>
): ReadonlyMap<string, () => Promise<void>> {
  return testsOf(HISTORY_CONTRACT, make)
}

function testsOf<Tested extends Broker>(
  contract: Readonly<
    Record<
      string,
      (...subjects: readonly [Subject<Tested>, Subject<Tested>, Subject<Tested>]) => Promise<void>
    >
  >,
  make: () => Tested | Promise<Tested>
): ReadonlyMap<string, () => Promise<void>> {
  const tests = Object.entries(contract).map(([name, check]): [string, () => Promise<void>] => [
    name,
    async () => {
      const subjects: readonly [Subject<Tested>, Subject<Tested>, Subject<Tested>] = [
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
