import { Cluster } from 'ioredis'
import t from 'tap'
import { anyNode } from '../../lib/brokers/redis/client.js'
import { redisBroker } from '../../lib/brokers/redis/redis.js'
import { redisSkip, startRedis, startRedisCluster } from '../helpers/engine.js'
import { ms } from '../helpers/timeout.js'
import { redisClient } from './clients.js'
import { startProxy } from './proxy.js'
import { record } from './recorder.js'

// The start and the end of a session with Redis.

const HOST = '127.0.0.1'
const HELLO = Buffer.from('hello')

t.test('a broker that is closed at once opens no connections', { skip: redisSkip }, async t => {
  const client = redisClient(t, await startRedis(t))
  const duplicates = t.capture(client, 'duplicate', client.duplicate)
  const broker = redisBroker(client)
  broker.start({ onMessage() {}, onUp() {}, onUnsubscribed() {}, onDown() {} })
  await broker.close()
  t.equal(duplicates().length, 0)
})

t.test('close leaves no timers, whether the session is open or not', { skip: redisSkip }, async t => {
  const TIMEOUT = 123_456
  const { setTimeout, clearTimeout } = globalThis
  const timers = new Set<unknown>()
  t.capture(globalThis, 'setTimeout', (work: () => void, milliseconds: number) => {
    const timer = setTimeout(work, milliseconds)
    if (milliseconds === TIMEOUT) timers.add(timer)
    return timer
  })
  t.capture(globalThis, 'clearTimeout', (timer: NodeJS.Timeout) => {
    timers.delete(timer)
    clearTimeout(timer)
  })
  const client = redisClient(t, await startRedis(t))
  for (const isOpen of [true, false]) {
    const broker = redisBroker(client, { timeout: TIMEOUT })
    const events = record(t, broker)
    if (isOpen) await events.until('up')
    t.equal(timers.size, 1)
    await broker.close()
    t.equal(timers.size, 0)
  }
})

t.test('messages that were read together are not delivered after close', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const client = redisClient(t, engine)
  const [publisher, broker] = [redisBroker(client), redisBroker(client)]
  record(t, publisher)
  let count = 0
  let closed: Promise<void> | undefined
  const first = new Promise<void>(resolve => {
    broker.start({
      onMessage() {
        count++
        closed ??= broker.close()
        resolve()
      },
      onUp() {},
      onUnsubscribed() {},
      onDown() {}
    })
  })
  await broker.subscribe('x')
  await engine.hold()
  const published = [1, 2, 3].map(() => publisher.publish('x', HELLO))
  engine.letGo()
  await Promise.all([...published, first])
  await closed
  t.equal(count, 1)
})

t.test('the broker is disconnected when either connection hangs', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const proxy = await startProxy(t, engine)
  const broker = redisBroker(redisClient(t, proxy), { timeout: ms(200) })
  const events = record(t, broker)
  await events.until('up')
  const states: ('up' | 'down')[] = ['up']
  for (const index of [0, 1]) {
    proxy.mute(proxy.connections.at(index - 2))
    states.push('down', 'up')
    await events.until(...states)
  }
  t.match(events.errors, [/Redis did not reply within/, /Redis did not reply within/])
})

t.test('sharded channels in several slots are restored after an outage', { skip: redisSkip }, async t => {
  const engine = await startRedisCluster(t)
  const client = new Cluster([{ host: HOST, port: engine.port }], { lazyConnect: true })
  t.teardown(() => client.disconnect())
  const broker = redisBroker(client, { sharded: true })
  const events = record(t, broker)
  const channels = ['a', 'b', 'c', 'd']
  for (const channel of channels) await broker.subscribe(channel)
  await redisClient(t, engine).call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  await events.until('up', 'down', 'up')
  for (const channel of channels) {
    await broker.publish(channel, HELLO)
    t.equal(await events.next(), `${channel} hello`)
  }
})

t.test(
  'a cluster broker uses one node, names channels as given, and notices the loss of a node',
  {
    skip: redisSkip
  },
  async t => {
    const engine = await startRedisCluster(t, 3)
    const client = new Cluster([{ host: HOST, port: engine.port }], { lazyConnect: true }).on(
      'error',
      () => {}
    )
    t.teardown(() => client.disconnect())
    const duplicates = t.capture(client, 'duplicate', client.duplicate)
    const ended = /^(disconnecting|close|end)$/
    const last = (): string => {
      const duplicate = duplicates().at(-1)
      if (duplicate === undefined || !('returned' in duplicate)) throw new Error('no cluster')
      return duplicate.returned.status
    }
    const brief = redisBroker(client)
    brief.start({ onMessage() {}, onUp() {}, onUnsubscribed() {}, onDown() {} })
    await brief.close()
    t.match(last(), ended, 'closed while it was opening')
    const plain = redisBroker(client)
    record(t, plain)
    await plain.subscribe('x')
    // The cluster was only needed to find a node.
    t.match(last(), ended)
    const nodes = client.duplicate()
    await nodes.connect()
    const counts = await Promise.all(
      nodes
        .nodes('master')
        .map(async node => Reflect.get(Object(await node.pubsub('NUMSUB', 'fastify-upgrade:x')), 1))
    )
    t.strictSame(counts.sort(), [0, 0, 1])
    nodes.disconnect()

    const sharded = redisBroker(client, { sharded: true })
    const events = record(t, sharded)
    await events.until('up')
    await engine.kill()
    await events.until('up', 'down')
  }
)

t.test('the node of a cluster is chosen at random', async t => {
  const nodes = { nodes: () => [1, 2, 3] }
  const chosen = Array.from({ length: 200 }, () => Reflect.apply(anyNode, undefined, [nodes]))
  t.strictSame(new Set(chosen), new Set([1, 2, 3]))
})
