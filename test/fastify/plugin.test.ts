import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { createRequire } from 'node:module'
import { text } from 'node:stream/consumers'
import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import t from 'tap'
import upgrade, { WebSocket, WebSocketServer } from '../../lib/index.js'
import {
  bareApp,
  connectRaw,
  headerOf,
  listen,
  makeApp,
  open,
  request,
  shake,
  withDeadline
} from '../helpers/app.js'
import { CERTIFICATE, KEY } from '../socket/certificate.js'
import { portOf } from '../ws/servers.js'

t.test('a second registration in one scope throws a clear error', async t => {
  const { app } = await makeApp(t)
  await t.rejects(async () => app.register(upgrade), {
    code: 'FST_UPGRADE_ALREADY_REGISTERED',
    message: /register it once/
  })
})

t.test('a registration in a nested scope throws the same error', async t => {
  const { app } = await makeApp(t)
  app.register(async scope => {
    await scope.register(upgrade, { maxPayload: 10 })
  })
  await t.rejects(async () => app.ready(), { code: 'FST_UPGRADE_ALREADY_REGISTERED' })
})

/** Decorations of another plugin are not affected. */
function decorate(app: FastifyInstance): void {
  Reflect.apply(app.decorate, app, ['websocketServer', null])
}

t.test('when another plugin has decorated websocketServer, the error names the decorator', async t => {
  const { app } = bareApp(t)
  await app.register(fp(async scope => decorate(scope), { name: '@fastify/websocket' }))
  await t.rejects(async () => app.register(upgrade), {
    code: 'FST_UPGRADE_DECORATOR_TAKEN',
    message: /was already added by @fastify\/websocket; remove that plugin/
  })
  const other = bareApp(t).app
  decorate(other)
  await t.rejects(async () => other.register(upgrade), {
    code: 'FST_UPGRADE_DECORATOR_TAKEN',
    message: /was already added by another plugin/
  })
})

t.test('@fastify/websocket itself', async t => {
  const { app } = bareApp(t)
  const fastifyWebSocket: FastifyPluginAsync = createRequire(import.meta.url)('@fastify/websocket')
  await app.register(fastifyWebSocket)
  await t.rejects(async () => app.register(upgrade), { message: /already added by @fastify\/websocket/ })
})

t.test('a server of HTTP/2 that also accepts HTTP/1.1 is served over HTTP/1.1', async t => {
  const app = Fastify({ http2: true, https: { allowHTTP1: true, key: KEY, cert: CERTIFICATE } })
  t.teardown(() => app.close())
  await app.register(upgrade)
  app.get('/ws', { websocket: true }, socket => {
    socket.on('message', data => socket.send(String(data)))
  })
  app.get('/page', async ({ raw }) => [raw.httpVersion, raw.headers.upgrade ?? null])
  await app.listen({ port: 0, host: '127.0.0.1' })
  const port = portOf(app.server)
  const client = await open(t, port, '/ws', { secure: true })
  client.socket.send('over HTTP/1.1')
  t.equal(await client.next(), 'over HTTP/1.1')

  const ignored = await connectRaw(t, port, { tls: {} })
  ignored.write('GET /page HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n')
  t.equal((await ignored.response()).body, '["1.1",null]')

  const session = connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false })
  t.teardown(() => session.destroy())
  t.equal(await text(session.request({ ':path': '/page' })), '["2.0",null]')
  session.close()
  await withDeadline(app.close(), 10_000, 'app.close()')
  t.equal(await client.closed(), '1001')
})

t.test('registrations in sibling scopes each have their own options, clients and routes', async t => {
  const { app } = bareApp(t)
  for (const [name, maxPayload] of [
    ['small', 2],
    ['large', 200]
  ] as const) {
    await app.register(
      async scope => {
        await scope.register(upgrade, { maxPayload })
        scope.get('/ws', { websocket: true }, socket => {
          socket.on('message', data => {
            socket.send(`${name} ${scope.websocketServer.clients.size} ${data}`)
          })
        })
      },
      { prefix: name }
    )
  }
  const port = await listen(app)
  t.equal(app.server.listenerCount('upgrade'), 1, 'one listener')
  const small = await open(t, port, '/small/ws')
  const large = await open(t, port, '/large/ws')
  small.socket.send('ab')
  t.equal(await small.next(), 'small 1 ab')
  large.socket.send('abc')
  t.equal(await large.next(), 'large 1 abc')
  small.socket.send('abc')
  t.equal(await small.closed(), '1009 message too big')
})

t.test('a registration in a scope does not affect routes outside it', async t => {
  const { app } = bareApp(t)
  await app.register(async scope => {
    await scope.register(upgrade)
    scope.get('/inside', { websocket: true }, socket => socket.send('inside'))
  })
  app.get('/outside', async request => ({ has: 'websocketServer' in request.server }))
  const port = await listen(app)
  t.equal(await (await open(t, port, '/inside')).next(), 'inside')
  t.equal((await shake(t, port, '/outside')).status, 404)
  t.strictSame(JSON.parse((await request(t, port, 'GET', '/outside')).body), { has: false })
  t.equal((await request(t, port, 'GET', '/inside')).status, 426, 'the path is known to the whole server')
})

t.test('applications in one process share nothing', async t => {
  const first = await makeApp(t)
  const second = await makeApp(t)
  first.app.get('/', { websocket: true }, socket => socket.send('first'))
  second.app.get('/', { websocket: true }, socket => socket.send('second'))
  t.equal(await (await open(t, await listen(first.app), '/')).next(), 'first')
  const port = await listen(second.app)
  await withDeadline(first.app.close(), 10_000, 'app.close()')
  t.equal(await (await open(t, port, '/')).next(), 'second')
})

t.test('websocketServer.clients has the open connections, and each emits an event', async t => {
  const { app } = await makeApp(t)
  const { websocketServer } = app
  t.type(websocketServer, WebSocketServer)
  const { clients } = websocketServer
  const seen: unknown[] = []
  let inHandler: WebSocket | undefined
  websocketServer.on('connection', (socket, message) => {
    seen.push('connection', clients.has(socket), message.url)
    socket.once('close', () => seen.push('closed', clients.size))
  })
  app.get('/room', { websocket: true }, socket => {
    inHandler = socket
    seen.push('handler')
  })
  const port = await listen(app)
  const client = await open(t, port, '/room?a=b')
  t.strictSame(seen, ['connection', true, '/room?a=b', 'handler'])
  t.strictSame([...clients], [inHandler])
  for (const socket of clients) {
    t.type(socket, WebSocket)
    t.equal(socket.readyState, WebSocket.OPEN)
    const closed = once(socket, 'close')
    client.socket.close()
    await withDeadline(closed, 10_000, 'close')
  }
  t.equal(clients.size, 0)
  t.strictSame(seen.slice(4), ['closed', 0])
})

t.test('a refused handshake is never in clients', async t => {
  const { app } = await makeApp(t)
  let connections = 0
  app.websocketServer.on('connection', () => connections++)
  app.get('/', { websocket: true, onRequest: async (_request, reply) => reply.code(401).send() }, () => {})
  const port = await listen(app)
  t.equal((await shake(t, port, '/')).status, 401)
  t.equal(connections, 0)
  t.equal(app.websocketServer.clients.size, 0)
})

t.test('request.ws distinguishes handshakes from ordinary requests', async t => {
  const { app } = await makeApp(t)
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-ws', request.ws)
  })
  app.get('/', { websocket: true }, (socket, request) => socket.send(String(request.ws)))
  app.get('/plain', async request => request.ws)
  const port = await listen(app)
  const client = await open(t, port, '/')
  t.equal(await client.next(), 'true')
  t.equal(client.headers['x-ws'], 'true')
  t.equal((await request(t, port, 'GET', '/plain')).body, 'false')
  t.equal(headerOf(await shake(t, port, '/nowhere'), 'x-ws'), 'true', 'also where there is no route')
  t.strictSame((await app.inject('/plain')).json(), false)
})

t.test('the errors for wrong options name them', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await t.rejects(async () => app.register(upgrade, { maxPayload: 0 }), {
    code: 'FST_UPGRADE_INVALID_OPTION'
  })
})

t.test('the plugin has a name that other plugins can depend on', async t => {
  const { app } = await makeApp(t)
  t.ok(app.hasPlugin('fastify-upgrade'))
})

t.test('with forceCloseConnections', async t => {
  for (const forceCloseConnections of [true, 'idle'] as const) {
    const { app } = await makeApp(t, {}, { forceCloseConnections })
    app.get('/', { websocket: true }, () => {})
    const client = await open(t, await listen(app), '/')
    await withDeadline(app.close(), 10_000, 'app.close()')
    t.equal(await client.closed(), '1001', String(forceCloseConnections))
  }
})
