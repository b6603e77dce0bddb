import t, { type Test } from 'tap'
import { brokerContract, historyContract } from '../../lib/brokers/broker-contract.js'
import { MemoryBroker, MemoryHub } from '../../lib/brokers/memory.js'

const hub = new MemoryHub()
for (const [name, test] of brokerContract(() => new MemoryBroker(hub))) {
  t.test(`the memory broker ${name}`, () => test())
}

t.test('the memory broker is connected after start has returned', async t => {
  const broker = new MemoryBroker(hub)
  t.teardown(() => broker.close())
  const states: string[] = []
  broker.start({ onMessage() {}, onUp: () => states.push('up'), onUnsubscribed() {}, onDown() {} })
  t.strictSame(states, [])
  await Promise.resolve()
  t.strictSame(states, ['up'])
})

for (const name of historyContract(() => new MemoryBroker(new MemoryHub())).keys()) {
  t.test(`the memory broker ${name}`, async () => {
    const own = new MemoryHub()
    await historyContract(() => new MemoryBroker(own)).get(name)?.()
  })
}

const LIMITS = { size: 100, ttl: 60_000 }

function start(t: Test, hub: MemoryHub): MemoryBroker {
  const broker = new MemoryBroker(hub)
  broker.start({ onMessage() {}, onUp() {}, onUnsubscribed() {}, onDown() {} })
  t.teardown(() => broker.close())
  return broker
}

async function offsets(broker: MemoryBroker, channel: string): Promise<number[]> {
  const { messages } = await broker.read(channel, { limit: 1000 })
  return messages.map(({ offset }) => offset)
}

t.test('a history that exceeds the bytes of a channel loses its oldest messages', async t => {
  const broker = start(t, new MemoryHub({ maxChannelBytes: 3500 }))
  for (let n = 0; n < 5; n++) await broker.append('a', Buffer.alloc(1000), LIMITS)
  t.strictSame(await offsets(broker, 'a'), [3, 4, 5])
  await t.rejects(broker.append('a', Buffer.alloc(4000), LIMITS), {
    code: 'FST_UPGRADE_HISTORY_FULL',
    message: /of 4000 bytes does not fit .* 3500 bytes/
  })
  t.strictSame(await offsets(broker, 'a'), [3, 4, 5], 'the refused message changes nothing')
})

t.test('the channel without appends for the longest time loses its history first', async t => {
  const broker = start(t, new MemoryHub({ maxBytes: 7500 }))
  for (const name of ['a', 'b', 'a']) await broker.append(name, Buffer.alloc(1000), LIMITS)
  const { position } = await broker.read('b', { limit: 0 })
  await broker.append('c', Buffer.alloc(1000), LIMITS)
  t.strictSame(await offsets(broker, 'b'), [])
  t.strictSame((await broker.read('b', { limit: 0 })).position, position, 'the position stays')
  t.strictSame(await offsets(broker, 'a'), [1, 2])
  t.strictSame(await offsets(broker, 'c'), [1])
})

t.test('positions count towards the bytes of all channels, and their loss begins a new epoch', async t => {
  const broker = start(t, new MemoryHub({ maxBytes: 5000 }))
  const epochOf = async (name: string): Promise<string> =>
    (await broker.read(name, { limit: 0 })).position.epoch
  const first = await epochOf('0')
  t.equal(await epochOf('0'), first)
  for (let n = 1; n < 10; n++) await epochOf(String(n))
  t.not(await epochOf('0'), first)
})

t.test('one channel cannot exceed the bytes of all channels', async t => {
  const broker = start(t, new MemoryHub({ maxBytes: 3000 }))
  const append = async (size: number, id?: string): Promise<number> =>
    (await broker.append('a', Buffer.alloc(size), { ...LIMITS, id })).offset
  for (let n = 1; n <= 5; n++) t.equal(await append(1000), n)
  t.strictSame(await offsets(broker, 'a'), [5])
  await append(3000)
  t.strictSame(await offsets(broker, 'a'), [], 'a message that does not fit is published and not kept')
  for (let n = 7; n < 30; n++) t.equal(await append(0, `x${n}`), n)
  t.equal(await append(0, 'x29'), 29)
  t.equal(await append(0, 'x7'), 30, 'the first ids are forgotten')
})

t.test('ids of other channels are forgotten when memory is short', async t => {
  const broker = start(t, new MemoryHub({ maxBytes: 6700 }))
  await broker.append('a', Buffer.alloc(10), { ...LIMITS, id: 'x' })
  for (let n = 0; n < 3; n++) await broker.append('b', Buffer.alloc(1000), LIMITS)
  t.equal((await broker.append('a', Buffer.alloc(10), { ...LIMITS, id: 'x' })).offset, 1)
  await broker.append('b', Buffer.alloc(1000), LIMITS)
  t.equal((await broker.append('a', Buffer.alloc(10), { ...LIMITS, id: 'x' })).offset, 2)
})

t.test('an id is known for five minutes', async t => {
  const { now } = performance
  let shift = 0
  t.capture(performance, 'now', () => now.call(performance) + shift)
  const broker = start(t, new MemoryHub())
  const append = async (id: string): Promise<number> =>
    (await broker.append('a', Buffer.alloc(10), { ...LIMITS, ttl: 2 ** 31 - 1, id })).offset
  t.equal(await append('x'), 1)
  shift = 200_000
  t.equal(await append('y'), 2)
  t.equal(await append('x'), 1)
  shift = 300_001
  t.equal(await append('x'), 3)
  t.equal(await append('y'), 2)
})

t.test('a hub refuses invalid limits', async t => {
  for (const value of [0, -1, 1.5, Number.NaN, '5', null]) {
    for (const name of ['maxBytes', 'maxChannelBytes']) {
      t.throws(() => Reflect.construct(MemoryHub, [{ [name]: value }]), {
        code: 'FST_UPGRADE_INVALID_BROKER_OPTION',
        message: new RegExp(name)
      })
    }
  }
})
