import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import upgrade from '../../lib/index.js'
import {
  bareApp,
  connectRaw,
  handshake,
  headerOf,
  listen,
  makeApp,
  open,
  type RawClient,
  Signal,
  shake,
  tick,
  watchProcess
} from '../helpers/app.js'
import { CERTIFICATE, KEY } from '../socket/certificate.js'

const H2C =
  'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n'

/** Replies with the remaining fields of the head. */
function headOf(request: FastifyRequest): object {
  const {
    upgrade = null,
    connection = null,
    'http2-settings': settings = null,
    'x-name': name = null
  } = request.headers
  return { ws: request.ws, upgrade, connection, settings, name, body: request.body ?? null }
}

/** The request of `curl --http2`, then a second request on the same connection. */
async function checkH2c(t: Test, client: RawClient): Promise<void> {
  client.write(`GET /plain HTTP/1.1\r\nHost: x\r\nX-Name: a  b\r\n${H2C}\r\n`)
  const first = await client.response()
  t.equal(first.status, 200)
  t.strictSame(JSON.parse(first.body), {
    ws: false,
    upgrade: null,
    connection: null,
    settings: null,
    name: 'a  b',
    body: null
  })
  client.write('GET /plain HTTP/1.1\r\nHost: x\r\n\r\n')
  t.equal((await client.response()).status, 200, 'the connection stays open')
}

function addRoutes(app: FastifyInstance): void {
  app.get('/plain', async request => headOf(request))
  app.post('/plain', async request => headOf(request))
  app.get('/ws', { websocket: true }, socket => socket.send('open'))
}

t.test('a malformed Connection header is removed together with the upgrade', async t => {
  const { app } = await makeApp(t)
  addRoutes(app)
  const client = await connectRaw(t, await listen(app))
  client.write('GET /plain HTTP/1.1\r\nHost: x\r\nConnection: upgrade, a b\r\nUpgrade: h2c\r\n\r\n')
  const { upgrade, connection } = JSON.parse((await client.response()).body)
  t.strictSame([upgrade, connection], [null, null])
})

t.test('a request whose Upgrade does not name websocket is an ordinary request', async t => {
  const { app } = await makeApp(t)
  addRoutes(app)
  const port = await listen(app)
  await checkH2c(t, await connectRaw(t, port))
})

t.test('ordinary requests with Upgrade are served over TLS, too', async t => {
  const app = Fastify({ https: { key: KEY, cert: CERTIFICATE } })
  t.teardown(() => app.close())
  await app.register(upgrade)
  app.get('/plain', async request => headOf(request))
  app.get('/ws', { websocket: true }, socket => socket.send('open'))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const address = app.server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  await checkH2c(t, await connectRaw(t, port, { tls: {} }))
  const client = await connectRaw(t, port, { tls: {} })
  client.write(handshake('/ws', { Origin: 'https://localhost' }))
  t.equal((await client.response()).status, 101)
  t.equal(String((await client.frame()).payload), 'open')
})

t.test('bodies reach the handler, by length and in chunks, and a WebSocket may follow', async t => {
  const { app } = await makeApp(t)
  addRoutes(app)
  const port = await listen(app)
  const client = await connectRaw(t, port)
  const post = `POST /plain HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${H2C}`
  client.write(`${post}Content-Length: 7\r\n\r\n{"a":1}`)
  t.strictSame(JSON.parse((await client.response()).body).body, { a: 1 })
  client.write(`${post}Transfer-Encoding: chunked\r\n\r\n5\r\n{"b":\r\n2\r\n2}\r\n0\r\n\r\n`)
  t.strictSame(JSON.parse((await client.response()).body).body, { b: 2 })
  client.write(handshake('/ws'))
  t.equal((await client.response()).status, 101)
})

t.test('other options of Connection are kept, and malformed ones are removed', async t => {
  const { app } = await makeApp(t)
  addRoutes(app)
  const port = await listen(app)
  for (const [connection, left] of [
    ['close, upgrade', 'close'],
    ['Upgrade, X-Name', 'X-Name']
  ]) {
    const client = await connectRaw(t, port)
    client.write(`GET /plain HTTP/1.1\r\nHost: x\r\nUpgrade: foo\r\nConnection: ${connection}\r\n\r\n`)
    t.equal(JSON.parse((await client.response()).body).connection, left)
  }
})

t.test('ignored upgrades may be pipelined with each other and with ordinary requests', async t => {
  const { app } = await makeApp(t)
  const order: string[] = []
  app.get('/:name', async ({ params }) => {
    order.push(Reflect.get(Object(params), 'name'))
    await tick()
    return params
  })
  const client = await connectRaw(t, await listen(app))
  const get = (name: string, fields = ''): string => `GET /${name} HTTP/1.1\r\nHost: x\r\n${fields}\r\n`
  client.write(get('a'), get('b', H2C), get('c', H2C), get('d'), get('e', H2C))
  for (const name of ['a', 'b', 'c', 'd', 'e'])
    t.strictSame(JSON.parse((await client.response()).body), { name })
  t.strictSame(order, ['a', 'b', 'c', 'd', 'e'])
})

t.test('a client may reset while its upgrade waits for earlier responses', async t => {
  const { app } = await makeApp(t)
  const uncaught = watchProcess(t)
  const entered = new Signal()
  const gone = new Signal()
  app.get('/slow', async ({ raw }) => {
    raw.socket.once('close', () => gone.fire())
    entered.fire()
    await gone.promise
  })
  const client = await connectRaw(t, await listen(app))
  client.write(`GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n${H2C}\r\n`)
  await entered.wait('request')
  client.socket.resetAndDestroy()
  await gone.wait('end of the socket')
  await tick()
  t.strictSame(uncaught, [])
})

t.test('empty fields are kept', async t => {
  const { app } = await makeApp(t)
  app.get('/', async ({ headers }) => [headers.host, headers['x-empty']])
  const client = await connectRaw(t, await listen(app))
  client.write(`GET / HTTP/1.1\r\nHost:\r\nX-Empty:\r\n${H2C}\r\n`)
  t.strictSame(JSON.parse((await client.response()).body), ['', ''])
})

t.test(
  'a head of which Node drops fields is refused, because its body could be parsed as a request',
  async t => {
    for (const maxHeadersCount of [undefined, 10, 0]) {
      const { app } = await makeApp(t)
      if (maxHeadersCount !== undefined) app.server.maxHeadersCount = maxHeadersCount
      const seen: string[] = []
      app.addHook('onRequest', async ({ method, url }) => void seen.push(`${method} ${url}`))
      app.post('/', async ({ body }) => body)
      app.get('/admin', async () => 'admin')
      const client = await connectRaw(t, await listen(app))
      const body = 'GET /admin HTTP/1.1\r\nHost: x\r\n\r\n'
      const length = `Content-Type: text/plain\r\nContent-Length: ${body.length}\r\n`
      client.write(`POST / HTTP/1.1\r\nHost: x\r\n${H2C}${'a:b\r\n'.repeat(1200)}${length}\r\n${body}`)
      const response = await client.response()
      if (maxHeadersCount === 0) {
        t.equal(response.body, body, 'without a limit nothing is dropped')
        t.strictSame(seen, ['POST /'])
        continue
      }
      t.equal(response.status, 431)
      await client.gone()
      t.strictSame(seen, [])
    }
  }
)

t.test('HTTP/1.0 requests are never upgraded', async t => {
  const { app } = await makeApp(t)
  addRoutes(app)
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write('GET /plain HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
  const response = await client.response()
  t.equal(response.status, 200)
  t.equal(JSON.parse(response.body).ws, false)
})

/** Another consumer of the server's upgrades, which writes the request that it received. */
function addOther(app: FastifyInstance): void {
  app.server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    if (request.url?.startsWith('/other') !== true) return
    socket.write(`other ${request.url} ${head}\r\n\r\n`)
    socket.on('data', data => socket.end(`${data}`))
  })
}

for (const order of ['before', 'after']) {
  t.test(
    `another listener of upgrade, added ${order} the plugin, receives the upgrades of other paths`,
    async t => {
      const { app } = bareApp(t, { rewriteUrl: ({ url = '' }) => url.replace('/api', '') })
      if (order === 'before') addOther(app)
      await app.register(upgrade)
      if (order === 'after') addOther(app)
      app.get('/ws', { websocket: true }, socket => socket.send('ours'))
      const port = await listen(app)
      const client = await connectRaw(t, port)
      client.write(handshake('/other/x?y'), 'head')
      await client.until(() => client.data.includes('\r\n\r\n'), 'answer')
      t.match(String(client.data), 'other /other/x?y')
      client.write('tail')
      await client.end()
      t.match(String(client.data), /tail$/)
      t.equal(await (await open(t, port, '/api/ws')).next(), 'ours', 'found after rewriteUrl')
      t.equal(await (await open(t, port, '/ws')).next(), 'ours')
    }
  )
}

t.test('an upgrade to another protocol is left to another listener, and h2c is not', async t => {
  const { app } = await makeApp(t)
  addRoutes(app)
  app.server.on('upgrade', ({ headers }: IncomingMessage, socket: Duplex) => {
    if (headers.upgrade === 'foo') socket.end('HTTP/1.1 101 Foo\r\n\r\n')
  })
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write('GET /plain HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n')
  t.equal((await client.response()).head, 'HTTP/1.1 101 Foo')
  await client.end()
  t.equal(client.data.length, 0, 'nothing else is written')
  await checkH2c(t, await connectRaw(t, port))
})

/** A server whose application decides which requests upgrade, in one of the ways of Node. */
async function deciding(t: Test, shouldUpgradeCallback: unknown, way: string): Promise<FastifyInstance> {
  const { app } = bareApp(
    t,
    way === 'option'
      ? { serverFactory: handler => Object.assign(createServer(handler), { shouldUpgradeCallback }) }
      : {}
  )
  if (way === 'property') Object.assign(app.server, { shouldUpgradeCallback })
  await app.register(upgrade)
  addRoutes(app)
  return app
}

for (const way of ['option', 'property']) {
  t.test(`the application decides with shouldUpgradeCallback, ${way}, which requests upgrade`, async t => {
    const seen: unknown[] = []
    const app = await deciding(
      t,
      function (this: unknown, { url, headers }: IncomingMessage) {
        seen.push(this === app.server)
        return url !== '/plain' || headers.upgrade !== 'foo'
      },
      way
    )
    const others: unknown[] = []
    app.server.prependListener('upgrade', ({ url }: IncomingMessage, socket: Duplex) => {
      others.push(url)
      if (url === '/foo') socket.end('HTTP/1.1 101 Foo\r\n\r\n')
    })
    const port = await listen(app)
    const client = await connectRaw(t, port)
    const foo = 'Connection: Upgrade\r\nUpgrade: foo\r\n'
    client.write(`GET /plain HTTP/1.1\r\nHost: x\r\n${foo}\r\nGET /plain HTTP/1.1\r\nHost: x\r\n\r\n`)
    t.match(JSON.parse((await client.response()).body), { upgrade: null, connection: null })
    t.equal((await client.response()).status, 200, 'pipelined requests after it are served')
    t.strictSame(others, [], 'no listener sees a refused upgrade')
    client.write(`GET /foo HTTP/1.1\r\nHost: x\r\n${foo}\r\n`)
    t.equal((await client.response()).head, 'HTTP/1.1 101 Foo')
    t.equal((await shake(t, port, '/ws')).status, 101)
    t.strictSame(others, ['/foo', '/ws'])
    t.strictSame(seen, [true, true, true])
  })
}

t.test('a handshake that shouldUpgradeCallback refuses is an ordinary request', async t => {
  const app = await deciding(t, () => false, 'property')
  const response = await shake(t, await listen(app), '/ws')
  t.equal(response.status, 426)
  t.equal(headerOf(response, 'upgrade'), 'websocket')
})

t.test('a shouldUpgradeCallback that throws cuts the connection, not the process', async t => {
  const uncaught = watchProcess(t)
  const app = await deciding(
    t,
    () => {
      throw new Error('broken')
    },
    'property'
  )
  const warned = once(process, 'warning')
  const client = await connectRaw(t, await listen(app))
  client.write(handshake('/ws'))
  await client.gone()
  t.match(await warned, [{ message: 'broken' }])
  t.strictSame(uncaught, [])
})

t.test('a body may arrive after the head of an ignored upgrade', async t => {
  const { app } = await makeApp(t)
  addRoutes(app)
  const port = await listen(app)
  for (const [framing, body] of [
    ['Content-Length: 7', ['{"a"', ':1}']],
    ['Transfer-Encoding: chunked', ['3\r\n{"a\r\n', '4\r\n":1}\r\n', '0\r\n\r\n']]
  ] as const) {
    const client = await connectRaw(t, port)
    client.write(
      `POST /plain HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n${H2C}${framing}\r\n\r\n`
    )
    t.equal((await client.head()).status, 100)
    for (const part of body) {
      client.write(part)
      await tick()
    }
    t.strictSame(JSON.parse((await client.response()).body), {
      ws: false,
      upgrade: null,
      connection: null,
      settings: null,
      name: null,
      body: { a: 1 }
    })
  }
})

t.test('an empty body in chunks', async t => {
  const { app } = await makeApp(t)
  addRoutes(app)
  const client = await connectRaw(t, await listen(app))
  const fields = `Content-Type: text/plain\r\n${H2C}Transfer-Encoding: chunked\r\n`
  client.write(`POST /plain HTTP/1.1\r\nHost: x\r\n${fields}\r\n0\r\n\r\n`)
  t.equal(JSON.parse((await client.response()).body).body, '')
  client.write('GET /plain HTTP/1.1\r\nHost: x\r\n\r\n')
  t.equal((await client.response()).status, 200)
})

t.test('an exception on the way into Fastify cuts the connection and is logged', async t => {
  const { app, log } = bareApp(t, {
    rewriteUrl: () => {
      throw new Error('broken')
    }
  })
  await app.register(upgrade)
  app.get('/', { websocket: true }, () => t.fail('no connection'))
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await client.gone()
  t.match(await log.until('a WebSocket handshake failed'), { err: { message: 'broken' } })
})

t.test('a socket may be destroyed before its upgrade is handled', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, () => t.fail('no connection'))
  app.get('/ws', { websocket: true }, () => {})
  app.get('/slow', () => new Promise(() => {}))
  const upgraded = new Signal()
  app.server.prependListener('upgrade', (request: IncomingMessage, socket: Duplex) => {
    if (request.url === '/') socket.destroy()
    else upgraded.fire()
  })
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await client.gone()
  const waiting = await connectRaw(t, port)
  waiting.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n', handshake('/ws'))
  await upgraded.wait('upgrade')
  waiting.socket.resetAndDestroy()
  t.equal((await shake(t, port, '/ws')).status, 101)
})
