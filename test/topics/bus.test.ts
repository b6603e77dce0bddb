import t, { type Test } from 'tap'
import { type BrokerEvent, Bus } from '../../lib/topics/bus.js'
import { openEnvelope, sealEnvelope } from '../../lib/topics/envelope.js'
import { ManualBroker } from '../brokers/broker.js'
import { watchProcess } from '../helpers/app.js'

const AS_TEXT = { isBinary: false, compress: true } as const
const OTHER = 'f'.repeat(32)

function make(t: Test) {
  const broker = new ManualBroker()
  const events: string[] = []
  const received: string[] = []
  const bus = new Bus(broker, {
    onEvent: event => void events.push(show(event)),
    onEnvelope: (kind, topic, { payload, isBinary }) =>
      void received.push(`${kind} ${topic} ${Buffer.from(payload)} ${isBinary}`)
  })
  bus.start()
  t.teardown(() => bus.close())
  return {
    broker,
    bus,
    events,
    received,
    tell: (channel: string, bytes: Uint8Array) => broker.events?.onMessage(channel, bytes)
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

t.test('what is published goes out in an envelope, to a channel of its kind', async t => {
  const { broker, bus } = make(t)
  const published = bus.publish('message', 'room', 'hello', AS_TEXT)
  const [{ channel, message }] = broker.calls
  t.equal(channel, 'm:room')
  t.strictSame(openEnvelope(message ?? Buffer.alloc(0)), {
    origin: bus.origin,
    payload: Buffer.from('hello'),
    isBinary: false,
    compress: true
  })
  t.equal(await broker.answer(), 'publish m:room')
  await published
  void bus.publish('presence', 'room', Buffer.from('x'), { isBinary: true, compress: false })
  t.strictSame(broker.asked, ['publish p:room'])
  t.not(new Bus(new ManualBroker(), { onEvent() {}, onEnvelope() {} }).origin, bus.origin)
})

t.test('what others published is told, what this process published is not', async t => {
  const { bus, received, events, tell } = make(t)
  tell('m:room', sealEnvelope(OTHER, 'one', false, true))
  tell('p:room', sealEnvelope(OTHER, Buffer.from('two'), true, true))
  tell('m:room', sealEnvelope(bus.origin, 'own', false, true))
  t.strictSame(received, ['message room one false', 'presence room two true'])
  t.strictSame(events, [])
})

t.test('what is no message of the application is dropped, and told', async t => {
  const accidents = watchProcess(t)
  const { received, events, tell } = make(t)
  tell('m:room', Buffer.from('garbage'))
  tell('m:room', Buffer.alloc(0))
  tell('other', sealEnvelope(OTHER, 'one', false, true))
  t.strictSame(events, ['invalid room', 'invalid room', 'invalid her'])
  t.strictSame(received, [])
  t.strictSame(accidents, [])
})

t.test('what the broker does not take rejects, is counted and told', async t => {
  const { broker, bus, events } = make(t)
  const published = bus.publish('message', 'room', 'x', AS_TEXT)
  const cause = new Error('connection lost')
  await Promise.all([
    t.rejects(published, {
      code: 'FST_UPGRADE_BROKER_PUBLISH',
      message: /other processes miss it: connection lost;/,
      cause
    }),
    broker.answer(cause)
  ])
  t.equal(bus.lost, 1)
  t.strictSame(events, ['lost room FST_UPGRADE_BROKER_PUBLISH'])
})

t.test('presence that the broker does not take is not counted, as it is told again', async t => {
  const { broker, bus, events } = make(t)
  const published = bus.publish('presence', 'room', 'x', AS_TEXT)
  await Promise.all([
    t.rejects(published, { code: 'FST_UPGRADE_BROKER_PUBLISH' }),
    broker.answer(new Error('connection lost'))
  ])
  t.equal(bus.lost, 0)
  t.strictSame(events, [])
})

t.test('no more than 16 MiB wait for an engine that is slow', async t => {
  const { broker, bus, events } = make(t)
  const mib = Buffer.alloc(2 ** 20)
  const as = { isBinary: true, compress: false }
  const published = Array.from({ length: 16 }, () => bus.publish('message', 'room', mib, as))
  t.equal(broker.calls.length, 16)
  const late = bus.publish('message', 'room', 'late', AS_TEXT)
  await t.rejects(late, { code: 'FST_UPGRADE_BROKER_OVERLOADED' })
  t.equal(broker.calls.length, 16)
  t.equal(bus.lost, 1)
  t.strictSame(events, ['lost room FST_UPGRADE_BROKER_OVERLOADED'])
  for (const _ of published) await broker.answer()
  await Promise.all(published)
  void bus.publish('message', 'room', 'now', AS_TEXT)
  t.equal(broker.calls.length, 1)
})

t.test('small messages count what a client needs to remember them', async t => {
  const { broker, bus } = make(t)
  const published = Array.from({ length: 20_000 }, () => bus.publish('message', 'room', '', AS_TEXT))
  const { length } = broker.calls
  t.ok(length > 15_000 && length < 17_000, `${length} wait`)
  for (const { settle } of broker.calls) settle()
  const results = await Promise.allSettled(published)
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, length)
  t.equal(bus.lost, published.length - length)
})

t.test('what the broker has not taken waits no longer', async t => {
  const { broker, bus } = make(t)
  const mib = Buffer.alloc(2 ** 20)
  for (let n = 0; n < 17; n++) {
    const published = bus.publish('message', 'room', mib, AS_TEXT)
    await Promise.all([
      t.rejects(published, { code: 'FST_UPGRADE_BROKER_PUBLISH' }),
      broker.answer(new Error('connection lost'))
    ])
  }
})

t.test('subscriptions that fail reject, are told, and tried again when the engine is back', async t => {
  const { broker, bus, events } = make(t)
  const subscribed = bus.subscribe('message', 'room')
  await Promise.all([
    t.rejects(subscribed, { code: 'FST_UPGRADE_BROKER_SUBSCRIBE', message: /do not arrive: NOPERM;/ }),
    broker.answer(new Error('NOPERM'))
  ])
  broker.events?.onDown(new Error('away'))
  broker.events?.onDown()
  broker.events?.onUp()
  t.strictSame(events, ['unsubscribed room FST_UPGRADE_BROKER_SUBSCRIBE', 'down away', 'down', 'up'])
  t.equal(await broker.answer(), 'subscribe m:room')
  bus.unsubscribe('message', 'room')
  t.equal(await broker.answer(), 'unsubscribe m:room')
})

t.test('who is told that the engine is back comes after what is tried again', async t => {
  const broker = new ManualBroker()
  const asked: string[][] = []
  const bus = new Bus(broker, {
    onEvent: ({ type }) => void (type === 'up' && asked.push(broker.asked)),
    onEnvelope() {}
  })
  bus.start()
  t.teardown(() => bus.close())
  const subscribed = bus.subscribe('message', 'room')
  await Promise.all([t.rejects(subscribed), broker.answer(new Error('away'))])
  broker.events?.onUp()
  t.strictSame(asked, [['subscribe m:room']])
})

t.test('a reason that is no error is told, too', async t => {
  const { broker, bus } = make(t)
  const published = bus.publish('message', 'room', 'x', AS_TEXT)
  const [{ settle }] = broker.calls
  Reflect.apply(settle, undefined, ['just a text'])
  await t.rejects(published, { message: /other processes miss it: just a text;/ })
})

t.test('once closed it tells and takes nothing', async t => {
  const { broker, bus, events, received, tell } = make(t)
  void bus.subscribe('message', 'room')
  await broker.answer()
  let end = (): void => {}
  broker.end = new Promise(resolve => {
    end = resolve
  })
  let isClosed = false
  const closing = bus.close().then(() => {
    isClosed = true
  })
  await new Promise(resolve => setImmediate(resolve))
  t.equal(isClosed, false, 'before the broker is')
  end()
  await closing
  await bus.close()
  t.equal(broker.closes, 1)
  tell('m:room', sealEnvelope(OTHER, 'one', false, true))
  broker.events?.onUp()
  broker.events?.onDown()
  await t.rejects(bus.publish('message', 'room', 'x', AS_TEXT), { code: 'FST_UPGRADE_BROKER_CLOSED' })
  bus.unsubscribe('message', 'room')
  t.strictSame(events, [])
  t.strictSame(received, [])
  t.strictSame(broker.asked, [])
})
