import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import upgrade, {
  type DiagnosticsChannels,
  MemoryBroker,
  MemoryHub,
  type Position,
  type WebSocket
} from '../lib/index.js'
import {
  close,
  connectRaw,
  handshake,
  listen,
  makeApp,
  ms,
  open,
  Signal,
  shake,
  text,
  withDeadline
} from './helpers/app.js'
import { root } from './helpers/root.js'
import { frame } from './protocol/wire.js'

type Name = keyof DiagnosticsChannels

/** The payloads of a channel for the time of a test. */
function record<Key extends Name>(t: Test, name: Key): DiagnosticsChannels[Key][] {
  const payloads: DiagnosticsChannels[Key][] = []
  const listener = (payload: unknown): void => void payloads.push(payload as DiagnosticsChannels[Key])
  subscribe(name, listener)
  t.teardown(() => unsubscribe(name, listener))
  return payloads
}

/** Resolves when a list has a number of elements. */
async function until(list: readonly unknown[], length: number): Promise<void> {
  let isOver = false
  const wait = async (): Promise<void> => {
    while (list.length < length && !isOver) await new Promise(resolve => setTimeout(resolve, 1))
  }
  await withDeadline(wait(), 10_000, `${length} payloads`).finally(() => {
    isOver = true
  })
}

t.test('every channel is documented', async t => {
  const page = readFileSync(join(root, 'docs/reference/diagnostics.md'), 'utf8')
  const source = readFileSync(join(root, 'lib/diagnostics.ts'), 'utf8')
  const names = new Set(source.match(/(?<=channelOf\(')fastify-upgrade:[a-z]+:[a-z]+/g))
  t.strictSame(new Set(page.match(/fastify-upgrade:[a-z]+:[a-z]+/g)), names)
  for (const name of new Set(source.match(/(?<=': )[A-Z][A-Za-z]+$/gm))) t.ok(page.includes(name), name)
})

t.test(
  'a handshake and a connection are published with their route, their codes and their traffic',
  async t => {
    const { app } = await makeApp(t)
    const accepted = record(t, 'fastify-upgrade:handshake:accepted')
    const opened = record(t, 'fastify-upgrade:connection:opened')
    const closed = record(t, 'fastify-upgrade:connection:closed')
    const sockets: WebSocket[] = []
    app.get('/rooms/:room', { websocket: { subprotocol: ['a', 'b'] } }, socket => {
      sockets.push(socket)
      socket.on('message', data => socket.send(String(data)))
    })
    const chosen = { selectSubprotocol: (offers: readonly string[]) => offers[0] }
    app.get('/chosen', { websocket: chosen }, socket => socket.close(4001))
    const port = await listen(app)
    const client = await open(t, port, '/rooms/1?secret=2', { protocols: ['b'] })
    client.socket.send('hello')
    t.equal(await client.next(), 'hello')
    client.socket.close(4000)
    t.equal(await client.closed(), '4000')
    await until(closed, 1)
    const server = app.websocketServer
    t.match(accepted[0], { server, route: '/rooms/:room', request: { url: '/rooms/1?secret=2' } })
    t.ok(Number(accepted[0]?.duration) > 0)
    const [socket] = sockets
    t.equal(opened[0]?.socket, socket)
    t.match(opened[0], { server, route: '/rooms/:room', subprotocol: 'b' })
    t.equal(closed[0]?.socket, socket)
    t.match(closed[0], {
      server,
      route: '/rooms/:room',
      code: 4000,
      cause: undefined,
      messagesReceived: 1,
      messagesSent: 1,
      dropped: 0,
      latency: undefined,
      peakBufferedAmount: 7
    })
    t.strictSame(
      { ...socket?.traffic },
      pick(closed[0], ['messagesReceived', 'messagesSent', 'bytesReceived', 'bytesSent'])
    )
    t.ok(Number(closed[0]?.duration) >= 0)

    const token = await open(t, port, '/chosen', { protocols: ['token.123'] })
    t.equal(await token.closed(), '4001')
    t.equal(opened[1]?.socket.protocol, 'token.123')
    t.equal(opened[1]?.subprotocol, '', 'only registered names are published as a subprotocol')
  }
)

function pick(value: object | undefined, names: readonly string[]): object {
  return Object.fromEntries(names.map(name => [name, Reflect.get(value ?? {}, name)]))
}

t.test('a refused handshake is published with its status and the code of its error', async t => {
  const { app } = await makeApp(t, { maxConnections: 1, handshakeTimeout: ms(10_000) })
  const refused = record(t, 'fastify-upgrade:handshake:refused')
  const limits = record(t, 'fastify-upgrade:limit:reached')
  const entered = new Signal()
  app.get('/', { websocket: true }, () => {})
  app.get(
    '/hook',
    { websocket: true, preHandler: async (_request, reply) => reply.code(401).send() },
    () => {}
  )
  app.get('/slow', { websocket: true, preHandler: (_request, _reply, _done) => entered.fire() }, () => {})
  const port = await listen(app)
  t.equal((await shake(t, port, '/none')).status, 404)
  t.equal((await shake(t, port, '/', { Origin: 'http://other.example' })).status, 403)
  t.equal((await shake(t, port, '/hook')).status, 401)
  const slow = await connectRaw(t, port)
  slow.write(handshake('/slow'))
  await entered.wait('the hook')
  slow.socket.destroy()
  await until(refused, 4)
  const first = await open(t, port, '/')
  t.equal((await shake(t, port, '/')).status, 503)
  first.socket.terminate()
  const { websocketServer: server } = app
  t.match(
    refused.map(({ server: _, request: __, duration: ___, ...rest }) => rest),
    [
      { route: undefined, status: 404, code: undefined },
      { route: '/', status: 403, code: 'FST_UPGRADE_FORBIDDEN_ORIGIN' },
      { route: '/hook', status: 401, code: undefined },
      { route: '/slow', status: undefined, code: undefined },
      { route: '/', status: 503, code: 'FST_UPGRADE_TOO_MANY_CONNECTIONS' }
    ]
  )
  t.strictSame(
    refused.map(one => one.server),
    [undefined, server, server, server, server]
  )
  t.strictSame(limits, [{ limit: 'maxConnections', socket: undefined, server, route: '/' }])
})

t.test('a handshake that takes too long reaches a limit, once', async t => {
  const { app } = await makeApp(t, { handshakeTimeout: 20 })
  const limits = record(t, 'fastify-upgrade:limit:reached')
  const refused = record(t, 'fastify-upgrade:handshake:refused')
  const never = (_request: unknown, _reply: unknown, _done: () => void): void => {}
  app.get('/slow', { websocket: true, preHandler: never }, () => {})
  app.get('/fast', { websocket: true }, () => {})
  const port = await listen(app)
  await open(t, port, '/fast')
  t.equal((await shake(t, port, '/slow')).status, 503)
  await until(refused, 1)
  const { websocketServer: server } = app
  t.strictSame(limits, [{ limit: 'handshakeTimeout', socket: undefined, server, route: '/slow' }])
  t.equal(refused[0]?.code, 'FST_UPGRADE_HANDSHAKE_TIMEOUT')
})

t.test('a handshake that waits for a hook before its route is known reaches the limit too', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', (_request, _reply, _done) => {})
  await app.register(upgrade, { handshakeTimeout: 20 })
  const limits = record(t, 'fastify-upgrade:limit:reached')
  app.get('/', { websocket: true }, () => {})
  const client = await connectRaw(t, await listen(app))
  client.write(handshake('/'))
  await client.end()
  t.strictSame(limits, [
    { limit: 'handshakeTimeout', socket: undefined, server: undefined, route: undefined }
  ])
})

t.test('as many pending messages as the limit allows are published', async t => {
  const { app } = await makeApp(t, { maxPendingMessages: 2 })
  const limits = record(t, 'fastify-upgrade:limit:reached')
  const sockets: WebSocket[] = []
  const finish: (() => void)[] = []
  app.get('/', { websocket: true }, socket => {
    sockets.push(socket)
    socket.on('message', () => new Promise<void>(resolve => void finish.push(resolve)))
  })
  const client = await open(t, await listen(app), '/')
  client.socket.send('1')
  await until(finish, 1)
  t.strictSame(limits, [])
  client.socket.send('2')
  await until(limits, 1)
  t.equal(limits[0]?.limit, 'maxPendingMessages')
  t.equal(limits[0]?.socket, sockets[0])
  for (const done of finish) done()
})

t.test('messages are published with their size before compression', async t => {
  const { app } = await makeApp(t, { perMessageDeflate: { threshold: 100 } })
  const received = record(t, 'fastify-upgrade:message:received')
  const sent = record(t, 'fastify-upgrade:message:sent')
  app.get('/', { websocket: true }, socket => {
    socket.on('message', (data, isBinary) => {
      const echo = isBinary ? data : String(data)
      socket.send(echo)
      socket.send(echo, { compress: false })
      socket.send(String(data).slice(0, 2), { fin: false })
      socket.send('é')
    })
  })
  const port = await listen(app)
  const client = await open(t, port, '/')
  const long = 'a'.repeat(2000)
  client.socket.send('short')
  client.socket.send(long)
  client.socket.send(Buffer.from('bytes'))
  for (let i = 0; i < 9; i++) await client.next()
  const shapes = (list: typeof sent): unknown[] =>
    list.map(({ size, isBinary, isCompressed }) => [size, isBinary, isCompressed])
  t.strictSame(shapes(received), [
    [5, false, false],
    [2000, false, true],
    [5, true, false]
  ])
  t.strictSame(shapes(sent), [
    [5, false, false],
    [5, false, false],
    [4, false, true],
    [2000, false, true],
    [2000, false, false],
    [4, false, true],
    [5, true, false],
    [5, true, false],
    [4, false, true]
  ])
})

t.test('a prepared message is published with its size', async t => {
  const { app } = await makeApp(t, { perMessageDeflate: { serverNoContextTakeover: true, threshold: 0 } })
  const sent = record(t, 'fastify-upgrade:message:sent')
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  const compressing = await open(t, port, '/')
  const plain = await connectRaw(t, port)
  plain.write(handshake('/'))
  await plain.head()
  await app.websocketServer.broadcast('a'.repeat(500))
  await app.websocketServer.broadcast('!')
  t.equal(await compressing.next(), 'a'.repeat(500))
  t.equal(await compressing.next(), '!')
  t.strictSame(
    sent.map(({ size, isCompressed }) => [size, isCompressed]),
    [
      [500, true],
      [500, false],
      [1, false],
      [1, false]
    ]
  )
})

t.test('backpressure, dropped messages and the limits of a connection are published', async t => {
  const { app } = await makeApp(t, { highWaterMark: 10, maxBufferedAmount: 100_000 })
  const started = record(t, 'fastify-upgrade:backpressure:started')
  const ended = record(t, 'fastify-upgrade:backpressure:ended')
  const dropped = record(t, 'fastify-upgrade:message:dropped')
  const limits = record(t, 'fastify-upgrade:limit:reached')
  const closed = record(t, 'fastify-upgrade:connection:closed')
  app.get('/drain', { websocket: true }, async socket => {
    socket.send('more than ten bytes')
    socket.send('more than ten bytes')
    await socket.drained()
    socket.close(1000)
  })
  app.get('/drop', { websocket: { backpressure: 'drop' } }, socket => {
    for (let i = 0; i < 3; i++) socket.send('a'.repeat(60_000))
    socket.close(1000)
  })
  app.get('/cut', { websocket: true }, socket => {
    for (let i = 0; i < 3; i++) socket.send('a'.repeat(60_000))
  })
  app.get('/rate', { websocket: { rateLimit: { messages: 1, policy: 'close' } } }, socket => {
    socket.on('message', () => {})
  })
  app.get('/slow', { websocket: { rateLimit: { messages: 1, policy: 'pause' } } }, socket => {
    socket.on('message', () => {})
  })
  app.get('/big', { websocket: { maxPayload: 10 } }, socket => socket.on('message', () => {}))
  app.get('/old', { websocket: { maxLifetime: 50 } }, socket => socket.on('message', () => {}))
  app.get('/idle', { websocket: { idleTimeout: 50 } }, socket => socket.on('message', () => {}))
  const port = await listen(app)
  const limitsAt = async (path: string, ...messages: readonly string[]): Promise<readonly string[]> => {
    limits.length = 0
    const client = await open(t, port, path)
    for (const message of messages) client.socket.send(message)
    await client.closed()
    return limits.map(({ limit }) => limit)
  }
  t.strictSame(await limitsAt('/drain'), [])
  t.strictSame([started.length, ended.length], [1, 1])
  await until(closed, 1)
  t.equal(closed[0]?.peakBufferedAmount, 42, 'two frames')
  await limitsAt('/drop')
  t.equal(dropped.length, 2)
  t.strictSame(await limitsAt('/cut'), ['maxBufferedAmount'])
  t.strictSame(await limitsAt('/rate', 'a', 'b', 'c'), ['rateLimit'])
  t.strictSame(await limitsAt('/big', 'more than ten bytes'), ['maxPayload'])
  t.strictSame(await limitsAt('/old'), ['maxLifetime'])
  t.strictSame(await limitsAt('/idle'), ['idleTimeout'])
  limits.length = 0
  const slow = await connectRaw(t, port)
  slow.write(handshake('/slow'), text('a'), text('b'))
  await until(limits, 1)
  t.match(limits[0], { limit: 'rateLimit', socket: { protocol: '' } })
  t.strictSame(closed.map(({ code, cause }) => [code, cause]).slice(2, 5), [
    [1006, 'FST_UPGRADE_BUFFER_OVERFLOW'],
    [1006, 'FST_UPGRADE_RATE_EXCEEDED'],
    [1006, 'FST_UPGRADE_MESSAGE_TOO_BIG']
  ])
})

t.test('the heartbeat measures its round trip', async t => {
  const { app, log } = await makeApp(t, { heartbeat: { interval: ms(60), timeout: ms(30) } })
  const answered = record(t, 'fastify-upgrade:heartbeat:answered')
  const sockets: WebSocket[] = []
  app.get('/', { websocket: true }, socket => void sockets.push(socket))
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await client.head()
  const [socket] = sockets
  t.equal(socket?.latency, undefined, 'undefined before the first')
  t.equal((await client.frame()).opcode, 9)
  // The peer takes this long to answer.
  await new Promise(resolve => setTimeout(resolve, 10))
  client.write(frame(10, ''))
  await until(answered, 1)
  const latency = Number(socket?.latency)
  t.ok(latency >= 9, `${latency} ms`)
  t.equal(answered[0]?.latency, latency)
  t.equal(answered[0]?.socket, socket)
  client.write(frame(10, ''))
  client.write(close(1000))
  client.socket.end()
  const line = await log.until('WebSocket closed')
  t.equal(line.latency, latency, 'an unsolicited pong is no answer')
})

t.test('errors of the application are published', async t => {
  const { app } = await makeApp(t)
  const failed = record(t, 'fastify-upgrade:listener:failed')
  app.get('/', { websocket: true }, () => {
    throw new Error('oops')
  })
  const client = await open(t, await listen(app), '/')
  t.equal(await client.closed(), '1011')
  t.match(failed, [{ server: app.websocketServer, route: '/', error: { message: 'oops' } }])
})

/** A broker that loses what its engine delivers, or refuses to publish. */
class FaultyBroker extends MemoryBroker {
  isDeaf = false
  refusal: Error | undefined

  override receive(...args: Parameters<MemoryBroker['receive']>): void {
    if (!this.isDeaf) super.receive(...args)
  }

  override async publish(...args: Parameters<MemoryBroker['publish']>): Promise<void> {
    if (this.refusal !== undefined) throw this.refusal
    await super.publish(...args)
  }

  override async append(...args: Parameters<MemoryBroker['append']>): ReturnType<MemoryBroker['append']> {
    if (this.refusal !== undefined) throw this.refusal
    return super.append(...args)
  }
}

t.test('publications are published with the time that the engine took, or its refusal', async t => {
  const published = record(t, 'fastify-upgrade:broker:published')
  const broker = new FaultyBroker(new MemoryHub())
  const history = (topic: string) => (topic === 'kept' ? { size: 10, ttl: 60_000 } : undefined)
  const { app } = await makeApp(t, { broker, history })
  const { websocketServer: server } = app
  await server.publish('plain', 'hello')
  await server.publish('kept', 'hello')
  await server.broadcast('hello')
  broker.refusal = new Error('no')
  await t.rejects(server.publish('plain', 'hello'))
  await t.rejects(server.publish('kept', 'hello'))
  // Processes introduce themselves to each other, too.
  const own = published.filter(({ kind }) => kind !== 'request' && kind !== 'reply')
  t.strictSame(
    own.map(one => [one.server === server, one.kind, one.topic, Reflect.get(one.error ?? {}, 'code')]),
    [
      [true, 'message', 'plain', undefined],
      [true, 'history', 'kept', undefined],
      [true, 'broadcast', '', undefined],
      [true, 'message', 'plain', 'FST_UPGRADE_BROKER_PUBLISH'],
      [true, 'history', 'kept', 'FST_UPGRADE_BROKER_PUBLISH']
    ]
  )
  for (const { duration } of published) t.ok(duration >= 0 && duration < 60_000, `${duration} ms`)
})

t.test('recoveries and gaps of topics with history are published', async t => {
  const recoveries = record(t, 'fastify-upgrade:history:recovery')
  const gaps = record(t, 'fastify-upgrade:history:gap')
  const broker = new FaultyBroker(new MemoryHub())
  const { app } = await makeApp(t, { broker, history: { size: 5, ttl: 60_000 } })
  const { websocketServer: server } = app
  const since: Record<string, Position | 'last'> = { last: 'last', other: { offset: 1, epoch: 'other' } }
  app.get('/:since', { websocket: true }, (socket, request) => {
    const { since: name = '' } = request.params as Record<string, string>
    void socket.subscribe('room', { since: since[name], onLost: () => {} })
  })
  const port = await listen(app)
  const first = await server.publish('room', '1')
  if (first === undefined) throw new Error('no position')
  since.first = first
  await server.publish('room', '2')
  await server.publish('room', '3')
  const clients = []
  for (const name of ['first', 'last', 'other']) {
    clients.push(await open(t, port, `/${name}`))
    await until(recoveries, clients.length)
  }
  t.strictSame(
    recoveries.map(({ server: _, ...rest }) => rest),
    [
      { topic: 'room', recovered: true, publications: 2 },
      { topic: 'room', recovered: true, publications: 1 },
      { topic: 'room', recovered: false, publications: 0 }
    ]
  )
  t.strictSame(gaps, [], 'recovery is no gap')
  t.equal(server.backlog.undelivered, 0)

  broker.isDeaf = true
  for (const text of ['4', '5']) await server.publish('room', text)
  broker.isDeaf = false
  const delivered = server.publish('room', '6')
  t.equal(server.backlog.undelivered, 3, 'three are known and not delivered')
  await delivered
  await until(gaps, 1)
  t.equal(server.backlog.undelivered, 0)
  broker.isDeaf = true
  for (let i = 0; i < 9; i++) await server.publish('room', 'many')
  broker.isDeaf = false
  await server.publish('room', 'last')
  await until(gaps, 2)
  t.strictSame(
    gaps.map(({ server: _, ...rest }) => rest),
    [
      { topic: 'room', filled: true, publications: 3 },
      { topic: 'room', filled: false, publications: 0 }
    ]
  )
  t.equal(gaps[0]?.server, server)
  t.equal(recoveries[0]?.server, server)
})

t.test('without history there is no backlog of it', async t => {
  const { app } = await makeApp(t)
  t.strictSame({ ...app.websocketServer.backlog }, { pendingBytes: 0, undelivered: undefined })
})

t.test('events of the broker and the steps of the shutdown are published', async t => {
  const events = record(t, 'fastify-upgrade:broker:event')
  const steps: [string, number][] = []
  for (const step of ['started', 'closing', 'cut', 'ended'] as const) {
    const name = `fastify-upgrade:shutdown:${step}` as const
    const listener = (payload: unknown): void => {
      steps.push([step, (payload as DiagnosticsChannels[typeof name]).connections])
    }
    subscribe(name, listener)
    t.teardown(() => unsubscribe(name, listener))
  }
  const { app } = await makeApp(t, {
    broker: new MemoryBroker(new MemoryHub()),
    shutdown: { timeout: ms(100) }
  })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await client.head()
  await app.close()
  t.match(events, [{ server: app.websocketServer, event: { type: 'up' } }])
  t.strictSame(steps, [
    ['started', 1],
    ['closing', 1],
    ['cut', 1],
    ['ended', 0]
  ])
})
