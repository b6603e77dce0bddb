import FakeTimers from '@sinonjs/fake-timers'
import Fastify, { type FastifyInstance } from 'fastify'
import { serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod'
import t, { type Test } from 'tap'
import { type FastifyUpgradeOptions, MemoryBroker, MemoryHub } from '../../lib/index.js'
import { Console } from '../../lib/observe/console/console.js'
import { type ConsoleOptions, websocketConsole } from '../../lib/observe/console/index.js'
import type { ConsoleMessage } from '../../lib/observe/console/messages.js'
import { Reporter } from '../../lib/observe/console/reporter.js'
import {
  array,
  boolean,
  count,
  matches,
  number,
  object,
  oneOf,
  optional,
  record,
  text,
  union
} from '../../lib/observe/console/schema.js'
import { Viewer } from '../../lib/observe/console/viewer.js'
import { listen, makeApp, open, shake, tick, withDeadline } from '../helpers/app.js'

type Summary = ConsoleMessage & { type: 'summary' }
type List = ConsoleMessage & { type: 'list' }
type Topic = ConsoleMessage & { type: 'topic' }
type Opened = Awaited<ReturnType<typeof open>>

const HISTORY = { size: 10, ttl: 60_000 }

/** A process of an application with the console. */
async function start(
  t: Test,
  hub: MemoryHub | undefined,
  options: ConsoleOptions = { unprotected: true, interval: 100 },
  own: FastifyUpgradeOptions = {}
): Promise<{ app: FastifyInstance; port: number }> {
  const { app } = await makeApp(t, {
    ...(hub && { broker: new MemoryBroker(hub) }),
    history: topic => (topic.startsWith('kept') ? HISTORY : undefined),
    user: request => Reflect.get(Object(request.query), 'user'),
    ...own
  })
  await app.register(websocketConsole, options)
  app.get('/rooms/:room', { websocket: { subprotocol: ['chat.v1'] } }, (socket, request) => {
    const { room } = request.params as { room: string }
    void socket.subscribe(room, { presence: { name: socket.user } })
    socket.on('message', data => socket.send(data))
    socket.send('ready')
  })
  app.get('/slow', { websocket: { maxBufferedAmount: false } }, socket => {
    for (let i = 0; i < 100; i++) socket.send(Buffer.alloc(2 ** 18))
  })
  return { app, port: await listen(app) }
}

async function member(t: Test, port: number, user: string, room = 'lobby'): Promise<Opened> {
  const client = await open(t, port, `/rooms/${room}?user=${user}`, { protocols: ['chat.v1'] })
  await client.next()
  return client
}

/** The next message of a type for which a condition holds. */
async function until<Type extends ConsoleMessage['type']>(
  page: Opened,
  type: Type,
  holds: (message: ConsoleMessage & { type: Type }) => boolean = () => true
): Promise<ConsoleMessage & { type: Type }> {
  const isWanted = (message: ConsoleMessage): message is ConsoleMessage & { type: Type } =>
    message.type === type
  const wait = async (): Promise<ConsoleMessage & { type: Type }> => {
    for (;;) {
      const message: ConsoleMessage = JSON.parse(String(await page.next()))
      if (isWanted(message) && holds(message)) return message
    }
  }
  return withDeadline(wait(), 30_000, type)
}

const ask = (page: Opened, message: object): void => page.socket.send(JSON.stringify(message))

t.test('the registration needs a hook, or that the lack of one is written out', async t => {
  const register = async (options: object): Promise<void> => {
    const { app } = await makeApp(t)
    await app.register(websocketConsole, options)
    await app.ready()
  }
  const code = 'FST_UPGRADE_UNGUARDED_CONSOLE'
  await t.rejects(register({}), { code })
  await t.rejects(register({ onRequest: [] }), { code })
  await t.rejects(register({ onRequest: undefined, unprotected: false }), { code })
  await register({ unprotected: true })
  await register({ onRequest: async () => {} })
  await register({ onRequest: [async () => {}] })
})

t.test('wrong options are refused', async t => {
  for (const options of [
    { unprotected: 'yes' },
    { unprotected: true, routePrefix: 'console' },
    { unprotected: true, routePrefix: 1 },
    { unprotected: true, interval: 99 },
    { unprotected: true, interval: 60_001 },
    { unprotected: true, interval: 1000.5 }
  ]) {
    const { app } = await makeApp(t)
    const registered = app.register(websocketConsole, options as ConsoleOptions)
    await t.rejects(
      Promise.resolve(registered),
      { code: 'FST_UPGRADE_INVALID_OPTION' },
      JSON.stringify(options)
    )
  }
  const { app } = await makeApp(t)
  await t.rejects(Promise.resolve(app.register(websocketConsole, { unprotect: true } as ConsoleOptions)), {
    code: 'FST_UPGRADE_UNKNOWN_OPTION'
  })
  await t.rejects(Promise.resolve(Fastify().register(websocketConsole, { unprotected: true })), {
    code: 'FST_ERR_PLUGIN_DEPENDENCY_NOT_REGISTERED'
  })
})

t.test('without the plugin there is no console', async t => {
  const { app } = await makeApp(t)
  t.equal((await app.inject('/console')).statusCode, 404)
})

t.test('the page has a strict policy, and no script or style inside', async t => {
  const { app } = await start(t, undefined)
  for (const [url, folder] of [
    ['/console', './console/'],
    ['/console/', './'],
    ['/console?x="><script>', './console/']
  ] as const) {
    const { statusCode, headers, body } = await app.inject(url)
    t.equal(statusCode, 200)
    t.equal(headers['content-type'], 'text/html; charset=utf-8')
    t.equal(
      headers['content-security-policy'],
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    t.equal(headers['x-content-type-options'], 'nosniff')
    t.strictSame(
      Array.from(body.matchAll(/(?:src|href)="([^"#][^"]*)"/g), ([, target]) => target),
      ['data:,', `${folder}console.css`, `${folder}console.mjs`],
      url
    )
    t.notMatch(body, /<style|<script>|\sstyle=|\son[a-z]+=/)
  }
  for (const [name, type] of [
    ['console.css', 'text/css; charset=utf-8'],
    ['console.mjs', 'text/javascript; charset=utf-8']
  ]) {
    const { statusCode, headers, body } = await app.inject(`/console/${name}`)
    t.equal(statusCode, 200)
    t.equal(headers['content-type'], type)
    t.notMatch(body, /https?:\/\/(?!www\.w3\.org)/, 'nothing comes from elsewhere')
    t.notMatch(body, /innerHTML|eval\(|new Function/)
    const again = await app.inject({
      url: `/console/${name}`,
      headers: { 'if-none-match': String(headers.etag) }
    })
    t.equal(again.statusCode, 304)
  }
})

t.test('the hook guards the page, its files and its WebSocket', async t => {
  const { app, port } = await start(t, undefined, {
    routePrefix: '/admin/ws',
    onRequest: async (request, reply) => {
      if (request.headers.authorization !== 'Bearer operator') return reply.code(401).send()
    }
  })
  const authorization = 'Bearer operator'
  for (const url of ['/admin/ws', '/admin/ws/', '/admin/ws/console.css', '/admin/ws/console.mjs']) {
    t.equal((await app.inject(url)).statusCode, 401, url)
    t.equal((await app.inject({ url, headers: { authorization } })).statusCode, 200, url)
  }
  t.equal((await shake(t, port, '/admin/ws/socket')).status, 401)
  const page = await open(t, port, '/admin/ws/socket', { headers: { authorization } })
  t.equal((await until(page, 'summary')).processes.length, 1)
})

t.test('a page of another site cannot use the console, even if the application allows it', async t => {
  const { port } = await start(t, undefined, undefined, { origin: '*' })
  t.equal((await shake(t, port, '/console/socket', { Origin: 'http://evil.example' })).status, 403)
  const headers = { Origin: `http://127.0.0.1:${port}`, Host: `127.0.0.1:${port}` }
  t.equal((await shake(t, port, '/console/socket', headers)).status, 101)
})

t.test('a summary has the reports of all processes', async t => {
  const hub = new MemoryHub()
  const [one, two] = [await start(t, hub), await start(t, hub)]
  const page = await open(t, one.port, '/console/socket')
  const [ada, bob] = [await member(t, one.port, 'ada'), await member(t, two.port, 'bob', 'kept')]
  bob.socket.send('hello')
  await bob.next()
  await two.app.websocketServer.publish('kept', 'x')
  ada.socket.close(4000)
  await ada.closed()
  const isWhole = ({ processes: [first, second] }: Summary): boolean =>
    first?.report?.closes['4xxx'] === 1 && second?.report?.topics[0]?.offset === 1
  const summary = await until(page, 'summary', isWhole)
  t.equal(summary.interval, 100)
  t.equal(summary.isComplete, true)
  const [first, second] = summary.processes
  t.equal(summary.process, first?.process)
  t.not(first?.process, second?.process)
  t.match(first, { connections: 1, report: { connections: 1, closes: { '4xxx': 1 }, broker: 'up', lost: 0 } })
  t.match(second?.report, {
    pid: process.pid,
    connections: 1,
    messagesReceived: 1,
    messagesSent: 3,
    bytesReceived: 6 + 5,
    bytesSent: 7 + 7 + 3,
    dropped: 0,
    bufferedAmount: 0,
    closes: {},
    broker: 'up',
    pendingBytes: 0,
    undelivered: 0,
    topicCount: 1,
    topics: [{ topic: 'kept', subscribers: 1, members: 1, offset: 1 }]
  })
  t.ok(Number(second?.report?.memory) > 1e6)
  t.ok(Number(second?.report?.uptime) > 0)
})

t.test('connections of before the console count, and those of other servers do not', async t => {
  const { app } = await makeApp(t)
  const { app: other } = await makeApp(t)
  for (const one of [app, other]) {
    one.get('/', { websocket: true }, socket => {
      socket.on('message', () => socket.close(4000))
      socket.send('hello')
    })
  }
  const port = await listen(app)
  const client = await open(t, port, '/')
  await client.next()
  const console = new Console(app.websocketServer, 1000, app.log)
  const foreign = await open(t, await listen(other), '/')
  foreign.socket.send('close')
  await foreign.closed()
  const [{ report = '' }] = (await app.websocketServer.reports()).reports
  t.match(JSON.parse(report), { connections: 1, messagesSent: 1, closes: {}, broker: 'none', topics: [] })
  console.close()
  const [after] = (await app.websocketServer.reports()).reports
  t.equal(after?.report, undefined)
  client.socket.terminate()
})

t.test('the list is filtered and sorted, and follows', async t => {
  const hub = new MemoryHub()
  const [one, two] = [await start(t, hub), await start(t, hub)]
  const page = await open(t, one.port, '/console/socket')
  await member(t, one.port, 'ada')
  const bob = await member(t, two.port, 'bob', 'kitchen')
  const users = ({ connections }: List): (string | undefined)[] => connections.map(({ user }) => user)
  await until(page, 'list', ({ total }) => total === 3)
  ask(page, { type: 'list', sort: 'since', limit: 10, user: 'bob' })
  const list = await until(page, 'list', ({ total }) => total === 1)
  t.match(list.connections, [
    {
      user: 'bob',
      route: '/rooms/:room',
      subprotocol: 'chat.v1',
      topics: ['kitchen'],
      remoteAddress: '127.0.0.1'
    }
  ])
  t.strictSame([list.sort, list.isComplete], ['since', true])
  ask(page, { type: 'list', sort: 'since', limit: 10, topic: 'lobby' })
  t.strictSame(users(await until(page, 'list', ({ connections: [first] }) => first?.user === 'ada')), ['ada'])
  ask(page, { type: 'list', sort: 'traffic', limit: 10, route: '/rooms/:room' })
  bob.socket.send('x'.repeat(1000))
  t.strictSame(
    users(await until(page, 'list', message => message.total === 2 && users(message)[0] === 'bob')),
    ['bob', 'ada']
  )
  ask(page, { type: 'list', sort: 'since', limit: 10, remoteAddress: '192.0.2.1' })
  await until(page, 'list', ({ total }) => total === 0)
  ask(page, { type: 'list', sort: 'since', limit: 0 })
  t.equal((await until(page, 'list', ({ total }) => total === 3)).connections.length, 1, 'at least one')
})

t.test('the client that does not read is the first by buffered bytes, and can be closed', async t => {
  const hub = new MemoryHub()
  const [one, two] = [await start(t, hub), await start(t, hub)]
  const page = await open(t, one.port, '/console/socket')
  for (let i = 0; i < 5; i++) await member(t, two.port, `user${i}`)
  const slow = await open(t, two.port, '/slow?user=mallory')
  slow.socket.pause()
  ask(page, { type: 'list', sort: 'buffered', limit: 10 })
  const { connections } = await until(page, 'list', ({ connections: [first] }) => first?.user === 'mallory')
  t.ok(Number(connections[0]?.bufferedAmount) > 1e6)
  ask(page, { type: 'close', connection: connections[0]?.id })
  const { connections: count, isComplete } = await until(page, 'closed')
  t.strictSame([count, isComplete], [1, true])
  await until(page, 'list', list => !list.connections.some(({ user }) => user === 'mallory'))
  slow.socket.resume()
  t.equal(await slow.closed(), '1008 closed by an operator')
  ask(page, { type: 'close', connection: connections[0]?.id })
  t.equal((await until(page, 'closed')).connections, 0, 'it has gone')
})

t.test('the connections of a user close in all processes, and it is logged', async t => {
  const hub = new MemoryHub()
  const { app, log } = await makeApp(t, {
    broker: new MemoryBroker(hub),
    user: request => Reflect.get(Object(request.query), 'user')
  })
  await app.register(websocketConsole, { unprotected: true, interval: 100 })
  const page = await open(t, await listen(app), '/console/socket')
  const two = await start(t, hub)
  const clients = [await member(t, two.port, 'ada'), await member(t, two.port, 'ada')]
  const bob = await member(t, two.port, 'bob')
  await until(page, 'summary', ({ processes }) => processes.length === 2)
  ask(page, { type: 'closeUser', user: 'ada' })
  t.equal((await until(page, 'closed')).connections, 2)
  for (const client of clients) t.equal(await client.closed(), '1008 closed by an operator')
  bob.socket.send('hello')
  t.equal(await bob.next(), 'hello')
  t.match(await log.until('an operator closes the connections of a user'), { user: 'ada' })
})

t.test('a topic has its subscribers, its presence members and its history', async t => {
  const hub = new MemoryHub()
  const [one, two] = [await start(t, hub), await start(t, hub)]
  await member(t, one.port, 'ada', 'kept')
  await member(t, two.port, 'bob', 'kept')
  const page = await open(t, one.port, '/console/socket')
  const about = async (topic: string, holds: (message: Topic) => boolean): Promise<Topic> => {
    ask(page, { type: 'topic', topic })
    return until(page, 'topic', message => message.topic === topic && holds(message))
  }
  const empty = await about('kept', ({ subscribers, memberCount }) => subscribers === 2 && memberCount === 2)
  t.strictSame(empty.members.map(({ data }) => data).sort(), ['{"name":"ada"}', '{"name":"bob"}'])
  t.match(empty.history, { first: 1, last: 0 })
  for (let i = 0; i < 12; i++) await two.app.websocketServer.publish('kept', String(i))
  t.match((await about('kept', ({ history }) => Reflect.get(history ?? {}, 'last') === 12)).history, {
    first: 3,
    last: 12
  })
  const plain = await about('plain', () => true)
  t.strictSame(plain, { type: 'topic', topic: 'plain', subscribers: 0, members: [], memberCount: 0 })
  ask(page, { type: 'topic' })
  ask(page, { type: 'list', sort: 'since', limit: 10, user: 'nobody' })
  const next = async (): Promise<ConsoleMessage> => JSON.parse(String(await page.next()))
  for (;;) {
    const message = await next()
    if (message.type === 'list' && message.total === 0) break
  }
  for (let summaries = 0; summaries < 3; ) {
    const { type } = await next()
    t.not(type, 'topic', 'the page no longer shows one')
    if (type === 'summary') summaries++
  }
})

t.test('a message that is none of the console closes its connection', async t => {
  const { port } = await start(t, undefined, undefined, { invalidMessage: () => {} })
  for (const message of [
    'no json',
    '{}',
    '{"type":"list","sort":"size","limit":10}',
    '{"type":"list","sort":"since","limit":-1}',
    '{"type":"list","sort":"since","limit":10,"more":1}',
    '{"type":"topic","topic":""}',
    JSON.stringify({ type: 'topic', topic: '\u00fc'.repeat(513) }),
    '{"type":"topic","topic":"\\ud800"}',
    '{"type":"close","connection":""}',
    '{"type":"closeUser","user":"\\ud800"}',
    JSON.stringify({ type: 'closeUser', user: '\u00fc'.repeat(256) }),
    '{"type":"close"}',
    '{"type":"close","connection":1}',
    '[]',
    'null'
  ]) {
    const page = await open(t, port, '/console/socket')
    page.socket.send(message)
    t.match(await page.closed(), /^1007/, message)
  }
})

t.test('a filter with a name that no topic can have finds nothing', async t => {
  const { port } = await start(t, undefined)
  const page = await open(t, port, '/console/socket')
  for (const topic of ['', '\u00fc'.repeat(600)]) {
    ask(page, { type: 'list', sort: 'since', limit: 10, topic })
    t.strictSame((await until(page, 'list', ({ total }) => total === 0)).connections, [])
  }
})

t.test('the page has its own limits of buffered bytes', async t => {
  const { app, port } = await start(t, undefined, undefined, { highWaterMark: 1, maxBufferedAmount: 100 })
  const page = await open(t, port, '/console/socket')
  await until(page, 'list')
  for (const socket of app.websocketServer.clients) {
    // As after a message that the page has not read yet.
    for (let n = 0; n < 3; n++) socket.send(JSON.stringify({ type: 'other', text: 'x'.repeat(1000) }))
    t.equal(socket.readyState, socket.OPEN)
  }
  await until(page, 'list')
})

t.test('the console works in an application whose schemas are in another language', async t => {
  const { app } = await makeApp(t)
  app.setValidatorCompiler(validatorCompiler)
  app.setSerializerCompiler(serializerCompiler)
  await app.register(websocketConsole, { unprotected: true, interval: 100 })
  const page = await open(t, await listen(app), '/console/socket')
  ask(page, { type: 'list', sort: 'since', limit: 10 })
  t.equal((await until(page, 'list')).total, 1)
})

t.test('a process without a console, or with another version of it, has no report', async t => {
  const hub = new MemoryHub()
  const one = await start(t, hub)
  const { app: plain } = await makeApp(t, { broker: new MemoryBroker(hub) })
  await plain.ready()
  const page = await open(t, one.port, '/console/socket')
  const second = async (): Promise<unknown> =>
    (await until(page, 'summary', ({ processes }) => processes.length === 2)).processes[1]
  for (const report of [undefined, 'no json', '{"pid":1}', 'null']) {
    plain.websocketServer.reporter = report === undefined ? undefined : () => report
    await until(page, 'summary')
    await until(page, 'summary')
    t.match(await second(), { connections: 0, report: undefined }, `${report}`)
  }
})

/** A page whose messages are collected. */
async function makeViewer(t: Test) {
  const { app } = await makeApp(t)
  const sent: ConsoleMessage[] = []
  const socket = {
    bufferedAmount: 0,
    readyState: 1,
    OPEN: 1,
    send: (message: ConsoleMessage) => sent.push(message)
  }
  const viewer = new Viewer(app.websocketServer, socket, app.log)
  return { viewer, socket, sent }
}

t.test('a page that does not read gets no further news', async t => {
  const { viewer, socket, sent } = await makeViewer(t)
  await viewer.refresh()
  t.equal(sent.length, 1)
  socket.bufferedAmount = 8 * 2 ** 20
  await viewer.refresh()
  viewer.send({ type: 'closed', connections: 1, isComplete: true })
  t.equal(sent.length, 1)
  socket.bufferedAmount = 0
  socket.readyState = 3
  await viewer.refresh()
  t.equal(sent.length, 1, 'a closed one neither')
})

t.test('an answer to an earlier question is not sent', async t => {
  const { viewer, sent } = await makeViewer(t)
  await Promise.all([
    viewer.onMessage({ type: 'list', sort: 'since', limit: 1 }),
    viewer.onMessage({ type: 'list', sort: 'traffic', limit: 1 }),
    viewer.onMessage({ type: 'topic', topic: 'a' }),
    viewer.onMessage({ type: 'topic', topic: 'b' }),
    viewer.onMessage({ type: 'topic', topic: 'b' })
  ])
  const kinds = sent.map(message => (message.type === 'topic' ? message.topic : Reflect.get(message, 'sort')))
  t.strictSame(kinds.sort(), ['b', 'b', 'traffic'])
  viewer.close()
})

t.test('a history that cannot be read is reported', async t => {
  const { app } = await makeApp(t, { history: HISTORY })
  const sent: ConsoleMessage[] = []
  const socket = {
    bufferedAmount: 0,
    readyState: 1,
    OPEN: 1,
    send: (message: ConsoleMessage) => sent.push(message)
  }
  const viewer = new Viewer(app.websocketServer, socket, app.log)
  for (const failure of [new Error('no engine'), 'no engine']) {
    app.websocketServer.history = async () => Promise.reject(failure)
    await viewer.onMessage({ type: 'topic', topic: 'a' })
    t.match(sent.pop(), { type: 'topic', history: { error: 'no engine' } })
  }
  viewer.close()
})

t.test('processes are asked only while a page is open, and one call at a time', async t => {
  const { app, log } = await makeApp(t)
  const clock = FakeTimers.install({ toFake: ['setInterval', 'clearInterval'] })
  t.teardown(() => clock.uninstall())
  let calls = 0
  let answer: (() => void) | undefined
  const { websocketServer: server } = app
  server.reports = () => {
    calls++
    return new Promise((_resolve, reject) => {
      answer = () => reject(new Error('broken'))
    })
  }
  const console = new Console(server, 1000, app.log)
  t.teardown(() => console.close())
  clock.tick(10_000)
  t.equal(calls, 0)
  const socket = { bufferedAmount: 0, readyState: 1, OPEN: 1, send: () => {} }
  const [first, second] = [console.open(socket, app.log), console.open(socket, app.log)]
  t.equal(calls, 1, 'a page need not wait for its first summary')
  clock.tick(10_000)
  t.equal(calls, 1, 'there is no answer yet')
  answer?.()
  t.match(await log.until('the console failed'), { err: { message: 'broken' } })
  await tick()
  clock.tick(1000)
  t.equal(calls, 2)
  console.leave(first)
  answer?.()
  await tick()
  clock.tick(1000)
  t.equal(calls, 3)
  console.leave(second)
  answer?.()
  await tick()
  clock.tick(10_000)
  t.equal(calls, 3)
})

t.test('the delay of the event loop is measured from the first report on', async t => {
  const { app } = await makeApp(t)
  const clock = FakeTimers.install({ toFake: ['setTimeout', 'clearTimeout'] })
  t.teardown(() => clock.uninstall())
  const reporter = new Reporter(app.websocketServer)
  t.teardown(() => reporter.close())
  const block = async (): Promise<void> => {
    // The measurement has to run once before, and once after.
    for (let turns = 0; turns < 2; turns++) {
      const until = performance.now() + 150
      while (performance.now() < until);
      for (let i = 0; i < 50; i++) await new Promise(setImmediate)
    }
  }
  const none = { p99: 0, max: 0 }
  t.strictSame(reporter.report().eventLoopDelay, none)
  await block()
  const { p99, max } = reporter.report().eventLoopDelay
  t.ok(max > 100 && max < 60_000, `${max} ms`)
  t.ok(p99 > 0 && p99 <= max, `${p99} ms`)
  t.strictSame(reporter.report().eventLoopDelay, none, 'since the last report')
  await clock.tickAsync(31_000)
  await block()
  t.strictSame(reporter.report().eventLoopDelay, none, 'not measured without reports')
})

t.test('a report has no more topics than an engine takes', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, socket => {
    for (let i = 0; i < 60; i++) void socket.subscribe(`${i} ${'\u0001'.repeat(1000)}`)
    socket.send('ready')
  })
  const client = await open(t, await listen(app), '/')
  await client.next()
  const reporter = new Reporter(app.websocketServer)
  t.teardown(() => reporter.close())
  const report = reporter.report()
  t.equal(report.topicCount, 60)
  t.ok(report.topics.length > 0)
  const bytes = Buffer.byteLength(JSON.stringify(report))
  t.ok(bytes < 65_536, `${bytes} bytes`)
})

t.test('values are checked against schemas', async t => {
  const schema = object({
    name: text(3),
    kind: optional(oneOf('a', 'b')),
    size: optional(count),
    part: optional(number),
    is: optional(boolean),
    list: optional(array(count)),
    map: optional(record(count)),
    any: optional({ type: 'object' })
  })
  for (const good of [
    { name: '' },
    { name: 'abc', kind: 'b', size: 0, part: 0.5, is: false, list: [], map: {}, any: { x: [1] } },
    { name: 'abc', list: [1, 2], map: { x: 1, ['__proto__']: 2 } }
  ])
    t.ok(matches(schema, good), JSON.stringify(good))
  for (const bad of [
    {},
    null,
    [],
    'abc',
    { name: 'abcd' },
    { name: 1 },
    { name: '', kind: 'c' },
    { name: '', size: 1.5 },
    { name: '', size: -1 },
    { name: '', size: 2 ** 53 },
    { name: '', size: '1' },
    { name: '', part: -0.1 },
    { name: '', part: Number.NaN },
    { name: '', is: 1 },
    { name: '', list: [1, 'x'] },
    { name: '', list: {} },
    { name: '', map: { x: 'y' } },
    { name: '', map: [] },
    { name: '', any: null },
    { name: '', toString: 1 },
    JSON.parse('{"name":"","__proto__":{}}')
  ])
    t.notOk(matches(schema, bad), JSON.stringify(bad))
  const either = union(count, text(2))
  for (const good of [1, '', 'ab']) t.ok(matches(either, good), JSON.stringify(good))
  for (const bad of [-1, 'abc', null]) t.notOk(matches(either, bad), JSON.stringify(bad))
})
