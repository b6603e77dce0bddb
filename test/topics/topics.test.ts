import t, { type Test } from 'tap'
import { encodePublication, type Publication } from '../../lib/topics/publication.js'
import { Topics } from '../../lib/topics/topics.js'
import { ManualBroker } from '../brokers/manual-broker.js'

const OTHER = 'f'.repeat(32)

const text = (payload: string) => ({ payload, isBinary: false, compress: true })

class Receiver {
  readonly received: Publication[] = []

  send(message: Publication): void {
    this.received.push(message)
  }

  get payloads(): string[] {
    return this.received.map(({ payload }) => String(payload))
  }
}

function make(t: Test) {
  const broker = new ManualBroker()
  const errors: unknown[] = []
  const topics = new Topics<Publication, Receiver>({
    server: {},
    broker,
    prepare: (payload, { binary, compress }) => ({ payload, isBinary: binary, compress }),
    onEvent() {},
    onError: error => errors.push(error),
    presence: { interval: 5000, timeout: 15_000 },
    history: undefined,
    maxRecovered: 300
  })
  topics.open()
  t.teardown(() => topics.close())
  return { broker, topics, errors }
}

t.test('a topic has one subscription at the broker while it has subscribers', async t => {
  const { broker, topics } = make(t)
  const [one, two] = [new Receiver(), new Receiver()]
  const subscribed = [topics.subscribe('room', one), topics.subscribe('room', two)]
  t.strictSame(broker.pending, ['subscribe m:room'])
  await broker.settle()
  await Promise.all(subscribed)
  topics.unsubscribe('room', one)
  topics.unsubscribe('room', one)
  t.strictSame(broker.pending, [])
  topics.unsubscribe('room', two)
  t.strictSame(broker.pending, ['unsubscribe m:room'])
})

t.test('subscribers of this process have the message before publish returns', async t => {
  const { broker, topics } = make(t)
  const [one, two] = [new Receiver(), new Receiver()]
  for (const receiver of [one, two]) void topics.subscribe('room', receiver)
  const message = text('x')
  void topics.publish('room', message, two)
  t.equal(one.received[0], message)
  t.strictSame([one.received.length, two.received.length], [1, 0])
  t.strictSame(broker.pending, ['subscribe m:room', 'publish m:room'])
})

t.test('a subscriber that throws does not keep the message from the others', async t => {
  const { broker, topics, errors } = make(t)
  const [one, two] = [new Receiver(), new Receiver()]
  const refusal = new Error('not today')
  const broken = new Receiver()
  broken.send = () => {
    throw refusal
  }
  for (const receiver of [one, broken, two]) void topics.subscribe('room', receiver)
  void topics.publish('room', text('x'))
  broker.events?.onMessage('m:room', encodePublication(OTHER, text('y')))
  t.strictSame(
    [one.payloads, two.payloads],
    [
      ['x', 'y'],
      ['x', 'y']
    ]
  )
  t.strictSame(errors, [refusal, refusal])
  t.ok(broker.pending.includes('publish m:room'))
})

t.test('a publication of another process is prepared once for all subscribers', async t => {
  const { broker, topics } = make(t)
  const [one, two, elsewhere] = [new Receiver(), new Receiver(), new Receiver()]
  for (const receiver of [one, two]) void topics.subscribe('room', receiver)
  void topics.subscribe('elsewhere', elsewhere)
  const kinds = [true, false].flatMap(isBinary => [true, false].map(compress => ({ isBinary, compress })))
  for (const kind of kinds) {
    broker.events?.onMessage('m:room', encodePublication(OTHER, { payload: 'x', ...kind }))
  }
  broker.events?.onMessage('m:nobody', encodePublication(OTHER, text('x')))
  t.strictSame(
    one.received,
    kinds.map(kind => ({ payload: Buffer.from('x'), ...kind }))
  )
  t.equal(two.received.length, one.received.length)
  for (const [index, message] of one.received.entries()) t.equal(two.received[index], message)
  t.strictSame(elsewhere.received, [])
})

t.test('after close the broker is closed, and messages still reach subscribers of this process', async t => {
  const { broker, topics } = make(t)
  const receiver = new Receiver()
  void topics.subscribe('room', receiver)
  await topics.close()
  t.equal(broker.closes, 1)
  await t.rejects(topics.publish('room', text('x')), { code: 'FST_UPGRADE_BROKER_CLOSED' })
  t.equal(receiver.received.length, 1)
})
