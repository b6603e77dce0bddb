import t, { type Test } from 'tap'
import { sealEnvelope } from '../../lib/topics/envelope.js'
import { type Publication, PubSub } from '../../lib/topics/pubsub.js'
import { ManualBroker } from '../brokers/broker.js'

const OTHER = 'f'.repeat(32)

class Member {
  readonly got: Publication[] = []

  send(message: Publication): void {
    this.got.push(message)
  }
}

function make(t: Test) {
  const broker = new ManualBroker()
  const errors: unknown[] = []
  const pubsub = new PubSub<Publication, Member>({
    broker,
    prepare: (payload, { binary, compress }) => ({ payload, isBinary: binary, compress }),
    onEvent() {},
    onError: error => errors.push(error),
    presence: { interval: 5000, timeout: 15_000 }
  })
  pubsub.open()
  t.teardown(() => pubsub.close())
  return { broker, pubsub, errors }
}

t.test('the broker has one subscription to a topic, as long as anyone is subscribed', async t => {
  const { broker, pubsub } = make(t)
  const [one, two] = [new Member(), new Member()]
  const subscribed = [pubsub.subscribe('room', one), pubsub.subscribe('room', two)]
  t.strictSame(broker.asked, ['subscribe m:room'])
  await broker.answer()
  await Promise.all(subscribed)
  pubsub.unsubscribe('room', one)
  pubsub.unsubscribe('room', one)
  t.strictSame(broker.asked, [])
  pubsub.unsubscribe('room', two)
  t.strictSame(broker.asked, ['unsubscribe m:room'])
})

t.test('subscribers of this process have the message before publish returns', async t => {
  const { broker, pubsub } = make(t)
  const [one, two] = [new Member(), new Member()]
  for (const member of [one, two]) void pubsub.subscribe('room', member)
  const message = { payload: 'x', isBinary: false, compress: true }
  void pubsub.publish('room', message, two)
  t.equal(one.got[0], message)
  t.strictSame([one.got.length, two.got.length], [1, 0])
  t.strictSame(broker.asked, ['subscribe m:room', 'publish m:room'])
})

t.test('a member that throws keeps nobody from the message', async t => {
  const { broker, pubsub, errors } = make(t)
  const [one, two] = [new Member(), new Member()]
  const refusal = new Error('not today')
  const broken = new Member()
  broken.send = () => {
    throw refusal
  }
  for (const member of [one, broken, two]) void pubsub.subscribe('room', member)
  void pubsub.publish('room', { payload: 'x', isBinary: false, compress: true })
  broker.events?.onMessage('m:room', sealEnvelope(OTHER, 'y', false, true))
  t.strictSame(
    [one, two].map(({ got }) => got.map(({ payload }) => String(payload))),
    [
      ['x', 'y'],
      ['x', 'y']
    ]
  )
  t.strictSame(errors, [refusal, refusal])
  t.ok(broker.asked.includes('publish m:room'))
})

t.test('what another process publishes is prepared once, as it was there', async t => {
  const { broker, pubsub } = make(t)
  const members = [new Member(), new Member()] as const
  const elsewhere = new Member()
  for (const member of members) void pubsub.subscribe('room', member)
  void pubsub.subscribe('elsewhere', elsewhere)
  const kinds = [true, false].flatMap(isBinary => [true, false].map(compress => ({ isBinary, compress })))
  for (const { isBinary, compress } of kinds) {
    broker.events?.onMessage('m:room', sealEnvelope(OTHER, 'x', isBinary, compress))
  }
  broker.events?.onMessage('m:nobody', sealEnvelope(OTHER, 'x', false, true))
  const [{ got }, other] = members
  t.strictSame(
    got,
    kinds.map(kind => ({ payload: Buffer.from('x'), ...kind }))
  )
  t.equal(other.got.length, got.length)
  for (const [index, message] of got.entries()) t.equal(other.got[index], message)
  t.strictSame(elsewhere.got, [])
})

t.test('close ends the broker, and goes on delivering here', async t => {
  const { broker, pubsub } = make(t)
  const member = new Member()
  void pubsub.subscribe('room', member)
  await pubsub.close()
  t.equal(broker.closes, 1)
  const published = pubsub.publish('room', { payload: 'x', isBinary: false, compress: true })
  await t.rejects(published, { code: 'FST_UPGRADE_BROKER_CLOSED' })
  t.equal(member.got.length, 1)
})
