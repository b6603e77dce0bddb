import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectNats } from '@nats-io/transport-node'
import type { FastifyRequest } from 'fastify'
import { Redis } from 'ioredis'
import { Registry } from 'prom-client'
import t, { type Test } from 'tap'
import { natsBroker } from '../../lib/brokers/nats/nats.js'
import { redisBroker } from '../../lib/brokers/redis/redis.js'
import {
  type Broker,
  type FastifyUpgradeOptions,
  MemoryBroker,
  MemoryHub,
  type WebSocket,
  type WebSocketServer
} from '../../lib/index.js'
import { prometheusMetrics } from '../../lib/observe/prometheus.js'
import {
  type Client,
  codeOf,
  connectRaw,
  handshake,
  headerOf,
  listen,
  makeApp,
  open,
  RawClient,
  Signal,
  shake,
  withDeadline
} from '../helpers/app.js'
import { natsSkip, redisSkip, startNats, startRedis } from '../helpers/engine.js'
import { makeHttp2App } from '../helpers/http2.js'

const headerUser = ({ headers }: FastifyRequest): string | undefined => headers['x-user']?.toString()
const as = (user: string) => ({ headers: { 'x-user': user } })

/** An application whose connections have the user of a header. */
async function serve(t: Test, options: FastifyUpgradeOptions = {}, server = {}) {
  const { app, log } = await makeApp(t, { user: headerUser, ...options }, server)
  const sockets: WebSocket[] = []
  app.get<{ Querystring: { topic?: string } }>('/', { websocket: true }, (socket, { query }) => {
    sockets.push(socket)
    if (query.topic !== undefined) void socket.subscribe(query.topic)
  })
  app.get('/room/:id', { websocket: { subprotocol: 'chat' } }, socket => {
    sockets.push(socket)
  })
  const port = await listen(app)
  return { app, log, port, sockets, server: app.websocketServer }
}

/** Resolves when the server has no connections. */
async function emptied({ clients }: WebSocketServer): Promise<void> {
  const wait = async (): Promise<void> => {
    for (const socket of clients) await once(socket, 'close')
  }
  await withDeadline(wait(), 10_000, 'end of the connections')
}

t.test('connections are listed with their properties', async t => {
  const { server, port, sockets } = await serve(t)
  const before = Date.now()
  const client = await open(t, port, '/room/7', { ...as('ada'), protocols: ['chat'] })
  await open(t, port, '/?topic=news')
  const [socket] = sockets
  await withDeadline(
    new Promise<void>(resolve => {
      socket?.on('message', () => socket.send('answer', () => resolve()))
      client.socket.send('hello')
    }),
    10_000,
    'a message'
  )
  const { connections, ...rest } = await server.connections()
  t.strictSame(rest, { total: 2, processes: 1, isComplete: true })
  const [first, second] = connections
  t.match(first, {
    id: socket?.id,
    process: /^[\da-f]{32}$/,
    user: 'ada',
    remoteAddress: '127.0.0.1',
    route: '/room/:id',
    subprotocol: 'chat',
    httpVersion: '1.1',
    topics: [],
    latency: undefined,
    bufferedAmount: 0,
    ...socket?.traffic
  })
  t.equal(first?.messagesReceived, 1)
  const since = first?.since ?? 0
  t.ok(
    Number.isInteger(since) && since >= before - 1000 && since <= Date.now() + 1000,
    `${since - before} ms`
  )
  t.match(second, { user: undefined, route: '/', subprotocol: '', topics: ['news'] })
  t.equal(second?.process, first?.process)
  t.equal((await server.connections({ topic: 'news' })).total, 1)
  t.equal((await server.connections({ route: '/room/:id' })).total, 1)
  t.equal((await server.connections({ remoteAddress: '192.0.2.1' })).total, 0)
  t.strictSame((await server.connections({ user: 'ada' })).connections, [first])
})

t.test('the queries that are no queries', async t => {
  const { server } = await serve(t)
  for (const [query, code] of [
    [{ limit: 0 }, 'INVALID_OPTION'],
    [{ limit: 10_001 }, 'INVALID_OPTION'],
    [{ limit: 1.5 }, 'INVALID_OPTION'],
    [{ sort: 'id' }, 'INVALID_OPTION'],
    [{ user: 7 }, 'INVALID_OPTION'],
    [{ topics: 'news' }, 'UNKNOWN_OPTION']
  ] as const)
    t.throws(() => Reflect.apply(server.connections, server, [query]), { code: `FST_UPGRADE_${code}` })
  for (const id of ['', 'x'.repeat(257), '\ud800', 7, undefined]) {
    t.throws(() => Reflect.apply(server.user, server, [id]), {
      code: 'FST_UPGRADE_INVALID_ID'
    })
    t.throws(() => Reflect.apply(server.connection, server, [id]), { code: 'FST_UPGRADE_INVALID_ID' })
  }
  t.throws(() => server.user('ada').close(1005), TypeError)
  t.throws(() => server.connection('x').close(1000, 'x'.repeat(124)), RangeError)
  t.throws(() => server.user('ada').send(Buffer.from([255]), { binary: false }), {
    code: 'FST_UPGRADE_INVALID_TEXT'
  })
})

t.test('a user gets messages, and is signed out, on all connections', async t => {
  const { server, port, sockets } = await serve(t)
  const [one, two, other] = await Promise.all([
    open(t, port, '/', as('ada')),
    open(t, port, '/room/1', { ...as('ada'), protocols: ['chat'] }),
    open(t, port, '/', as('bob'))
  ])
  t.strictSame(sockets.map(({ user }) => user).sort(), ['ada', 'ada', 'bob'])
  const reached = { connections: 2, processes: 1, isComplete: true }
  const ada = server.user('ada')
  t.equal(ada.id, 'ada')
  t.strictSame(await ada.send('hello'), reached)
  t.strictSame(await ada.send(Buffer.from('as text'), { binary: false }), reached)
  for (const client of [one, two])
    t.strictSame([await client.next(), await client.next()], ['hello', 'as text'])
  t.strictSame(await ada.connections(), reached)
  t.strictSame(await ada.close(4001, 'signed out'), reached)
  t.strictSame([await one.closed(), await two.closed()], ['4001 signed out', '4001 signed out'])
  t.strictSame(await ada.connections(), { ...reached, connections: 0 })
  const [{ id } = { id: '' }] = (await server.connections()).connections
  t.equal(server.connection(id).id, id)
  t.strictSame(await server.connection(id).close(4002), { ...reached, connections: 1 })
  t.equal(await other.closed(), '4002')
  await emptied(server)
  t.strictSame(await server.connection(id).close(), { ...reached, connections: 0 })
  t.strictSame(await server.connections(), { connections: [], total: 0, processes: 1, isComplete: true })
})

t.test('the id and the user of a socket', async t => {
  const { server, port, sockets } = await serve(t)
  await open(t, port, '/')
  const client = await open(t, port, '/', as('ada'))
  const [plain, socket] = sockets
  if (plain === undefined || socket === undefined) throw new Error('no handler ran')
  t.equal(plain.user, undefined)
  t.equal(socket.user, 'ada')
  t.match(socket.id, /^[\da-f-]{36}$/)
  t.equal(socket.id, socket.presenceId)
  // As applications have done before there were these properties.
  const assigned: Record<string, unknown> = {}
  for (const name of ['id', 'user']) {
    Reflect.set(socket, name, `own ${name}`)
    assigned[name] = Reflect.get(socket, name)
  }
  t.strictSame(assigned, { id: 'own id', user: 'own user' })
  t.strictSame(
    Object.keys(socket).filter(name => name in assigned),
    ['id', 'user']
  )
  t.equal(Object.keys(plain).includes('user'), false)
  t.match((await server.connections({ user: 'ada' })).connections, [{ id: socket.presenceId, user: 'ada' }])
  t.match(await server.connection(socket.presenceId).close(1000), { connections: 1 })
  await client.closed()
  const late = await open(t, port, '/')
  const third = sockets[2]
  if (third === undefined) throw new Error('no handler ran')
  const closed = once(third, 'close')
  late.socket.terminate()
  await closed
  t.match(await server.connection(third.id).close(), { connections: 0 }, 'an id that is read after the end')
})

t.test('the function "user" is called after the hooks, and may refuse a handshake', async t => {
  const { app, log } = await makeApp(t, { user: () => 'default' })
  const calls: string[] = []
  app.addHook('preHandler', async () => {
    calls.push('hook')
  })
  const failure = Object.assign(new Error('no session'), { statusCode: 401 })
  const choices: Readonly<Record<string, (request: FastifyRequest) => unknown>> = {
    '/own': () => {
      calls.push('user')
      return 'own'
    },
    '/none': () => undefined,
    '/throws': () => {
      throw new Error('no database')
    },
    '/unauthorized': () => {
      throw failure
    },
    '/number': () => 7,
    '/null': () => null,
    '/empty': () => '',
    '/long': () => 'x'.repeat(257),
    '/promise': async () => 'ada',
    '/rejects': () => Promise.reject(new Error('rejected'))
  }
  const users: unknown[] = []
  for (const [path, user] of Object.entries(choices)) {
    const websocket: object = { user }
    app.get(path, { websocket }, (socket: WebSocket) => {
      calls.push('handler')
      users.push(socket.user)
    })
  }
  app.get('/late', { websocket: { user: () => 'x', topics: async () => ['t'] } }, socket => {
    users.push(socket.user)
  })
  const lateFailure = (): never => {
    throw failure
  }
  app.get('/late-throws', { websocket: { user: lateFailure, topics: async () => [] } }, () => {})
  app.get('/default', { websocket: true }, socket => {
    users.push(socket.user)
  })
  const port = await listen(app)
  for (const path of ['/own', '/none', '/default', '/late'])
    t.equal((await shake(t, port, path)).status, 101, path)
  t.strictSame(users, ['own', undefined, 'default', 'x'])
  t.strictSame(calls.slice(0, 3), ['hook', 'user', 'handler'])
  for (const path of ['/unauthorized', '/late-throws']) t.equal((await shake(t, port, path)).status, 401)
  t.equal((await shake(t, port, '/throws')).status, 500)
  for (const path of ['/number', '/null', '/empty', '/long', '/promise', '/rejects']) {
    const response = await shake(t, port, path)
    t.equal(response.status, 500, path)
    t.equal(codeOf(response), 'FST_UPGRADE_INVALID_ID')
  }
  t.equal(users.length, 4)
  t.ok(log.lines.length > 0)
})

async function isFull(t: Test, port: number, path: string, user: string): Promise<void> {
  const response = await shake(t, port, path, { 'X-User': user })
  t.equal(response.status, 503)
  t.equal(codeOf(response), 'FST_UPGRADE_TOO_MANY_CONNECTIONS')
  t.equal(headerOf(response, 'retry-after'), '5')
}

t.test('maxConnectionsPerUser limits the connections of each user, of the plugin and of a route', async t => {
  const { app } = await makeApp(t, { user: headerUser, maxConnectionsPerUser: 2, maxConnections: 6 })
  const closed = new Signal()
  app.get('/', { websocket: true }, socket => {
    socket.on('close', () => closed.fire())
  })
  app.get('/one', { websocket: { maxConnectionsPerUser: 1 } }, () => {})
  const port = await listen(app)
  const first = await open(t, port, '/', as('ada'))
  await open(t, port, '/one', as('ada'))
  await isFull(t, port, '/', 'ada')
  await isFull(t, port, '/one', 'ada')
  await open(t, port, '/one', as('bob'))
  await isFull(t, port, '/one', 'bob')
  await open(t, port, '/', as('bob'))
  for (let n = 0; n < 2; n++) await open(t, port, '/')
  t.equal(
    (await shake(t, port, '/')).status,
    503,
    'refused handshakes have released their slots, and hold none'
  )
  first.socket.terminate()
  await closed.wait('close')
  await open(t, port, '/', as('ada'))
  await isFull(t, port, '/one', 'ada')
})

t.test('a handshake that fails after the limit releases its slot', async t => {
  const { app } = await makeApp(t, { user: headerUser, maxConnectionsPerUser: 1 })
  let fails = true
  app.addHook('onSend', async () => {
    if (fails) throw new Error('onSend')
  })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  for (let n = 0; n < 2; n++) t.equal((await shake(t, port, '/', { 'X-User': 'ada' })).status, 500)
  fails = false
  await open(t, port, '/', as('ada'))
})

t.test('user ids are neither in metrics nor in log lines', async t => {
  const registry = new Registry()
  const { app, log } = await makeApp(t, { user: headerUser, maxConnectionsPerUser: 1 })
  await app.register(prometheusMetrics, { registry })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  const server = app.websocketServer
  const client = await open(t, port, '/', as('ada-lovelace'))
  await isFull(t, port, '/', 'ada-lovelace')
  await server.user('ada-lovelace').send('hello')
  t.equal(await client.next(), 'hello')
  await server.user('ada-lovelace').close(1000)
  await client.closed()
  await log.until('WebSocket closed')
  const metrics = await registry.metrics()
  t.match(metrics, /maxConnectionsPerUser/)
  t.notMatch(metrics, /lovelace|127\.0\.0\.1/)
  t.notMatch(JSON.stringify(log.lines), /lovelace/)
})

t.test('the remote address is request.ip', async t => {
  const { server, port } = await serve(t, {}, { trustProxy: true })
  await open(t, port, '/', { headers: { 'x-forwarded-for': '192.0.2.7' } })
  t.match((await server.connections({ remoteAddress: '192.0.2.7' })).connections, [
    { remoteAddress: '192.0.2.7' }
  ])
  await open(t, port, '/', { headers: { 'x-forwarded-for': 'a'.repeat(5000) } })
  t.match((await server.connections({ remoteAddress: 'a'.repeat(256) })).connections, [
    { remoteAddress: 'a'.repeat(256) }
  ])
})

for (const trustProxy of [false, true]) {
  t.test(`over a Unix socket there is no remote address, trustProxy: ${trustProxy}`, async t => {
    const { app } = await makeApp(t, {}, { trustProxy })
    app.get('/', { websocket: true }, () => {})
    const folder = await mkdtemp(join(tmpdir(), 'users-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const path = join(folder, 'app.sock')
    await app.listen({ path })
    const client = new RawClient(t, connect({ path, allowHalfOpen: true }))
    client.write(handshake('/'))
    t.equal((await client.response()).status, 101)
    const { connections } = await app.websocketServer.connections()
    t.strictSame(
      connections.map(({ remoteAddress }) => remoteAddress),
      [undefined]
    )
  })
}

t.test('a connection over HTTP/2 says so, with the address of its HTTP/2 connection', async t => {
  const { app } = await makeHttp2App(t, { user: headerUser }, { cleartext: true })
  app.get('/', { websocket: true }, () => {})
  const context = { httpVersion: 2, remoteAddress: '192.0.2.9', ...as('ada') } as const
  const socket = await app.injectWS('/', context)
  const { connections } = await app.websocketServer.connections()
  t.match(connections, [{ httpVersion: '2.0', remoteAddress: '192.0.2.9', user: 'ada' }])
  t.equal(connections.length, 1)
  socket.terminate()
})

const ENGINES = [
  {
    name: 'memory',
    skip: false,
    start: async (): Promise<() => Promise<Broker>> => {
      const hub = new MemoryHub()
      return async () => new MemoryBroker(hub)
    }
  },
  {
    name: 'redis',
    skip: redisSkip,
    start: async (t: Test): Promise<() => Promise<Broker>> => {
      const { port } = await startRedis(t)
      return async () => {
        const client = new Redis(port, '127.0.0.1').on('error', () => {})
        t.teardown(() => client.disconnect())
        return redisBroker(client)
      }
    }
  },
  {
    name: 'nats',
    skip: natsSkip,
    start: async (t: Test): Promise<() => Promise<Broker>> => {
      const { port } = await startNats(t)
      return async () => {
        const connection = await connectNats({ servers: `127.0.0.1:${port}` })
        t.teardown(() => connection.close())
        return natsBroker(connection)
      }
    }
  }
] as const

for (const { name, skip, start } of ENGINES) {
  t.test(`users and connections of three applications on ${name}`, { skip }, async t => {
    const makeBroker = await start(t)
    const apps = await Promise.all([1, 2, 3].map(async () => serve(t, { broker: await makeBroker() })))
    const [first, second, third] = apps
    if (first === undefined || second === undefined || third === undefined) throw new Error('no applications')
    const ada = await Promise.all(apps.map(({ port }) => open(t, port, '/?topic=x', as('ada'))))
    const bob = await open(t, third.port, '/', as('bob'))
    const { server } = first
    const known = async (count: number): Promise<void> => {
      const wait = async (): Promise<void> => {
        for (;;) {
          const { processes, isComplete } = await server.connections()
          if (isComplete && processes === count) return
        }
      }
      await withDeadline(wait(), 20_000, `${count} processes`)
    }
    await known(3)
    const reached = { connections: 3, processes: 3, isComplete: true }
    t.strictSame(await server.user('ada').connections(), reached)
    t.strictSame(await server.user('ada').send('to all\nof them'), reached)
    for (const client of ada) t.equal(await client.next(), 'to all\nof them')
    t.strictSame(await server.user('bob').send(Buffer.from([1, 255])), { ...reached, connections: 1 })
    t.equal(await bob.next(), String(Buffer.from([1, 255])))
    const list = await second.server.connections({ topic: 'x' })
    t.match(list, { total: 3, processes: 3, isComplete: true })
    t.equal(new Set(list.connections.map(({ process }) => process)).size, 3)
    t.strictSame(
      list.connections.map(({ since }) => since),
      list.connections.map(({ since }) => since).sort((a, b) => a - b)
    )
    const [far] = (await server.connections({ user: 'bob' })).connections
    t.match(await server.connection(far?.id ?? '').close(4003, 'out'), { connections: 1, isComplete: true })
    t.equal(await bob.closed(), '4003 out')
    await third.app.close()
    t.equal(await (ada[2] as Client).closed(), '1001')
    await known(2)
    t.strictSame(await server.user('ada').close(4001, 'signed out'), {
      ...reached,
      connections: 2,
      processes: 2
    })
    t.strictSame([await ada[0]?.closed(), await ada[1]?.closed()], ['4001 signed out', '4001 signed out'])
    for (const app of [first, second]) await emptied(app.server)
    t.match(await server.connections(), { connections: [], total: 0 })
  })
}

t.test('a raw client of a user that resets leaves no trace', async t => {
  const { server, port } = await serve(t)
  const client = await connectRaw(t, port)
  client.write(handshake('/', { 'X-User': 'ada' }))
  t.equal((await client.response()).status, 101)
  t.match(await server.user('ada').connections(), { connections: 1 })
  client.socket.resetAndDestroy()
  await emptied(server)
  t.match(await server.user('ada').connections(), { connections: 0 })
})
