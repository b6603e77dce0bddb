import t, { type Test } from 'tap'
import { readPluginSettings } from '../../lib/fastify/options.js'
import type { PublishOptions } from '../../lib/fastify/websocket-server.js'
import upgrade, { MemoryBroker, MemoryHub, prepare, type WebSocket } from '../../lib/index.js'
import {
  bareApp,
  type Client,
  codeOf,
  ERROR,
  listen,
  makeApp,
  open,
  shake,
  watchProcess
} from '../helpers/app.js'

/** A server whose route `/` subscribes each connection to the topics in its query. */
async function serve(t: Test) {
  const { app, log } = await makeApp(t)
  const sockets: WebSocket[] = []
  app.get<{ Querystring: { topics?: string } }>('/', { websocket: true }, (socket, { query }) => {
    sockets.push(socket)
    for (const topic of query.topics?.split(',').filter(Boolean) ?? []) void socket.subscribe(topic)
  })
  const port = await listen(app)
  const join = async (topics: string): Promise<[client: Client, socket: WebSocket]> => {
    const client = await open(t, port, `/?topics=${topics}`)
    const socket = sockets.at(-1)
    if (socket === undefined) throw new Error('no handler ran')
    return [client, socket]
  }
  return { app, log, server: app.websocketServer, join }
}

t.test('messages published to a topic reach its subscribers in order, and no other connection', async t => {
  const { server, join } = await serve(t)
  const [news] = await join('news')
  const [both] = await join('news,sports')
  const kinds: boolean[] = []
  both.socket.on('message', (_data, isBinary) => kinds.push(isBinary))
  const [sports] = await join('sports')
  await server.publish('news', 'one')
  await server.publish('sports', Buffer.from('two'))
  await server.publish('empty', 'lost')
  t.equal(server.lost, 0)
  await server.publish('news', Buffer.from('three'), { binary: false })
  await server.publish('sports', 'last')
  t.strictSame([await news.next(), await news.next()], ['one', 'three'])
  t.strictSame(
    [await both.next(), await both.next(), await both.next(), await both.next()],
    ['one', 'two', 'three', 'last']
  )
  t.strictSame(kinds, [false, true, false, false])
  t.strictSame([await sports.next(), await sports.next()], ['two', 'last'])
})

t.test('socket.publish, and publish with except, reach all subscribers except one', async t => {
  const { server, join } = await serve(t)
  const [first, socket] = await join('room')
  const [second] = await join('room')
  await socket.publish('room', prepare('to the others'))
  await server.publish('room', prepare('to the others, too'), { except: socket })
  await server.publish('room', 'to all')
  t.equal(await first.next(), 'to all')
  t.strictSame(
    [await second.next(), await second.next(), await second.next()],
    ['to the others', 'to the others, too', 'to all']
  )
  const kinds: boolean[] = []
  second.socket.on('message', (_data, isBinary) => kinds.push(isBinary))
  await socket.publish('room', Buffer.from('as text'), { binary: false })
  t.equal(await second.next(), 'as text')
  t.strictSame(kinds, [false])
  const [third, other] = await join('room')
  const options: PublishOptions = { except: other }
  await Reflect.apply(socket.publish, socket, ['room', 'not to itself', options])
  t.strictSame([await second.next(), await third.next()], ['not to itself', 'not to itself'])
  // A publisher need not be subscribed.
  const [, outside] = await join('elsewhere')
  await outside.publish('room', Buffer.from('from outside'))
  t.strictSame([await first.next(), await second.next()], ['from outside', 'from outside'])
})

t.test('all receivers get the same prepared message', async t => {
  const { server, join } = await serve(t)
  const [first] = await join('room')
  const [second] = await join('room')
  const prepared = prepare(Buffer.from('x'), { binary: false, compress: false })
  const sent = [...server.clients].map(socket => t.capture(socket, 'send', socket.send))
  const kinds: boolean[] = []
  for (const { socket } of [first, second]) socket.on('message', (_data, isBinary) => kinds.push(isBinary))
  server.broadcast('x')
  server.broadcast(prepared)
  await server.publish('room', 'x')
  await server.publish('room', prepared)
  const [one = [], other = []] = sent.map(calls => calls().map(({ args }) => args[0]))
  t.equal(one.length, 4)
  for (const [index, message] of one.entries()) t.equal(other[index], message)
  t.strictSame([one[1], one[3]], [prepared, prepared])
  for (const client of [first, second]) for (const _ of one) t.equal(await client.next(), 'x')
  t.notOk(kinds.includes(true))
})

t.test(
  'a socket lists its topics, and its subscriptions end with unsubscribe or with the connection',
  async t => {
    const { server, join } = await serve(t)
    const [client, socket] = await join('a,b,a')
    t.strictSame([...socket.topics], ['a', 'b'])
    t.equal(server.subscriberCount('a'), 1)
    socket.unsubscribe('a')
    socket.unsubscribe('a')
    socket.unsubscribe('never')
    t.strictSame([...socket.topics], ['b'])
    t.equal(server.subscriberCount('a'), 0)
    await server.publish('a', 'missed')
    await server.publish('b', 'got')
    t.equal(await client.next(), 'got')
    const [other] = await join('b')
    t.equal(server.subscriberCount('b'), 2)
    const closed = new Promise(resolve => socket.once('close', resolve))
    client.socket.terminate()
    await closed
    t.equal(server.subscriberCount('b'), 1)
    t.strictSame([...socket.topics], [])
    await socket.subscribe('b')
    t.equal(server.subscriberCount('b'), 1, 'a closed socket cannot subscribe')
    await server.publish('b', 'still here')
    t.equal(await other.next(), 'still here')
  }
)

t.test('a topic is a string of 1 to 1024 bytes', async t => {
  const { server, join } = await serve(t)
  const [client, socket] = await join('')
  for (const topic of ['', 'x'.repeat(1025), 'ž'.repeat(513), 'half a \ud83d', 7, undefined, {}]) {
    for (const use of [
      () => Reflect.apply(socket.subscribe, socket, [topic]),
      () => Reflect.apply(socket.publish, socket, [topic, 'x']),
      () => Reflect.apply(server.publish, server, [topic, 'x'])
    ]) {
      t.throws(use, { code: 'FST_UPGRADE_INVALID_TOPIC' })
    }
  }
  t.throws(() => Reflect.apply(server.publish, server, ['x', {}]), { code: 'FST_UPGRADE_INVALID_DATA' })
  for (const topic of ['ž'.repeat(512), ' ', '__proto__', 'a.b.*.>', '\0']) {
    await socket.subscribe(topic)
    await socket.subscribe(topic)
    await server.publish(topic, prepare(topic))
    t.equal(await client.next(), topic)
  }
})

t.test('the topics of a route are subscribed to before its handler runs', async t => {
  const { app } = await makeApp(t)
  const seen: string[][] = []
  const handler = (socket: WebSocket): void => void seen.push([...socket.topics])
  app.get('/sync', { websocket: { topics: request => ['all', `at ${request.url}`] } }, handler)
  app.get('/async', { websocket: { topics: async ({ ip }) => [`from ${ip}`] } }, handler)
  const port = await listen(app)
  const first = await open(t, port, '/sync')
  const second = await open(t, port, '/async')
  t.strictSame(seen, [['all', 'at /sync'], ['from 127.0.0.1']])
  await app.websocketServer.publish('all', 'one')
  await app.websocketServer.publish('from 127.0.0.1', 'two')
  t.strictSame([await first.next(), await second.next()], ['one', 'two'])
})

t.test('a topics function that fails refuses the handshake', async t => {
  const { app } = await makeApp(t)
  const never = (): void => void t.fail('the handler ran')
  const forbidden = Object.assign(new Error('not for you'), { statusCode: 403 })
  app.get(
    '/throws',
    {
      websocket: {
        topics: () => {
          throw forbidden
        }
      }
    },
    never
  )
  app.get(
    '/rejects',
    {
      websocket: {
        topics: async () => {
          throw forbidden
        }
      }
    },
    never
  )
  app.get('/invalid', { websocket: { topics: () => ['fine', ''] } }, never)
  app.get('/later', { websocket: { topics: async () => [''] } }, never)
  const port = await listen(app)
  t.equal((await shake(t, port, '/throws')).status, 403)
  t.equal((await shake(t, port, '/rejects')).status, 403)
  for (const path of ['/invalid', '/later']) {
    const response = await shake(t, port, path)
    t.equal(response.status, 500)
    t.equal(codeOf(response), 'FST_UPGRADE_INVALID_TOPIC')
  }
  t.equal(app.websocketServer.subscriberCount('fine'), 0)
})

t.test('a topics function that does not return a list refuses the handshake', async t => {
  const { app } = await makeApp(t)
  const choices: readonly [path: string, topics: () => unknown][] = [
    ['/none', () => undefined],
    ['/string', () => 'room'],
    ['/later', async () => null]
  ]
  for (const [path, topics] of choices) {
    Reflect.apply(app.get, app, [path, { websocket: { topics } }, () => t.fail('the handler ran')])
  }
  const port = await listen(app)
  for (const [path] of choices) {
    const response = await shake(t, port, path)
    t.equal(response.status, 500, path)
    t.equal(codeOf(response), 'FST_UPGRADE_INVALID_TOPIC_LIST')
  }
})

t.test('topics and selectSubprotocol that both fail refuse the handshake once', async t => {
  const accidents = watchProcess(t)
  const { app } = await makeApp(t)
  const fail = (code: number): never => {
    throw Object.assign(new Error('not for you'), { statusCode: code })
  }
  const selectSubprotocol = async (): Promise<never> => {
    await new Promise(setImmediate)
    return fail(401)
  }
  const handler = (): void => void t.fail('the handler ran')
  app.get('/sync', { websocket: { selectSubprotocol, topics: () => fail(403) } }, handler)
  app.get('/async', { websocket: { selectSubprotocol, topics: async () => fail(403) } }, handler)
  const chosen = { selectSubprotocol: async () => 'a', topics: () => fail(403) }
  app.get('/chosen', { websocket: chosen }, handler)
  const port = await listen(app)
  const headers = { 'Sec-WebSocket-Protocol': 'a' }
  t.equal((await shake(t, port, '/sync', headers)).status, 401)
  t.equal((await shake(t, port, '/async', headers)).status, 401)
  t.equal((await shake(t, port, '/chosen', headers)).status, 403)
  await new Promise(setImmediate)
  t.strictSame(accidents, [])
})

t.test('invalid brokers and topics options are refused at registration', async t => {
  const methods = ['start', 'publish', 'subscribe', 'unsubscribe', 'close']
  const brokers = methods.map(missing => {
    return Object.fromEntries(methods.filter(name => name !== missing).map(name => [name, () => {}]))
  })
  for (const broker of [...brokers, null, 7]) {
    const { app } = bareApp(t)
    await t.rejects(async () => Reflect.apply(app.register, app, [upgrade, { broker }]), {
      code: 'FST_UPGRADE_INVALID_OPTION',
      message: /"broker" must be an object with the methods start, publish, subscribe, unsubscribe, close/
    })
  }
  const { app: other } = await makeApp(t)
  t.throws(() => Reflect.apply(other.get, other, ['/', { websocket: { topics: ['a'] } }, () => {}]), {
    code: 'FST_UPGRADE_INVALID_OPTION',
    message: /"websocket.topics" must be a function/
  })
})

t.test('a message published from the error of a cut connection follows the message that cut it', async t => {
  const { app } = await makeApp(t)
  const server = app.websocketServer
  const handler = (socket: WebSocket): void => {
    socket.on('error', () => void server.publish('room', 'one is gone'))
  }
  const topics = () => ['room']
  app.get('/narrow', { websocket: { topics, maxBufferedAmount: 1000, highWaterMark: 1000 } }, handler)
  app.get('/', { websocket: { topics } }, handler)
  const port = await listen(app)
  const narrow = await open(t, port, '/narrow')
  const wide = await open(t, port, '/')
  const published = ['x', 'y'].map(letter => server.publish('room', letter.repeat(2000)))
  await Promise.all(published)
  t.equal(await wide.next(), 'x'.repeat(2000))
  t.equal(await wide.next(), 'y'.repeat(2000))
  t.equal(await wide.next(), 'one is gone')
  t.equal(await narrow.closed(), '1006')
})

t.test('a broker carries messages between servers, each message once', async t => {
  const hub = new MemoryHub()
  const servers = [await serveWith(t, new MemoryBroker(hub)), await serveWith(t, new MemoryBroker(hub))]
  const clients = await Promise.all(servers.map(({ port }) => open(t, port, '/')))
  const [first, second] = servers
  await first.app.websocketServer.publish('room', 'from the first')
  await second.app.websocketServer.publish('room', Buffer.from('from the second'))
  for (const client of clients) {
    t.equal(await client.next(), 'from the first')
    t.strictSame(await client.next(), 'from the second')
  }
  await first.app.close()
  await second.app.websocketServer.publish('room', 'last')
  t.equal(await clients[1].next(), 'last')
})

t.test('app.close() closes the broker after all connections have ended', async t => {
  const broker = new MemoryBroker(new MemoryHub())
  const { app, port } = await serveWith(t, broker)
  const { clients } = app.websocketServer
  const client = await open(t, port, '/')
  const closes = t.capture(broker, 'close', async () => {
    t.equal(clients.size, 0)
    t.equal(app.websocketServer.subscriberCount('room'), 0)
  })
  await app.close()
  t.equal(closes().length, 1)
  t.equal(await client.closed(), '1001')
})

async function serveWith(t: Test, broker: MemoryBroker) {
  const { app, log } = await makeApp(t, { broker })
  app.get('/', { websocket: { topics: () => ['room'] } }, () => {})
  return { app, log, port: await listen(app) }
}

t.test('an error thrown by a replaced send does not reach the broker', async t => {
  const accidents = watchProcess(t)
  const hub = new MemoryHub()
  const [first, second] = [
    await serveWith(t, new MemoryBroker(hub)),
    await serveWith(t, new MemoryBroker(hub))
  ]
  await open(t, second.port, '/')
  for (const socket of second.app.websocketServer.clients) {
    Object.assign(socket, {
      send: () => {
        throw new Error('not today')
      }
    })
  }
  await first.app.websocketServer.publish('room', 'hello')
  t.match((await second.log.until('a listener of websocketServer failed')).err, { message: 'not today' })
  t.strictSame(accidents, [])
})

t.test('a broker belongs to one registration, and is not started when the registration fails', async t => {
  const hub = new MemoryHub()
  const broker = new MemoryBroker(hub)
  let isStarted = false
  const { start } = broker
  broker.start = events => {
    isStarted = true
    start.call(broker, events)
  }
  const { app: failed } = bareApp(t)
  failed.decorateRequest('ws', { getter: () => false })
  await t.rejects(async () => failed.register(upgrade, { broker }), { code: 'FST_ERR_DEC_ALREADY_PRESENT' })
  const { app: wrong } = bareApp(t)
  await t.rejects(async () => wrong.register(upgrade, { broker, maxConnections: -1 }), {
    code: 'FST_UPGRADE_INVALID_OPTION'
  })
  t.equal(isStarted, false)
  const { app, port } = await serveWith(t, broker)
  t.equal(isStarted, true)
  const { app: second } = bareApp(t)
  await t.rejects(async () => second.register(upgrade, { broker }), { code: 'FST_UPGRADE_BROKER_IN_USE' })
  await second.close()
  const client = await open(t, port, '/')
  const other = await serveWith(t, new MemoryBroker(hub))
  await other.app.websocketServer.publish('room', 'still here')
  t.equal(await client.next(), 'still here')
  t.equal(app.websocketServer.subscriberCount('room'), 1)
})

t.test('a broker that fails is reported and does not affect local delivery', async t => {
  const accidents = watchProcess(t)
  const broker = new MemoryBroker(new MemoryHub())
  const fails = async (): Promise<void> => {
    throw new Error('the engine is away')
  }
  Object.assign(broker, { publish: fails, subscribe: fails })
  const { app, port } = await serveWith(t, broker)
  const events: unknown[] = []
  app.websocketServer.on('broker', ({ type }) => {
    events.push(type)
    throw new Error('a listener that fails')
  })
  const client = await open(t, port, '/')
  void app.websocketServer.publish('room', 'unheeded')
  await t.rejects(app.websocketServer.publish('room', 'one'), { code: 'FST_UPGRADE_BROKER_PUBLISH' })
  t.strictSame([await client.next(), await client.next()], ['unheeded', 'one'])
  const [socket] = app.websocketServer.clients
  await t.rejects(socket?.subscribe('other') ?? Promise.resolve(), { code: 'FST_UPGRADE_BROKER_SUBSCRIBE' })
  t.equal(app.websocketServer.lost, 2)
  t.strictSame(events, ['unsubscribed', 'lost', 'lost', 'unsubscribed'])
  t.strictSame(accidents, [])
})

t.test('a subscription with presence is a presence member until it ends', async t => {
  const { server, join } = await serve(t)
  const presence = server.presence('room')
  const [first, one] = await join('')
  const [, two] = await join('')
  await one.subscribe('room', { presence: { name: 'Ada' } })
  await two.subscribe('room', { presence: null })
  await two.subscribe('other')
  t.strictSame(
    [...presence.members.values()],
    [
      { id: one.presenceId, data: { name: 'Ada' } },
      { id: two.presenceId, data: null }
    ]
  )
  t.throws(() => two.subscribe('big', { presence: 1n }), TypeError)
  t.strictSame([...two.topics], ['room', 'other'])
  t.equal(server.subscriberCount('big'), 0)
  two.unsubscribe('other')
  two.unsubscribe('room')
  t.strictSame([...presence.members.keys()], [one.presenceId])
  const left = new Promise(resolve => presence.once('leave', resolve))
  first.socket.close(1000)
  t.match(await left, { id: one.presenceId })
  t.equal(presence.members.size, 0)
  // Own properties stay those of the application.
  Object.assign(one, { id: 7 })
  t.equal(Reflect.get(one, 'id'), 7)
})

t.test('the option presence is checked', async t => {
  for (const [presence, message] of [
    [{ interval: 0 }, /"presence.interval" must be an integer from 1 to 2147483646/],
    [{ interval: 2 ** 31 - 1 }, /"presence.interval" must be an integer from 1 to 2147483646/],
    [{ timeout: 2 ** 31 }, /"presence.timeout" must be an integer from 5001 to 2147483647/],
    [{ interval: 100, timeout: 100 }, /"presence.timeout" must be an integer from 101/],
    [{ every: 1 }, /no option "presence.every"/],
    [7, /"presence" must be an object/],
    [null, /"presence" must be an object/]
  ] as const) {
    const { app } = bareApp(t)
    await t.rejects(async () => Reflect.apply(app.register, app, [upgrade, { presence }]), { message })
  }
  await makeApp(t, { presence: { interval: 100, timeout: 101 } })
  for (const [presence, interval, timeout] of [
    [undefined, 5000, 15_000],
    [{ interval: 100 }, 100, 300],
    [{ timeout: 6000 }, 5000, 6000],
    [{ interval: 2 ** 31 - 2 }, 2 ** 31 - 2, 2 ** 31 - 1]
  ] as const) {
    t.strictSame(readPluginSettings({ presence }).presence, { interval, timeout })
  }
})

t.test('a client that sends bytes in place of text does not cause other clients to be closed', async t => {
  const { app, log } = await makeApp(t)
  app.get('/', { websocket: { topics: () => ['room'] } }, socket => {
    socket.on('message', data => void socket.publish('room', data, { binary: false }))
  })
  const port = await listen(app)
  const [bad, good, other] = [await open(t, port, '/'), await open(t, port, '/'), await open(t, port, '/')]
  bad.socket.send(Buffer.from([0xff]))
  t.match(await bad.closed(), /^1011/)
  t.match(
    log.at(ERROR).map(({ err }) => err),
    [{ code: 'FST_UPGRADE_INVALID_TEXT' }]
  )
  good.socket.send('still here')
  t.equal(await other.next(), 'still here')
})
