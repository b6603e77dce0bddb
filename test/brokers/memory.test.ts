import t from 'tap'
import { brokerContract } from '../../lib/brokers/broker-contract.js'
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
