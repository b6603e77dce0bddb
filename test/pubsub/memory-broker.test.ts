import t from 'tap'
import { brokerContract } from '../../lib/pubsub/broker-contract.js'
import { MemoryBroker, MemoryHub } from '../../lib/pubsub/memory-broker.js'

const hub = new MemoryHub()
for (const [name, test] of brokerContract(() => new MemoryBroker(hub))) {
  t.test(`the broker of one process ${name}`, () => test())
}
