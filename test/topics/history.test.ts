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

  /** Delivers what was held. */
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
  await two.publish(8, 9)
  one.broker.up()
  await settled()
  t.strictSame(receiver.received, range(1, 9), 'without a further message')
  t.strictSame(receiver.lost, [])
})

t.test('an outage while a gap is filled', async t => {
  const hub = new MemoryHub()
  const [one, two] = [make(t, hub), make(t, hub)]
  const receiver = new Receiver()
  await one.subscribe(receiver)
  one.broker.down()
  await two.publish(1, 3)
  let open = (): void => {}
  one.broker.gate = new Promise(resolve => {
    open = resolve
  })
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
  const receiver = new Receiver()
  await server.subscribe(receiver)
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
    let open = (): void => {}
    broker.gate = new Promise(resolve => {
      open = resolve
    })
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
  const since = await publish(1, 2)
  broker.held = []
  const last = await publish(3, 6)
  t.match(await subscribe(late, since), { recovered: true })
  const seen = [...late.received]
  t.strictSame(await subscribe(ahead, last), { recovered: true, position: last })
  broker.release()
  await settled()
  await publish(7)
  t.strictSame(late.received, range(3, 7), `${seen}`)
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
  let open = (): void => {}
  one.broker.gate = new Promise(resolve => {
    open = resolve
  })
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
  const { broker, subscribe, publish } = make(t)
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
})

t.test('a subscriber that leaves while it recovers receives nothing', async t => {
  const { broker, subscribe, publish, topics } = make(t)
  const since = await publish(1)
  await publish(2)
  for (const end of ['unsubscribe', 'close'] as const) {
    let open = (): void => {}
    broker.gate = new Promise(resolve => {
      open = resolve
    })
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
