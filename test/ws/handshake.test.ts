import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, IncomingMessage } from 'node:http'
import { connect, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Duplex, duplexPair } from 'node:stream'
import t, { type Test } from 'tap'
import { type ServerOptions, WebSocket, WebSocketServer } from '../../lib/ws/index.js'
import {
  connectRaw,
  duration,
  handshake,
  headerOf,
  KEY,
  ms,
  open,
  RawClient,
  type RawResponse,
  Signal,
  shake,
  text,
  tick,
  watchProcess,
  withDeadline
} from '../helpers/app.js'
import { echo, endAfter, portOf, serving, start, upgrading } from './servers.js'

// Answers to handshakes where this package is stricter than `ws`.

const codesOf = (errors: readonly Error[]): unknown[] => errors.map(error => Reflect.get(error, 'code'))

/** A refusal names its reason in a body with the right length, and the connection ends. */
async function refused(t: Test, port: number, head: string): Promise<RawResponse> {
  const client = await connectRaw(t, port)
  client.write(head)
  const response = await client.response()
  t.match(headerOf(response, 'connection'), /\bclose$/, head)
  t.equal(Number(headerOf(response, 'content-length')), Buffer.byteLength(response.body))
  t.ok(response.body.length > 0)
  await client.end()
  t.equal(client.data.length, 0)
  client.socket.end()
  return response
}

t.test('handshakes that ws accepts wrongly are refused', async t => {
  const { port } = await start(t)
  const cases: readonly (readonly [what: string, status: number, head: string])[] = [
    ['version 8', 426, handshake('/', { 'Sec-WebSocket-Version': '8' })],
    ['version 013', 426, handshake('/', { 'Sec-WebSocket-Version': '013' })],
    ['a key with a space', 400, handshake('/', { 'Sec-WebSocket-Key': `${KEY.slice(0, 21)} ==` })],
    ['a body', 400, `${handshake('/', { 'Content-Length': '11' })}${text('hello')}`],
    [
      'a body in chunks',
      400,
      `${handshake('/', { 'Transfer-Encoding': 'chunked' })}5\r\nhello\r\n0\r\n\r\n${text('frame')}`
    ],
    ['a body that does not come', 400, handshake('/', { 'Content-Length': '11' })],
    ['no Host', 400, handshake('/', { Host: undefined })],
    ['an absolute target', 400, handshake('http://localhost/')],
    ['extensions that follow no grammar', 400, handshake('/', { 'Sec-WebSocket-Extensions': 'a;;b' })]
  ]
  for (const [what, status, head] of cases) {
    const client = await connectRaw(t, port)
    client.write(head)
    t.equal((await client.response()).status, status, what)
    client.socket.end()
  }
  const response = await refused(t, port, handshake('/', { 'Sec-WebSocket-Version': '8' }))
  t.equal(headerOf(response, 'sec-websocket-version'), '13')
  t.equal(headerOf(response, 'upgrade'), 'websocket')
  const post = await refused(t, port, handshake('/').replace('GET', 'PUT'))
  t.equal(headerOf(post, 'allow'), 'GET')
})

t.test('handshakes that ws refuses wrongly are accepted', async t => {
  const { server, port } = await start(t, { perMessageDeflate: true })
  echo(server)
  const cases: readonly (readonly [what: string, fields: Record<string, string>])[] = [
    ['a list of protocols', { Upgrade: 'foo/1, WebSocket' }],
    ['an empty list of extensions', { 'Sec-WebSocket-Extensions': '' }]
  ]
  for (const [what, fields] of cases) {
    const client = await connectRaw(t, port)
    client.write(handshake('/', fields), text('hello'))
    const response = await client.response()
    t.equal(response.status, 101, what)
    t.notOk(response.headers.has('sec-websocket-extensions'), what)
    t.equal(String((await client.frame()).payload), 'hello')
  }
})

t.test('a key with spare bits, and an empty body, are accepted as in ws', async t => {
  const { port } = await start(t)
  const key = await shake(t, port, '/', { 'Sec-WebSocket-Key': 'AQIDBAUGBwgJCgsMDQ4PEC==' })
  t.equal(headerOf(key, 'sec-websocket-accept'), 'OfS0wDaT5NoxF2gqm7Zj2YtetzM=')
  t.equal((await shake(t, port, '/', { 'Content-Length': '0' })).status, 101)
})

t.test(
  'RFC 9110 section 7.8: the body of a handshake is parsed neither as frames nor as a request',
  async t => {
    const uncaught = watchProcess(t)
    const server = new WebSocketServer({ noServer: true })
    const { http, port } = await upgrading(t, (request, socket, head) => {
      server.handleUpgrade(request, socket, head, () => t.fail('no connection'))
    })
    let requests = 0
    http.removeAllListeners('request')
    http.on('request', (_request, response) => {
      requests++
      setImmediate(() => response.end('page'))
    })
    const [fields, chunked] = [{ 'Content-Length': '11' }, { 'Transfer-Encoding': 'chunked' }]
    const get = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
    const cases: readonly (readonly [head: string, first: Uint8Array, rest: string])[] = [
      [handshake('/', fields), text('hello'), get],
      [handshake('/', fields), text('hello').subarray(0, 5), `rest..${get}`],
      [handshake('/', chunked), Buffer.from('5\r\nhello\r\n'), `0\r\n\r\n${get}`]
    ]
    for (const [head, first, rest] of cases) {
      const client = await connectRaw(t, port)
      client.write(get, head, first)
      t.equal((await client.head()).status, 200)
      await client.until(() => client.data.includes('400 Bad Request'), 'refusal')
      t.ok(client.data.indexOf('page') < client.data.indexOf('400 Bad Request'))
      client.write(rest)
      await client.end()
      client.socket.end()
      await client.gone()
      t.notOk(client.data.includes('HTTP/1.1 200'))
    }
    t.equal(requests, cases.length, 'the requests before the handshakes')
    t.strictSame(uncaught, [])
  }
)

t.test('a refusal has a body, a length and an end', async t => {
  const { port } = await start(t, { path: '/ws' })
  t.equal((await refused(t, port, handshake('/ws', { 'Sec-WebSocket-Key': 'x' }))).status, 400)
  t.equal((await refused(t, port, handshake('/other'))).status, 404)
})

t.test('an unacceptable deflate offer is declined, and the next one is accepted', async t => {
  const { port } = await start(t, { perMessageDeflate: true })
  const offer = 'permessage-deflate; server_max_window_bits=99, permessage-deflate; server_max_window_bits=10'
  const response = await shake(t, port, '/', { 'Sec-WebSocket-Extensions': offer })
  t.equal(response.status, 101)
  t.match(headerOf(response, 'sec-websocket-extensions'), /server_max_window_bits=10/)
})

t.test('handleUpgrade refuses a request that does not ask for WebSocket', async t => {
  const server = new WebSocketServer({ noServer: true })
  const { port } = await upgrading(t, (request, socket, head) =>
    server.handleUpgrade(request, socket, head, () => t.fail('no connection'))
  )
  t.equal((await refused(t, port, handshake('/', { Upgrade: 'h2c' }))).status, 400)
  const old = handshake('/').replace('HTTP/1.1', 'HTTP/1.0')
  t.equal((await refused(t, port, old)).status, 400)
})

for (const hasSocket of [true, false]) {
  t.test(
    `handleUpgrade accepts a stream that is no socket, with a request that has ${hasSocket ? 'one' : 'none'}`,
    async t => {
      const server = new WebSocketServer({
        noServer: true,
        ...(hasSocket ? {} : { maxConnectionsPerAddress: 1 })
      })
      echo(server)
      const [stream, peer] = duplexPair()
      const request = Object.assign(new IncomingMessage(new Socket()), {
        method: 'GET',
        url: '/',
        httpVersionMajor: 1,
        httpVersionMinor: 1,
        headers: { upgrade: 'websocket' },
        rawHeaders: [
          'Host',
          'a',
          'Connection',
          'Upgrade',
          'Sec-WebSocket-Version',
          '13',
          'Sec-WebSocket-Key',
          KEY
        ]
      })
      if (!hasSocket) Reflect.set(request, 'socket', undefined)
      let received = Buffer.alloc(0)
      const done = new Signal()
      peer.on('data', (chunk: Buffer) => {
        received = Buffer.concat([received, chunk])
        if (received.includes('early')) done.fire()
      })
      server.handleUpgrade(request, stream, text('early'), client =>
        server.emit('connection', client, request)
      )
      await done.wait('echo')
      t.match(String(received), /^HTTP\/1.1 101 /)
      peer.destroy()
    }
  )
}

t.test(
  'wsClientError has the code, and a listener that ignores the socket does not keep it open',
  async t => {
    const { server, port } = await start(t)
    const emitted = new Signal<readonly [Error, Duplex]>()
    server.once('wsClientError', (error, socket) => emitted.fire([error, socket]))
    const client = await connectRaw(t, port)
    client.write(handshake('/', { 'Sec-WebSocket-Key': 'x' }))
    const [error] = await emitted.wait('wsClientError')
    t.match(error, { code: 'FST_UPGRADE_INVALID_KEY', statusCode: 400 })
    t.ok((await duration(client.gone())) < ms(10_000))
  }
)

t.test('a verifyClient that never answers gets 503, and its late answer changes nothing', async t => {
  const asked = new Signal<(verified: boolean) => void>()
  const { server, port } = await start(t, {
    handshakeTimeout: ms(100),
    verifyClient: (_info, callback) => asked.fire(callback)
  })
  server.on('connection', () => t.fail('no connection'))
  t.equal((await refused(t, port, handshake('/'))).status, 503)
  const answer = await asked.wait('verifyClient')
  answer(true)
  answer(false)
  await tick()
  t.equal(server.clients.size, 0)
})

t.test('a refused client that does not close is cut', async t => {
  const { port } = await start(t)
  const client = await connectRaw(t, port)
  client.write(handshake('/', { 'Sec-WebSocket-Key': 'x' }))
  await client.end()
  t.equal(client.closed, false)
  await client.gone()
})

t.test('a client that ends its side or resets before the answer gets no connection', async t => {
  const uncaught = watchProcess(t)
  for (const way of ['end', 'reset'] as const) {
    const [asked, left] = [new Signal(), new Signal<() => void>()]
    const { server, port } = await start(t, {
      verifyClient: ({ req }, callback) => {
        req.socket.on('close', () => left.fire(() => callback(true)))
        asked.fire()
      }
    })
    server.on('connection', () => t.fail('no connection'))
    const client = await connectRaw(t, port)
    client.write(handshake('/'))
    await asked.wait('verifyClient')
    if (way === 'end') client.socket.end()
    else client.socket.resetAndDestroy()
    const answer = await left.wait('close')
    answer()
    await tick()
    t.equal(String(client.data), '', way)
  }
  t.strictSame(uncaught, [])
})

t.test('a socket that verifyClient ends itself opens no connection', async t => {
  const { server, port } = await start(t, {
    verifyClient: ({ req }) => {
      req.socket.end('HTTP/1.1 418 Teapot\r\n\r\n')
      return true
    }
  })
  server.on('connection', () => t.fail('no connection'))
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await client.gone()
  t.equal(server.clients.size, 0)
})

t.test('a socket that is already closed opens no connection', async t => {
  const server = new WebSocketServer({ noServer: true })
  const done = new Signal()
  const { port } = await upgrading(t, (request, socket, head) => {
    socket.destroy()
    server.handleUpgrade(request, socket, head, () => t.fail('no connection'))
    done.fire()
  })
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await done.wait('upgrade')
  await client.gone()
})

t.test('an error in a function of the application gets 500, and is emitted', async t => {
  const uncaught = watchProcess(t)
  const fail = (): never => {
    throw new Error('mine')
  }
  const fields = { 'Sec-WebSocket-Protocol': 'a' }
  const reject = (): Promise<never> => Promise.reject(new Error('mine'))
  const untyped = (options: object): ServerOptions => Object.assign({}, options)
  const cases: readonly (readonly [what: string, options: ServerOptions, code?: string])[] = [
    ['verifyClient throws', { verifyClient: fail }],
    ['verifyClient with a callback rejects', { verifyClient: (_info, _callback) => reject() }],
    [
      'verifyClient with a status that refuses nothing',
      { verifyClient: (_info, callback) => callback(false, 200) }
    ],
    ['with an unknown status', { verifyClient: (_info, callback) => callback(false, 4401) }],
    [
      'with a header that splits the response',
      { verifyClient: (_info, callback) => callback(false, 401, 'no', { a: 'b\r\nc: d' }) }
    ],
    ['handleProtocols throws', { handleProtocols: fail }],
    ['handleProtocols chooses another', { handleProtocols: () => 'b' }, 'FST_UPGRADE_INVALID_CHOICE'],
    ['handleProtocols is async', untyped({ handleProtocols: reject }), 'FST_UPGRADE_INVALID_CHOICE']
  ]
  for (const [what, options, code] of cases) {
    const { server, errors, port } = await start(t, options)
    server.on('connection', () => t.fail('no connection'))
    const response = await shake(t, port, '/', fields)
    t.equal(response.status, 500, what)
    t.equal(response.body, 'Internal Server Error', 'the client receives no details')
    t.equal(errors.length, 1, what)
    if (code !== undefined) t.strictSame(codesOf(errors), [code])
  }
  t.strictSame(uncaught, [])
})

t.test('a verifyClient that returns a promise refuses the client, whereas ws accepts everyone', async t => {
  const { port, errors } = await start(t, { verifyClient: async () => true })
  t.equal((await shake(t, port, '/')).status, 401)
  t.strictSame(errors, [])
})

t.test('headers of verifyClient are sent, except those of the response itself', async t => {
  const headers = { 'Content-Length': 3, Allow: ['a', 'b'], 'X-No': undefined, 'WWW-Authenticate': 'Basic' }
  const { port } = await start(t, {
    verifyClient: (_info, callback) => callback(false, undefined, undefined, headers)
  })
  const response = await refused(t, port, handshake('/'))
  t.equal(response.status, 401)
  t.equal(response.body, 'Unauthorized')
  t.equal(headerOf(response, 'www-authenticate'), 'Basic')
  t.equal(headerOf(response, 'allow'), 'a, b')
  t.notOk(response.headers.has('x-no'))
})

t.test('a headers listener may not add invalid headers, and may throw', async t => {
  for (const line of ['X-A: b\r\nX-C: d', 'no header', 'X-A: \x00']) {
    const { server, errors, port } = await start(t)
    server.on('headers', lines => void lines.push(line))
    t.equal((await shake(t, port, '/')).status, 500, JSON.stringify(line))
    t.strictSame(codesOf(errors), ['FST_UPGRADE_INVALID_HEADER'])
  }
  const { server, errors, port } = await start(t)
  server.on('headers', () => {
    throw new Error('mine')
  })
  t.equal((await shake(t, port, '/')).status, 500)
  t.match(errors, [{ message: 'mine' }])
})

t.test('a headers listener may not change the status', async t => {
  const { server, port } = await start(t)
  server.on('headers', lines => {
    lines[0] = 'HTTP/1.1 200 OK'
  })
  t.equal((await shake(t, port, '/')).status, 101)
})

t.test('a shouldHandle that throws refuses the handshake', async t => {
  class Failing extends WebSocketServer {
    override shouldHandle(): never {
      throw new Error('mine')
    }
  }
  for (const others of [0, 1]) {
    const http = await serving(t)
    if (others === 1) http.on('upgrade', () => {})
    const server = new Failing({ server: http })
    const errors: Error[] = []
    server.on('error', error => errors.push(error))
    t.equal((await shake(t, portOf(http), '/')).status, 500)
    t.match(errors, [{ message: 'mine' }])
  }
})

t.test('a wsClientError listener that throws does not keep the socket open', async t => {
  const { server, errors, port } = await start(t)
  server.on('wsClientError', (_error, socket) => {
    socket.destroy()
    throw new Error('mine')
  })
  const client = await connectRaw(t, port)
  client.write(handshake('/', { 'Sec-WebSocket-Key': 'x' }))
  await client.gone()
  t.match(errors, [{ message: 'mine' }])
})

t.test('a handshake above maxConnections gets 503, and a closed connection frees its slot', async t => {
  for (const options of [{ maxConnections: 1 }, { maxConnectionsPerAddress: 1 }]) {
    const { server, port } = await start(t, options)
    const first = await open(t, port, '/')
    const response = await refused(t, port, handshake('/'))
    t.equal(response.status, 503)
    t.equal(headerOf(response, 'retry-after'), '5')
    const [client] = server.clients
    first.socket.close()
    if (client !== undefined) await once(client, 'close')
    t.equal((await shake(t, port, '/')).status, 101)
  }
})

t.test('maxConnectionsPerAddress does not count connections without an address, and warns once', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'compat-'))
  const path = join(folder, 'app.sock')
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const http = createServer().listen(path)
  await once(http, 'listening')
  t.teardown(() => http.close())
  const server = new WebSocketServer({ server: http, maxConnectionsPerAddress: 1, maxConnections: 3 })
  endAfter(t, server)
  const warnings: Error[] = []
  const onWarning = (warning: Error): void => void warnings.push(warning)
  process.on('warning', onWarning)
  t.teardown(() => process.off('warning', onWarning))
  for (const status of [101, 101, 101, 503]) {
    const client = new RawClient(t, connect({ path, allowHalfOpen: true }))
    await withDeadline(once(client.socket, 'connect'), 5_000, 'connect')
    client.write(handshake('/'))
    t.equal((await client.response()).status, status)
  }
  await tick()
  t.match(warnings, [{ code: 'FST_UPGRADE_NO_ADDRESS' }])
  t.equal(warnings.length, 1)
})

t.test('an answer after the client has left takes no slot', async t => {
  const asked = new Signal<() => void>()
  const { server, port } = await start(t, {
    maxConnections: 1,
    verifyClient: ({ req }, callback) => req.socket.on('close', () => asked.fire(() => callback(true)))
  })
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  client.socket.end()
  const answer = await asked.wait('close')
  answer()
  server.options.verifyClient = () => true
  t.equal((await shake(t, port, '/')).status, 101)
})

t.test('a refused handshake releases its slot', async t => {
  const { server, port } = await start(t, { maxConnections: 1 })
  server.once('headers', () => {
    throw new Error('mine')
  })
  t.equal((await shake(t, port, '/')).status, 500)
  t.equal((await shake(t, port, '/')).status, 101)
})

t.test('close answers pending handshakes', async t => {
  const asked = new Signal()
  const { server, port } = await start(t, { verifyClient: (_info, _callback) => asked.fire() })
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await asked.wait('verifyClient')
  server.close()
  const response = await client.response()
  t.equal(response.status, 503)
  t.equal(headerOf(response, 'retry-after'), '5')
  client.socket.end()
})

t.test('a WebSocket class that fails opens no connection, and the socket is cut', async t => {
  class Failing extends WebSocket {
    constructor(...args: ConstructorParameters<typeof WebSocket>) {
      super(...args)
      throw new Error('mine')
    }
  }
  const { errors, server, port } = await start(t, { WebSocket: Failing })
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  t.equal((await client.response()).status, 101)
  await client.gone()
  t.equal(errors.length, 1)
  t.equal(server.clients.size, 0)
})

t.test('an upgrade behind an earlier request of its connection waits for the response', async t => {
  const server = new WebSocketServer({ noServer: true })
  echo(server)
  const { http, port } = await upgrading(t, (request, socket, head) => {
    server.handleUpgrade(request, socket, head, client => server.emit('connection', client, request))
  })
  http.removeAllListeners('request')
  http.on('request', (_request, response) => setTimeout(() => response.end('page'), ms(50)))
  const client = await connectRaw(t, port)
  client.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n', handshake('/'))
  t.equal((await client.head()).status, 200)
  await client.until(() => client.data.includes('101 Switching'), '101')
  t.ok(client.data.indexOf('page') < client.data.indexOf('101 Switching'))
})
