import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import type { IncomingMessage, Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { inspect } from 'node:util'
import t from 'tap'
import { createWebSocketStream, type ServerOptions, WebSocketServer } from '../../lib/ws/index.js'
import {
  type Client,
  connectRaw,
  handshake,
  headerOf,
  ms,
  open,
  Signal,
  shake,
  text,
  tick,
  withDeadline
} from '../helpers/app.js'
import { CERTIFICATE, KEY } from '../socket/certificate.js'
import { echo, emptied, endAfter, IMPLEMENTATIONS, listening, portOf, serving, start } from './servers.js'

// Features of a server of `fastify-upgrade/ws` that a server of `ws` lacks.

/** Longer than any test waits. */
const NEVER = 1_000_000

const untyped = (options: object): ServerOptions => Object.assign({}, options)

t.test('invalid options are refused, and the error names them', async t => {
  const wrong: readonly (readonly [name: string, options: object])[] = [
    ['autoPong', { autoPong: false }],
    ['allowSynchronousEvents', { allowSynchronousEvents: false }],
    ['skipUTF8Validation', { skipUTF8Validation: true }],
    ['verifyClient', { verifyClient: 'no' }],
    ['handleProtocols', { handleProtocols: [] }],
    ['WebSocket', { WebSocket: {} }],
    ['maxPayload', { maxPayload: -1 }],
    ['maxConnections', { maxConnections: 0 }],
    ['maxPayload', { maxPayload: 'much' }],
    ['maxPayload', { maxPayload: '' }],
    ['maxPayload', { maxPayload: NaN }],
    ['closeTimeout', { closeTimeout: -1 }],
    ['server', { noServer: false, server: {} }],
    ['perMessageDeflate.level', { perMessageDeflate: { level: 3 } }],
    ['perMessageDeflate.serverMaxWindowBits', { perMessageDeflate: { serverMaxWindowBits: 99 } }],
    ['perMessageDeflate.zlibDeflateOptions', { perMessageDeflate: { zlibDeflateOptions: 7 } }],
    [
      'perMessageDeflate.zlibDeflateOptions.dictionary',
      { perMessageDeflate: { zlibDeflateOptions: { dictionary: Buffer.from('a') } } }
    ]
  ]
  for (const [name, options] of wrong) {
    t.throws(() => new WebSocketServer(untyped({ noServer: true, ...options })), {
      message: new RegExp(`option "${name}"`)
    })
  }
  t.throws(() => new WebSocketServer(), { code: 'FST_UPGRADE_INVALID_OPTION' })
})

t.test('options without effect and unknown options are ignored, and null means none', async t => {
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

/** Options that both accept, for a server that listens on a port, or that is attached in another way. */
const TAKEN: Readonly<Record<string, readonly object[]>> = {
  maxPayload: [0, 1e10, Infinity, 2 ** 31, '1048576', 1000.5, null, undefined].map(maxPayload => ({
    maxPayload
  })),
  closeTimeout: [0, 1e10, Infinity, '30000', 10.5, null, undefined].map(closeTimeout => ({ closeTimeout })),
  backlog: [0, '10', 1e10, Infinity, -1, null, undefined].map(backlog => ({ backlog })),
  host: ['', 'localhost', '127.0.0.1', null, undefined].map(host => ({ host })),
  port: ['0', 0].map(port => ({ port })),
  path: ['', false, null, undefined, '/'].map(path => ({ path })),
  verifyClient: [null, false, 0, undefined].map(verifyClient => ({ verifyClient })),
  handleProtocols: [null, false, 0, undefined].map(handleProtocols => ({ handleProtocols })),
  clientTracking: [true, false, 1, 0, ''].map(clientTracking => ({ clientTracking })),
  'noServer and server': [null, false, 0, ''].flatMap(value => [{ noServer: value }, { server: value }]),
  constants: [
    { autoPong: 1, allowSynchronousEvents: 'yes', skipUTF8Validation: 0 },
    { autoPong: true, allowSynchronousEvents: true, skipUTF8Validation: null }
  ],
  limits: [null, 0, Infinity, '1'].map(value => ({
    maxFragments: value,
    maxBufferedChunks: value,
    maxPendingAutoPongs: value
  })),
  perMessageDeflate: [
    ...[true, false, null, undefined, 0, 1, '', 'yes', {}],
    ...[0, 1, null, undefined, 'yes'].map(value => ({
      serverNoContextTakeover: value,
      clientNoContextTakeover: value
    })),
    ...[8, 9, 15, false, true, null, undefined].map(value => ({ serverMaxWindowBits: value })),
    ...[8, 9, 15, false, true, null, undefined].map(value => ({ clientMaxWindowBits: value })),
    ...[0, 1e10, Infinity, '10', 1.5].map(threshold => ({ threshold })),
    ...[10, null, Infinity, 'x'].map(concurrencyLimit => ({ concurrencyLimit })),
    ...[-1, 0, 9].map(level => ({
      zlibDeflateOptions: { level, memLevel: 7, strategy: 2, chunkSize: 1024 }
    })),
    { zlibDeflateOptions: { windowBits: 10, flush: 2, finishFlush: 4, info: false, maxOutputLength: 1e6 } },
    { zlibDeflateOptions: null, zlibInflateOptions: { chunkSize: 10 * 1024 } },
    { zlibDeflateOptions: undefined, zlibInflateOptions: null }
  ].map(perMessageDeflate => ({ perMessageDeflate }))
}

for (const [name, list] of Object.entries(TAKEN)) {
  for (const implementation of IMPLEMENTATIONS) {
    t.test(`values of ${name} that ws accepts work with ${implementation.name}`, async t => {
      for (const options of list) {
        const { server, port } = await listening(t, implementation, options)
        echo(server)
        const client = await open(t, port, '/', { protocols: ['a'] })
        const sent = 'a'.repeat(500)
        client.socket.send(sent)
        t.equal(await client.next(), sent, inspect(options))
        client.socket.close(1000)
        t.equal(await client.closed(), '1000')
      }
    })
  }
}

t.test('values that ws accepts have the same effect here', async t => {
  for (const implementation of IMPLEMENTATIONS) {
    const start = (options: object) => listening(t, implementation, options)
    const { server: small, port } = await start({ maxPayload: '10' })
    echo(small)
    const client = await open(t, port, '/')
    client.socket.send('more than ten bytes')
    t.match(await client.closed(), /^1009/, implementation.name)

    t.equal((await start({ clientTracking: 0 })).server.clients, undefined)
    t.ok((await start({ clientTracking: 1 })).server.clients)

    const folder = await mkdtemp(join(tmpdir(), 'port-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const path = join(folder, 'a.sock')
    const server = new implementation.WebSocketServer(Object.assign({ port: 0 }, { port: path }))
    endAfter(t, server)
    await once(server, 'listening')
    t.equal(server.address(), path)

    const off = await start({ perMessageDeflate: 0 })
    t.equal((await open(t, off.port, '/')).socket.extensions, '')
    const on = await start({ perMessageDeflate: 1 })
    t.equal((await open(t, on.port, '/')).socket.extensions, 'permessage-deflate')
  }
})

t.test('a window of 8 bits becomes one of 9, as in zlib', async t => {
  const { port } = await start(t, { perMessageDeflate: { serverMaxWindowBits: 8, clientMaxWindowBits: 8 } })
  const offer = 'permessage-deflate; client_max_window_bits'
  const response = await shake(t, port, '/', { 'Sec-WebSocket-Extensions': offer })
  t.match(
    headerOf(response, 'sec-websocket-extensions'),
    /server_max_window_bits=9.*client_max_window_bits=9/
  )
})

t.test('options that are assigned later may be null', async t => {
  const { server, port } = await start(t, {
    path: '/a',
    verifyClient: () => false,
    handleProtocols: () => false
  })
  t.equal((await shake(t, port, '/')).status, 404)
  Object.assign(server.options, { path: null, verifyClient: null, handleProtocols: null })
  const response = await shake(t, port, '/', { 'Sec-WebSocket-Protocol': 'a' })
  t.equal(response.status, 101)
  t.equal(headerOf(response, 'sec-websocket-protocol'), 'a')
})

t.test('verifyClient answers as in ws', async t => {
  for (const [verifyClient, status] of [
    [
      (
        _info: unknown,
        done: (verified: boolean, code?: unknown, message?: unknown, headers?: unknown) => void
      ) => done(false, null, null, null),
      401
    ],
    [
      (_info: unknown, done: (verified: boolean, code?: unknown, message?: unknown) => void) =>
        done(false, 0, ''),
      401
    ],
    [(_info: unknown, _one: unknown, _two: unknown) => true, 101],
    [(_info: unknown, _one: unknown, _two: unknown) => false, 401],
    [(...args: unknown[]) => args.length > 0, 101]
  ] as const) {
    for (const implementation of IMPLEMENTATIONS) {
      const { port } = await listening(t, implementation, Object.assign({}, { verifyClient }))
      t.equal((await shake(t, port, '/')).status, status, `${implementation.name}: ${verifyClient}`)
    }
  }
})

t.test('maxBufferedAmount: false disables the limit', async t => {
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

t.test('address and close of a server that is not attached work', async t => {
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

t.test('the first message is kept until a listener is added', async t => {
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

t.test('without a message consumer, pings are answered and a close is seen', async t => {
  const { server, port } = await start(t, { handshakeTimeout: ms(100) })
  const client = await open(t, port, '/')
  client.socket.send('ignored')
  const pong = once(client.socket, 'pong')
  client.socket.ping()
  await withDeadline(pong, 10_000, 'pong')
  client.socket.close(1000)
  t.equal(await client.closed(), '1000')
  await emptied(server)
})

t.test('the heartbeat is off by default, and can be enabled', async t => {
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

t.test('a silent peer is cut when the heartbeat is enabled', async t => {
  const { server, port } = await start(t, { heartbeat: { interval: ms(50), timeout: ms(50) } })
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await client.response()
  await client.gone()
  await emptied(server)
})

t.test(
  'the limits of the plugin apply to floods of control frames and to peers that do not read',
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

t.test('verifyClient gets secure as true over TLS', async t => {
  const http = createTlsServer({ key: KEY, cert: CERTIFICATE })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  t.teardown(() => http.close())
  const secures: boolean[] = []
  const server = new WebSocketServer({
    server: http,
    verifyClient: ({ secure }) => {
      secures.push(secure)
      return true
    }
  })
  endAfter(t, server)
  echo(server)
  const client = await open(t, portOf(http), '/', { secure: true })
  client.socket.send('one')
  t.equal(await client.next(), 'one')
  t.strictSame(secures, [true])
})

t.test('a stream supports the object modes', async t => {
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

// ---- on a server with other users

t.test(
  'two servers on one HTTP server each have their path, and two without a path do not crash',
  async t => {
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
    second.on('connection', () => t.fail('the first server takes it'))
    first.on('connection', socket => socket.send('first'))
    t.equal(await (await open(t, portOf(other), '/')).next(), 'first')
  }
)

t.test('an unclaimed path gets 404 at the deadline', async t => {
  const http = await serving(t)
  for (const path of ['/a', '/b']) {
    const server = new WebSocketServer({ server: http, path, handshakeTimeout: ms(100) })
    endAfter(t, server)
  }
  t.equal((await shake(t, portOf(http), '/c')).status, 404)
})

t.test('a closing server does not touch upgrades that it left to other listeners', async t => {
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

t.test('an Upgrade to another protocol is an ordinary request without another listener', async t => {
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

t.test('h2c is an ordinary request with any listener, and is served once', async t => {
  const http = await serving(t)
  for (const path of ['/a', '/b']) endAfter(t, new WebSocketServer({ server: http, path }))
  const client = await connectRaw(t, portOf(http))
  client.write(handshake('/', { Upgrade: 'h2c' }), 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  await client.end()
  t.equal(String(client.data).match(/HTTP\/1.1 200/g)?.length, 2)
})

t.test('the application decides with shouldUpgradeCallback until the last server is closed', async t => {
  const http: Server & { shouldUpgradeCallback?: unknown } = await serving(t)
  const { emit } = http
  const shouldUpgradeCallback = ({ url }: IncomingMessage): boolean => url !== '/page'
  http.shouldUpgradeCallback = shouldUpgradeCallback
  const servers = ['/page', '/b'].map(path => new WebSocketServer({ server: http, path }))
  for (const server of servers) endAfter(t, server)
  const client = await connectRaw(t, portOf(http))
  client.write(handshake('/page'), 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  await client.end()
  t.equal(String(client.data).match(/HTTP\/1.1 200/g)?.length, 2, 'pipelined requests after it are served')
  t.equal((await shake(t, portOf(http), '/b')).status, 101)
  for (const server of servers) server.close()
  t.equal(http.shouldUpgradeCallback, shouldUpgradeCallback)
  t.equal(http.emit, emit)
})

t.test('an unclaimed upgrade does not keep the HTTP server from closing', async t => {
  for (const order of ['before', 'after']) {
    const http = await serving(t)
    const seen = new Signal()
    const server = new WebSocketServer({ server: http, path: '/ws', handshakeTimeout: NEVER })
    http.on('upgrade', () => seen.fire())
    const client = await connectRaw(t, portOf(http))
    client.write(handshake('/nowhere'))
    await seen.wait('upgrade')
    const closed = once(http, 'close')
    if (order === 'before') http.close()
    server.close()
    if (order === 'after') http.close()
    await withDeadline(closed, 10_000, 'close of the HTTP server')
    t.equal((await client.response()).status, 404, order)
  }
})

t.test('a closing server leaves upgrades to other listeners while the HTTP server is open', async t => {
  const http = await serving(t)
  const seen = new Signal<Duplex>()
  const server = new WebSocketServer({ server: http, path: '/ws' })
  http.on('upgrade', (_request, socket) => seen.fire(socket))
  const client = await connectRaw(t, portOf(http))
  client.write(handshake('/late'))
  const socket = await seen.wait('upgrade')
  server.close()
  await new Promise(resolve => setTimeout(resolve, ms(300)))
  socket.end('HTTP/1.1 101 Late\r\n\r\n')
  t.equal((await client.response()).head, 'HTTP/1.1 101 Late')
  client.socket.end()
})

t.test('with another listener an Upgrade to another protocol is left to it', async t => {
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

t.test('clients of a closing server are left to the application', async t => {
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
