import { connect, type NatsConnection } from '@nats-io/transport-node'
import t, { type Test } from 'tap'
import { brokerContract } from '../../lib/pubsub/broker-contract.js'
import { natsBroker } from '../../lib/pubsub/nats.js'
import { natsSkip, startNats } from '../helpers/engine.js'
import { checkOutage } from './outage.js'

async function connectTo(t: Test, port: number): Promise<NatsConnection> {
  const connection = await connect({
    servers: `127.0.0.1:${port}`,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 50
  })
  t.teardown(() => connection.close())
  return connection
}

t.test('the contract with NATS', { skip: natsSkip }, async t => {
  const { port } = await startNats(t)
  const tests = brokerContract(async () => natsBroker(await connectTo(t, port)))
  for (const [name, test] of tests) await t.test(name, () => test())
})

t.test('the contract with one connection for all brokers', { skip: natsSkip }, async t => {
  const { port } = await startNats(t)
  const connection = await connectTo(t, port)
  const tests = brokerContract(() => natsBroker(connection, { prefix: 'a.b.' }))
  for (const [name, test] of tests) await t.test(name, () => test())
})

t.test('an engine that crashes and comes back', { skip: natsSkip }, async t => {
  const engine = await startNats(t)
  await checkOutage(t, engine, async () => natsBroker(await connectTo(t, engine.port)))
})
