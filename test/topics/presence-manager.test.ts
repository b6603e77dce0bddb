import FakeTimers from '@sinonjs/fake-timers'
import t, { type Test } from 'tap'
import type { Presence } from '../../lib/topics/presence.js'
import { decodePublication, encodePublication, type Publication } from '../../lib/topics/publication.js'
import { Topics } from '../../lib/topics/topics.js'
import { ManualBroker } from '../brokers/manual-broker.js'

const SETTINGS = { interval: 5000, timeout: 15_000 }
const [OTHER, THIRD] = ['e'.repeat(32), 'f'.repeat(32)]

/** A server, a broker that takes what it is asked when the test looks, and a clock that the test moves. */
function make(t: Test) {
  const clock = FakeTimers.install({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  t.teardown(() => clock.uninstall())
  const broker = new ManualBroker()
  const server = makeServer(broker)
  t.teardown(() => server.close())
  /** What the broker was asked since the last time. */
  const said = async (): Promise<string[]> => {
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
  const hear = (message: object, origin = OTHER, topic = 'room'): void =>
    broker.events?.onMessage(
      `p:${topic}`,
      encodePublication(origin, { payload: JSON.stringify(message), isBinary: false, compress: false })
    )
  return { clock, broker, server, said, hear }
}

function makeServer(broker: ManualBroker | undefined) {
  const server = new Topics<Publication, { send(): void }>({
    broker,
    prepare: (payload, { binary, compress }) => ({ payload, isBinary: binary, compress }),
    onEvent() {},
    onError() {},
    presence: SETTINGS
  })
  server.open()
  return server
}

const ids = ({ members }: Presence): string[] => [...members.keys()]
const member = (id: string) => ({ id, data: null })
const state = (...names: readonly string[]) => ({ type: 'state', members: names.map(member) })
const told = (message: object): string => `p:room ${JSON.stringify(message)}`

t.test('a process with members tells who comes, who is there and who leaves', async t => {
  const { clock, broker, server, said, hear } = make(t)
  server.join('room', 'a', null)
  t.strictSame(await said(), ['subscribe p:room', told({ type: 'join', member: member('a') })])
  server.join('room', 'b', null)
  t.strictSame(await said(), [told({ type: 'join', member: member('b') })])
  clock.tick(SETTINGS.interval - 1)
  t.strictSame(await said(), [])
  for (let n = 0; n < 2; n++) {
    clock.tick(SETTINGS.interval)
    t.strictSame(await said(), [told(state('a', 'b'))], 'all of them, again and again')
  }
  hear({ type: 'ask' })
  t.strictSame(await said(), [told(state('a', 'b'))])
  hear({ type: 'other' })
  t.strictSame(await said(), [], 'only who asks is told')
  broker.events?.onUp()
  t.strictSame(await said(), [told(state('a', 'b')), told({ type: 'ask' })])
  server.leave('room', 'a')
  server.leave('room', 'a')
  server.leave('room', 'never there')
  t.strictSame(await said(), [told({ type: 'leave', id: 'a' })])
  server.leave('room', 'b')
  t.strictSame(await said(), [told({ type: 'leave', id: 'b' }), 'unsubscribe p:room'])
  t.equal(clock.countTimers(), 0)
  server.join('room', 'c', null)
  t.strictSame(
    await said(),
    ['subscribe p:room', told({ type: 'join', member: member('c') })],
    'and once more'
  )
  clock.tick(SETTINGS.interval)
  t.strictSame(await said(), [told(state('c'))])
})

t.test('a process that watches asks, and has nothing to tell', async t => {
  const { clock, broker, server, said } = make(t)
  const presence = server.presence('room')
  let isReady = false
  const since = Date.now()
  const ready = presence.ready.then(() => {
    isReady = true
  })
  t.strictSame(broker.pending, ['subscribe p:room'])
  t.strictSame(await said(), ['subscribe p:room'])
  t.strictSame(await said(), [told({ type: 'ask' })], 'when it hears the answers')
  t.equal(isReady, false)
  await ready
  // Timers may be a millisecond early.
  t.ok(Date.now() - since >= 249, 'others have had a quarter of a second')
  clock.tick(2 * SETTINGS.interval)
  t.strictSame(await said(), [])
  presence.close()
  t.strictSame(await said(), ['unsubscribe p:room'])
  t.equal(clock.countTimers(), 0)
})

t.test('a topic is let go with the last who needs it', async t => {
  const { clock, server, said, hear } = make(t)
  const [first, second] = [server.presence('room'), server.presence('room')]
  server.join('room', 'a', null)
  server.join('elsewhere', 'a', null)
  await said()
  t.equal(clock.countTimers(), 1, 'one timer for all topics')
  await said()
  first.close()
  server.leave('room', 'a')
  t.strictSame(await said(), [told({ type: 'leave', id: 'a' })], 'it is watched still')
  hear({ type: 'join', member: member('x') })
  t.strictSame(ids(second), ['x'])
  server.join('room', 'b', null)
  await said()
  second.close()
  t.strictSame(await said(), [], 'it has a member still')
  server.leave('room', 'b')
  t.strictSame(await said(), [told({ type: 'leave', id: 'b' }), 'unsubscribe p:room'])
  const third = server.presence('room')
  second.close()
  hear({ type: 'join', member: member('y') })
  t.strictSame(ids(third), ['y'], 'closed twice it ends nothing of others')
  third.close()
  clock.tick(SETTINGS.interval)
  t.ok(
    (await said()).some(line => line.startsWith('p:elsewhere {"type":"state"')),
    'another topic goes on'
  )
})

t.test('members of a process leave when nothing was heard of it for so long', async t => {
  const { clock, server, said, hear } = make(t)
  const presence = server.presence('room')
  const left: string[] = []
  presence.on('leave', ({ id }) => left.push(id))
  await said()
  hear(state('a', 'b'))
  hear({ type: 'join', member: member('x') }, THIRD)
  clock.tick(SETTINGS.interval)
  // Whatever it says.
  hear({ type: 'leave', id: 'b' })
  t.strictSame(left, ['b'])
  clock.tick(SETTINGS.timeout - SETTINGS.interval)
  t.strictSame(left, ['b'], 'not before')
  clock.tick(SETTINGS.interval)
  t.strictSame(left, ['b', 'x'], 'at most one interval later')
  clock.tick(SETTINGS.interval)
  t.strictSame(left, ['b', 'x', 'a'])
  t.strictSame(ids(presence), [])
  hear(state('a'))
  t.strictSame(ids(presence), ['a'], 'it was only away')
  clock.tick(SETTINGS.timeout + SETTINGS.interval)
  t.strictSame(left, ['b', 'x', 'a', 'a'])
})

t.test('who tells of a member that is another’s ends nothing', async t => {
  const { clock, server, said, hear } = make(t)
  const presence = server.presence('room')
  const left: string[] = []
  presence.on('leave', ({ id }) => left.push(id))
  server.join('room', 'own', null)
  await said()
  hear({ type: 'join', member: member('x') })
  for (const id of ['own', 'x']) hear({ type: 'leave', id }, THIRD)
  t.strictSame(ids(presence), ['own', 'x'])
  clock.tick(SETTINGS.timeout + SETTINGS.interval)
  t.strictSame(left, ['x'])
  // The process that told of it first has been forgotten.
  for (let n = 0; n < 5; n++) {
    hear({ type: 'join', member: member('x') }, THIRD)
    clock.tick(SETTINGS.interval)
  }
  t.strictSame(left, ['x'])
})

t.test('who cannot hear the answers does not ask', async t => {
  const { broker, server } = make(t)
  const { ready } = server.presence('room')
  await broker.settle(new Error('away'))
  await ready
  t.strictSame(broker.pending, [])
})

t.test('once closed nothing is told, and no timer is left', async t => {
  const { clock, server, said, hear } = make(t)
  const presence = server.presence('room')
  server.join('room', 'own', null)
  await said()
  hear(state('a'))
  await server.close()
  t.equal(clock.countTimers(), 0)
  t.strictSame(ids(presence), ['own', 'a'])
})

t.test('its timer keeps no process alive, and without a broker there is none', async t => {
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
