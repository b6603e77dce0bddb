import FakeTimers from '@sinonjs/fake-timers'
import t, { type Test } from 'tap'
import { MemoryBroker, MemoryHub } from '../../lib/brokers/memory.js'
import type { Presence } from '../../lib/topics/presence.js'
import { MAX_MEMBER_SIZE, statesOf } from '../../lib/topics/presence-protocol.js'
import { Topics } from '../../lib/topics/topics.js'
import { watchProcess, withDeadline } from '../helpers/app.js'

interface Message {
  readonly payload: Uint8Array
  readonly isBinary: boolean
  readonly compress: boolean
}
type Server = Topics<Message, { send(message: Message): void }>

const SETTINGS = { interval: 5000, timeout: 15_000 }

/** A clock for the intervals of presence, which the test moves. */
function fakeClock(t: Test) {
  const clock = FakeTimers.install({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  t.teardown(() => clock.uninstall())
  return clock
}

/** The topics of a server in a process of its own. */
function server(t: Test, broker: MemoryBroker | undefined, errors: unknown[] = []): Server {
  const made: Server = new Topics({
    server: {},
    broker,
    prepare: (payload, { binary, compress }) => ({ payload, isBinary: binary, compress }),
    onEvent: () => {},
    presence: SETTINGS,
    history: undefined,
    maxRecovered: 300,
    onError: error => errors.push(error)
  })
  made.open()
  t.teardown(() => made.close())
  return made
}

/** Records the events of a presence as lines. */
function record(presence: Presence): string[] {
  const lines: string[] = []
  presence.on('join', ({ id, data }) => lines.push(`+${id} ${JSON.stringify(data)}`))
  presence.on('leave', ({ id }) => lines.push(`-${id}`))
  return lines
}

const ids = (presence: Presence): string[] => [...presence.members.keys()].sort()

async function until(presence: Presence, expected: readonly string[]): Promise<void> {
  const wait = async (): Promise<void> => {
    while (ids(presence).join() !== expected.join()) {
      await new Promise<void>(resolve => {
        const done = (): void => {
          presence.off('join', done)
          presence.off('leave', done)
          resolve()
        }
        presence.on('join', done)
        presence.on('leave', done)
      })
    }
  }
  await withDeadline(wait(), 5_000, `members ${expected}`)
}

t.test('members of one process join and leave', async t => {
  const one = server(t, undefined)
  one.join('room', 'a', { name: 'Ada' })
  const presence = one.presence('room')
  await presence.ready
  const lines = record(presence)
  t.strictSame([...presence.members.values()], [{ id: 'a', data: { name: 'Ada' } }])
  one.join('room', 'b', 2)
  one.join('elsewhere', 'c', 3)
  one.leave('room', 'a')
  one.leave('room', 'a')
  one.leave('nowhere', 'a')
  t.strictSame(lines, ['+b 2', '-a'])
  t.strictSame(ids(presence), ['b'])
  presence.close()
  presence.close()
  one.leave('room', 'b')
  t.strictSame(lines, ['+b 2', '-a'], 'no events after close')
})

t.test('a listener of the last leave may watch the topic again', async t => {
  const hub = new MemoryHub()
  const [one, two] = [server(t, new MemoryBroker(hub)), server(t, new MemoryBroker(hub))]
  const first = one.presence('room')
  const views: Presence[] = []
  first.on('leave', () => {
    first.close()
    views.push(one.presence('room'))
  })
  one.join('room', 'a', 1)
  one.leave('room', 'a')
  one.join('room', 'b', 2)
  two.join('room', 'c', 3)
  const [again] = views
  if (again === undefined) throw new Error('no member has left')
  await until(again, ['b', 'c'])
})

t.test('the data of a member is converted to JSON and back in its own process, too', async t => {
  const one = server(t, undefined)
  const presence = one.presence('room')
  const data = { at: new Date(0), lost: undefined, list: [1] }
  one.join('room', 'a', data)
  data.list.push(2)
  t.strictSame(presence.members.get('a')?.data, { at: '1970-01-01T00:00:00.000Z', list: [1] })
  t.throws(() => one.join('room', 'b', 1n), TypeError)
  t.strictSame(ids(presence), ['a'])
  t.throws(() => one.join('', 'b', 1), { code: 'FST_UPGRADE_INVALID_TOPIC' })
  t.throws(() => one.presence(''), { code: 'FST_UPGRADE_INVALID_TOPIC' })
})

t.test('members of other processes are seen: present ones first, then those that join and leave', async t => {
  const hub = new MemoryHub()
  const [one, two, three] = [1, 2, 3].map(() => server(t, new MemoryBroker(hub)))
  one.join('room', 'a', 1)
  two.join('room', 'b', 2)
  const presence = three.presence('room')
  const lines = record(presence)
  await presence.ready
  t.strictSame(ids(presence), ['a', 'b'])
  one.join('room', 'c', 3)
  two.leave('room', 'b')
  await until(presence, ['a', 'c'])
  t.strictSame(lines.sort(), ['+a 1', '+b 2', '+c 3', '-b'])
  // A second view, and a view in a process with members, show the same.
  const views = [three.presence('room'), one.presence('room')]
  await Promise.all(views.map(({ ready }) => ready))
  for (const view of views) t.strictSame(ids(view), ['a', 'c'])
})

t.test('the members of a process that has crashed leave after the timeout', async t => {
  const clock = fakeClock(t)
  const hub = new MemoryHub()
  const crashing = new MemoryBroker(hub)
  const [one, two] = [server(t, crashing), server(t, new MemoryBroker(hub))]
  one.join('room', 'a', 1)
  two.join('room', 'b', 2)
  const presence = two.presence('room')
  await until(presence, ['a', 'b'])
  // The processes keep reporting their members.
  clock.tick(2 * SETTINGS.timeout)
  t.strictSame(ids(presence), ['a', 'b'])
  await crashing.close()
  clock.tick(SETTINGS.timeout - 1)
  t.strictSame(ids(presence), ['a', 'b'])
  clock.tick(SETTINGS.interval + 1)
  t.strictSame(ids(presence), ['b'])
})

t.test('changes during an outage of the engine are seen after it', async t => {
  const clock = fakeClock(t)
  const hub = new MemoryHub()
  const broker = new MemoryBroker(hub)
  const [one, two] = [server(t, broker), server(t, new MemoryBroker(hub))]
  one.join('room', 'a', 1)
  const presence = two.presence('room')
  await until(presence, ['a'])
  const publish = broker.publish
  broker.publish = async () => {
    throw new Error('disconnected')
  }
  one.leave('room', 'a')
  one.join('room', 'b', 2)
  t.strictSame(ids(presence), ['a'])
  broker.publish = publish
  clock.tick(SETTINGS.interval)
  t.strictSame(ids(presence), ['b'])
})

t.test('a topic may have more members than one message can hold', async t => {
  const clock = fakeClock(t)
  const hub = new MemoryHub()
  const broker = new MemoryBroker(hub)
  const { publish } = broker
  let isDown = false
  broker.publish = async (channel, message) => {
    if (isDown || message.length > 2 ** 18) throw new Error('refused')
    return publish.call(broker, channel, message)
  }
  const [one, two] = [server(t, broker), server(t, new MemoryBroker(hub))]
  const names = Array.from({ length: 500 }, (_, i) => `m${String(i).padStart(3, '0')}`)
  for (const name of names) one.join('room', name, 'x'.repeat(1000))
  const presence = two.presence('room')
  const lines = record(presence)
  await until(presence, names)
  isDown = true
  for (const name of names.slice(200, 300)) one.leave('room', name)
  one.leave('room', 'm499')
  one.join('room', 'm500', 1)
  isDown = false
  const left = [...names.slice(0, 200), ...names.slice(300, 499), 'm500']
  clock.tick(SETTINGS.interval)
  t.strictSame(ids(presence), left)
  clock.tick(2 * SETTINGS.timeout)
  t.strictSame(ids(presence), left)
  t.equal(lines.length, 500 + 101 + 1, 'no member left in between')
})

t.test('a message with members has less than 128 KiB, whatever their sizes are', t => {
  const sizes = [MAX_MEMBER_SIZE, ...Array.from({ length: 2000 }, () => 100), 60_000, MAX_MEMBER_SIZE, 65_000]
  const members = sizes.map((size, i) => {
    const member = { id: String(i).padStart(4, '0'), data: '' }
    return { ...member, data: 'x'.repeat(size - JSON.stringify(member).length) }
  })
  const states = statesOf(members).map(state => JSON.stringify(state))
  t.strictSame(
    states.flatMap(state => JSON.parse(state).members),
    members
  )
  for (const { length } of states) t.ok(length < 2 ** 17 - 1024, `${length} bytes`)
  t.end()
})

t.test('a member has at most 64 KiB as JSON', async t => {
  const clock = fakeClock(t)
  const hub = new MemoryHub()
  const [one, two] = [server(t, new MemoryBroker(hub)), server(t, new MemoryBroker(hub))]
  const presence = two.presence('room')
  one.join('room', 'b', 'x'.repeat(65_000))
  one.join('room', 'a', 'x'.repeat(65_000))
  t.throws(() => one.join('room', 'c', 'x'.repeat(65_536)), { code: 'FST_UPGRADE_PRESENCE_TOO_LONG' })
  await until(presence, ['a', 'b'])
  clock.tick(2 * SETTINGS.timeout)
  t.strictSame(ids(presence), ['a', 'b'])
})

t.test('all views of a topic share one query to the other processes', async t => {
  const hub = new MemoryHub()
  const queries: string[] = []
  const raw = new MemoryBroker(hub)
  raw.start({
    onMessage: (_channel, bytes) => void queries.push(String(bytes.subarray(18))),
    onUp() {},
    onUnsubscribed() {},
    onDown() {}
  })
  await raw.subscribe('p:room')
  const broker = new MemoryBroker(hub)
  const one = server(t, broker)
  // The event `up` causes a query as well, if there are members by then.
  await new Promise(resolve => setImmediate(resolve))
  const { subscribe } = broker
  broker.subscribe = async () => {
    throw new Error('NOPERM')
  }
  await one.presence('room').ready
  t.strictSame(queries, [])
  broker.subscribe = subscribe
  const views = Array.from({ length: 5 }, () => one.presence('room'))
  await Promise.all(views.map(({ ready }) => ready))
  await one.presence('room').ready
  t.strictSame(queries, ['{"type":"ask"}'])
})

t.test('a process that was blocked does not take the others for crashed', async t => {
  const clock = fakeClock(t)
  const hub = new MemoryHub()
  const raw = new MemoryBroker(hub)
  raw.start({ onMessage() {}, onUp() {}, onUnsubscribed() {}, onDown() {} })
  const presence = server(t, new MemoryBroker(hub)).presence('room')
  await presence.ready
  const lines = record(presence)
  const header = Buffer.concat([Buffer.from([1, 0]), Buffer.alloc(16, 7)])
  await raw.publish('p:room', Buffer.concat([header, Buffer.from('{"type":"join","member":{"id":"x"}}')]))
  // Each timer fires only once, and late.
  clock.jump(2 * SETTINGS.timeout)
  t.strictSame(ids(presence), ['x'])
  clock.tick(SETTINGS.timeout + SETTINGS.interval)
  t.strictSame(lines, ['+x undefined', '-x'], 'after another timeout the member leaves')
})

t.test('messages of other processes are checked', async t => {
  const hub = new MemoryHub()
  const raw = new MemoryBroker(hub)
  raw.start({ onMessage() {}, onUp() {}, onUnsubscribed() {}, onDown() {} })
  const errors: unknown[] = []
  const one = server(t, new MemoryBroker(hub), errors)
  const presence = one.presence('room')
  await presence.ready
  const lines = record(presence)
  const receive = (text: string): Promise<void> =>
    raw.publish('p:room', Buffer.concat([Buffer.from([1, 0]), Buffer.alloc(16, 7), Buffer.from(text)]))
  for (const text of [
    '',
    'no JSON',
    'null',
    '7',
    '{}',
    '{"type":"other"}',
    '{"type":"state"}',
    '{"type":"state","members":[{"id":"x"},{"id":7}]}',
    '{"type":"state","members":{}}',
    '{"type":"state","members":[],"from":7}',
    '{"type":"state","members":[],"before":{}}',
    '{"type":"join"}',
    '{"type":"join","member":{"id":1}}',
    '{"type":"join","member":null}',
    '{"type":"leave","id":1}',
    '{"type":"leave","id":"never there"}'
  ]) {
    await receive(text)
  }
  t.strictSame(lines, [])
  await receive('{"type":"join","member":{"id":"x","data":1}}')
  await receive('{"type":"join","member":{"id":"x","data":2}}')
  await receive('{"type":"state","members":[{"id":"y","data":null}]}')
  t.strictSame(lines, ['+x 1', '-x', '+y null'])
  // Two processes may report the same member.
  const other = (text: string): Promise<void> =>
    raw.publish('p:room', Buffer.concat([Buffer.from([1, 0]), Buffer.alloc(16, 8), Buffer.from(text)]))
  await other('{"type":"join","member":{"id":"y","data":null}}')
  await other('{"type":"leave","id":"y"}')
  await receive('{"type":"leave","id":"y"}')
  t.strictSame(lines, ['+x 1', '-x', '+y null', '-y'])
  await raw.publish(
    'p:other',
    Buffer.concat([Buffer.from([1, 0]), Buffer.alloc(16, 7), Buffer.from('{"type":"ask"}')])
  )
  t.strictSame(errors, [])
})

t.test('errors of a listener are reported and do not affect other listeners', async t => {
  const accidents = watchProcess(t)
  const errors: unknown[] = []
  const one = server(t, undefined, errors)
  const presence = one.presence('room')
  presence.on('join', () => {
    throw new Error('thrown')
  })
  presence.on('leave', async () => {
    throw new Error('rejected')
  })
  const lines = record(one.presence('room'))
  one.join('room', 'a', 1)
  one.leave('room', 'a')
  await new Promise(resolve => setImmediate(resolve))
  t.strictSame(errors.map(String), ['Error: thrown', 'Error: rejected'])
  t.strictSame(lines, ['+a 1', '-a'])
  t.strictSame(accidents, [])
})

t.test('a process whose subscription fails still sees its own members', async t => {
  const broker = new MemoryBroker(new MemoryHub())
  broker.subscribe = async () => {
    throw new Error('NOPERM')
  }
  const one = server(t, broker)
  one.join('room', 'a', 1)
  const presence = one.presence('room')
  await presence.ready
  t.strictSame(ids(presence), ['a'])
})
