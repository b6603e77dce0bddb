import t from 'tap'
import { brokerContract } from '../../lib/brokers/broker-contract.js'
import { natsBroker } from '../../lib/brokers/nats/nats.js'
import { natsSkip, startNats } from '../helpers/engine.js'
import { natsConnection } from './clients.js'
import { checkOutage } from './outage.js'

t.test('the broker passes the contract on NATS', { skip: natsSkip }, async t => {
  const engine = await startNats(t)
  const tests = brokerContract(async () => natsBroker(await natsConnection(t, engine)))
  for (const [name, test] of tests) await t.test(name, () => test())
})

t.test('brokers that share one connection pass the contract on NATS', { skip: natsSkip }, async t => {
  const engine = await startNats(t)
  const connection = await natsConnection(t, engine)
  const tests = brokerContract(() => natsBroker(connection, { prefix: 'a.b.' }))
  for (const [name, test] of tests) await t.test(name, () => test())
})

t.test('delivery stops while NATS is down and resumes when it is back', { skip: natsSkip }, async t => {
  const engine = await startNats(t)
  await checkOutage(t, engine, async () => natsBroker(await natsConnection(t, engine)))
})
