import t, { type Test } from 'tap'
import { type BrokerEvent, BrokerLink } from '../../lib/topics/broker-link.js'
import { decodePublication, encodePublication } from '../../lib/topics/publication.js'
import { ManualBroker } from '../brokers/manual-broker.js'
import { watchProcess } from '../helpers/app.js'

const OTHER = 'f'.repeat(32)

const NO_HISTORY = { server: {}, onAppended() {}, onRestored() {} }

const text = (payload: string) => ({ payload, isBinary: false, compress: true })
const bytes = (payload: Uint8Array) => ({ payload, isBinary: true, compress: false })

function make(t: Test) {
  const broker = new ManualBroker()
  const events: string[] = []
  const received: string[] = []
  const link = new BrokerLink(broker, {
    ...NO_HISTORY,
    onEvent: event => void events.push(show(event)),
    onPublication: (kind, topic, { payload, isBinary }) =>
      void received.push(`${kind} ${topic} ${Buffer.from(payload)} ${isBinary}`)
  })
  link.start()
  t.teardown(() => link.close())
  return {
    broker,
    link,
    events,
    received,
    receive: (channel: string, message: Uint8Array) => broker.events?.onMessage(channel, message)
  }
}

function show(event: BrokerEvent): string {
  const topic = 'topic' in event ? ` ${event.topic}` : ''
  const error =
    'error' in event && event.error !== undefined
      ? ` ${Reflect.get(event.error, 'code') ?? event.error.message}`
      : ''
  return event.type + topic + error
}

t.test('messages and presence of a topic are encoded and published to channels of their own', async t => {
  const { broker, link } = make(t)
  const published = link.publish('message', 'room', text('hello'))
  const [{ channel, message }] = broker.calls
  t.equal(channel, 'm:room')
  t.strictSame(decodePublication(message ?? Buffer.alloc(0)), {
    origin: link.origin,
    sender: 0,
    payload: Buffer.from('hello'),
    isBinary: false,
    compress: true
  })
  t.equal(await broker.settle(), 'publish m:room')
  await published
  void link.publish('presence', 'room', bytes(Buffer.from('x')))
  t.strictSame(broker.pending, ['publish p:room'])
  const other = new BrokerLink(new ManualBroker(), { ...NO_HISTORY, onEvent() {}, onPublication() {} })
  t.not(other.origin, link.origin)
})

t.test('publications of other processes are received, and those of this process are ignored', async t => {
  const { link, received, events, receive } = make(t)
  receive('m:room', encodePublication(OTHER, text('one')))
  receive('p:room', encodePublication(OTHER, bytes(Buffer.from('two'))))
  receive('m:room', encodePublication(link.origin, text('own')))
  t.strictSame(received, ['message room one false', 'presence room two true'])
  t.strictSame(events, [])
})

t.test('messages that no process of the application published are dropped and reported', async t => {
  const accidents = watchProcess(t)
  const { received, events, receive } = make(t)
  receive('m:room', Buffer.from('garbage'))
  receive('m:room', Buffer.alloc(0))
  receive('other', encodePublication(OTHER, text('one')))
  t.strictSame(events, ['invalid room', 'invalid room', 'invalid her'])
  t.strictSame(received, [])
  t.strictSame(accidents, [])
})

t.test('publish rejects when the broker does, and the message is counted and reported as lost', async t => {
  const { broker, link, events } = make(t)
  const published = link.publish('message', 'room', text('x'))
  const cause = new Error('connection lost')
  await Promise.all([
    t.rejects(published, {
      code: 'FST_UPGRADE_BROKER_PUBLISH',
      message: /other processes miss it: connection lost;/,
      cause
    }),
    broker.settle(cause)
  ])
  t.equal(link.lost, 1)
  t.strictSame(events, ['lost room FST_UPGRADE_BROKER_PUBLISH'])
})

t.test('presence that the broker rejects is not counted as lost, as it is sent again', async t => {
  const { broker, link, events } = make(t)
  const published = link.publish('presence', 'room', text('x'))
  await Promise.all([
    t.rejects(published, { code: 'FST_UPGRADE_BROKER_PUBLISH' }),
    broker.settle(new Error('connection lost'))
  ])
  t.equal(link.lost, 0)
  t.strictSame(events, [])
})

t.test('at most 16 MiB are pending at a slow engine', async t => {
  const { broker, link, events } = make(t)
  const mib = bytes(Buffer.alloc(2 ** 20))
  const published = Array.from({ length: 16 }, () => link.publish('message', 'room', mib))
  t.equal(broker.calls.length, 16)
  await t.rejects(link.publish('message', 'room', text('late')), { code: 'FST_UPGRADE_BROKER_OVERLOADED' })
  t.equal(broker.calls.length, 16)
  t.equal(link.lost, 1)
  t.strictSame(events, ['lost room FST_UPGRADE_BROKER_OVERLOADED'])
  for (const _ of published) await broker.settle()
  await Promise.all(published)
  void link.publish('message', 'room', text('now'))
  t.equal(broker.calls.length, 1)
})

t.test('each pending message counts 1 KiB more than its size, as the client needs memory for it', async t => {
  const { broker, link } = make(t)
  const published = Array.from({ length: 20_000 }, () => link.publish('message', 'room', text('')))
  const { length } = broker.calls
  t.ok(length > 15_000 && length < 17_000, `${length} are pending`)
  for (const { settle } of broker.calls) settle()
  const results = await Promise.allSettled(published)
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, length)
  t.equal(link.lost, published.length - length)
})

t.test('rejected messages are no longer pending', async t => {
  const { broker, link } = make(t)
  const mib = bytes(Buffer.alloc(2 ** 20))
  for (let n = 0; n < 17; n++) {
    const published = link.publish('message', 'room', mib)
    await Promise.all([
      t.rejects(published, { code: 'FST_UPGRADE_BROKER_PUBLISH' }),
      broker.settle(new Error('connection lost'))
    ])
  }
})

t.test('a subscription that fails rejects, is reported, and is retried when the engine is back', async t => {
  const { broker, link, events } = make(t)
  const subscribed = link.subscribe('message', 'room')
  await Promise.all([
    t.rejects(subscribed, { code: 'FST_UPGRADE_BROKER_SUBSCRIBE', message: /do not arrive: NOPERM;/ }),
    broker.settle(new Error('NOPERM'))
  ])
  broker.events?.onDown(new Error('connection lost'))
  broker.events?.onDown()
  broker.events?.onUp()
  t.strictSame(events, [
    'unsubscribed room FST_UPGRADE_BROKER_SUBSCRIBE',
    'down connection lost',
    'down',
    'up'
  ])
  t.equal(await broker.settle(), 'subscribe m:room')
  link.unsubscribe('message', 'room')
  t.equal(await broker.settle(), 'unsubscribe m:room')
})

t.test('subscriptions are retried before the event up', async t => {
  const broker = new ManualBroker()
  const pending: string[][] = []
  const link = new BrokerLink(broker, {
    ...NO_HISTORY,
    onEvent: ({ type }) => void (type === 'up' && pending.push(broker.pending)),
    onPublication() {}
  })
  link.start()
  t.teardown(() => link.close())
  const subscribed = link.subscribe('message', 'room')
  await Promise.all([t.rejects(subscribed), broker.settle(new Error('connection lost'))])
  broker.events?.onUp()
  t.strictSame(pending, [['subscribe m:room']])
})

t.test('a broker may reject with a value that is not an error', async t => {
  const { broker, link } = make(t)
  const published = link.publish('message', 'room', text('x'))
  const [{ settle }] = broker.calls
  Reflect.apply(settle, undefined, ['just a text'])
  await t.rejects(published, { message: /other processes miss it: just a text;/ })
})

t.test('a closed link waits for its broker to close, reports nothing and publishes nothing', async t => {
  const { broker, link, events, received, receive } = make(t)
  void link.subscribe('message', 'room')
  await broker.settle()
  let end = (): void => {}
  broker.end = new Promise(resolve => {
    end = resolve
  })
  let isClosed = false
  const closing = link.close().then(() => {
    isClosed = true
  })
  await new Promise(resolve => setImmediate(resolve))
  t.equal(isClosed, false, 'the broker is still closing')
  end()
  await closing
  await link.close()
  t.equal(broker.closes, 1)
  receive('m:room', encodePublication(OTHER, text('one')))
  broker.events?.onUp()
  broker.events?.onDown()
  await t.rejects(link.publish('message', 'room', text('x')), { code: 'FST_UPGRADE_BROKER_CLOSED' })
  link.unsubscribe('message', 'room')
  t.strictSame(events, [])
  t.strictSame(received, [])
  t.strictSame(broker.pending, [])
})
