import { randomUUID } from 'node:crypto'
import fastifyRedis from '@fastify/redis'
import { Cluster, Redis, type RedisOptions } from 'ioredis'
import { Redis as Valkey, Cluster as ValkeyCluster } from 'iovalkey'
import t, { type Test } from 'tap'
import { brokerContract, historyContract } from '../../lib/brokers/broker-contract.js'
import { redisBroker } from '../../lib/brokers/redis/redis.js'
import type { HistoryBroker } from '../../lib/index.js'
import { bareApp } from '../helpers/app.js'
import { redisSkip, startRedis, startRedisCluster } from '../helpers/engine.js'
import { ms } from '../helpers/timeout.js'
import { checkOutage } from './outage.js'

const HOST = '127.0.0.1'

/** Runs the tests of the contract. */
async function checkContract(t: Test, make: (prefix?: string) => HistoryBroker): Promise<void> {
  for (const [name, test] of brokerContract(make)) await t.test(name, () => test())
  for (const name of historyContract(make).keys()) {
    // Each test has histories of its own.
    const prefix = randomUUID()
    await t.test(name, () => historyContract(() => make(prefix)).get(name)?.())
  }
}

t.test('the broker passes the contract with ioredis', { skip: redisSkip }, async t => {
  const { port } = await startRedis(t)
  const client = new Redis(port, HOST)
  t.teardown(() => client.disconnect())
  await checkContract(t, prefix => redisBroker(client, { prefix }))
  await checkContract(t, (prefix = '') => redisBroker(client, { prefix, sharded: true }))
})

t.test('the broker passes the contract with iovalkey', { skip: redisSkip }, async t => {
  const { port } = await startRedis(t)
  const client = new Valkey(port, HOST)
  t.teardown(() => client.disconnect())
  await checkContract(t, prefix => redisBroker(client, { prefix }))
  await checkContract(t, prefix => redisBroker(client, { prefix, sharded: true }))
})

t.test('the broker passes the contract with @fastify/redis', { skip: redisSkip }, async t => {
  const { port } = await startRedis(t)
  const { app } = bareApp(t)
  await app.register(fastifyRedis, { host: HOST, port })
  await checkContract(t, prefix => redisBroker(app.redis, { prefix }))
})

/** The clients give up when a node takes longer to list the slots: by default one second. */
const CLUSTER = { slotsRefreshTimeout: ms(1000) }

t.test('the broker passes the contract on a cluster of three nodes', { skip: redisSkip }, async t => {
  const { port } = await startRedisCluster(t, 3)
  const client = new Cluster([{ host: HOST, port }], CLUSTER)
  t.teardown(() => client.disconnect())
  await checkContract(t, prefix => redisBroker(client, { prefix }))
  await checkContract(t, prefix => redisBroker(client, { prefix, sharded: true }))
  const valkey = new ValkeyCluster([{ host: HOST, port }], CLUSTER)
  t.teardown(() => valkey.disconnect())
  await checkContract(t, prefix => redisBroker(valkey, { prefix }))
})

t.test('delivery stops while Redis is down and resumes when it is back', { skip: redisSkip }, async t => {
  const engine = await startRedis(t)
  // The options that an application uses for its own commands do not matter.
  const choices: Omit<RedisOptions, 'replyMapping'>[] = [
    {},
    { retryStrategy: () => null, lazyConnect: true, enableOfflineQueue: false, autoResubscribe: false },
    { keyPrefix: 'app:', maxRetriesPerRequest: null, enableAutoPipelining: true, commandTimeout: 1 }
  ]
  for (const options of choices) {
    await t.test(JSON.stringify(options), async t => {
      const client = new Redis(engine.port, HOST, options).on('error', () => {})
      t.teardown(() => client.disconnect())
      await checkOutage(t, engine, () => redisBroker(client))
    })
  }
  await t.test('with iovalkey', async t => {
    const client = new Valkey(engine.port, HOST).on('error', () => {})
    t.teardown(() => client.disconnect())
    await checkOutage(t, engine, () => redisBroker(client, { sharded: true }))
  })
})

t.test('delivery stops while a cluster is down and resumes when it is back', { skip: redisSkip }, async t => {
  const engine = await startRedisCluster(t)
  for (const sharded of [false, true]) {
    await t.test(`with sharded: ${sharded}`, async t => {
      const client = new Cluster([{ host: HOST, port: engine.port }], CLUSTER).on('error', () => {})
      t.teardown(() => client.disconnect())
      await checkOutage(t, engine, () => redisBroker(client, { sharded }))
    })
  }
})
