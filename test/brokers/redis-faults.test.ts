import { once } from 'node:events'
import { createServer } from 'node:net'
import { Cluster, Redis } from 'ioredis'
import { Cluster as ValkeyCluster } from 'iovalkey'
import t, { type Test } from 'tap'
import { redisBroker } from '../../lib/brokers/redis/redis.js'
import { watchProcess } from '../helpers/app.js'
import { type Engine, redisSkip, startRedis, startRedisCluster } from '../helpers/engine.js'
import { freePort } from '../helpers/program.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import { redisClient } from './clients.js'
import { startProxy } from './proxy.js'
import { record } from './recorder.js'

const HOST = '127.0.0.1'
const HELLO = Buffer.from('hello')

/** How many connections the engine has, besides the one that asks. */
async function connections(t: Test, engine: Engine): Promise<number> {
  const asking = redisClient(t, engine)
  const list = String(await asking.client('LIST'))
  asking.disconnect()
  return list.trim().split('\n').length - 1
}

t.test('the keyPrefix of the client stands before the prefix, once', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const client = redisClient(t, engine, { keyPrefix: 'app:' })
  for (const sharded of [false, true]) {
    const broker = redisBroker(client, { prefix: 'p:', sharded })
    const told = record(t, broker)
    await broker.subscribe('x')
    const plain = redisClient(t, engine)
    const sent = sharded
      ? plain.spublish('app:p:x', 'from outside')
      : plain.publish('app:p:x', 'from outside')
    t.equal(await sent, 1, 'one is subscribed')
    t.equal(await told.next(), 'x from outside')
  }
})

t.test('it opens two connections, and close ends these alone', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const client = redisClient(t, engine)
  t.equal(await client.ping(), 'PONG')
  const broker = redisBroker(client)
  const told = record(t, broker)
  await told.until('up')
  t.equal(await connections(t, engine), 3)
  await broker.close()
  t.equal(await connections(t, engine), 1)
  t.equal(await client.ping(), 'PONG')
})

t.test('close in bounded time, whatever the engine does', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const up = redisBroker(redisClient(t, engine))
  const told = record(t, up)
  await told.until('up')
  await engine.hold()
  const publishing = up.publish('x', HELLO)
  const opening = redisBroker(redisClient(t, engine))
  opening.start(told)
  const waiting = opening.publish('x', HELLO)
  const rejections = Promise.all([
    t.rejects(publishing),
    t.rejects(waiting, { code: 'FST_UPGRADE_BROKER_CLOSED' })
  ])
  await withDeadline(Promise.all([up.close(), opening.close()]), 5000, 'close')
  await rejections
  engine.letGo()
  await engine.kill()
  const away = redisBroker(redisClient(t, engine))
  const down = record(t, away)
  await down.until('down')
  await withDeadline(away.close(), 5000, 'close')
  t.strictSame(told.states, ['up'])
})

t.test('a cluster: close while it looks for a node', { skip: redisSkip }, async t => {
  const engine = await startRedisCluster(t)
  const client = new Cluster([{ host: HOST, port: engine.port }], { lazyConnect: true })
  t.teardown(() => client.disconnect())
  const broker = redisBroker(client)
  const told = record(t, broker)
  await withDeadline(broker.close(), 5000, 'close')
  t.strictSame(told.states, [])
})

t.test('no engine from the beginning', { skip: redisSkip }, async t => {
  const accidents = watchProcess(t)
  const broker = redisBroker(redisClient(t, { port: await freePort() }))
  const told = record(t, broker)
  // It waits to learn that.
  await t.rejects(broker.publish('x', HELLO), { code: 'ECONNREFUSED' })
  await t.rejects(broker.publish('x', HELLO), { code: 'ECONNREFUSED' })
  await t.rejects(broker.subscribe('x'), { code: 'ECONNREFUSED' })
  await broker.unsubscribe('x')
  t.strictSame(told.states, ['down'])
  t.match(told.errors, [{ code: 'ECONNREFUSED' }])
  t.strictSame(accidents, [])
})

t.test('a wrong password', { skip: redisSkip }, async t => {
  const accidents = watchProcess(t)
  const engine = await startRedis(t, ['--requirepass', 'right'])
  const broker = redisBroker(redisClient(t, engine, { password: 'wrong' }))
  const told = record(t, broker)
  await t.rejects(broker.publish('x', HELLO), /WRONGPASS/)
  t.strictSame(told.states, ['down'])
  await redisClient(t, engine, { password: 'right' }).config('SET', 'requirepass', 'wrong')
  await told.until('down', 'up')
  await broker.subscribe('x')
  await broker.publish('x', HELLO)
  t.equal(await told.next(), 'x hello')
  t.strictSame(accidents, [])
})

t.test('commands that the engine refuses', { skip: redisSkip }, async t => {
  const accidents = watchProcess(t)
  const engine = await startRedis(t)
  const admin = redisClient(t, engine)
  const user = { username: 'app', password: 'secret' }
  const rules = ['on', '>secret', 'allcommands', 'resetchannels', '&fastify-upgrade:m:*']
  await admin.acl('SETUSER', 'app', ...rules)
  const broker = redisBroker(redisClient(t, engine, user))
  const told = record(t, broker)
  await t.rejects(broker.publish('n:x', HELLO), /NOPERM/)
  await t.rejects(broker.subscribe('n:x'), /NOPERM/)
  await broker.subscribe('m:x')
  await broker.publish('m:x', HELLO)
  t.equal(await told.next(), 'm:x hello')
  t.strictSame(told.states, ['up'], 'others are carried')

  // What it was allowed before: the whole session is over, and tried again.
  await admin.acl('SETUSER', 'app', 'resetchannels')
  await told.until('up', 'down')
  await t.rejects(broker.publish('m:x', HELLO))
  await admin.acl('SETUSER', 'app', 'allchannels')
  await told.until('up', 'down', 'up')
  await broker.publish('m:x', HELLO)
  t.equal(await told.next(), 'm:x hello')
  t.strictSame(accidents, [])
})

t.test('an engine that ends one connection', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const broker = redisBroker(redisClient(t, engine))
  const told = record(t, broker)
  await broker.subscribe('x')
  const admin = redisClient(t, engine)
  await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  await told.until('up', 'down', 'up')
  await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  await told.until('up', 'down', 'up', 'down', 'up')
  await broker.publish('x', HELLO)
  t.equal(await told.next(), 'x hello')
  t.match(told.errors, [/Redis has ended|ECONNRESET/, /Redis has ended|ECONNRESET/])
})

t.test(
  'thousands of subscriptions are restored, and none that was given up',
  { skip: redisSkip },
  async t => {
    const engine = await startRedis(t)
    const broker = redisBroker(redisClient(t, engine))
    const told = record(t, broker)
    const channels = Array.from({ length: 2500 }, (_, i) => `x${i}`)
    await Promise.all(channels.map(channel => broker.subscribe(channel)))
    await engine.kill()
    await told.until('up', 'down')
    await broker.unsubscribe('x1')
    await engine.start()
    await told.until('up', 'down', 'up')
    const admin = redisClient(t, engine)
    const subscribed = await admin.pubsub('CHANNELS')
    t.equal(Array.isArray(subscribed) && subscribed.length, channels.length - 1)
    await broker.publish('x1', HELLO)
    await broker.publish('x2499', HELLO)
    t.equal(await told.next(), 'x2499 hello')
  }
)

t.test('a subscription that is given up while it is restored', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const proxy = await startProxy(t, engine)
  const broker = redisBroker(redisClient(t, proxy))
  const told = record(t, broker)
  await broker.subscribe('x')
  await broker.subscribe('y')
  proxy.cut()
  await told.until('up', 'down')
  await once(proxy.server, 'connection')
  await broker.unsubscribe('x')
  await told.until('up', 'down', 'up')
  // It comes after, on the same connection.
  await broker.subscribe('z')
  const admin = redisClient(t, engine)
  t.same(await admin.pubsub('NUMSUB', ...['x', 'y', 'z'].map(name => `fastify-upgrade:${name}`)), [
    ...['fastify-upgrade:x', 0],
    ...['fastify-upgrade:y', 1],
    ...['fastify-upgrade:z', 1]
  ])
})

t.test('subscriptions that take longer than one answer may', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const proxy = await startProxy(t, engine)
  const broker = redisBroker(redisClient(t, proxy), { timeout: ms(1200) })
  const told = record(t, broker)
  await Promise.all(Array.from({ length: 6000 }, (_, i) => broker.subscribe(`x${i}`)))
  proxy.delay = ms(250)
  proxy.cut()
  await told.until('up', 'down', 'up')
})

t.test(
  'a cluster with sharded channels: every node is asked whether it is there',
  { skip: redisSkip },
  async t => {
    const engine = await startRedisCluster(t, 3)
    const client = new Cluster([{ host: HOST, port: engine.port }])
    t.teardown(() => client.disconnect())
    await once(client, 'ready')
    const countPings = () =>
      Promise.all(
        client.nodes('master').map(async node => {
          const stats = String(await node.info('commandstats'))
          return Number(/cmdstat_ping:calls=(\d+)/.exec(stats)?.[1] ?? 0)
        })
      )
    const before = await countPings()
    const told = record(t, redisBroker(client, { sharded: true }))
    await told.until('up')
    const after = await countPings()
    t.equal(after.length, 3)
    for (const [i, count] of after.entries()) t.ok(count > (before[i] ?? 0), `node ${i}`)
  }
)

t.test('what speaks no Redis is tried again ever more slowly', { skip: redisSkip }, async t => {
  const accidents = watchProcess(t)
  let count = 0
  const server = createServer(socket => {
    count++
    socket.on('error', () => {})
    socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')
  })
  await new Promise<void>(resolve => server.listen(0, HOST, resolve))
  t.teardown(() => server.close())
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const broker = redisBroker(redisClient(t, { port }))
  const told = record(t, broker)
  await told.until('down')
  const until = async (n: number): Promise<void> => {
    while (count < n) await new Promise(resolve => server.once('connection', resolve))
  }
  await withDeadline(until(8), 10_000, 'attempts')
  t.strictSame(told.states, ['down'])
  await t.rejects(broker.publish('x', HELLO))
  t.strictSame(accidents, [])
})

t.test('an engine that ends each connection soon is tried ever more slowly', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const told = record(t, redisBroker(redisClient(t, engine)))
  const admin = redisClient(t, engine)
  await admin.ping()
  const states: ('up' | 'down')[] = ['up']
  await told.until(...states)
  const end = async (): Promise<number> => {
    const since = performance.now()
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    states.push('down', 'up')
    await told.until(...states)
    return performance.now() - since
  }
  const took: number[] = []
  for (let n = 0; n < 5; n++) took.push(await end())
  const [, , , , last] = took
  // Half of 800 at least.
  t.ok(last > 400, `${took.map(Math.round)} ms`)
  // One that has stayed is tried soon.
  const { now } = performance
  t.capture(performance, 'now', () => now.call(performance) + 10_000)
  t.ok((await end()) < last)
})

t.test('clients that it cannot use', async t => {
  for (const client of [undefined, {}, new Map()]) {
    t.throws(() => Reflect.apply(redisBroker, undefined, [client]), {
      code: 'FST_UPGRADE_INVALID_BROKER_OPTION',
      message: /The client of a broker must be a client of ioredis/
    })
  }
  const cluster = new ValkeyCluster([{ host: HOST, port: 1 }], { lazyConnect: true })
  t.throws(() => redisBroker(cluster, { sharded: true }), {
    code: 'FST_UPGRADE_INVALID_BROKER_OPTION',
    message: /sharded channels/
  })
  redisBroker(cluster)
})

t.test('options that it cannot use', async t => {
  const client = new Redis({ lazyConnect: true })
  for (const options of [
    { prefix: 7 },
    ...[0, -1, 1.5, Number.NaN, 2 ** 31, '5'].map(timeout => ({ timeout }))
  ]) {
    t.throws(() => Reflect.apply(redisBroker, undefined, [client, options]), {
      code: 'FST_UPGRADE_INVALID_BROKER_OPTION'
    })
  }
})
