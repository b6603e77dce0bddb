import { createServer } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import FakeTimers from '@sinonjs/fake-timers'
import { Cluster, Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { redisBroker } from '../../lib/brokers/redis/redis.js'
import { redisSkip, startRedis } from '../helpers/engine.js'
import { withDeadline } from '../helpers/timeout.js'
import { redisClient } from './clients.js'
import { record } from './recorder.js'

// The connections that the broker opens.

const HELLO = Buffer.from('hello')
const X = 'fastify-upgrade:x'

/** @returns the duplicates of a client, as they are made. */
function watch<Client extends Redis | Cluster>(t: Test, client: Client): Client[] {
  const made: Client[] = []
  const { duplicate } = client
  t.intercept(client, 'duplicate', {
    value(...args: readonly unknown[]) {
      const connection: Client = Reflect.apply(duplicate, client, args)
      made.push(connection)
      return connection
    }
  })
  return made
}

t.test('close waits until the connections have ended', { skip: redisSkip }, async t => {
  const client = redisClient(t, await startRedis(t))
  const made = watch(t, client)
  const broker = redisBroker(client)
  await record(t, broker).until('up')
  await broker.close()
  t.strictSame(
    made.map(({ status }) => status),
    ['end', 'end']
  )
})

t.test('the options of the client for reconnecting and queueing are not used', async t => {
  const options = {
    keyPrefix: 'app:',
    lazyConnect: false,
    retryStrategy: () => 1,
    reconnectOnError: () => 2 as const,
    enableOfflineQueue: true,
    enableReadyCheck: true,
    enableAutoPipelining: true,
    autoResubscribe: true,
    autoResendUnfulfilledCommands: true,
    commandTimeout: 1,
    socketTimeout: 1,
    disconnectTimeout: 60_000
  }
  const own = {
    keyPrefix: '',
    lazyConnect: true,
    retryStrategy: null,
    reconnectOnError: null,
    enableOfflineQueue: false,
    enableReadyCheck: false,
    enableAutoPipelining: false,
    autoResubscribe: false,
    autoResendUnfulfilledCommands: false,
    commandTimeout: undefined,
    socketTimeout: undefined,
    disconnectTimeout: 200
  }
  const subset = (all: object) =>
    Object.fromEntries(Object.keys(own).map(key => [key, Reflect.get(all, key)]))
  const address = { port: 1, host: '127.0.0.1', username: 'app', password: 'secret' }
  const client = new Redis({ ...address, ...options, lazyConnect: true })
  const made = watch(t, client)
  const broker = redisBroker(client)
  const down = record(t, broker)
  await down.until('down')
  await broker.close()
  t.equal(made.length, 2)
  for (const connection of made) {
    t.strictSame(subset(connection.options), own)
    t.match(connection.options, address)
  }

  const cluster = new Cluster([address], {
    keyPrefix: 'app:',
    lazyConnect: true,
    clusterRetryStrategy: () => 1,
    clusterNodeRetryStrategy: () => 1,
    enableOfflineQueue: false,
    enableAutoPipelining: true,
    retryDelayOnFailover: 100,
    redisOptions: { ...options, keyPrefix: undefined }
  })
  for (const sharded of [true, false]) {
    const clusters = watch(t, cluster)
    const broker = redisBroker(cluster, { sharded })
    await record(t, broker).until('down')
    await broker.close()
    // One more, which does not connect, shows whether the client supports sharded channels.
    t.equal(clusters.length, sharded ? 3 : 1)
    for (const { status } of clusters) t.match(status, /^(end|disconnecting)$/)
    for (const { options } of clusters) {
      const { redisOptions = {}, ...others } = options
      t.strictSame(subset(redisOptions), own)
      t.match(others, {
        keyPrefix: '',
        lazyConnect: true,
        clusterRetryStrategy: null,
        clusterNodeRetryStrategy: null,
        enableOfflineQueue: true,
        enableAutoPipelining: false,
        retryDelayOnFailover: 0
      })
    }
  }
})

t.test('unsubscribe ends the subscription at the engine', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const client = redisClient(t, engine)
  const admin = redisClient(t, engine)
  for (const sharded of [false, true]) {
    const broker = redisBroker(client, { sharded })
    record(t, broker)
    const send = (): Promise<unknown> => (sharded ? admin.spublish(X, 'x') : admin.publish(X, 'x'))
    await broker.subscribe('x')
    t.equal(await send(), 1)
    await broker.unsubscribe('x')
    t.equal(await send(), 0)
  }
})

t.test('messages that arrive while a subscription ends are dropped', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const broker = redisBroker(redisClient(t, engine))
  const events = record(t, broker)
  await broker.subscribe('x')
  await broker.subscribe('y')
  await engine.hold()
  const published = [broker.publish('x', HELLO), broker.publish('y', HELLO)]
  const unsubscribed = broker.unsubscribe('x')
  engine.letGo()
  await Promise.all([...published, unsubscribed])
  t.equal(await events.next(), 'y hello')
  t.strictSame(events.messages, [])
})

t.test('unsubscribe resolves when the engine crashes', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const broker = redisBroker(redisClient(t, engine))
  const events = record(t, broker)
  await broker.subscribe('x')
  await engine.hold()
  const unsubscribed = broker.unsubscribe('x')
  await engine.kill()
  await withDeadline(unsubscribed, 5000, 'end')
  await events.until('up', 'down')
})

t.test('a subscription that was refused is not restored after an outage', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  const admin = redisClient(t, engine)
  const rules = ['on', '>secret', 'allcommands', 'resetchannels', '&fastify-upgrade:m:*']
  await admin.acl('SETUSER', 'app', ...rules)
  const broker = redisBroker(redisClient(t, engine, { username: 'app', password: 'secret' }))
  const events = record(t, broker)
  await broker.subscribe('m:x')
  await t.rejects(broker.subscribe('n:x'), /NOPERM/)
  await admin.call('CLIENT', 'KILL', 'USER', 'app')
  await events.until('up', 'down', 'up')
})

/** Starts a server that does not speak Redis and ends each connection. @returns its port. */
async function startNonRedis(t: Test): Promise<number> {
  const server = createServer(socket => {
    socket.on('error', () => {})
    socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

t.test(
  'the delay before reconnecting doubles up to 2 s, starts over after a stable session, and ends with close',
  {
    skip: redisSkip
  },
  async t => {
    const clock = FakeTimers.install({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    t.teardown(() => clock.uninstall())
    const engine = await startRedis(t)
    const port = await startNonRedis(t)
    const client = redisClient(t, { port })
    const made = watch(t, client)
    const broker = redisBroker(client, { timeout: 60_000 })
    const events = record(t, broker)
    const ended = async (): Promise<void> => {
      while (!made.every(({ status }) => status === 'end')) await turn()
    }
    /** Resolves with the milliseconds until the next connections are opened. */
    const delay = async (): Promise<number> => {
      await ended()
      const { now } = clock
      for (const count = made.length; made.length === count; await turn()) clock.tick(1)
      return clock.now - now
    }
    const check = async (full: number): Promise<void> => {
      const took = await delay()
      t.ok(took >= full / 2 && took <= full + 1, `${took} of ${full} ms`)
    }
    await events.until('down')
    for (const full of [50, 100, 200, 400, 800, 1600, 2000, 2000]) await check(full)
    client.options.port = engine.port
    await check(2000)
    await events.until('down', 'up')
    for (const connection of made) connection.disconnect()
    await events.until('down', 'up', 'down')
    await check(2000)
    await events.until('down', 'up', 'down', 'up')
    clock.tick(2001)
    client.options.port = port
    for (const connection of made) connection.disconnect()
    await events.until('down', 'up', 'down', 'up', 'down')
    for (const full of [50, 100]) await check(full)
    await ended()
    const count = made.length
    await broker.close()
    clock.tick(10_000)
    await turn()
    t.equal(made.length, count)
  }
)
