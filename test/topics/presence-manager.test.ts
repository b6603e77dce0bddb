import FakeTimers from '@sinonjs/fake-timers'
import t, { type Test } from 'tap'
import type { Presence } from '../../lib/topics/presence.js'
import { decodePublication, encodePublication, type Publication } from '../../lib/topics/publication.js'
import { Topics } from '../../lib/topics/topics.js'
import { ManualBroker } from '../brokers/manual-broker.js'

const SETTINGS = { interval: 5000, timeout: 15_000 }
const [OTHER, THIRD] = ['e'.repeat(32), 'f'.repeat(32)]

/** A server whose broker accepts calls when the test reads them, and a clock that the test moves. */
function make(t: Test) {
  const clock = FakeTimers.install({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  t.teardown(() => clock.uninstall())
  const broker = new ManualBroker()
  const server = makeServer(broker)
  t.teardown(() => server.close())
  /** Settles the pending calls of the broker and returns them as lines. */
  const sent = async (): Promise<string[]> => {
    const calls = broker.calls.splice(0)
    for (const { settle } of calls) settle()
    await new Promise(resolve => setImmediate(resolve))
    return calls.map(({ method, channel, message }) => {
      const publication = message && decodePublication(message)
      return publication === undefined
        ? `${method} ${channel}`
        : `${channel} ${Buffer.from(publication.payload)}`
    })
  }
  const receive = (message: object, origin = OTHER, topic = 'room'): void =>
    broker.events?.onMessage(
      `p:${topic}`,
      encodePublication(origin, { payload: JSON.stringify(message), isBinary: false, compress: false })
    )
  return { clock, broker, server, sent, receive }
}

function makeServer(broker: ManualBroker | undefined) {
  const server = new Topics<Publication, { send(): void }>({
    server: {},
    broker,
    prepare: (payload, { binary, compress }) => ({ payload, isBinary: binary, compress }),
    onEvent() {},
    onError() {},
    presence: SETTINGS,
    history: undefined,
    maxRecovered: 300
  })
  server.open()
  return server
}

const ids = ({ members }: Presence): string[] => [...members.keys()]
const member = (id: string) => ({ id, data: null })
const state = (...names: readonly string[]) => ({ type: 'state', members: names.map(member) })
const line = (message: object): string => `p:room ${JSON.stringify(message)}`

t.test('a process publishes its members when they join, when they leave and at each interval', async t => {
  const { clock, broker, server, sent, receive } = make(t)
  server.join('room', 'a', null)
  t.strictSame(await sent(), ['subscribe p:room', line({ type: 'join', member: member('a') })])
  server.join('room', 'b', null)
  t.strictSame(await sent(), [line({ type: 'join', member: member('b') })])
  clock.tick(SETTINGS.interval - 1)
  t.strictSame(await sent(), [])
  for (let n = 0; n < 2; n++) {
    clock.tick(SETTINGS.interval)
    t.strictSame(await sent(), [line(state('a', 'b'))], 'all members at each interval')
  }
  receive({ type: 'ask' })
  t.strictSame(await sent(), [line(state('a', 'b'))])
  receive({ type: 'other' })
  t.strictSame(await sent(), [], 'other messages get no reply')
  broker.events?.onUp()
  t.strictSame(await sent(), [line(state('a', 'b')), line({ type: 'ask' })])
  server.leave('room', 'a')
  server.leave('room', 'a')
  server.leave('room', 'never there')
  t.strictSame(await sent(), [line({ type: 'leave', id: 'a' })])
  server.leave('room', 'b')
  t.strictSame(await sent(), [line({ type: 'leave', id: 'b' }), 'unsubscribe p:room'])
  t.equal(clock.countTimers(), 0)
  server.join('room', 'c', null)
  t.strictSame(
    await sent(),
    ['subscribe p:room', line({ type: 'join', member: member('c') })],
    'the topic is used again'
  )
  clock.tick(SETTINGS.interval)
  t.strictSame(await sent(), [line(state('c'))])
})

t.test('a process that only watches sends a query and no members', async t => {
  const { clock, broker, server, sent } = make(t)
  const presence = server.presence('room')
  let isReady = false
  const since = Date.now()
  const ready = presence.ready.then(() => {
    isReady = true
  })
  t.strictSame(broker.pending, ['subscribe p:room'])
  t.strictSame(await sent(), ['subscribe p:room'])
  t.strictSame(await sent(), [line({ type: 'ask' })], 'once it can receive the replies')
  t.equal(isReady, false)
  await ready
  // Timers may be a millisecond early.
  t.ok(Date.now() - since >= 249, 'the other processes had a quarter of a second')
  clock.tick(2 * SETTINGS.interval)
  t.strictSame(await sent(), [])
  presence.close()
  t.strictSame(await sent(), ['unsubscribe p:room'])
  t.equal(clock.countTimers(), 0)
})

t.test('a topic is released with its last member and its last view', async t => {
  const { clock, server, sent, receive } = make(t)
  const [first, second] = [server.presence('room'), server.presence('room')]
  server.join('room', 'a', null)
  server.join('elsewhere', 'a', null)
  await sent()
  t.equal(clock.countTimers(), 1, 'one timer for all topics')
  await sent()
  first.close()
  server.leave('room', 'a')
  t.strictSame(await sent(), [line({ type: 'leave', id: 'a' })], 'a view is open')
  receive({ type: 'join', member: member('x') })
  t.strictSame(ids(second), ['x'])
  server.join('room', 'b', null)
  await sent()
  second.close()
  t.strictSame(await sent(), [], 'a member is present')
  server.leave('room', 'b')
  t.strictSame(await sent(), [line({ type: 'leave', id: 'b' }), 'unsubscribe p:room'])
  const third = server.presence('room')
  second.close()
  receive({ type: 'join', member: member('y') })
  t.strictSame(ids(third), ['y'], 'a second close does not affect other views')
  third.close()
  clock.tick(SETTINGS.interval)
  t.ok(
    (await sent()).some(line => line.startsWith('p:elsewhere {"type":"state"')),
    'another topic is not affected'
  )
})

t.test('the members of a process leave when it was silent for the timeout', async t => {
  const { clock, server, sent, receive } = make(t)
  const presence = server.presence('room')
  const left: string[] = []
  presence.on('leave', ({ id }) => left.push(id))
  await sent()
  receive(state('a', 'b'))
  receive({ type: 'join', member: member('x') }, THIRD)
  clock.tick(SETTINGS.interval)
  // Any message counts as a sign of life.
  receive({ type: 'leave', id: 'b' })
  t.strictSame(left, ['b'])
  clock.tick(SETTINGS.timeout - SETTINGS.interval)
  t.strictSame(left, ['b'], 'not before')
  clock.tick(SETTINGS.interval)
  t.strictSame(left, ['b', 'x'], 'at most one interval later')
  clock.tick(SETTINGS.interval)
  t.strictSame(left, ['b', 'x', 'a'])
  t.strictSame(ids(presence), [])
  receive(state('a'))
  t.strictSame(ids(presence), ['a'], 'the process is back')
  clock.tick(SETTINGS.timeout + SETTINGS.interval)
  t.strictSame(left, ['b', 'x', 'a', 'a'])
})

t.test('a process cannot remove the members of another process', async t => {
  const { clock, server, sent, receive } = make(t)
  const presence = server.presence('room')
  const left: string[] = []
  presence.on('leave', ({ id }) => left.push(id))
  server.join('room', 'own', null)
  await sent()
  receive({ type: 'join', member: member('x') })
  for (const id of ['own', 'x']) receive({ type: 'leave', id }, THIRD)
  t.strictSame(ids(presence), ['own', 'x'])
  clock.tick(SETTINGS.timeout + SETTINGS.interval)
  t.strictSame(left, ['x'])
  // The process that reported it first has expired.
  for (let n = 0; n < 5; n++) {
    receive({ type: 'join', member: member('x') }, THIRD)
    clock.tick(SETTINGS.interval)
  }
  t.strictSame(left, ['x'])
})

t.test('a process that cannot receive replies sends no query', async t => {
  const { broker, server } = make(t)
  const { ready } = server.presence('room')
  await broker.settle(new Error('disconnected'))
  await ready
  t.strictSame(broker.pending, [])
})

t.test('after close no events are emitted and no timer is left', async t => {
  const { clock, server, sent, receive } = make(t)
  const presence = server.presence('room')
  server.join('room', 'own', null)
  await sent()
  receive(state('a'))
  await server.close()
  t.equal(clock.countTimers(), 0)
  t.strictSame(ids(presence), ['own', 'a'])
})

t.test('the timer does not keep the process alive, and without a broker there is none', async t => {
  const { clock, server } = make(t)
  makeServer(undefined).join('room', 'a', null)
  t.equal(clock.countTimers(), 0)
  const { setInterval } = globalThis
  const timers: NodeJS.Timeout[] = []
  t.capture(globalThis, 'setInterval', (work: () => void, milliseconds: number) => {
    const timer = setInterval(work, milliseconds)
    timers.push(timer)
    return timer
  })
  server.join('room', 'a', null)
  t.strictSame(
    timers.map(timer => timer.hasRef()),
    [false]
  )
})
