import { setTimeout as sleep } from 'node:timers/promises'
import { Cluster } from 'ioredis'
import t, { type Test } from 'tap'
import { pageOf } from '../../lib/brokers/redis/history.js'
import { RedisNames } from '../../lib/brokers/redis/names.js'
import { redisBroker } from '../../lib/brokers/redis/redis.js'
import type { HistoryBroker, HistoryPage, Position } from '../../lib/index.js'
import {
  type Engine,
  redisSkip,
  startRedis,
  startRedisCluster,
  startRedisFailover
} from '../helpers/engine.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import { redisClient } from './clients.js'
import { type Recorder, record } from './recorder.js'

// The history in Redis: its keys, its scripts, and what a restart does to it.

const HELLO = Buffer.from('hello')
const LIMITS = { size: 100, ttl: 600_000 }
const POSITION = '{fastify-upgrade:h:x}:p'
const MESSAGES = '{fastify-upgrade:h:x}:m'

async function texts(broker: HistoryBroker): Promise<string[]> {
  const { messages } = await broker.read('h:x', { limit: 100 })
  return messages.map(({ offset, message }) => `${offset} ${Buffer.from(message)}`)
}

/** A Redis, and a broker that is connected to it. */
async function start(t: Test): Promise<{ engine: Engine; broker: HistoryBroker; events: Recorder }> {
  const engine = await startRedis(t)
  const broker = redisBroker(redisClient(t, engine))
  return { engine, broker, events: record(t, broker) }
}

/** Appends three messages, restarts the engine, and resolves with the positions before and after. */
async function restart(t: Test, engine: Engine, durable: boolean): Promise<[Position, Position, string[]]> {
  const broker = redisBroker(redisClient(t, engine), { durable })
  const events = record(t, broker)
  let before: Position = { offset: 0, epoch: '' }
  for (const text of ['a', 'b', 'c']) before = await broker.append('h:x', Buffer.from(text), LIMITS)
  await engine.kill()
  await engine.start()
  await events.until('up', 'down', 'up')
  const { position } = await broker.read('h:x', { limit: 0 })
  return [before, position, await texts(broker)]
}

t.test('a Redis without persistence begins a new epoch when it restarts', { skip: redisSkip }, async t => {
  const [before, after, messages] = await restart(t, await startRedis(t), false)
  t.equal(after.offset, 0)
  t.not(after.epoch, before.epoch)
  t.strictSame(messages, [])
})

const ALWAYS = ['--appendonly', 'yes', '--appendfsync', 'always']

t.test(
  'a restart begins a new epoch, as Redis may have lost the last messages',
  { skip: redisSkip },
  async t => {
    const [before, after, messages] = await restart(t, await startRedis(t, ALWAYS), false)
    t.not(after.epoch, before.epoch)
    t.equal(after.offset, 3)
    t.strictSame(messages, ['1 a', '2 b', '3 c'], 'the messages that were kept can still be read')
  }
)

t.test('a durable Redis keeps its epoch when it restarts', { skip: redisSkip }, async t => {
  const [before, after, messages] = await restart(t, await startRedis(t, ALWAYS), true)
  t.strictSame(after, before)
  t.strictSame(messages, ['1 a', '2 b', '3 c'])
})

t.test('the first append after a restart begins the new epoch as well', { skip: redisSkip }, async t => {
  const engine = await startRedis(t, ALWAYS)
  const broker = redisBroker(redisClient(t, engine))
  const events = record(t, broker)
  const before = await broker.append('h:x', HELLO, { ...LIMITS, id: 'a' })
  await engine.kill()
  await engine.start()
  await events.until('up', 'down', 'up')
  const known = await broker.append('h:x', HELLO, { ...LIMITS, id: 'a' })
  t.equal(known.offset, 1, 'the id is still known')
  t.not(known.epoch, before.epoch)
  t.strictSame(await broker.append('h:x', HELLO, LIMITS), { ...known, offset: 2 })
})

t.test('a replica that takes over begins a new epoch', { skip: redisSkip }, async t => {
  const { ports, failOver } = await startRedisFailover(t, POSITION)
  const nodes = ports.map(port => ({ host: '127.0.0.1', port }))
  const client = new Cluster(nodes, { clusterRetryStrategy: () => 100 }).on('error', () => {})
  t.teardown(() => client.disconnect())
  const broker = redisBroker(client, { sharded: true })
  record(t, broker)
  // While the nodes change, connections end, and the broker reconnects.
  const persist = async <T>(call: () => Promise<T>): Promise<T> => {
    for (;;) {
      const result = await call().catch(() => undefined)
      if (result !== undefined) return result
      await sleep(20)
    }
  }
  const read = (): Promise<HistoryPage> => persist(() => broker.read('h:x', { limit: 10 }))
  const { epoch } = await persist(() => broker.append('h:x', HELLO, LIMITS))
  t.equal((await read()).position.epoch, epoch)
  await failOver()
  const { position, messages } = await withDeadline(read(), 30_000, 'read')
  t.not(position.epoch, epoch)
  t.equal(messages.length, position.offset, 'what was replicated is kept')
  t.strictSame((await withDeadline(read(), 30_000, 'read')).position, position, 'one new epoch')
})

t.test('a script that Redis has forgotten is sent again', { skip: redisSkip }, async t => {
  const { engine, broker } = await start(t)
  const admin = redisClient(t, engine)
  for (const offset of [1, 2, 3]) {
    t.equal((await broker.append('h:x', HELLO, LIMITS)).offset, offset)
    await admin.script('FLUSH')
  }
})

t.test(
  'a position that was evicted begins a new epoch, and an old id is not known any more',
  { skip: redisSkip },
  async t => {
    const { engine, broker } = await start(t)
    for (let n = 0; n < 3; n++) await broker.append('h:x', HELLO, { ...LIMITS, id: `a${n}` })
    const { position } = await broker.read('h:x', { limit: 0 })
    await redisClient(t, engine).del(POSITION)
    const next = await broker.append('h:x', Buffer.from('new'), { ...LIMITS, id: 'a2' })
    t.not(next.epoch, position.epoch)
    t.equal(next.offset, 1)
    t.strictSame(await texts(broker), ['1 new'], 'the messages of the old epoch are gone')
  }
)

t.test('an append that fails midway leaves no offset without a message', { skip: redisSkip }, async t => {
  const { engine, broker, events } = await start(t)
  await broker.subscribe('h:x')
  const admin = redisClient(t, engine)
  const { position } = await broker.read('h:x', { limit: 0 })
  await admin.set(MESSAGES, 'not a stream')
  await t.rejects(broker.append('h:x', HELLO, LIMITS), { message: /WRONGTYPE/ })
  await t.rejects(broker.read('h:x', { limit: 1 }), { message: /WRONGTYPE/ })
  t.strictSame(await broker.read('h:x', { limit: 0 }), { messages: [], position })
  await admin.del(MESSAGES)
  t.strictSame(await broker.append('h:x', HELLO, LIMITS), { ...position, offset: 1 })
  t.equal(await events.next(), 'h:x hello')
})

t.test('an append that cannot be published is kept', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const admin = redisClient(t, engine)
  await admin.call('ACL', 'SETUSER', 'mute', 'on', '>x', '+@all', '~*', 'resetchannels')
  const broker = redisBroker(redisClient(t, engine, { username: 'mute', password: 'x' }))
  record(t, broker)
  await t.rejects(broker.append('h:x', HELLO, LIMITS), { message: /NOPERM|publish to the channel/ })
  t.strictSame(await texts(broker), ['1 hello'])
})

t.test('offsets end at 2^53 - 1 with an error', { skip: redisSkip }, async t => {
  const { engine, broker, events } = await start(t)
  await broker.subscribe('h:x')
  const { position } = await broker.read('h:x', { limit: 0 })
  await redisClient(t, engine).hset(POSITION, 'offset', String(Number.MAX_SAFE_INTEGER - 1))
  const last = await broker.append('h:x', HELLO, LIMITS)
  t.strictSame(last, { ...position, offset: Number.MAX_SAFE_INTEGER })
  t.equal(await events.next(), 'h:x hello')
  t.strictSame(events.positions, [last])
  await t.rejects(broker.append('h:x', HELLO, LIMITS), { message: /has used all its offsets/ })
  t.strictSame(await texts(broker), [`${Number.MAX_SAFE_INTEGER} hello`])
  const after = await broker.read('h:x', { since: Number.MAX_SAFE_INTEGER - 1, limit: 5 })
  t.equal(after.messages.length, 1)
  const none = await broker.read('h:x', { since: 0, limit: 5, reverse: true })
  t.strictSame(none, { messages: [], position: last })
})

t.test('of messages that exceed the offsets, those that fit are appended', { skip: redisSkip }, async t => {
  const { engine, broker, events } = await start(t)
  await broker.subscribe('h:x')
  const { position } = await broker.read('h:x', { limit: 0 })
  const max = Number.MAX_SAFE_INTEGER
  await redisClient(t, engine).hset(POSITION, 'offset', String(max - 2))
  const results = await Promise.allSettled(
    ['one', 'two', 'three'].map(text => broker.append('h:x', Buffer.from(text), LIMITS))
  )
  t.match(results, [
    { value: { ...position, offset: max - 1 } },
    { value: { ...position, offset: max } },
    { status: 'rejected', reason: { message: /has used all its offsets/ } }
  ])
  t.strictSame(await texts(broker), [`${max - 1} one`, `${max} two`])
  t.strictSame([await events.next(), await events.next()], ['h:x one', 'h:x two'])
})

t.test('reads and removals do not overtake earlier appends', { skip: redisSkip }, async t => {
  const { broker } = await start(t)
  await broker.append('h:x', Buffer.from('a'), LIMITS)
  const appended = broker.append('h:x', Buffer.from('b'), LIMITS)
  t.equal((await broker.read('h:x', { limit: 5 })).messages.length, 2)
  const again = broker.append('h:x', Buffer.from('c'), LIMITS)
  await broker.remove('h:x')
  t.strictSame(await texts(broker), [])
  t.equal((await appended).offset, 2)
  t.equal((await again).offset, 3)
})

t.test(
  'an append rejects when the broker closes at once, or when it has no bytes',
  { skip: redisSkip },
  async t => {
    const { broker } = await start(t)
    await broker.append('h:x', HELLO, LIMITS)
    await t.rejects(Reflect.apply(broker.append, broker, ['h:x', 'text', LIMITS]), TypeError)
    const rejected = t.rejects(broker.append('h:x', HELLO, LIMITS), { code: 'FST_UPGRADE_BROKER_CLOSED' })
    await broker.close()
    await rejected
  }
)

t.test('what is appended at once goes through one script', { skip: redisSkip }, async t => {
  const { engine, broker, events } = await start(t)
  const admin = redisClient(t, engine)
  await broker.subscribe('h:x')
  await broker.append('h:x', Buffer.from('0'), LIMITS)
  const scripts = async (): Promise<number> =>
    Number(/cmdstat_evalsha:calls=(\d+)/.exec(await admin.info('commandstats'))?.[1])
  const appendAll = async (count: number, size: number, more: (i: number) => object = () => ({})) => {
    const before = await scripts()
    const { position } = await broker.read('h:x', { limit: 0 })
    const positions = await Promise.all(
      Array.from({ length: count }, (_, i) =>
        broker.append('h:x', Buffer.alloc(size, 'x'), { ...LIMITS, ...more(i) })
      )
    )
    const expected = positions.map((_, i) => ({ ...position, offset: position.offset + 1 + i }))
    t.strictSame(positions, expected, 'in the order of the calls')
    return (await scripts()) - before - 1
  }
  t.equal(await appendAll(10, 10), 1)
  t.equal(await appendAll(65, 10), 2, 'at most 64 messages')
  t.equal(await appendAll(3, 40_000), 3, 'at most 64 KiB')
  t.equal(await appendAll(3, 10, i => (i === 1 ? { id: 'a' } : {})), 3, 'a message with an id is alone')
  t.equal(await appendAll(4, 10, i => ({ ttl: i < 2 ? 50_000 : 60_000 })), 2, 'with the same limits')
  t.equal(await appendAll(3, 10, () => ({ size: 2 })), 2, 'no more than the history keeps')
  while (events.positions.length < 89) await events.next()
  t.strictSame(
    events.positions.map(position => position?.offset),
    Array.from({ length: 89 }, (_, i) => i + 1)
  )
})

t.test(
  'published bytes that look like an appended message arrive as they are',
  { skip: redisSkip },
  async t => {
    const { broker, events } = await start(t)
    await broker.subscribe('m:x')
    for (const text of ['\0@h5 abc\nhello', '\0@h', '\0@hx', '\0@h\n']) {
      await broker.publish('m:x', Buffer.from(text))
      t.equal(await events.next(), `m:x ${text}`)
    }
    t.strictSame(events.positions, [undefined, undefined, undefined, undefined])
  }
)

t.test('replies that the scripts do not send are errors', async t => {
  for (const reply of [undefined, 'OK', ['1', 'e'], ['1', 'e', [['1-0', ['m', 7]]]], ['1', 'e', ['1-0']]]) {
    t.throws(() => pageOf(reply), { name: 'TypeError', message: /Redis/ })
  }
  t.strictSame(pageOf(['1', 'e', []]), { position: { offset: 1, epoch: 'e' }, messages: [] })
})

t.test('all keys of a history expire', { skip: redisSkip }, async t => {
  const { engine, broker } = await start(t)
  await broker.append('h:x', HELLO, { ...LIMITS, id: 'a' })
  await broker.read('h:y', { limit: 0 })
  const admin = redisClient(t, engine)
  const keys = await admin.keys('*')
  t.strictSame(
    keys.sort(),
    ['{fastify-upgrade:h:x}:i:a', MESSAGES, POSITION, '{fastify-upgrade:h:y}:p'].sort()
  )
  for (const key of keys) t.ok((await admin.pttl(key)) > 0, key)
  t.ok((await admin.pttl(POSITION)) > 86_400_000, 'the position lasts longer than the messages')
})

t.test(
  'without sharded channels, a broker on a cluster reaches the keys of all nodes, and notices a node that hangs',
  { skip: redisSkip },
  async t => {
    const engine = await startRedisCluster(t, 3)
    const client = new Cluster([{ host: '127.0.0.1', port: engine.port }]).on('error', () => {})
    t.teardown(() => client.disconnect())
    const broker = redisBroker(client, { timeout: ms(300) })
    const events = record(t, broker)
    await events.until('up')
    for (const channel of ['h:a', 'h:b', 'h:c', 'h:d', 'h:e', 'h:f']) {
      await broker.append(channel, HELLO, LIMITS)
      t.equal((await broker.read(channel, { limit: 1 })).messages.length, 1)
    }
    await engine.hold()
    await events.until('up', 'down')
    engine.letGo()
    await events.until('up', 'down', 'up')
    t.equal((await broker.append('h:a', HELLO, LIMITS)).offset, 2)
  }
)

t.test(
  'all names of a channel are in one slot of a cluster, and no two channels share one',
  { skip: redisSkip },
  async t => {
    const admin = redisClient(t, await startRedisCluster(t))
    const slot = (name: string): Promise<unknown> => admin.cluster('KEYSLOT', name)
    const channels = ['h:a', 'h:{a}', 'h:{', 'h:}', 'h:}{', 'h:{}', 'h:{}{a}', 'h:%7B', 'h:%', 'h:žluťoučký']
    for (const prefix of ['', 'a:', '{app}:', 'a{b}c:', '{}a{b}', 'a{', 'a}', '{}']) {
      const names = new RedisNames(prefix, true)
      const keys = new Set<string>()
      for (const channel of channels) {
        const key = names.keyOf(channel)
        keys.add(key)
        t.equal(await slot(`${key}:p`), await slot(names.channelOf(channel)), `${prefix}${channel}`)
        t.equal(names.parse(names.channelOf(channel)), channel)
      }
      t.equal(keys.size, channels.length, prefix)
    }
  }
)
