import { once } from 'node:events'
import proxy from '@fastify/http-proxy'
import t, { type Test } from 'tap'
import { WebSocketServer as WsServer } from 'ws'
import upgrade from '../../lib/index.js'
import {
  bareApp,
  listen,
  makeApp,
  ms,
  open,
  request,
  Signal,
  shake,
  tick,
  watchProcess
} from '../helpers/app.js'
import { addRoutes, checkClose, checkRoutes } from '../helpers/neighbour.js'

/** Another application, whose routes the tests reach below `/proxied` of the application in front. */
async function startUpstream(t: Test) {
  const { app } = await makeApp(t)
  app.get('/page', async ({ headers }) => ({ from: 'upstream', cookie: headers.cookie ?? null }))
  app.post('/page', async ({ body }) => ({ body }))
  app.get('/echo', { websocket: true }, (socket, { headers }) => {
    socket.on('message', (data, isBinary) => {
      if (isBinary) socket.send(data)
      else if (String(data) === 'leave') socket.close(4001, 'as you say')
      else socket.send(`upstream ${headers.cookie ?? ''}: ${data}`)
    })
  })
  app.get('/chat', { websocket: { subprotocol: 'chat.v1' } }, socket => socket.send(socket.protocol))
  return { app, port: await listen(app) }
}

/** An application with both, registered in either order. */
async function startBoth(t: Test, order: 'before' | 'after') {
  const upstream = await startUpstream(t)
  const { app, log } = bareApp(t)
  const options = {
    upstream: `http://127.0.0.1:${upstream.port}`,
    prefix: '/proxied',
    websocket: true
  } as const
  if (order === 'before') await app.register(proxy, options)
  await app.register(upgrade, { handshakeTimeout: ms(1000) })
  if (order === 'after') await app.register(proxy, options)
  addRoutes(app)
  return { app, log, upstream: upstream.app, port: await listen(app) }
}

for (const order of ['before', 'after'] as const) {
  t.test(`@fastify/http-proxy works when it is registered ${order} the plugin`, async t => {
    const { app, upstream, port } = await startBoth(t, order)
    t.equal(app.server.listenerCount('upgrade'), 2)
    const proxied = await open(t, port, '/proxied/echo', { headers: { cookie: 'a=1' } })
    await checkRoutes(t, port)
    proxied.socket.send('one')
    t.equal(await proxied.next(), 'upstream a=1: one')
    const large = Buffer.alloc(2 ** 20, 'large')
    const back = once(proxied.socket, 'message')
    proxied.socket.send(large)
    t.ok(large.equals((await back)[0]), '1 MiB')
    proxied.socket.send('leave')
    t.equal(await proxied.closed(), '4001 as you say')

    const { status, body } = await request(t, port, 'GET', '/proxied/page')
    t.strictSame([status, JSON.parse(body)], [200, { from: 'upstream', cookie: null }])
    const post = await fetch(`http://127.0.0.1:${port}/proxied/page`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"a":1}'
    })
    t.strictSame(await post.json(), { body: { a: 1 } })
    t.equal((await request(t, port, 'GET', '/')).body, 'page')
    t.equal((await request(t, port, 'GET', '/echo')).status, 426)
    t.equal((await request(t, port, 'GET', '/proxied/echo')).status, 426, 'of the upstream')

    const chat = await open(t, port, '/proxied/chat', { protocols: ['chat.v1'] })
    t.equal(await chat.next(), 'chat.v1', 'a subprotocol is passed on')
    const leaving = await open(t, port, '/proxied/echo')
    await checkClose(t, app, port)
    t.equal(await leaving.closed(), '1005', 'the proxy closes its clients this way')
    const left = new Signal()
    upstream.websocketServer.close(() => left.fire())
    await left.wait('end of the connections behind the proxy')
  })
}

t.test('a refusal of the upstream is a close, as @fastify/http-proxy accepts before it connects', async t => {
  const { app, port } = await startBoth(t, 'after')
  const unknown = await open(t, port, '/proxied/nowhere')
  t.equal(await unknown.closed(), '1011 unexpected response')
  t.equal((await request(t, port, 'GET', '/proxied/nowhere')).status, 404)
  t.equal((await request(t, port, 'GET', '/nowhere')).status, 404)
  await checkClose(t, app, port)
})

// Both leave such a handshake to the other: the proxy handles its prefix only when it is not the only listener.
// The plugin ends it at the deadline.
t.test('a handshake for a path of neither gets 404 at the deadline', async t => {
  for (const order of ['before', 'after'] as const) {
    const { app, port } = await startBoth(t, order)
    t.equal((await shake(t, port, '/nowhere')).status, 404)
    await checkClose(t, app, port)
  }
})

t.test('the proxy works in front of a server of this package, without the plugin', async t => {
  const upstream = await startUpstream(t)
  const { app } = bareApp(t)
  await app.register(proxy, { upstream: `http://127.0.0.1:${upstream.port}`, websocket: true })
  const port = await listen(app)
  const client = await open(t, port, '/echo', { headers: { cookie: 'a=1' } })
  client.socket.send('one')
  t.equal(await client.next(), 'upstream a=1: one')
  const binary = once(client.socket, 'message')
  client.socket.send(Buffer.from([0, 255]))
  t.strictSame(await binary, [Buffer.from([0, 255]), true], 'binary data stays binary')
  client.socket.send('leave')
  t.equal(await client.closed(), '4001 as you say', 'the code of the upstream reaches the client')
  const chat = await open(t, port, '/chat', { protocols: ['chat.v1'] })
  t.strictSame([await chat.next(), chat.socket.protocol], ['chat.v1', 'chat.v1'])

  const behind = new Signal()
  const gone = new Signal<string>()
  upstream.app.websocketServer.once('connection', socket => {
    behind.fire()
    socket.on('close', (code, reason) => gone.fire(`${code} ${reason}`))
  })
  const leaving = await open(t, port, '/echo')
  await behind.wait('connection behind')
  leaving.socket.close(4002, 'mine')
  t.equal(await gone.wait('close of the upstream'), '4002 mine')
  const refused = await open(t, port, '/chat', { protocols: ['other'] })
  t.equal(
    await refused.closed(),
    '1011 unexpected response',
    'a subprotocol that the upstream does not support'
  )
})

t.test('the proxy works in front of a server of ws, beside routes of the plugin', async t => {
  const behind = new WsServer({ port: 0, host: '127.0.0.1' })
  t.teardown(() => behind.close())
  behind.on('connection', (socket, { url }) => {
    socket.on('message', data => socket.send(`ws ${url}: ${data}`))
  })
  await once(behind, 'listening')
  const address = behind.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const { app } = bareApp(t)
  await app.register(upgrade)
  const to = `http://127.0.0.1:${address.port}`
  await app.register(proxy, { upstream: to, prefix: '/ws', rewritePrefix: '/behind', websocket: true })
  addRoutes(app)
  const port = await listen(app)
  const client = await open(t, port, '/ws/x?y=1')
  client.socket.send('one')
  t.equal(await client.next(), 'ws /behind/x?y=1: one')
  await checkRoutes(t, port)
  client.socket.close()
  await checkClose(t, app, port)
})

/** An application with routes of the plugin and a proxy for all paths. */
async function startWithAll(t: Test, order: 'before' | 'after') {
  const upstream = await startUpstream(t)
  const { app } = bareApp(t)
  const options = { upstream: `http://127.0.0.1:${upstream.port}`, websocket: true } as const
  if (order === 'before') await app.register(proxy, options)
  await app.register(upgrade)
  if (order === 'after') await app.register(proxy, options)
  app.get('/own', { websocket: true }, socket => socket.send('own'))
  app.get('/slow', { websocket: true, onRequest: tick }, socket => socket.send('slow'))
  return listen(app)
}

t.test(
  "a proxy for all paths that is registered after the plugin leaves the plugin's paths alone",
  async t => {
    const uncaught = watchProcess(t)
    const port = await startWithAll(t, 'after')
    const own = await open(t, port, '/own')
    t.equal(await own.next(), 'own')
    t.equal(await (await open(t, port, '/slow')).next(), 'slow')
    const proxied = await open(t, port, '/echo')
    proxied.socket.send('one')
    t.equal(await proxied.next(), 'upstream : one')
    // Nothing else arrived on a connection of the plugin.
    own.socket.close(1000)
    t.equal(await own.closed(), '1000')
    t.strictSame(own.messages, [])
    t.strictSame(uncaught, [])
  }
)

t.test('a proxy for all paths that is registered before the plugin takes them all', async t => {
  const uncaught = watchProcess(t)
  const port = await startWithAll(t, 'before')
  const proxied = await open(t, port, '/echo')
  proxied.socket.send('one')
  t.equal(await proxied.next(), 'upstream : one')
  const own = await open(t, port, '/own')
  t.match(await own.closed(), /^1/, 'there is no such route upstream')
  t.strictSame(own.messages, [])
  t.strictSame(uncaught, [])
})
