import FakeTimers from '@sinonjs/fake-timers'
import t, { type Test } from 'tap'
import type { BrokerEvents, HistoryPage, Position, ReadOptions } from '../../lib/brokers/broker.js'
import { MemoryBroker, MemoryHub } from '../../lib/brokers/memory.js'
import type { BrokerEvent } from '../../lib/topics/broker-link.js'
import type { Since, Subscription } from '../../lib/topics/history-topic.js'
import type { Publication } from '../../lib/topics/publication.js'
import { Topics } from '../../lib/topics/topics.js'

const LIMITS = { size: 1000, ttl: 600_000 }
const NONE: Subscription = { recovered: false, position: undefined }

/** Resolves when everything that can happen without I/O has happened. */
const settled = async (): Promise<void> => {
  for (let n = 0; n < 5; n++) await new Promise(resolve => setImmediate(resolve))
}

type Appended = [channel: string, message: Uint8Array, position?: Position]

/** A memory broker whose connection to the engine fails when the test says so. */
class FaultyBroker extends MemoryBroker {
  events: BrokerEvents | undefined
  /** Messages are kept here in place of being delivered. */
  held: Appended[] | undefined
  /** Drops messages that the engine delivers, without a trace. */
  isDeaf = false
  isDown = false
  /** Reads wait for this. */
  gate: Promise<void> | undefined
  refusal: Error | undefined
  readonly reads: ReadOptions[] = []

  override start(events: BrokerEvents): void {
    this.events = events
    super.start(events)
  }

  override receive(...args: Appended): void {
    if (this.isDown || this.isDeaf) return
    if (this.held === undefined) super.receive(...args)
    else this.held.push(args)
  }

  /** Lets reads wait. @returns a function that lets them continue. */
  holdReads(): () => void {
    let open = (): void => {}
    this.gate = new Promise(resolve => {
      open = resolve
    })
    return () => open()
  }

  /** Delivers the held messages. */
  release(change: (held: Appended[]) => Appended[] = held => held): void {
    const held = this.held ?? []
    this.held = undefined
    for (const args of change(held)) this.events?.onMessage(...args)
  }

  override async subscribe(channel: string): Promise<void> {
    if (this.isDown) throw new Error('disconnected')
    await super.subscribe(channel)
  }

  override async read(channel: string, options: ReadOptions): Promise<HistoryPage> {
    this.reads.push(options)
    const { gate } = this
    if (this.isDown) throw new Error('disconnected')
    if (this.refusal !== undefined) throw this.refusal
    const page = super.read(channel, options)
    await gate
    if (this.isDown) throw new Error('disconnected')
    return page
  }

  down(): void {
    this.isDown = true
    this.events?.onDown(new Error('disconnected'))
  }

  up(): void {
    this.isDown = false
    this.events?.onUp()
  }
}

class Receiver {
  readonly received: string[] = []
  readonly lost: Position[] = []
  onSend: (() => void) | undefined

  send({ payload }: Publication): void {
    this.received.push(String(Buffer.from(payload)))
    this.onSend?.()
  }
}

const text = (payload: string) => ({ payload, isBinary: false, compress: true })

function make(t: Test, hub = new MemoryHub(), maxRecovered = 300) {
  const broker = new FaultyBroker(hub)
  const events: BrokerEvent[] = []
  const errors: unknown[] = []
  const topics = new Topics<Publication, Receiver>({
    server: {},
    broker,
    prepare: (payload, { binary, compress }) => ({ payload, isBinary: binary, compress }),
    onEvent: event => events.push(event),
    onError: error => errors.push(error),
    presence: { interval: 5000, timeout: 15_000 },
    history: topic => (topic.startsWith('plain') ? undefined : LIMITS),
    maxRecovered
  })
  topics.open()
  t.teardown(() => topics.close())
  return {
    broker,
    topics,
    events,
    errors,
    types: () => events.map(({ type }) => type),
    subscribe: (receiver: Receiver, since?: Since) =>
      topics.subscribe('room', receiver, {
        since,
        deliver: undefined,
        onLost: position => receiver.lost.push(position)
      }),
    /** Publishes numbers, and resolves with the position of the last. */
    publish: async (first: number, last = first): Promise<Position> => {
      let position: Position | undefined
      for (let n = first; n <= last; n++) position = await topics.publish('room', text(String(n)))
      if (position === undefined) throw new Error('no position')
      return position
    }
  }
}

const range = (first: number, last: number): string[] =>
  Array.from({ length: last - first + 1 }, (_, i) => String(first + i))

t.test('publications have positions and reach the subscribers of all processes in one order', async t => {
  const hub = new MemoryHub()
  const [one, two] = [make(t, hub), make(t, hub)]
  const [here, there] = [new Receiver(), new Receiver()]
  const subscribed = await one.subscribe(here)
  await two.subscribe(there)
  t.match(subscribed, { recovered: false, position: { offset: 0, epoch: String } })
  const positions = await Promise.all([one, two, one, two].map(({ publish }, i) => publish(i + 1)))
  t.strictSame(
    positions.map(({ offset }) => offset),
    [1, 2, 3, 4]
  )
  t.equal(new Set(positions.map(({ epoch }) => epoch)).size, 1)
  t.strictSame(here.received, range(1, 4))
  t.strictSame(there.received, range(1, 4))
  t.equal(one.topics.subscriberCount('room'), 1)
})

t.test(
  'messages that the engine delivers late, twice or in another order arrive once and in order',
  async t => {
    const { broker, subscribe, publish } = make(t)
    const receiver = new Receiver()
    await subscribe(receiver)
    await publish(1, 2)
    broker.held = []
    await publish(3, 8)
    broker.release(([three, four, five, six, seven, eight]) => [
      four,
      three,
      four,
      seven,
      five,
      six,
      eight,
      eight
    ])
    await settled()
    t.strictSame(receiver.received, range(1, 8))
    t.strictSame(receiver.lost, [])
  }
)

t.test('a gap is filled from the history, before the message after it', async t => {
  const { broker, subscribe, publish } = make(t)
  const receiver = new Receiver()
  await subscribe(receiver)
  await publish(1, 2)
  broker.isDeaf = true
  await publish(3, 250)
  broker.isDeaf = false
  broker.reads.length = 0
  const published = publish(251, 255)
  await settled()
  await published
  t.strictSame(receiver.received, range(1, 255))
  t.ok(broker.reads.length >= 3, 'a page at a time')
})

t.test('subscribers that stay connected miss nothing across an outage', async t => {
  const hub = new MemoryHub()
  const [one, two] = [make(t, hub), make(t, hub)]
  const receiver = new Receiver()
  await one.subscribe(receiver)
  await two.publish(1, 2)
  one.broker.down()
  await two.publish(3, 5)
  one.broker.up()
  await two.publish(6, 7)
  await settled()
  t.strictSame(receiver.received, range(1, 7))
  one.broker.down()
  await two.publish(8, 250)
  one.broker.up()
  await settled()
  t.strictSame(receiver.received, range(1, 250), 'without a further message')
  t.strictSame(receiver.lost, [])
})

t.test('an outage while a gap is filled', async t => {
  const hub = new MemoryHub()
  const [one, two] = [make(t, hub), make(t, hub)]
  const receiver = new Receiver()
  await one.subscribe(receiver)
  one.broker.down()
  await two.publish(1, 3)
  const open = one.broker.holdReads()
  one.broker.up()
  await settled()
  one.broker.down()
  one.broker.gate = undefined
  open()
  await two.publish(4, 5)
  await settled()
  t.strictSame(receiver.received, [])
  one.broker.up()
  await settled()
  t.strictSame(receiver.received, range(1, 5))
})

t.test(
  'when the history does not reach back, subscribers are notified of the position that follows',
  async t => {
    const hub = new MemoryHub({ maxChannelBytes: 1000 })
    const [one, two] = [make(t, hub), make(t, hub)]
    const receiver = new Receiver()
    await one.subscribe(receiver)
    await two.publish(1, 2)
    one.broker.down()
    const last = await two.publish(3, 30)
    one.broker.up()
    await settled()
    t.strictSame(receiver.lost, [last])
    await two.publish(31, 32)
    t.strictSame(receiver.received, ['1', '2', '31', '32'])
  }
)

t.test('removed publications count as lost', async t => {
  const hub = new MemoryHub()
  const [one, two] = [make(t, hub), make(t, hub)]
  const receiver = new Receiver()
  await one.subscribe(receiver)
  one.broker.down()
  const last = await two.publish(1, 3)
  await two.topics.removeHistory('room')
  one.broker.up()
  await settled()
  t.strictSame(receiver.lost, [last])
  t.strictSame(receiver.received, [])
})

/** Replaces the history of the broker by another one, as an engine without persistence does. */
function restart({ broker }: ReturnType<typeof make>): MemoryBroker {
  const other = new MemoryBroker(new MemoryHub())
  other.start({
    onMessage: (...args) => broker.receive(...args),
    onUp() {},
    onUnsubscribed() {},
    onDown() {}
  })
  void other.subscribe('h:room')
  broker.append = (...args) => other.append(...args)
  broker.read = (...args) => other.read(...args)
  return other
}

t.test('a new epoch counts as a loss, even when its offsets continue', async t => {
  const server = make(t)
  const { broker, subscribe, publish } = server
  const receiver = new Receiver()
  await subscribe(receiver)
  await publish(1, 2)
  broker.down()
  restart(server)
  await publish(11, 13)
  broker.up()
  await settled()
  t.equal(receiver.lost.length, 1)
  t.equal(receiver.lost[0]?.offset, 3)
  await publish(14)
  t.strictSame(receiver.received, ['1', '2', '14'])
})

t.test('a new epoch that only a message shows counts as a loss', async t => {
  const server = make(t)
  const [receiver, other] = [new Receiver(), new Receiver()]
  await server.subscribe(receiver)
  // It has no listener for losses.
  await server.topics.subscribe('room', other)
  await server.publish(1, 2)
  restart(server)
  await server.publish(11, 13)
  await settled()
  t.equal(receiver.lost.length, 1)
  const [position] = receiver.lost
  t.strictSame(receiver.received, ['1', '2', ...range(11, 13).slice(position?.offset)])
})

t.test('an engine that has gone back to an earlier offset counts as a loss', async t => {
  const server = make(t)
  const { broker, subscribe, publish } = server
  const receiver = new Receiver()
  await subscribe(receiver)
  const { epoch } = await publish(1, 5)
  broker.down()
  const position = { offset: 3, epoch }
  broker.read = async () => ({ messages: [], position })
  broker.up()
  await settled()
  t.strictSame(receiver.lost, [position])
})

t.test('a subscriber recovers the messages since its position, then receives those that follow', async t => {
  const { subscribe, publish } = make(t)
  const [early, late] = [new Receiver(), new Receiver()]
  await subscribe(early)
  const since = await publish(1, 2)
  const last = await publish(3, 5)
  t.strictSame(await subscribe(late, since), { recovered: true, position: last })
  await publish(6)
  t.strictSame(late.received, range(3, 6))
  t.strictSame(early.received, range(1, 6))
  const next = new Receiver()
  t.match(await subscribe(next, last), { recovered: true, position: { offset: 6 } })
  t.strictSame(next.received, ['6'])
})

t.test('messages that are published while a subscriber recovers arrive once and in order', async t => {
  for (const isWatched of [true, false]) {
    const server = make(t)
    const { broker, subscribe, publish } = server
    if (isWatched) await subscribe(new Receiver())
    const since = await publish(1, 2)
    await publish(3, 4)
    const open = broker.holdReads()
    const receiver = new Receiver()
    const subscribed = subscribe(receiver, since)
    await settled()
    await publish(5, 6)
    broker.gate = undefined
    open()
    t.match(await subscribed, { recovered: true, position: { offset: 6 } })
    await publish(7)
    t.strictSame(receiver.received, range(3, 7))
  }
})

t.test('a subscriber recovers while this process is behind the history', async t => {
  const { broker, subscribe, publish } = make(t)
  const [early, late, ahead] = [new Receiver(), new Receiver(), new Receiver()]
  await subscribe(early)
  const since = await publish(1)
  await publish(2)
  broker.held = []
  const last = await publish(3, 6)
  t.match(await subscribe(late, since), { recovered: true })
  const seen = [...late.received]
  t.strictSame(await subscribe(ahead, last), { recovered: true, position: last })
  broker.release()
  await settled()
  await publish(7)
  t.strictSame(late.received, range(2, 7), `${seen}`)
  t.strictSame(early.received, range(1, 7))
  t.strictSame(ahead.received, ['7'])
})

t.test('recovery waits for the end of an outage', async t => {
  const hub = new MemoryHub()
  const [one, two] = [make(t, hub), make(t, hub)]
  const since = await two.publish(1, 2)
  await two.publish(3)
  const receiver = new Receiver()
  one.broker.down()
  const subscribed = one.subscribe(receiver, since)
  await settled()
  await two.publish(4)
  t.strictSame(receiver.received, [])
  one.broker.up()
  t.match(await subscribed, { recovered: true, position: { offset: 4 } })
  await two.publish(5)
  t.strictSame(receiver.received, range(3, 5))
})

t.test('an outage during recovery', async t => {
  const hub = new MemoryHub()
  const [one, two] = [make(t, hub), make(t, hub)]
  await one.subscribe(new Receiver())
  const since = await two.publish(1, 2)
  await two.publish(3)
  const open = one.broker.holdReads()
  const receiver = new Receiver()
  const subscribed = one.subscribe(receiver, since)
  await settled()
  one.broker.down()
  await two.publish(4, 5)
  open()
  one.broker.gate = undefined
  await settled()
  one.broker.up()
  t.match(await subscribed, { recovered: true })
  await settled()
  await two.publish(6)
  t.strictSame(receiver.received, range(3, 6))
})

t.test(
  'recovery fails with the position that follows, and delivers nothing, when something is missing',
  async t => {
    const hub = new MemoryHub({ maxChannelBytes: 2000 })
    const { subscribe, publish } = make(t, hub, 5)
    const { epoch } = await publish(1, 30)
    const last = { offset: 30, epoch }
    const cases: readonly (readonly [string, Position])[] = [
      ['another epoch', { offset: 29, epoch: 'x' }],
      ['another epoch with the same offset', { offset: 30, epoch: 'x' }],
      ['an offset that was never used', { offset: 31, epoch }],
      ['an offset of 2^53 - 1', { offset: Number.MAX_SAFE_INTEGER, epoch }],
      ['too many publications', { offset: 24, epoch }],
      ['publications that were dropped', { offset: 1, epoch }]
    ]
    for (const isWatched of [false, true]) {
      if (isWatched) await subscribe(new Receiver())
      for (const [name, since] of cases) {
        const receiver = new Receiver()
        t.strictSame(await subscribe(receiver, since), { recovered: false, position: last }, name)
        t.strictSame(receiver.received, [], name)
      }
      const receiver = new Receiver()
      t.strictSame(await subscribe(receiver, { offset: 25, epoch }), { recovered: true, position: last })
      t.strictSame(receiver.received, range(26, 30))
    }
  }
)

t.test('a history that was trimmed in the middle is not recovered', async t => {
  const { broker, subscribe, publish, topics } = make(t)
  const since = await publish(1, 2)
  await publish(3, 6)
  const { read } = broker
  broker.read = async (...args) => {
    const { messages, position } = await read.apply(broker, args)
    return { messages: messages.filter(({ offset }) => offset !== 5), position }
  }
  const [receiver, early] = [new Receiver(), new Receiver()]
  t.match(await subscribe(receiver, since), { recovered: false })
  t.strictSame(receiver.received, [])
  topics.unsubscribe('room', receiver)
  broker.read = read
  await subscribe(early)
  broker.held = []
  await publish(7, 9)
  broker.read = async (...args) => {
    const { messages, position } = await read.apply(broker, args)
    return { messages: messages.filter(({ offset }) => offset !== 8), position }
  }
  broker.release(() => [])
  broker.up()
  await settled()
  t.strictSame(early.received, ['7'])
  t.match(early.lost, [{ offset: 9 }])
})

t.test("since 'last' delivers the last publication, then those that follow", async t => {
  const { subscribe, publish, topics } = make(t)
  const [none, one] = [new Receiver(), new Receiver()]
  t.match(await subscribe(none, 'last'), { recovered: true, position: { offset: 0 } })
  await publish(1, 5)
  t.match(await subscribe(one, 'last'), { recovered: true, position: { offset: 5 } })
  await publish(6)
  t.strictSame(one.received, ['5', '6'])
  t.strictSame(none.received, range(1, 6))
  await topics.removeHistory('room')
  const late = new Receiver()
  t.match(await subscribe(late, 'last'), { recovered: false, position: { offset: 6 } })
  t.strictSame(late.received, [])
})

t.test('many subscribers that recover at the same time share the messages that were read', async t => {
  const { broker, subscribe, publish, topics } = make(t)
  await subscribe(new Receiver())
  const since = await publish(1)
  await publish(2, 20)
  broker.reads.length = 0
  const receivers = Array.from({ length: 200 }, () => new Receiver())
  const outcomes = await Promise.all(receivers.map(receiver => subscribe(receiver, since)))
  t.ok(outcomes.every(({ recovered }) => recovered))
  for (const { received } of receivers) t.strictSame(received, range(2, 20))
  t.equal(broker.reads.length, 1)

  // Nor does each of them find out alone that it cannot be recovered.
  broker.reads.length = 0
  const old = { offset: 1, epoch: 'x' }
  const failed = await Promise.all(receivers.map(receiver => subscribe(receiver, old)))
  t.ok(failed.every(({ recovered }) => !recovered))
  t.equal(broker.reads.length, 1)
  await topics.removeHistory('room')
  broker.reads.length = 0
  const removed = await Promise.all(receivers.map(receiver => subscribe(receiver, since)))
  t.ok(removed.every(({ recovered }) => !recovered))
  t.equal(broker.reads.length, 1)
})

t.test('a subscriber that leaves while it recovers receives nothing', async t => {
  const { broker, subscribe, publish, topics } = make(t)
  const since = await publish(1)
  await publish(2)
  for (const end of ['unsubscribe', 'close'] as const) {
    const open = broker.holdReads()
    const receiver = new Receiver()
    const subscribed = subscribe(receiver, since)
    await settled()
    t.equal(topics.subscriberCount('room'), 1)
    topics.unsubscribe('room', receiver)
    broker.gate = undefined
    open()
    t.strictSame(await subscribed, NONE, end)
    await publish(3)
    t.strictSame(receiver.received, [])
    t.equal(topics.subscriberCount('room'), 0)
  }
  const receiver = new Receiver()
  const subscribed = subscribe(receiver)
  topics.unsubscribe('room', receiver)
  t.strictSame(await subscribed, NONE)
})

t.test(
  'without a broker, topics with history work in one process, and report no events of a broker',
  async t => {
    const events: BrokerEvent[] = []
    const topics = new Topics<Publication, Receiver>({
      server: {},
      broker: undefined,
      prepare: (payload, { binary, compress }) => ({ payload, isBinary: binary, compress }),
      onEvent: event => events.push(event),
      onError() {},
      presence: { interval: 5000, timeout: 15_000 },
      history: LIMITS,
      maxRecovered: 300
    })
    topics.open()
    t.teardown(() => topics.close())
    const receiver = new Receiver()
    await topics.subscribe('room', receiver)
    void topics.publish('room', text('x'))
    t.strictSame(receiver.received, ['x'], 'in the same turn')
    await topics.broadcast(text('y'), false)
    await settled()
    t.strictSame(events, [])
  }
)

t.test('a subscriber that publishes while it receives does not change the order for others', async t => {
  const { subscribe, publish, topics } = make(t)
  const [first, second] = [new Receiver(), new Receiver()]
  first.onSend = () => {
    const { length } = first.received
    if (length < 4) void topics.publish('room', text(String(length + 1)))
  }
  await subscribe(first)
  await subscribe(second)
  const since = await publish(1)
  t.strictSame(first.received, range(1, 4))
  t.strictSame(second.received, range(1, 4))
  const third = new Receiver()
  third.onSend = () => {
    if (third.received.length < 3) void topics.publish('room', text(`again ${third.received.length}`))
  }
  t.match(await subscribe(third, since), { recovered: true, position: { offset: 6 } })
  t.strictSame(third.received, ['2', '3', '4', 'again 1', 'again 2'])
})

t.test('a subscriber that leaves while it receives what it has missed gets no more', async t => {
  const { subscribe, publish, topics } = make(t)
  const since = await publish(1)
  await publish(2, 3)
  const receiver = new Receiver()
  receiver.onSend = () => topics.unsubscribe('room', receiver)
  t.strictSame(await subscribe(receiver, since), NONE)
  await publish(4)
  t.notOk(receiver.received.includes('4'))
  t.equal(topics.subscriberCount('room'), 0)
})

t.test('a receiver whose send throws does not keep the message from others', async t => {
  const { subscribe, publish, errors } = make(t)
  const [broken, receiver] = [new Receiver(), new Receiver()]
  const failure = new Error('not today')
  broken.onSend = () => {
    throw failure
  }
  await subscribe(broken)
  await subscribe(receiver)
  await publish(1, 2)
  t.strictSame(receiver.received, range(1, 2))
  t.strictSame(errors, [failure, failure])
})

t.test('an error of deliver is reported once for each publication', async t => {
  const { topics, errors, publish, subscribe } = make(t)
  const failure = new Error('not today')
  const deliver = (): never => {
    throw failure
  }
  const receivers = [new Receiver(), new Receiver()]
  for (const receiver of receivers) {
    await topics.subscribe('room', receiver, { since: undefined, deliver, onLost() {} })
  }
  const other = new Receiver()
  await subscribe(other)
  await publish(1)
  t.strictSame(errors, [failure])
  for (const { received } of receivers) t.strictSame(received, [])
  t.strictSame(other.received, ['1'])
})

t.test('a message that no process of the application published is skipped and reported', async t => {
  const { broker, subscribe, publish, types, topics } = make(t)
  const receiver = new Receiver()
  await subscribe(receiver)
  const since = await publish(1)
  await broker.append('h:room', Buffer.from('garbage'), LIMITS)
  await publish(3)
  t.strictSame(receiver.received, ['1', '3'])
  t.ok(types().includes('invalid'))
  const late = new Receiver()
  t.match(await subscribe(late, since), { recovered: true, position: { offset: 3 } })
  t.strictSame(late.received, ['3'])
  const { publications } = await topics.readHistory('room', {})
  t.strictSame(
    publications.map(({ offset }) => offset),
    [1, 3]
  )
  broker.events?.onMessage('h:room', Buffer.from('without a position'))
  t.equal(types().at(-1), 'invalid')
})

t.test('messages beyond 4 MiB that wait for a gap to be filled are read from the history', async t => {
  const { broker, subscribe, publish, topics } = make(t, new MemoryHub({ maxChannelBytes: 2 ** 25 }))
  const receiver = new Receiver()
  await subscribe(receiver)
  await publish(1)
  broker.isDeaf = true
  await publish(2)
  broker.isDeaf = false
  const open = broker.holdReads()
  await publish(3)
  await settled()
  const large = `large ${'x'.repeat(2 ** 20)}`
  for (let n = 0; n < 8; n++) await topics.publish('room', text(large))
  broker.gate = undefined
  open()
  await settled()
  t.strictSame(receiver.received, [...range(1, 3), ...Array.from({ length: 8 }, () => large)])
})

t.test('more than 8 MiB of messages for subscribers that recover are read again', async t => {
  const { broker, subscribe, publish, topics } = make(t, new MemoryHub({ maxChannelBytes: 2 ** 26 }))
  await subscribe(new Receiver())
  const since = await publish(1)
  await publish(2)
  const open = broker.holdReads()
  const receiver = new Receiver()
  const subscribed = subscribe(receiver, since)
  await settled()
  const large = `large ${'x'.repeat(2 ** 20)}`
  for (let n = 0; n < 12; n++) await topics.publish('room', text(large))
  broker.gate = undefined
  open()
  t.match(await subscribed, { recovered: true, position: { offset: 14 } })
  t.strictSame(receiver.received, ['2', ...Array.from({ length: 12 }, () => large)])
})

t.test('an engine that refuses to read the history rejects, and is asked again', async t => {
  const clock = FakeTimers.install({ toFake: ['setTimeout', 'clearTimeout'] })
  t.teardown(() => clock.uninstall())
  const { broker, subscribe, publish, events, topics } = make(t)
  const [early, late] = [new Receiver(), new Receiver()]
  await subscribe(early)
  const since = await publish(1)
  broker.refusal = new Error('NOPERM')
  await publish(2)
  await t.rejects(subscribe(late, since), { code: 'FST_UPGRADE_BROKER_READ', message: /NOPERM/ })
  t.equal(topics.subscriberCount('room'), 1, 'the subscriber that cannot recover is not subscribed')
  broker.isDeaf = true
  await publish(3)
  broker.isDeaf = false
  await publish(4)
  await settled()
  t.match(events.at(-1), { type: 'unsubscribed', topic: 'room', error: { code: 'FST_UPGRADE_BROKER_READ' } })
  await publish(5)
  t.strictSame(early.received, ['1', '2'], 'nothing is delivered across the gap')
  broker.refusal = undefined
  clock.tick(1000)
  await settled()
  t.strictSame(early.received, range(1, 5))
  const other = new Receiver()
  broker.refusal = new Error('NOPERM')
  await t.rejects(topics.subscribe('elsewhere', other), { code: 'FST_UPGRADE_BROKER_READ' })
  broker.refusal = undefined
  clock.tick(1000)
  await settled()
  await topics.publish('elsewhere', text('later'))
  t.strictSame(other.received, ['later'], 'a subscriber without since stays')
})

t.test('messages that a subscription misses until it is restored are read', async t => {
  const { broker, subscribe, publish } = make(t)
  const receiver = new Receiver()
  await subscribe(receiver)
  await publish(1)
  broker.isDeaf = true
  broker.events?.onUnsubscribed('h:room', new Error('kicked'))
  await publish(2, 3)
  broker.isDeaf = false
  // The server subscribes again.
  broker.events?.onUp()
  await settled()
  t.strictSame(receiver.received, range(1, 3))
})

t.test('close ends the calls that wait for the engine', async t => {
  const { broker, subscribe, publish, topics } = make(t)
  await subscribe(new Receiver())
  const since = await publish(1)
  await publish(2)
  const open = broker.holdReads()
  const reading = subscribe(new Receiver(), since)
  const waiting = subscribe(new Receiver(), since)
  broker.up()
  await settled()
  broker.down()
  const elsewhere = topics.subscribe('elsewhere', new Receiver())
  await settled()
  const ends = Promise.all(
    [reading, waiting, elsewhere].map(ended => t.rejects(ended, { code: 'FST_UPGRADE_BROKER_CLOSED' }))
  )
  await topics.close()
  open()
  await ends
  await t.rejects(topics.readHistory('room', {}), { code: 'FST_UPGRADE_BROKER_CLOSED' })
  await t.rejects(topics.removeHistory('room'), { code: 'FST_UPGRADE_BROKER_READ' })
  await t.rejects(publish(3), { code: 'FST_UPGRADE_BROKER_CLOSED' })
})

t.test('a publication that the engine refuses is counted as lost', async t => {
  const { broker, topics, events, publish } = make(t)
  broker.append = async () => {
    throw new Error('full')
  }
  await t.rejects(publish(1), { code: 'FST_UPGRADE_BROKER_PUBLISH', message: /full/ })
  t.equal(topics.lost, 1)
  t.match(events.at(-1), { type: 'lost', topic: 'room' })
})

t.test('few reads of the engine are under way at a time', async t => {
  const { broker, topics } = make(t)
  const open = broker.holdReads()
  const reads = Array.from({ length: 200 }, (_, n) => topics.readHistory(`room ${n}`, {}))
  await settled()
  t.equal(broker.reads.length, 64)
  open()
  await Promise.all(reads)
  t.equal(broker.reads.length, 200)
})

t.test('subscribing again replaces the subscription', async t => {
  const { broker, subscribe, publish } = make(t)
  const receiver = new Receiver()
  await subscribe(receiver)
  const since = await publish(1)
  await publish(2)
  const open = broker.holdReads()
  const recovered = subscribe(receiver, since)
  const again = subscribe(receiver)
  await settled()
  await publish(3)
  broker.gate = undefined
  open()
  t.strictSame(await again, await recovered)
  t.match(await recovered, { recovered: true, position: { offset: 3 } })
  await publish(4)
  t.strictSame(receiver.received, ['1', '2', '2', '3', '4'])
})

t.test('a message that arrives again is not read again', async t => {
  const { broker, subscribe, publish } = make(t)
  const receiver = new Receiver()
  await subscribe(receiver)
  broker.held = []
  await publish(1, 2)
  broker.reads.length = 0
  broker.release(([one, two]) => [one, two, one, two])
  await settled()
  t.strictSame(receiver.received, range(1, 2))
  t.strictSame(broker.reads, [])
})

t.test('a message of another epoch does not follow, whatever its offset is', async t => {
  const server = make(t)
  const receiver = new Receiver()
  await server.subscribe(receiver)
  await server.publish(1, 2)
  const other = restart(server)
  server.broker.isDeaf = true
  await server.publish(11, 12)
  server.broker.isDeaf = false
  await server.publish(13)
  await settled()
  const { position } = await other.read('h:room', { limit: 0 })
  t.equal(position.offset, 3)
  t.strictSame(receiver.lost, [position])
  t.strictSame(receiver.received, ['1', '2'])
})

t.test('a client of a new epoch recovers at a process that has not noticed it', async t => {
  const server = make(t)
  const { broker, subscribe, publish } = server
  const [early, late] = [new Receiver(), new Receiver()]
  await subscribe(early)
  await publish(1, 2)
  restart(server)
  broker.isDeaf = true
  const since = await publish(11)
  const last = await publish(12, 14)
  t.strictSame(await subscribe(late, since), { recovered: true, position: last })
  t.strictSame(late.received, range(12, 14))
  t.strictSame(early.lost, [last])
})

t.test('a subscriber that recovers notices an engine that has gone back', async t => {
  const { broker, subscribe, publish } = make(t)
  const early = new Receiver()
  await subscribe(early)
  const { epoch } = await publish(1, 5)
  const position = { offset: 3, epoch }
  broker.read = async () => ({ messages: [], position })
  t.strictSame(await subscribe(new Receiver(), position), { recovered: true, position })
  t.strictSame(early.lost, [position])
})

t.test('messages of an old epoch are not delivered in a new one', async t => {
  const server = make(t)
  const { broker, subscribe, publish } = server
  const [early, late] = [new Receiver(), new Receiver()]
  await subscribe(early)
  const old = await publish(1)
  await publish(2, 5)
  await server.topics.removeHistory('room')
  t.match(await subscribe(new Receiver(), old), { recovered: false })
  await publish(6)
  const open = broker.holdReads()
  // While it recovers, messages are kept.
  const pending = subscribe(new Receiver(), { ...old, offset: 5 })
  await settled()
  await publish(7)
  const { read } = broker
  restart(server)
  const restarted = broker.read
  const since = await publish(11)
  await publish(12, 17)
  await settled()
  t.strictSame(await subscribe(late, since), { recovered: true, position: { ...since, offset: 7 } })
  t.strictSame(late.received, range(12, 17))
  t.ok(read !== restarted)
  open()
  t.match(await pending, { recovered: false })
})

t.test('a connection of another process with the same number receives the message', async t => {
  const hub = new MemoryHub()
  const [one, two] = [make(t, hub), make(t, hub)]
  const [here, there] = [new Receiver(), new Receiver()]
  await one.subscribe(here)
  await two.subscribe(there)
  await one.topics.publish('room', text('from here'), here)
  await two.topics.publish('room', text('from there'), there)
  t.strictSame(here.received, ['from there'])
  t.strictSame(there.received, ['from here'])
})

t.test('a second gap behind the first is filled as well', async t => {
  const { broker, subscribe, publish } = make(t)
  const receiver = new Receiver()
  await subscribe(receiver)
  broker.isDeaf = true
  await publish(1)
  broker.isDeaf = false
  const open = broker.holdReads()
  await publish(2)
  await settled()
  broker.isDeaf = true
  await publish(3)
  broker.isDeaf = false
  await publish(4, 6)
  broker.gate = undefined
  open()
  await settled()
  t.strictSame(receiver.received, range(1, 6))
})

t.test('a subscriber that recovers does not receive what it publishes meanwhile', async t => {
  const { broker, subscribe, publish, topics } = make(t)
  const since = await publish(1)
  await publish(2)
  const open = broker.holdReads()
  const receiver = new Receiver()
  const subscribed = subscribe(receiver, since)
  broker.gate = undefined
  await topics.publish('room', text('mine'), receiver)
  await publish(4)
  open()
  t.match(await subscribed, { recovered: true, position: { offset: 4 } })
  t.strictSame(receiver.received, ['2', '4'])
})

t.test('a subscriber that leaves during an outage leaves no subscription behind', async t => {
  const { broker, subscribe, topics } = make(t)
  const subscribed: string[] = []
  const original = broker.subscribe
  broker.subscribe = async channel => {
    await original.call(broker, channel)
    subscribed.push(channel)
  }
  await settled()
  broker.down()
  const [receiver, recovering] = [new Receiver(), new Receiver()]
  const outcomes = [subscribe(receiver), subscribe(recovering, 'last')]
  await settled()
  for (const one of [receiver, recovering]) topics.unsubscribe('room', one)
  broker.up()
  t.strictSame(await Promise.all(outcomes), [NONE, NONE])
  t.notOk(subscribed.includes('h:room'))
})

t.test('a subscription that was replaced does not end the one that follows', async t => {
  const { broker, subscribe, publish } = make(t)
  await subscribe(new Receiver())
  const since = await publish(1)
  await publish(2)
  let refuse = (_error: Error): void => {}
  broker.gate = new Promise((_resolve, reject) => {
    refuse = reject
  })
  const receiver = new Receiver()
  const first = subscribe(receiver, since)
  await settled()
  const second = subscribe(receiver, 'last')
  broker.gate = undefined
  refuse(new Error('NOPERM'))
  t.strictSame(await first, NONE)
  t.match(await second, { recovered: true, position: { offset: 2 } })
  t.strictSame(receiver.received, ['2'])
})

t.test('a topic is summarized before its position is known, and after', async t => {
  const { broker, subscribe, publish, topics } = make(t)
  await publish(1, 2)
  const open = broker.holdReads()
  const subscribed = subscribe(new Receiver())
  await settled()
  const of = (offset: number | undefined) => [{ topic: 'room', subscribers: 1, members: 0, offset }]
  t.strictSame(topics.summarize(10), { topics: of(undefined), total: 1 })
  open()
  await subscribed
  t.strictSame(topics.summarize(10), { topics: of(2), total: 1 })
  t.strictSame(topics.summarize(0), { topics: [], total: 1 })
  t.strictSame([topics.hasHistory('room'), topics.hasHistory('plain')], [true, false])
})
