import { once } from 'node:events'
import { createServer as createTlsServer } from 'node:https'
import t from 'tap'
import { createWebSocketStream, type ServerOptions, WebSocketServer } from '../../lib/compat/index.js'
import {
  type Client,
  connectRaw,
  handshake,
  ms,
  open,
  Signal,
  shake,
  text,
  tick,
  withDeadline
} from '../helpers/app.js'
import { CERTIFICATE, KEY } from '../transport/certificate.js'
import { echo, emptied, endAfter, portOf, serving, start } from './servers.js'

// What a server of `fastify-upgrade/ws` has and does that one of `ws` does not.

const untyped = (options: object): ServerOptions => Object.assign({}, options)

t.test('options that say what cannot be are refused by name', async t => {
  const wrong: readonly (readonly [name: string, options: object])[] = [
    ['autoPong', { autoPong: false }],
    ['allowSynchronousEvents', { allowSynchronousEvents: false }],
    ['skipUTF8Validation', { skipUTF8Validation: true }],
    ['verifyClient', { verifyClient: 'no' }],
    ['handleProtocols', { handleProtocols: [] }],
    ['WebSocket', { WebSocket: {} }],
    ['maxPayload', { maxPayload: -1 }],
    ['maxConnections', { maxConnections: 0 }],
    ['perMessageDeflate.level', { perMessageDeflate: { level: 3 } }]
  ]
  for (const [name, options] of wrong) {
    t.throws(() => new WebSocketServer(untyped({ noServer: true, ...options })), {
      message: new RegExp(`option "${name}"`)
    })
  }
  t.throws(() => new WebSocketServer(), { code: 'FST_UPGRADE_INVALID_OPTION' })
})

t.test('options that are taken without effect, unknown ones, and null for none', async t => {
  const options = untyped({
    noServer: true,
    autoPong: true,
    allowSynchronousEvents: true,
    skipUTF8Validation: false,
    maxFragments: 1,
    maxBufferedChunks: 1,
    maxPendingAutoPongs: 1,
    pingInterval: 3000,
    server: null,
    verifyClient: null,
    handleProtocols: undefined
  })
  const server = new WebSocketServer(options)
  t.equal(server.options.noServer, true)
  t.equal(server.options.clientTracking, true)
  t.equal(server.options.verifyClient, undefined)
})

t.test('maxBufferedAmount: false is no limit', async t => {
  for (const maxBufferedAmount of [false, 1000] as const) {
    const { server, port } = await start(t, { maxBufferedAmount })
    server.on('connection', socket => {
      for (let i = 0; i < 10; i++) socket.send('x'.repeat(100_000))
      socket.close(1000)
    })
    const client = await open(t, port, '/')
    t.equal(await client.closed(), maxBufferedAmount === false ? '1000' : '1006')
  }
})

t.test('address and close of a server without a server', async t => {
  const server = new WebSocketServer({ noServer: true })
  t.throws(() => server.address(), { code: 'FST_UPGRADE_NO_SERVER' })
  const closed = new Signal<unknown>()
  server.close()
  server.close(error => closed.fire(error))
  t.equal(await closed.wait('close'), undefined)
  const again = new Signal<unknown>()
  server.close(error => again.fire(error))
  t.match(await again.wait('close'), { code: 'FST_UPGRADE_NOT_RUNNING' })
  server.close()
  await once(server, 'close')
})

t.test('the first message waits for a listener that comes later', async t => {
  const { server, port } = await start(t)
  const ready = new Signal()
  server.on('connection', async socket => {
    await ready.promise
    socket.on('message', data => socket.send(`got ${data}`))
  })
  const client = await connectRaw(t, port)
  client.write(handshake('/'), text('one'), text('two'))
  await client.response()
  await tick()
  ready.fire()
  t.equal(String((await client.frame()).payload), 'got one')
  t.equal(String((await client.frame()).payload), 'got two')
})

t.test('where nobody takes messages, pings are answered and a close is seen all the same', async t => {
  const { server, port } = await start(t, { handshakeTimeout: ms(100) })
  const client = await open(t, port, '/')
  client.socket.send('for nobody')
  const pong = once(client.socket, 'pong')
  client.socket.ping()
  await withDeadline(pong, 10_000, 'pong')
  client.socket.close(1000)
  t.equal(await client.closed(), '1000')
  await emptied(server)
})

t.test('the heartbeat is off by default, and an option', async t => {
  const quiet = await start(t)
  const watched = await start(t, { heartbeat: { interval: ms(50), timeout: ms(50) } })
  const pings = { quiet: 0, watched: 0 }
  const [first, second] = [await open(t, quiet.port, '/'), await open(t, watched.port, '/')]
  first.socket.on('ping', () => pings.quiet++)
  const enough = new Signal()
  second.socket.on('ping', () => ++pings.watched === 3 && enough.fire())
  await enough.wait('three pings')
  t.equal(pings.quiet, 0)
})

t.test('a silent peer is cut where the heartbeat is on', async t => {
  const { server, port } = await start(t, { heartbeat: { interval: ms(50), timeout: ms(50) } })
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await client.response()
  await client.gone()
  await emptied(server)
})

t.test(
  'the limits of the plugin are there: a flood of control frames, a peer that does not read',
  async t => {
    const { server, port } = await start(t, { maxControlFrames: 5, maxBufferedAmount: 2 ** 20 })
    const client = await open(t, port, '/')
    for (let i = 0; i < 20; i++) client.socket.ping()
    t.match(await client.closed(), /^1008/)

    const reason = new Signal<unknown>()
    server.on('connection', socket => {
      socket.on('close', (code, _text, error) => reason.fire([code, error]))
      for (let i = 0; i < 64; i++) socket.send(Buffer.alloc(2 ** 20))
    })
    const stalled = await connectRaw(t, port)
    stalled.socket.pause()
    stalled.write(handshake('/'))
    t.match(await reason.wait('close'), [1006, { code: 'FST_UPGRADE_BUFFER_OVERFLOW' }])
  }
)

t.test('verifyClient is told that a connection is secure', async t => {
  const http = createTlsServer({ key: KEY, cert: CERTIFICATE })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  t.teardown(() => http.close())
  const told: boolean[] = []
  const server = new WebSocketServer({
    server: http,
    verifyClient: ({ secure }) => {
      told.push(secure)
      return true
    }
  })
  endAfter(t, server)
  echo(server)
  const client = await open(t, portOf(http), '/', { secure: true })
  client.socket.send('one')
  t.equal(await client.next(), 'one')
  t.strictSame(told, [true])
})

t.test('the object modes of a stream', async t => {
  const { server, port } = await start(t)
  const read: unknown[] = []
  server.on('connection', socket => {
    const stream = createWebSocketStream(socket, { objectMode: true, readableObjectMode: true })
    stream.on('data', data => {
      read.push(data)
      if (data === 'text') stream.write('bytes')
    })
  })
  const client = await open(t, port, '/')
  const answer = once(client.socket, 'message')
  client.socket.send('text')
  const [data, isBinary] = await withDeadline(answer, 10_000, 'message')
  t.strictSame([String(data), isBinary], ['bytes', true], 'written as bytes')
  client.socket.send(Buffer.from('bytes'))
  client.socket.close(1000)
  t.equal(await client.closed(), '1000')
  t.strictSame(read, ['text', Buffer.from('bytes')])
})

// ---- on a server that others use too

t.test('two servers on one HTTP server, each with its path; and two without are no crash', async t => {
  const http = await serving(t)
  const servers = ['/a', '/b'].map(path => new WebSocketServer({ server: http, path }))
  for (const server of servers) {
    endAfter(t, server)
    server.on('connection', socket => socket.send(String(server.options.path)))
  }
  for (const path of ['/a', '/b']) t.equal(await (await open(t, portOf(http), path)).next(), path)

  const other = await serving(t)
  const [first, second] = [new WebSocketServer({ server: other }), new WebSocketServer({ server: other })]
  endAfter(t, first)
  endAfter(t, second)
  second.on('connection', () => t.fail('the first has it'))
  first.on('connection', socket => socket.send('first'))
  t.equal(await (await open(t, portOf(other), '/')).next(), 'first')
})

t.test('a path that nobody takes gets 404 in the end', async t => {
  const http = await serving(t)
  for (const path of ['/a', '/b']) {
    const server = new WebSocketServer({ server: http, path, handshakeTimeout: ms(100) })
    endAfter(t, server)
  }
  t.equal((await shake(t, portOf(http), '/c')).status, 404)
})

t.test('a server that closes leaves alone what it left to others', async t => {
  const http = await serving(t)
  const server = new WebSocketServer({ server: http, path: '/a' })
  const other = new WebSocketServer({
    server: http,
    path: '/b',
    verifyClient: (_info, callback) => {
      server.close()
      server.on('close', () => callback(true))
    }
  })
  endAfter(t, other)
  t.equal((await shake(t, portOf(http), '/b')).status, 101)
})

t.test('an Upgrade that is not for WebSocket is an ordinary request, where nobody else takes it', async t => {
  const http = await serving(t)
  const server = new WebSocketServer({ server: http })
  endAfter(t, server)
  const client = await connectRaw(t, portOf(http))
  client.write(handshake('/', { Upgrade: 'h2c' }))
  const response = await client.head()
  t.equal(response.status, 200)
  await client.until(() => client.data.includes('page'), 'page')
  client.socket.end()

  const own = await start(t)
  const ordinary = await connectRaw(t, own.port)
  ordinary.write(handshake('/', { Upgrade: 'h2c' }))
  t.equal((await ordinary.response()).status, 426)
})

t.test('with another listener such an Upgrade is left to it', async t => {
  const http = await serving(t)
  const server = new WebSocketServer({ server: http })
  endAfter(t, server)
  http.on('upgrade', (request, socket) => {
    if (request.headers.upgrade === 'other') socket.end('HTTP/1.1 101 Other\r\n\r\n')
  })
  const client = await connectRaw(t, portOf(http))
  client.write(handshake('/', { Upgrade: 'other' }))
  t.equal((await client.head()).status, 101)
  t.match(String((await open(t, portOf(http), '/')).socket.readyState), '1')
})

t.test('clients of a server that closes are left to the application', async t => {
  const { server, port } = await start(t)
  const client: Client = await open(t, port, '/')
  const closed = once(server, 'close')
  server.close()
  t.equal(server.address(), null)
  await tick()
  t.equal(client.socket.readyState, 1)
  for (const each of server.clients) each.close(1001)
  t.equal(await client.closed(), '1001')
  await closed
})
