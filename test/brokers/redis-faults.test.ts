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

/** The number of connections at the engine, without the one that counts. */
async function connections(t: Test, engine: Engine): Promise<number> {
  const counting = redisClient(t, engine)
  const list = String(await counting.client('LIST'))
  counting.disconnect()
  return list.trim().split('\n').length - 1
}

t.test(
  'channel names begin with the keyPrefix of the client and the prefix, each once',
  { skip: redisSkip },
  async t => {
    const engine = await startRedis(t)
    const client = redisClient(t, engine, { keyPrefix: 'app:' })
    for (const sharded of [false, true]) {
      const broker = redisBroker(client, { prefix: 'p:', sharded })
      const events = record(t, broker)
      await broker.subscribe('x')
      const plain = redisClient(t, engine)
      const sent = sharded
        ? plain.spublish('app:p:x', 'from outside')
        : plain.publish('app:p:x', 'from outside')
      t.equal(await sent, 1, 'one subscriber')
      t.equal(await events.next(), 'x from outside')
    }
  }
)

t.test('the broker opens two connections, and close ends only these', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const client = redisClient(t, engine)
  t.equal(await client.ping(), 'PONG')
  const broker = redisBroker(client)
  const events = record(t, broker)
  await events.until('up')
  t.equal(await connections(t, engine), 3)
  await broker.close()
  t.equal(await connections(t, engine), 1)
  t.equal(await client.ping(), 'PONG')
})

t.test('close takes a bounded time while the engine hangs or is down', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const up = redisBroker(redisClient(t, engine))
  const events = record(t, up)
  await events.until('up')
  await engine.hold()
  const publishing = up.publish('x', HELLO)
  const opening = redisBroker(redisClient(t, engine))
  opening.start(events)
  const waiting = opening.publish('x', HELLO)
  const rejections = Promise.all([
    t.rejects(publishing),
    t.rejects(waiting, { code: 'FST_UPGRADE_BROKER_CLOSED' })
  ])
  await withDeadline(Promise.all([up.close(), opening.close()]), 5000, 'close')
  await rejections
  engine.letGo()
  await engine.kill()
  const disconnected = redisBroker(redisClient(t, engine))
  const down = record(t, disconnected)
  await down.until('down')
  await withDeadline(disconnected.close(), 5000, 'close')
  t.strictSame(events.states, ['up'])
})

t.test('a cluster broker can be closed while it looks for a node', { skip: redisSkip }, async t => {
  const engine = await startRedisCluster(t)
  const client = new Cluster([{ host: HOST, port: engine.port }], { lazyConnect: true })
  t.teardown(() => client.disconnect())
  const broker = redisBroker(client)
  const events = record(t, broker)
  await withDeadline(broker.close(), 5000, 'close')
  t.strictSame(events.states, [])
})

t.test('calls are rejected when Redis is down at the start', { skip: redisSkip }, async t => {
  const accidents = watchProcess(t)
  const broker = redisBroker(redisClient(t, { port: await freePort() }))
  const events = record(t, broker)
  // The first call waits for the attempt to connect.
  await t.rejects(broker.publish('x', HELLO), { code: 'ECONNREFUSED' })
  await t.rejects(broker.publish('x', HELLO), { code: 'ECONNREFUSED' })
  await t.rejects(broker.subscribe('x'), { code: 'ECONNREFUSED' })
  await broker.unsubscribe('x')
  t.strictSame(events.states, ['down'])
  t.match(events.errors, [{ code: 'ECONNREFUSED' }])
  t.strictSame(accidents, [])
})

t.test('a wrong password counts as disconnected until it is accepted', { skip: redisSkip }, async t => {
  const accidents = watchProcess(t)
  const engine = await startRedis(t, ['--requirepass', 'right'])
  const broker = redisBroker(redisClient(t, engine, { password: 'wrong' }))
  const events = record(t, broker)
  await t.rejects(broker.publish('x', HELLO), /WRONGPASS/)
  t.strictSame(events.states, ['down'])
  await redisClient(t, engine, { password: 'right' }).config('SET', 'requirepass', 'wrong')
  await events.until('down', 'up')
  await broker.subscribe('x')
  await broker.publish('x', HELLO)
  t.equal(await events.next(), 'x hello')
  t.strictSame(accidents, [])
})

t.test(
  'commands that Redis refuses are rejected, and others are not affected',
  { skip: redisSkip },
  async t => {
    const accidents = watchProcess(t)
    const engine = await startRedis(t)
    const admin = redisClient(t, engine)
    const user = { username: 'app', password: 'secret' }
    const rules = ['on', '>secret', 'allcommands', 'resetchannels', '&fastify-upgrade:m:*']
    await admin.acl('SETUSER', 'app', ...rules)
    const broker = redisBroker(redisClient(t, engine, user))
    const events = record(t, broker)
    await t.rejects(broker.publish('n:x', HELLO), /NOPERM/)
    await t.rejects(broker.subscribe('n:x'), /NOPERM/)
    await broker.subscribe('m:x')
    await broker.publish('m:x', HELLO)
    t.equal(await events.next(), 'm:x hello')
    t.strictSame(events.states, ['up'], 'other channels work')

    // Redis ends connections that lose a permission they use, and the broker reconnects.
    await admin.acl('SETUSER', 'app', 'resetchannels')
    await events.until('up', 'down')
    await t.rejects(broker.publish('m:x', HELLO))
    await admin.acl('SETUSER', 'app', 'allchannels')
    await events.until('up', 'down', 'up')
    await broker.publish('m:x', HELLO)
    t.equal(await events.next(), 'm:x hello')
    t.strictSame(accidents, [])
  }
)

t.test('the broker reconnects when Redis ends one of its connections', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const broker = redisBroker(redisClient(t, engine))
  const events = record(t, broker)
  await broker.subscribe('x')
  const admin = redisClient(t, engine)
  await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  await events.until('up', 'down', 'up')
  await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  await events.until('up', 'down', 'up', 'down', 'up')
  await broker.publish('x', HELLO)
  t.equal(await events.next(), 'x hello')
  t.match(events.errors, [/Redis has ended|ECONNRESET/, /Redis has ended|ECONNRESET/])
})

t.test(
  'thousands of subscriptions are restored after an outage, except those that ended during it',
  { skip: redisSkip },
  async t => {
    const engine = await startRedis(t)
    const broker = redisBroker(redisClient(t, engine))
    const events = record(t, broker)
    const channels = Array.from({ length: 2500 }, (_, i) => `x${i}`)
    await Promise.all(channels.map(channel => broker.subscribe(channel)))
    await engine.kill()
    await events.until('up', 'down')
    await broker.unsubscribe('x1')
    await engine.start()
    await events.until('up', 'down', 'up')
    const admin = redisClient(t, engine)
    const subscribed = await admin.pubsub('CHANNELS')
    t.equal(Array.isArray(subscribed) && subscribed.length, channels.length - 1)
    await broker.publish('x1', HELLO)
    await broker.publish('x2499', HELLO)
    t.equal(await events.next(), 'x2499 hello')
  }
)

t.test(
  'a subscription that ends while it is being restored is not active afterwards',
  { skip: redisSkip },
  async t => {
    const engine = await startRedis(t)
    const proxy = await startProxy(t, engine)
    const broker = redisBroker(redisClient(t, proxy))
    const events = record(t, broker)
    await broker.subscribe('x')
    await broker.subscribe('y')
    proxy.cut()
    await events.until('up', 'down')
    await once(proxy.server, 'connection')
    await broker.unsubscribe('x')
    await events.until('up', 'down', 'up')
    // This command follows on the same connection.
    await broker.subscribe('z')
    const admin = redisClient(t, engine)
    t.same(await admin.pubsub('NUMSUB', ...['x', 'y', 'z'].map(name => `fastify-upgrade:${name}`)), [
      ...['fastify-upgrade:x', 0],
      ...['fastify-upgrade:y', 1],
      ...['fastify-upgrade:z', 1]
    ])
  }
)

t.test('restoring subscriptions may take longer than the reply timeout', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const proxy = await startProxy(t, engine)
  const broker = redisBroker(redisClient(t, proxy), { timeout: ms(2400) })
  const events = record(t, broker)
  await Promise.all(Array.from({ length: 6000 }, (_, i) => broker.subscribe(`x${i}`)))
  proxy.delay = ms(250)
  proxy.cut()
  await events.until('up', 'down', 'up')
})

t.test(
  'with sharded channels the health check pings each node of a cluster',
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
    const events = record(t, redisBroker(client, { sharded: true }))
    await events.until('up')
    const after = await countPings()
    t.equal(after.length, 3)
    for (const [i, count] of after.entries()) t.ok(count > (before[i] ?? 0), `node ${i}`)
  }
)

t.test('a server of another protocol counts as disconnected and is retried', { skip: redisSkip }, async t => {
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
  const events = record(t, broker)
  await events.until('down')
  const until = async (n: number): Promise<void> => {
    while (count < n) await new Promise(resolve => server.once('connection', resolve))
  }
  await withDeadline(until(8), 10_000, 'attempts')
  t.strictSame(events.states, ['down'])
  await t.rejects(broker.publish('x', HELLO))
  t.strictSame(accidents, [])
})

t.test(
  'the delay before reconnecting grows when Redis soon ends each connection',
  { skip: redisSkip },
  async t => {
    const engine = await startRedis(t)
    const events = record(t, redisBroker(redisClient(t, engine)))
    const admin = redisClient(t, engine)
    await admin.ping()
    const states: ('up' | 'down')[] = ['up']
    await events.until(...states)
    const end = async (): Promise<number> => {
      const since = performance.now()
      await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
      states.push('down', 'up')
      await events.until(...states)
      return performance.now() - since
    }
    const took: number[] = []
    for (let n = 0; n < 5; n++) took.push(await end())
    const [, , , , last] = took
    // At least half of 800 ms.
    t.ok(last > 400, `${took.map(Math.round)} ms`)
    // After a stable session the broker reconnects quickly.
    const { now } = performance
    t.capture(performance, 'now', () => now.call(performance) + 10_000)
    t.ok((await end()) < last)
  }
)

t.test('invalid clients are refused', async t => {
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

t.test('invalid options are refused', async t => {
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
