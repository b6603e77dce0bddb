import { randomUUID } from 'node:crypto'
import t from 'tap'
import { brokerContract, historyContract } from '../../lib/brokers/broker-contract.js'
import { natsBroker } from '../../lib/brokers/nats/nats.js'
import { natsSkip, startJetStream, startNats } from '../helpers/engine.js'
import { jetStreamBroker, natsConnection } from './clients.js'
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

for (const storage of ['file', 'memory'] as const) {
  t.test(
    `the broker with history passes the contracts on JetStream, ${storage}`,
    { skip: natsSkip },
    async t => {
      const { engine } = await startJetStream(t)
      const make = (prefix: string) => jetStreamBroker(t, engine, { prefix, history: { storage } })
      for (const [name, test] of brokerContract(() => make('all.'))) await t.test(name, () => test())
      for (const name of historyContract(() => make('')).keys()) {
        // Each test has histories of its own.
        const prefix = `${randomUUID()}.`
        await t.test(name, () => historyContract(() => make(prefix)).get(name)?.())
      }
    }
  )
}

t.test('delivery stops while NATS with JetStream is down and resumes', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  await checkOutage(t, engine, () => jetStreamBroker(t, engine))
})
