import FakeTimers from '@sinonjs/fake-timers'
import t, { type Test } from 'tap'
import type { Broker } from '../../lib/brokers/broker.js'
import { MemoryBroker, MemoryHub } from '../../lib/brokers/memory.js'
import type { BrokerEvent } from '../../lib/topics/broker-link.js'
import { Connections, DETAILS, type OwnConnection } from '../../lib/topics/connections/connections.js'
import type { Processes } from '../../lib/topics/connections/processes.js'
import { decodeMessage } from '../../lib/topics/connections/protocol.js'
import { decodePublication, encodePublication, type Publication } from '../../lib/topics/publication.js'
import { Topics } from '../../lib/topics/topics.js'
import { ManualBroker } from '../brokers/manual-broker.js'

const SETTINGS = { interval: 5000, timeout: 15_000 }
const OTHER = 'e'.repeat(32)
const THIRD = 'f'.repeat(32)
const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))
const message = (payload: string): Publication => ({ payload, isBinary: false, compress: true })

interface Given {
  readonly id?: string
  readonly user?: string
  readonly since?: number
  readonly bytes?: number
  readonly bufferedAmount?: number
  readonly topics?: readonly string[]
  readonly route?: string
  readonly remoteAddress?: string
}

/** A connection of this process that records what it is asked to do. */
class Fake implements OwnConnection<Publication> {
  readonly OPEN = 1
  readyState = 1
  readonly protocol = 'chat'
  readonly presenceId: string
  readonly topics: ReadonlySet<string>
  readonly latency = 2.5
  readonly bufferedAmount: number
  readonly traffic: OwnConnection<Publication>['traffic']
  readonly done: string[] = []
  readonly [DETAILS]: OwnConnection<Publication>[typeof DETAILS]

  constructor({ id = 'id', user, since = 0, bytes = 0, bufferedAmount = 0, ...rest }: Given) {
    const { topics = [], route = '/', remoteAddress = '192.0.2.1' } = rest
    this.presenceId = id
    this.topics = new Set(topics)
    this.bufferedAmount = bufferedAmount
    this.traffic = { messagesReceived: 1, messagesSent: 2, bytesReceived: bytes, bytesSent: 0 }
    this[DETAILS] = { user, since, remoteAddress, route, httpVersion: '1.1' }
  }

  send({ payload, isBinary, compress }: Publication): void {
    this.done.push(`send ${payload} ${isBinary} ${compress}`)
  }

  renew(until: number): boolean {
    this.done.push(`renew ${until}`)
    return true
  }

  close(code?: number, reason?: string): void {
    this.readyState = 2
    this.done.push(`close ${code} ${reason}`)
  }
}

/** A process of an application. */
class Process {
  readonly own = new Set<Fake>()
  readonly events: BrokerEvent[] = []
  readonly errors: unknown[] = []
  /** The number of messages that were prepared. */
  prepared = 0
  readonly topics: Topics<Publication, Fake>
  readonly connections: Connections<Publication, Fake>

  constructor(t: Test, broker: Broker | undefined) {
    this.topics = new Topics<Publication, Fake>({
      server: {},
      broker,
      prepare: (payload, { binary, compress }) => {
        this.prepared++
        return { payload, isBinary: binary, compress }
      },
      onEvent: event => this.events.push(event),
      onError: error => this.errors.push(error),
      presence: SETTINGS,
      history: undefined,
      maxRecovered: 300
    })
    this.connections = new Connections({
      own: this.own,
      processes: this.topics.processes,
      prepare: (payload, { binary, compress }) => {
        this.prepared++
        return { payload, isBinary: binary, compress }
      },
      onError: error => this.errors.push(error)
    })
    this.topics.open()
    this.connections.open()
    t.teardown(() => this.topics.close())
  }

  get processes(): Processes {
    const { processes } = this.topics
    if (processes === undefined) throw new Error('there is no broker')
    return processes
  }

  get id(): string {
    return this.processes.id
  }

  add(given: Given): Fake {
    const connection = new Fake(given)
    this.own.add(connection)
    this.connections.add(connection)
    this.connections.identify(connection.presenceId, connection)
    return connection
  }

  remove(connection: Fake): void {
    this.own.delete(connection)
    this.connections.forget(connection.presenceId)
    this.connections.remove(connection)
  }
}

/** Processes on one hub that know each other. */
async function start(t: Test, count: number): Promise<Process[]> {
  const hub = new MemoryHub()
  const processes = Array.from({ length: count }, () => new Process(t, new MemoryBroker(hub)))
  // The first call waits until the others have introduced themselves.
  await Promise.all(processes.map(({ connections }) => connections.countOfUser('nobody')))
  return processes
}

const all = { sort: 'since', limit: 100 } as const

t.test('without a broker, calls are about this process and end at once', async t => {
  const { connections, own, ...rest } = new Process(t, undefined)
  const process = Object.assign(Object.create(Process.prototype), { connections, own, ...rest })
  const [ada, bob] = [process.add({ id: 'a', user: 'ada', since: 2 }), process.add({ id: 'b', since: 1 })]
  const { connections: list, ...result } = await connections.list(all)
  t.strictSame(result, { total: 2, processes: 1, isComplete: true })
  const [first, second] = list
  t.match(first?.process, /^[\da-f]{32}$/)
  t.strictSame(second, {
    id: 'a',
    process: first?.process,
    user: 'ada',
    since: 2,
    remoteAddress: '192.0.2.1',
    route: '/',
    subprotocol: 'chat',
    httpVersion: '1.1',
    topics: [],
    latency: 2.5,
    bufferedAmount: 0,
    messagesReceived: 1,
    messagesSent: 2,
    bytesReceived: 0,
    bytesSent: 0
  })
  const reached = { connections: 1, processes: 1, isComplete: true }
  t.strictSame(await connections.sendToUser('ada', message('hello')), reached)
  t.strictSame(await connections.countOfUser('ada'), reached)
  t.strictSame(await connections.closeUser('ada', 4001, 'bye'), reached)
  t.strictSame(ada.done, ['send hello false true', 'close 4001 bye'])
  t.strictSame(await connections.countOfUser('ada'), { ...reached, connections: 0 }, 'it is closing')
  t.strictSame(await connections.closeConnection('b', undefined, undefined), reached)
  t.strictSame(bob.done, ['close undefined undefined'])
  t.strictSame(await connections.closeConnection('c', 1000, ''), { ...reached, connections: 0 })
})

t.test('a user has connections in all processes', async t => {
  const processes = await start(t, 3)
  const [first, second, third] = processes
  if (first === undefined || second === undefined || third === undefined) throw new Error('no processes')
  const fakes = processes.flatMap((process, n) => [
    process.add({ id: `${n}a`, user: 'ada' }),
    process.add({ id: `${n}b`, user: 'ada' })
  ])
  const bob = third.add({ id: 'bob', user: 'bob' })
  const reached = { connections: 6, processes: 3, isComplete: true }
  t.strictSame(await second.connections.countOfUser('ada'), reached)
  for (const process of processes) process.prepared = 0
  t.strictSame(await first.connections.sendToUser('ada', message('line\nline')), reached)
  const bytes = { payload: Buffer.from([255, 10, 0]), isBinary: true, compress: false }
  t.strictSame(await first.connections.sendToUser('ada', bytes), reached)
  t.strictSame(
    processes.map(({ prepared }) => prepared),
    [0, 2, 2],
    'once for each process, and in the first by the caller'
  )
  for (const { done } of fakes)
    t.strictSame(done.splice(0), ['send line\nline false true', `send ${bytes.payload} true false`])
  t.strictSame(await first.connections.sendToUser('bob', message('x')), { ...reached, connections: 1 })
  t.equal(second.prepared, 2, 'nothing is prepared without connections of the user')
  t.strictSame(await first.connections.renewUser('ada', 9e12), reached)
  for (const { done } of fakes) t.strictSame(done.splice(0), ['renew 9000000000000'])
  t.strictSame(await first.connections.closeUser('ada', 4001, 'out'), reached)
  for (const { done } of fakes) t.strictSame(done, ['close 4001 out'])
  t.strictSame(bob.done, ['send x false true'])
})

t.test('one connection is closed in whichever process', async t => {
  const [first, second] = await start(t, 3)
  if (first === undefined || second === undefined) throw new Error('no processes')
  const [own, other] = [first.add({ id: 'own' }), second.add({ id: 'other' })]
  const { connections } = first
  t.strictSame(await connections.closeConnection('own', 1000, ''), {
    connections: 1,
    processes: 1,
    isComplete: true
  })
  t.match(await connections.closeConnection('other', 1001, 'x'), { connections: 1, isComplete: true })
  t.strictSame([own.done, other.done], [['close 1000 '], ['close 1001 x']])
  const missed = { connections: 0, processes: 3, isComplete: true }
  t.strictSame(await connections.closeConnection('other', 1001, 'x'), missed, 'it is closing')
  t.strictSame(await connections.closeConnection('none', 1001, 'x'), missed)
})

t.test('a list has the connections that were asked for', async t => {
  const [first, second] = await start(t, 2)
  if (first === undefined || second === undefined) throw new Error('no processes')
  first.add({ id: 'a', user: 'ada', since: 3, topics: ['news'], route: '/x', bytes: 10 })
  second.add({ id: 'b', user: 'ada', since: 2, bytes: 30, bufferedAmount: 5, remoteAddress: '192.0.2.2' })
  second.add({ id: 'c', since: 1, topics: ['news'], bytes: 20, bufferedAmount: 7 })
  second.add({ id: 'd', since: 1, bytes: 20 })
  const ids = async (query: object, process = first): Promise<string> => {
    const { connections, total } = await process.connections.list({ ...all, ...query })
    for (const { id, process: owner } of connections)
      t.equal(owner, id === 'a' ? first.id : second.id, `the process of ${id}`)
    return `${connections.map(({ id }) => id).join('')} of ${total}`
  }
  t.equal(await ids({}), 'cdba of 4', 'the oldest first')
  t.equal(await ids({}, second), 'cdba of 4')
  t.equal(await ids({ sort: 'traffic' }), 'bcda of 4')
  t.equal(await ids({ sort: 'buffered' }), 'cbad of 4')
  t.equal(await ids({ sort: 'traffic', limit: 2 }), 'bc of 4')
  t.equal(await ids({ limit: 1 }), 'c of 4')
  t.equal(await ids({ limit: 0 }), ' of 4')
  t.equal(await ids({ user: 'ada' }), 'ba of 2')
  t.equal(await ids({ user: 'eve' }), ' of 0')
  t.equal(await ids({ topic: 'news' }), 'ca of 2')
  t.equal(await ids({ topic: 'news', user: 'ada' }), 'a of 1')
  t.equal(await ids({ route: '/x' }), 'a of 1')
  t.equal(await ids({ remoteAddress: '192.0.2.2' }), 'b of 1')
})

t.test('connections that were opened at the same time are in the order of their ids', async t => {
  const [first, second] = await start(t, 2)
  if (first === undefined || second === undefined) throw new Error('no processes')
  first.add({ id: 'b', since: 1 })
  second.add({ id: 'a', since: 1 })
  second.add({ id: 'c', since: 1 })
  const { connections } = await first.connections.list(all)
  t.strictSame(
    connections.map(({ id }) => id),
    ['a', 'b', 'c']
  )
})

t.test('a long list comes in parts, and only as far as it matters', async t => {
  const [first, second, third] = await start(t, 3)
  if (first === undefined || second === undefined || third === undefined) throw new Error('no processes')
  const topics = Array.from({ length: 150 }, (_, n) => `topic ${n}`)
  const count = 1000
  for (let n = 0; n < count; n++) {
    first.add({ id: `1 ${n}`, since: 3 * n, user: 'ada' })
    second.add({ id: `2 ${n}`, since: 3 * n + 1, user: 'ada', topics })
    third.add({ id: `3 ${n}`, since: 3 * n + 1e6, user: 'ada', topics })
  }
  const answers = new Map<string, number>()
  const hub = t.capture(first.processes, 'onPublication', first.processes.onPublication)
  const { connections, total } = await first.connections.list({ ...all, limit: 1500, user: 'ada' })
  for (const {
    args: [{ origin, payload }]
  } of hub()) {
    t.ok(payload.length < 80_000, `${payload.length} bytes`)
    answers.set(origin, (answers.get(origin) ?? 0) + 1)
  }
  t.equal(total, 3 * count)
  t.strictSame(
    connections.map(({ since }) => since),
    Array.from({ length: 1500 }, (_, n) => Math.floor(n / 2) * 3 + (n % 2))
  )
  t.strictSame(connections[1]?.topics, topics.slice(0, 100), 'at most 100 topics')
  t.ok((answers.get(second.id) ?? 0) > 10, `${answers.get(second.id)} parts`)
  t.ok(Number(answers.get(third.id)) < 10, `${answers.get(third.id)} parts, as the others come first`)
  const whole = await first.connections.list({ ...all, limit: 10_000 })
  t.equal(whole.connections.length, 3 * count)
  t.equal(new Set(whole.connections.map(({ id }) => id)).size, 3 * count)
  const long = Array.from({ length: 5 }, (_, n) => `${n}`.repeat(1024))
  first.add({ id: 'long', since: 0, user: 'bob', topics: long })
  const { connections: ofBob } = await second.connections.list({ ...all, limit: 1, user: 'bob' })
  t.strictSame(ofBob[0]?.topics, long.slice(0, 4), 'at most 4,096 characters of topics')
})

t.test('connections that close while their list is sent are left out', async t => {
  const [first, second] = await start(t, 2)
  if (first === undefined || second === undefined) throw new Error('no processes')
  const fakes = Array.from({ length: 40 }, (_, n) =>
    second.add({ id: `${n}`, since: n, topics: ['x'.repeat(4096)] })
  )
  const { processes } = second
  const receive = processes.onPublication
  processes.onPublication = (...args) => {
    Reflect.apply(receive, processes, args)
    // The first part has been sent.
    for (const fake of fakes.slice(1)) fake.close()
  }
  const { connections, total } = await first.connections.list(all)
  // 64 KiB have room for fifteen.
  t.strictSame(
    connections.map(({ id }) => id),
    Array.from({ length: 15 }, (_, n) => `${n}`)
  )
  t.equal(total, 40)
})

t.test('an application that replaces methods of a connection cannot stop a call', async t => {
  const [first, second] = await start(t, 2)
  if (first === undefined || second === undefined) throw new Error('no processes')
  const [bad, good] = [second.add({ id: 'a', user: 'ada' }), second.add({ id: 'b', user: 'ada' })]
  const failure = new Error('replaced')
  bad.send = () => {
    throw failure
  }
  t.match(await first.connections.sendToUser('ada', message('x')), { connections: 2, isComplete: true })
  t.strictSame(good.done, ['send x false true'])
  t.strictSame(second.errors, [failure])
})

t.test('a user with many connections', async t => {
  const [first, second] = await start(t, 2)
  if (first === undefined || second === undefined) throw new Error('no processes')
  for (let n = 0; n < 10_000; n++) second.add({ id: `${n}`, user: 'ada', since: n })
  t.match(await first.connections.sendToUser('ada', message('x')), { connections: 10_000 })
  t.equal(second.prepared, 1)
  const { connections, total } = await first.connections.list({ ...all, user: 'ada', limit: 10_000 })
  t.strictSame([connections.length, total], [10_000, 10_000])
  const top = await first.connections.list({ sort: 'traffic', user: 'ada', limit: 3 })
  t.strictSame(
    top.connections.map(({ id }) => id),
    ['0', '1', '2']
  )
  t.match(await first.connections.closeUser('ada', 1000, ''), { connections: 10_000 })
})

t.test('the index of users and ids empties with the connections', async t => {
  const process = new Process(t, undefined)
  const fakes = ['ada', 'ada', 'bob', undefined].map((user, n) =>
    process.add(user === undefined ? { id: `${n}` } : { id: `${n}`, user })
  )
  t.equal(process.connections.indexSize, 2 + 4)
  for (const fake of fakes) {
    process.remove(fake)
    process.remove(fake)
  }
  t.equal(process.connections.indexSize, 0)
})

/** A process whose broker accepts calls when the test reads them, and a clock that the test moves. */
function make(t: Test) {
  const clock = FakeTimers.install({
    toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance']
  })
  const broker = new ManualBroker()
  const process = new Process(t, broker)
  // Before the process closes, which takes time.
  t.teardown(() => clock.uninstall())
  /** Settles the pending calls of the broker, and returns them as lines. */
  const sent = async (error?: Error): Promise<string[]> => {
    const calls = broker.calls.splice(0)
    for (const { settle } of calls) settle(error)
    await turn()
    return calls.map(({ method, channel, message: bytes }) => {
      const publication = bytes && decodePublication(bytes)
      const decoded = publication && decodeMessage(publication.payload)
      return decoded === undefined
        ? `${method} ${channel.replace(process.id, 'own')}`
        : `${channel.replace(process.id, 'own')} ${JSON.stringify(decoded.message)}`
    })
  }
  const receiveText = (payload: string, origin = OTHER): void =>
    broker.events?.onMessage('q:', encodePublication(origin, { payload, isBinary: false, compress: false }))
  const receive = (sentMessage: object, origin = OTHER): void =>
    receiveText(JSON.stringify(sentMessage), origin)
  const up = async (): Promise<string[]> => {
    broker.events?.onUp()
    const calls = [...(await sent()), ...(await sent())]
    // The process is introduced.
    await pass(250)
    return calls
  }
  const pass = async (milliseconds: number): Promise<void> => {
    clock.tick(milliseconds + 1)
    await turn()
    await turn()
  }
  /** Whether a call has ended, and how. */
  const watch = <Result>(call: Promise<Result>) => {
    const watched: { result: Result | undefined } = { result: undefined }
    call.then(result => {
      watched.result = result
    })
    return watched
  }
  return { clock, broker, process, sent, receive, receiveText, up, pass, watch }
}

const answer = (call: number, count = 1) => ({ type: 'answer', call, count, connections: [], more: false })

t.test('a process introduces itself, repeats that it is alive, and takes its leave', async t => {
  const { broker, process, sent, receive, up, pass } = make(t)
  t.strictSame(await sent(), [], 'before the broker is connected')
  t.strictSame(await up(), ['subscribe q:', 'subscribe r:own', 'q: {"type":"hello"}'])
  receive({ type: 'hello' })
  t.strictSame(await sent(), [`r:${OTHER} {"type":"alive"}`])
  await pass(SETTINGS.interval)
  t.strictSame(await sent(), ['q: {"type":"alive"}'])
  broker.events?.onDown()
  await pass(SETTINGS.interval)
  t.strictSame(await sent(), [], 'not while the engine is disconnected')
  t.strictSame(await up(), ['q: {"type":"hello"}'], 'again after an outage')
  const closed = process.topics.close()
  t.strictSame(await sent(), ['q: {"type":"bye"}'])
  await closed
  await pass(SETTINGS.interval)
  t.strictSame(await sent(), [])
  t.equal(broker.closes, 1)
})

t.test('a process whose broker does not accept its leave closes anyway', async t => {
  const { broker, process, up, pass } = make(t)
  await up()
  const closed = process.topics.close()
  await pass(250)
  await closed
  t.equal(broker.closes, 1)
})

t.test('a process introduces itself once its subscriptions are accepted', async t => {
  const { broker, sent, pass } = make(t)
  broker.events?.onUp()
  await sent(new Error('refused'))
  t.strictSame(await sent(), [])
  await pass(1000)
  t.strictSame(await sent(), ['subscribe q:', 'subscribe r:own'], 'the link tries again')
  t.strictSame(await sent(), ['q: {"type":"hello"}', 'q: {"type":"hello"}'], 'for each that is restored')
})

t.test('a call waits for the processes that are known, and for none that has left', async t => {
  const { process, sent, receive, up, watch } = make(t)
  await up()
  for (const origin of [OTHER, THIRD]) receive({ type: 'hello' }, origin)
  await sent()
  const call = watch(process.connections.countOfUser('ada'))
  t.strictSame(await sent(), ['q: {"type":"list","user":"ada","sort":"since","limit":0,"call":1}'])
  receive(answer(1, 3))
  receive(answer(1, 5))
  receive(answer(2, 7))
  await turn()
  t.equal(call.result, undefined)
  receive({ type: 'bye' }, THIRD)
  receive({ type: 'bye' }, THIRD)
  await turn()
  t.strictSame(call.result, { connections: 3, processes: 2, isComplete: true })
  receive(answer(1))
  const next = watch(process.connections.countOfUser('ada'))
  receive(answer(2, 0))
  await turn()
  t.strictSame(next.result, { connections: 0, processes: 2, isComplete: true })
})

t.test('a process that does not answer is missed at the deadline, until it counts as gone', async t => {
  const { clock, process, sent, receive, up, pass, watch } = make(t)
  await up()
  receive({ type: 'hello' })
  receive({ type: 'hello' }, THIRD)
  const call = watch(process.connections.countOfUser('ada'))
  receive(answer(1, 2))
  await pass(1998)
  t.equal(call.result, undefined)
  await pass(2)
  t.strictSame(call.result, { connections: 2, processes: 2, isComplete: false })
  await sent()
  clock.tick(SETTINGS.timeout - 5000)
  receive({ type: 'alive' })
  clock.tick(2 * SETTINGS.interval)
  await sent()
  const next = watch(process.connections.countOfUser('ada'))
  receive(answer(2))
  await turn()
  t.strictSame(next.result, { connections: 1, processes: 2, isComplete: true })
})

t.test('a call before the others have introduced themselves waits for them', async t => {
  const { broker, process, sent, receive, pass, watch } = make(t)
  broker.events?.onUp()
  await sent()
  const call = watch(process.connections.countOfUser('ada'))
  await sent()
  t.equal(call.result, undefined)
  receive({ type: 'alive' })
  receive({ type: 'alive' })
  receive(answer(1, 1), THIRD)
  receive({ type: 'alive' }, THIRD)
  await pass(250)
  t.equal(call.result, undefined, 'one has not answered')
  receive(answer(1, 4))
  await turn()
  t.strictSame(call.result, { connections: 5, processes: 3, isComplete: true })
})

t.test('a call ends when its request is not accepted, and when the engine is disconnected', async t => {
  const { broker, process, sent, receive, up, watch } = make(t)
  await up()
  receive({ type: 'hello' })
  await sent()
  process.add({ id: 'a', user: 'ada' })
  const reached = { connections: 1, processes: 1, isComplete: false }
  const refused = watch(process.connections.sendToUser('ada', message('x')))
  await sent(new Error('too long'))
  t.strictSame(refused.result, reached)
  t.match(process.events.at(-1), { type: 'lost', topic: '', error: { code: 'FST_UPGRADE_BROKER_PUBLISH' } })
  t.equal(process.topics.lost, 1)
  const counted = watch(process.connections.countOfUser('ada'))
  await sent(new Error('too long'))
  t.strictSame(counted.result, reached)
  t.equal(process.topics.lost, 1, 'no message')
  const cut = watch(process.connections.closeUser('ada', 1000, ''))
  broker.events?.onDown()
  await turn()
  t.strictSame(cut.result, reached)
  await sent(new Error('disconnected'))
  broker.events?.onUp()
  await sent()
  const closing = watch(process.connections.countOfUser('ada'))
  const closed = process.topics.close()
  await sent()
  await closed
  t.strictSame(closing.result, { ...reached, connections: 0 })
})

t.test('an introduction that an outage has overtaken does not count', async t => {
  const { broker, process, sent, pass, watch } = make(t)
  broker.events?.onUp()
  await sent()
  await sent()
  broker.events?.onDown()
  await pass(250)
  broker.events?.onUp()
  const call = watch(process.connections.countOfUser('ada'))
  await sent()
  await sent()
  t.equal(call.result, undefined)
  await pass(250)
  t.strictSame(call.result, { connections: 0, processes: 1, isComplete: true })
})

t.test('the rest of a list is kept for its process for a time, and not for more than 64', async t => {
  const { process, sent, receive, up, pass } = make(t)
  await up()
  // A part has room for fifteen.
  for (let n = 0; n < 16; n++) process.add({ id: `${n}`, since: n, topics: ['x'.repeat(4096)] })
  const list = (call: number) => receive({ type: 'list', call, sort: 'since', limit: 16 })
  const more = async (call: number): Promise<(readonly [RegExpExecArray | null, boolean])[]> => {
    receive({ type: 'more', call })
    return (await sent()).map(line => [/"id":"(\d+)"/.exec(line), line.includes('"more":true')] as const)
  }
  list(1)
  t.match(await sent(), [/"id":"0".*"more":true/])
  t.match(await more(1), [[['"id":"15"', '15'], false]])
  t.strictSame(await more(1), [], 'it is finished')
  list(2)
  await sent()
  await pass(4000)
  t.strictSame(await more(2), [], 'too late')
  for (let call = 10; call < 75; call++) list(call)
  await sent()
  t.strictSame(await more(10), [], 'the oldest made room')
  t.equal((await more(11)).length, 1)
  t.equal((await more(74)).length, 1)
})

t.test('a process that sends the same part again and again, or none, does not keep a list going', async t => {
  const { process, sent, receive, up, watch } = make(t)
  await up()
  receive({ type: 'hello' })
  const { connections } = await new Process(t, undefined).connections.list(all)
  t.strictSame(connections, [])
  process.add({ id: 'z', since: 9 })
  const [own] = (
    await new Promise<Awaited<ReturnType<typeof process.connections.list>>>(resolve => {
      void process.connections.list(all).then(resolve)
      receive(answer(1, 0))
    })
  ).connections
  const part = (n: number, since = 1) => ({
    ...answer(n, 500),
    connections: [{ ...own, id: 'x', since }],
    more: true
  })
  const call = watch(process.connections.list({ ...all, limit: 3 }))
  for (let n = 0; n < 9; n++) {
    await sent()
    receive(part(2))
    await turn()
  }
  t.match(call.result, { total: 501, processes: 2, isComplete: true })
  t.equal(call.result?.connections.length, 3)
  const empty = watch(process.connections.list(all))
  receive({ ...answer(3, 5), more: true })
  await turn()
  t.match(empty.result, { total: 6, connections: [{ id: 'z' }] })
  const silent = watch(process.connections.list(all))
  receive(part(4))
  await turn()
  await sent(new Error('down'))
  await turn()
  t.match(silent.result, { isComplete: false, connections: [{ id: 'x' }, { id: 'z' }] })
})

t.test('malformed messages of the engine are ignored', async t => {
  const { broker, process, sent, receive, receiveText, up, watch } = make(t)
  await up()
  receive({ type: 'hello' })
  await sent()
  const ada = process.add({ id: 'a', user: 'ada' })
  const call = watch(process.connections.list(all))
  await sent()
  const described = {
    ...{ id: 'x', since: 1, route: '/', subprotocol: '', httpVersion: '1.1', topics: [] },
    ...{ bufferedAmount: 0, messagesReceived: 0, messagesSent: 0, bytesReceived: 0, bytesSent: 0 }
  }
  const wrong: unknown[] = [
    null,
    7,
    '',
    'hello',
    [],
    {},
    { type: 'other' },
    { type: 'constructor' },
    { type: 1 }
  ]
  for (const change of [
    { call: -1 },
    { call: '1' },
    { count: 1.5 },
    { count: -1 },
    { connections: {} },
    { connections: [null] },
    { connections: [7] },
    { more: 1 },
    ...Object.keys(described).map(name => ({ connections: [{ ...described, [name]: null }] })),
    { connections: [{ ...described, topics: [1] }] },
    { connections: [{ ...described, user: 1 }] },
    { connections: [{ ...described, latency: 'x' }] }
  ])
    wrong.push({ ...answer(1), ...change })
  for (const change of [
    { id: 7 },
    { of: 'all' },
    { code: 1005 },
    { code: 'x' },
    { reason: 'x'.repeat(124) },
    { call: {} }
  ])
    wrong.push({ type: 'close', call: 1, of: 'user', id: 'ada', code: 1000, ...change })
  for (const change of [{ sort: 'id' }, { limit: -1 }, { limit: 'x' }, { user: 1 }])
    wrong.push({ type: 'list', call: 1, sort: 'since', limit: 1, ...change })
  wrong.push({ type: 'renew', call: 1, user: 'ada', until: null }, { type: 'renew', call: 1, until: 1 })
  wrong.push({ type: 'send', call: 1, user: 1 }, { type: 'more' }, { type: 'more', call: 99 })
  for (const one of wrong) receiveText(JSON.stringify(one))
  for (const bytes of ['', '\n', '{', '{"type":"hello"', '\n{"type":"hello"}']) receiveText(bytes)
  for (const channel of ['q:', 'r:own', 'z:']) broker.events?.onMessage(channel, Buffer.from('garbage'))
  t.strictSame(await sent(), [])
  t.strictSame(ada.done, [])
  t.equal(call.result, undefined)
  receive({ ...answer(1), connections: [described] })
  await turn()
  t.strictSame(
    call.result?.connections.map(({ id, process: owner }) => [id, owner === OTHER]),
    [
      ['a', false],
      ['x', true]
    ]
  )
  t.strictSame(
    process.events.filter(({ type }) => type === 'invalid').map(event => Reflect.get(event, 'topic')),
    ['', '', '']
  )
})
