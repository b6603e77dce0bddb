import { once } from 'node:events'
import { type Duplex, finished, PassThrough } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import t, { type Test } from 'tap'
import {
  Client,
  connectRaw,
  handshake,
  headerOf,
  KEY,
  ms,
  open,
  Signal,
  shake,
  text,
  tick,
  withDeadline
} from '../helpers/app.js'
import { bytes, frame } from '../protocol/wire.js'
import {
  echo,
  emptied,
  endAfter,
  IMPLEMENTATIONS,
  type Implementation,
  listening,
  portOf,
  type ServerOptions,
  serving,
  upgrading
} from './servers.js'

// Behaviour that code for `ws` relies on: each test runs with the server of `ws` and with that of this package.

function both(name: string, run: (t: Test, implementation: Implementation) => Promise<void>): void {
  for (const implementation of IMPLEMENTATIONS) {
    t.test(`${name}: ${implementation.name}`, t => run(t, implementation))
  }
}

both('text, bytes, pings and a close with code and reason are exchanged', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  echo(server)
  const [{ socket, ...client }, [serverSide]] = await connect(t, server, port)
  t.ok(serverSide instanceof implementation.WebSocket)
  t.equal(serverSide.readyState, implementation.WebSocket.OPEN)
  socket.send('one')
  t.equal(await client.next(), 'one')
  socket.send(Buffer.from([1, 2]))
  t.equal(await client.next(), '\x01\x02')
  socket.ping('p')
  t.strictSame(await once(socket, 'pong'), [Buffer.from('p')])
  const closed = once(serverSide, 'close')
  socket.close(3000, 'bye')
  t.strictSame((await closed).slice(0, 2), [3000, Buffer.from('bye')])
  t.equal(await client.closed(), '3000 bye')
  t.equal(serverSide.readyState, 3)
})

both('every ping is answered in order with the frames that are sent', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  server.on('connection', socket => {
    socket.on('message', data => {
      if (String(data) === 'close') socket.close(1000)
      else socket.send(String(data))
    })
  })
  const client = await connectRaw(t, port)
  const pings = Array.from({ length: 10 }, (_, i) => frame(9, `${i}`))
  const inside = [frame(1, 'a', { fin: false }), frame(9, 'inside'), frame(0, 'b')]
  client.write(handshake('/'), bytes(...pings, ...inside, frame(9, 'last'), text('close')))
  await client.response()
  const frames: string[] = []
  while (frames.length < 14) {
    const { opcode, payload } = await client.frame()
    frames.push(`${opcode} ${opcode === 8 ? payload.readUInt16BE() : payload}`)
  }
  const pongs = Array.from({ length: 10 }, (_, i) => `10 ${i}`)
  t.strictSame(frames, [...pongs, '10 inside', '1 ab', '10 last', '8 1000'])
})

async function connect(t: Test, server: { once: unknown } & NodeJS.EventEmitter, port: number, path = '/') {
  const connection = once(server, 'connection')
  const client = await open(t, port, path)
  return [
    { socket: client.socket, next: () => client.next(), closed: () => client.closed() },
    await connection
  ] as const
}

both(
  'connection has the socket and the request, and clients has the socket while it is open',
  async (t, implementation) => {
    const { server, port } = await listening(t, implementation)
    const [client, [socket, request]] = await connect(t, server, port, '/a?b=c')
    t.equal(request.url, '/a?b=c')
    t.strictSame([...server.clients], [socket])
    const closed = once(socket, 'close')
    client.socket.close()
    await closed
    t.equal(server.clients.size, 0)
  }
)

both('a client without listeners leaves clients, too', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  const [client] = await connect(t, server, port)
  client.socket.close(1000)
  t.equal(await client.closed(), '1000')
  await emptied(server)
})

both('without clientTracking there is no clients set, and close does not wait', async (t, implementation) => {
  const { server, port } = await withoutTracking(t, implementation)
  const [, [socket]] = await connect(t, server, port)
  t.equal(server.clients, undefined)
  const closed = once(server, 'close')
  server.close()
  await closed
  t.equal(socket.readyState, socket.OPEN)
})

async function withoutTracking(t: Test, { WebSocketServer }: Implementation) {
  const http = await serving(t)
  const server = new WebSocketServer({ server: http, clientTracking: false })
  return { server, port: portOf(http) }
}

both(
  'handleUpgrade calls back synchronously, and does not emit connection',
  async (t, { WebSocketServer }) => {
    const server = new WebSocketServer({ noServer: true })
    endAfter(t, server)
    server.on('connection', () => t.fail('handleUpgrade must not emit it'))
    const { port } = await upgrading(t, (request, socket, head) => {
      let isCalled = false
      server.handleUpgrade(request, socket, head, (client, sameRequest) => {
        isCalled = true
        t.equal(sameRequest, request)
        client.send('hello')
      })
      t.ok(isCalled)
    })
    t.equal(await (await open(t, port, '/')).next(), 'hello')
  }
)

both('bytes that came with the request are the first of the connection', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  echo(server)
  const client = await connectRaw(t, port)
  client.write(handshake('/'), text('early'))
  t.equal((await client.response()).status, 101)
  t.equal(String((await client.frame()).payload), 'early')
})

both('a socket that was already passed is refused with an error', async (t, { WebSocketServer }) => {
  const server = new WebSocketServer({ noServer: true })
  endAfter(t, server)
  const { port } = await upgrading(t, (request, socket, head) => {
    const upgrade = (): void => server.handleUpgrade(request, socket, head, () => {})
    upgrade()
    t.throws(upgrade, /more than once|called before/)
  })
  await open(t, port, '/')
})

const REFUSED: readonly (readonly [what: string, fields: Readonly<Record<string, string | undefined>>])[] = [
  ['without a key', { 'Sec-WebSocket-Key': undefined }],
  ['with a short key', { 'Sec-WebSocket-Key': 'abc' }],
  ['with a subprotocol that is no token', { 'Sec-WebSocket-Protocol': 'a b' }],
  ['with a subprotocol twice', { 'Sec-WebSocket-Protocol': 'a, a' }]
]

both('an invalid handshake gets 400, and the connection ends', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  server.on('connection', () => t.fail('no connection'))
  for (const [what, fields] of REFUSED) {
    const client = await connectRaw(t, port)
    client.write(handshake('/', fields))
    const response = await client.response()
    t.equal(response.status, 400, what)
    t.equal(headerOf(response, 'connection'), 'close', what)
    await client.end()
  }
})

both('another method gets 405', async (t, implementation) => {
  const { port } = await listening(t, implementation)
  const client = await connectRaw(t, port)
  client.write(handshake('/').replace('GET', 'POST'))
  t.equal((await client.response()).status, 405)
  await client.end()
})

both('an unknown version gets 426 with the supported version', async (t, implementation) => {
  const { port } = await listening(t, implementation)
  const response = await shake(t, port, '/', { 'Sec-WebSocket-Version': '12' })
  t.ok(response.status >= 400)
  t.match(headerOf(response, 'sec-websocket-version'), /\b13\b/)
})

both('an ordinary request to a server that listens on a port gets 426', async (t, implementation) => {
  const { port } = await listening(t, implementation)
  const response = await fetch(`http://127.0.0.1:${port}/`)
  t.equal(response.status, 426)
  t.ok((await response.text()).length > 0)
})

both(
  'wsClientError has the error, the socket and the request, and its listener answers',
  async (t, implementation) => {
    const { server, port } = await listening(t, implementation)
    server.on('wsClientError', (error, socket, request) => {
      t.type(error, Error)
      t.equal(request.url, '/x')
      socket.end('HTTP/1.1 418 Teapot\r\nConnection: close\r\n\r\n')
    })
    t.equal((await shake(t, port, '/x', { 'Sec-WebSocket-Key': undefined })).status, 418)
  }
)

both('the path option is compared without the query', async (t, implementation) => {
  const { server, port } = await listening(t, implementation, { path: '/ws' })
  echo(server)
  await open(t, port, '/ws?a=b')
  t.ok((await shake(t, port, '/other')).status >= 400)
  t.ok((await shake(t, port, '/ws/')).status >= 400)
})

both('shouldHandle can be overridden', async (t, { WebSocketServer, ...rest }) => {
  class Picky extends WebSocketServer {
    override shouldHandle(request: { url?: string | undefined }): boolean {
      return request.url === '/yes'
    }
  }
  const { port } = await listening(t, { ...rest, WebSocketServer: Picky })
  t.equal((await shake(t, port, '/yes')).status, 101)
  t.ok((await shake(t, port, '/no')).status >= 400)
})

both('headers may be added to the 101', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  server.on('headers', (lines, request) => {
    t.equal(lines[0], 'HTTP/1.1 101 Switching Protocols')
    lines.push(`X-Url: ${request.url}`, 'Set-Cookie: a=b; Path=/', 'Set-Cookie: c=d')
  })
  const response = await shake(t, port, '/p')
  t.equal(response.status, 101)
  t.equal(headerOf(response, 'x-url'), '/p')
  t.strictSame(response.headers.get('set-cookie'), ['a=b; Path=/', 'c=d'])
})

/** The response to a client that offers subprotocols. */
async function protocolOf(t: Test, implementation: Implementation, options: ServerOptions, offer: string) {
  const { port } = await listening(t, implementation, options)
  const response = await shake(t, port, '/', { 'Sec-WebSocket-Protocol': offer })
  return [response.status, headerOf(response, 'sec-websocket-protocol')]
}

both('the first subprotocol is selected, or the choice of handleProtocols', async (t, implementation) => {
  t.strictSame(await protocolOf(t, implementation, {}, 'b, a'), [101, 'b'])
  const handleProtocols = (offers: Set<string>): string | false => {
    t.ok(offers instanceof Set)
    return offers.has('a') && 'a'
  }
  t.strictSame(await protocolOf(t, implementation, { handleProtocols }, 'b, a'), [101, 'a'])
  t.strictSame(await protocolOf(t, implementation, { handleProtocols }, 'b'), [101, undefined])
})

both('handleProtocols may select none with any value that means none', async (t, implementation) => {
  for (const none of [false, '', null, undefined]) {
    const options: ServerOptions = {}
    Reflect.set(options, 'handleProtocols', () => none)
    const found = await protocolOf(t, implementation, options, 'a')
    t.strictSame(found, [101, undefined], String(none))
  }
})

both('null means no options, no data and no callback', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  server.on('error', error => t.fail(error.message))
  const [client, [socket]] = await connect(t, server, port)
  const pinged = once(client.socket, 'ping')
  Reflect.apply(socket.send, socket, ['one', null])
  Reflect.apply(socket.send, socket, ['two', null, null])
  Reflect.apply(socket.ping, socket, [null])
  Reflect.apply(socket.pong, socket, [null, null, null])
  t.strictSame(await pinged, [Buffer.alloc(0)])
  t.strictSame([await client.next(), await client.next()], ['one', 'two'])
  socket.close(1000)
  t.equal(await client.closed(), '1000')
  Reflect.apply(socket.send, socket, ['late', null, null])
  await tick()
})

both('handleProtocols and verifyClient may be assigned later', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  server.options.handleProtocols = () => 'late'
  const fields = { 'Sec-WebSocket-Protocol': 'early, late' }
  t.equal(headerOf(await shake(t, port, '/', fields), 'sec-websocket-protocol'), 'late')
  server.options.verifyClient = () => false
  t.equal((await shake(t, port, '/')).status, 401)
})

both('verifyClient decides by its return value', async (t, implementation) => {
  const verifyClient = ({
    origin,
    secure,
    req
  }: {
    origin: string
    secure: boolean
    req: { url?: string | undefined }
  }) => {
    t.equal(secure, false)
    t.equal(req.url, '/')
    return origin === 'http://good.test'
  }
  const { port } = await listening(t, implementation, { verifyClient })
  t.equal((await shake(t, port, '/', { Origin: 'http://good.test' })).status, 101)
  t.equal((await shake(t, port, '/', { Origin: 'http://bad.test' })).status, 401)
  t.equal((await shake(t, port, '/')).status, 401)
})

both('the return value of verifyClient need not be a boolean', async (t, implementation) => {
  for (const [value, status] of [
    ['user', 101],
    [{}, 101],
    ['', 401],
    [undefined, 401]
  ] as const) {
    const options = Object.assign({ port: 0 }, { verifyClient: () => value })
    const { port } = await listening(t, implementation, options)
    t.equal((await shake(t, port, '/')).status, status, String(value))
  }
})

both('verifyClient decides by its callback, synchronously or later', async (t, implementation) => {
  const verifyClient: ServerOptions['verifyClient'] = ({ req }, callback) => {
    if (req.url === '/now') callback(true)
    else if (req.url === '/later') setImmediate(callback, true)
    else setImmediate(callback, false, 403, 'not today', { 'X-Reason': 'monday' })
  }
  const { port } = await listening(t, implementation, { verifyClient })
  t.equal((await shake(t, port, '/now')).status, 101)
  t.equal((await shake(t, port, '/later')).status, 101)
  const refused = await shake(t, port, '/never')
  t.equal(refused.status, 403)
  t.equal(refused.body, 'not today')
  t.equal(headerOf(refused, 'x-reason'), 'monday')
})

both('a client that leaves during verifyClient is ignored', async (t, implementation) => {
  const left = new Signal<() => void>()
  const verifyClient: ServerOptions['verifyClient'] = ({ req }, callback) => {
    req.socket.on('close', () => left.fire(() => callback(true)))
    asked.fire()
  }
  const asked = new Signal()
  const { server, port } = await listening(t, implementation, { verifyClient })
  server.on('connection', () => t.fail('no connection'))
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await asked.wait('verifyClient')
  client.socket.resetAndDestroy()
  const answer = await left.wait('close')
  answer()
  await tick()
  t.equal(server.clients.size, 0)
})

both('maxPayload limits the size of a message', async (t, implementation) => {
  const { server, port } = await listening(t, implementation, { maxPayload: 10 })
  echo(server)
  const client = await open(t, port, '/')
  client.socket.send('0123456789')
  t.equal(await client.next(), '0123456789')
  client.socket.send('0123456789a')
  t.match(await client.closed(), /^1009/)
})

both('two megabytes are accepted by default, and 0 means no limit', async (t, implementation) => {
  for (const options of [{}, { maxPayload: 0 }]) {
    const { server, port } = await listening(t, implementation, options)
    echo(server)
    const client = await open(t, port, '/')
    client.socket.send('x'.repeat(2 ** 21))
    t.equal((await client.next()).length, 2 ** 21)
  }
})

both('perMessageDeflate is off by default, and can be on with options', async (t, implementation) => {
  const cases: readonly (readonly [ServerOptions['perMessageDeflate'], RegExp])[] = [
    [undefined, /^$/],
    [false, /^$/],
    [true, /^permessage-deflate/],
    [{ threshold: 0, zlibDeflateOptions: { level: 9 } }, /^permessage-deflate/]
  ]
  for (const [perMessageDeflate, expected] of cases) {
    const options = perMessageDeflate === undefined ? {} : { perMessageDeflate }
    const { server, port } = await listening(t, implementation, options)
    echo(server)
    const client = await open(t, port, '/')
    t.match(client.socket.extensions, expected)
    client.socket.send('z'.repeat(5000))
    t.equal(await client.next(), 'z'.repeat(5000))
  }
})

both('the option WebSocket sets the class of the connections', async (t, implementation) => {
  class Named extends (implementation.WebSocket as unknown as { new (...args: never[]): object }) {
    get label(): string {
      return 'mine'
    }
  }
  const { server, port } = await listening(
    t,
    implementation,
    Object.assign({ port: 0 }, { WebSocket: Named })
  )
  const [, [socket]] = await connect(t, server, port)
  t.ok(socket instanceof Named)
  t.equal(socket.label, 'mine')
  t.ok(socket instanceof implementation.WebSocket)
})

both(
  'with the server option, listening and error are passed on, and close leaves the server open',
  async (t, implementation) => {
    const http = await serving(t)
    const server = new implementation.WebSocketServer({ server: http, path: '/ws' })
    endAfter(t, server)
    const events: string[] = []
    server.on('listening', () => events.push('listening'))
    server.on('error', error => events.push(error.message))
    http.emit('listening')
    http.emit('error', new Error('oh'))
    t.strictSame(events, ['listening', 'oh'])
    t.strictSame(server.address(), http.address())
    echo(server)
    await open(t, portOf(http), '/ws')
    for (const client of server.clients) client.terminate()
    const closed = once(server, 'close')
    server.close()
    t.equal(server.address(), null)
    await closed
    t.equal(http.listening, true)
    t.strictSame([http.listenerCount('upgrade'), http.listenerCount('error')], [0, 0])
  }
)

both('exactly one of port, server and noServer is required', async (t, { WebSocketServer }) => {
  const http = await serving(t)
  const wrong: readonly ServerOptions[] = [
    {},
    { noServer: false },
    { port: 0, noServer: true },
    { port: 0, server: http },
    { server: http, noServer: true }
  ]
  for (const options of wrong) {
    t.type(
      t.throws(() => new WebSocketServer(options)),
      TypeError
    )
  }
})

both(
  "a server has an address and calls the constructor's callback, and a port in use is an error",
  async (t, { WebSocketServer }) => {
    const ready = new Signal()
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => ready.fire())
    endAfter(t, server)
    await ready.wait('callback')
    t.match(server.address(), { address: '127.0.0.1', family: 'IPv4' })
    const second = new WebSocketServer({ port: portOf(server), host: '127.0.0.1' })
    const [error] = await once(second, 'error')
    t.equal(error.code, 'EADDRINUSE')
    const withoutServer = new WebSocketServer({ noServer: true })
    t.throws(() => withoutServer.address())
  }
)

both(
  'close waits for the clients, then emits close; a second close gets an error',
  async (t, implementation) => {
    const { WebSocketServer } = implementation
    for (const kind of ['noServer', 'port'] as const) {
      const server = new WebSocketServer(
        kind === 'port' ? { port: 0, host: '127.0.0.1' } : { noServer: true }
      )
      if (kind === 'port') await once(server, 'listening')
      const port =
        kind === 'port'
          ? portOf(server)
          : (
              await upgrading(t, (request, socket, head) =>
                server.handleUpgrade(request, socket, head, client =>
                  server.emit('connection', client, request)
                )
              )
            ).port
      const [client] = await connect(t, server, port)
      const events: string[] = []
      const closed = new Signal()
      server.on('close', () => events.push('close'))
      server.close(error => {
        events.push(`callback ${error}`)
        closed.fire()
      })
      await tick()
      t.strictSame(events, [], `${kind}: a client is connected`)
      if (kind === 'noServer') t.equal((await shake(t, port, '/')).status, 503)
      client.socket.close()
      await closed.wait('close')
      t.strictSame(events, ['close', 'callback undefined'])
      const again = new Signal<unknown>()
      server.close(error => again.fire(error))
      t.type(await again.wait('second close'), Error)
    }
  }
)

both('close without clients emits close in the next tick', async (t, { WebSocketServer }) => {
  const server = new WebSocketServer({ noServer: true })
  let isClosed = false
  server.on('close', () => {
    isClosed = true
  })
  server.close()
  t.equal(isClosed, false)
  await tick()
  t.equal(isClosed, true)
})

both('a stream reads, writes and ends', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  server.on('connection', socket => {
    const stream = implementation.createWebSocketStream(socket as never)
    stream.pipe(stream)
  })
  const client = await open(t, port, '/')
  client.socket.send('one')
  t.equal(await client.next(), 'one')
  client.socket.send('two')
  t.equal(await client.next(), 'two')
  client.socket.close(1000)
  t.equal(await client.closed(), '1000')
})

both('a pipeline through a stream resolves when the client closes', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  const echoes: readonly ((stream: Duplex) => Promise<void>)[] = [
    stream => pipeline(stream, new PassThrough(), stream),
    stream =>
      pipeline(
        stream,
        async function* (chunks) {
          for await (const chunk of chunks) yield chunk
        },
        stream
      )
  ]
  for (const echo of echoes) {
    for (const code of [1000, 1001, undefined]) {
      const connection = once(server, 'connection')
      const client = await open(t, port, '/')
      const [socket] = await connection
      const echoed = echo(implementation.createWebSocketStream(socket as never))
      client.socket.send('one')
      t.equal(await client.next(), 'one')
      client.socket.close(code)
      await withDeadline(echoed, ms(10_000), 'pipeline')
    }
  }
})

both('a source that writes to a stream after the client has closed fails', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  const connection = once(server, 'connection')
  const client = await open(t, port, '/')
  const [socket] = await connection
  const source = new PassThrough()
  const stream = implementation.createWebSocketStream(socket as never)
  const sent = pipeline(source, stream.resume())
  const closed = once(socket, 'close')
  client.socket.close(1000)
  await closed
  source.write('late')
  await t.rejects(withDeadline(sent, ms(10_000), 'pipeline'), /not open|closing or closed/)
})

both('a stream fails when its peer disconnects without closing', async (t, implementation) => {
  const { server, port } = await listening(t, implementation, { maxPayload: 10 })
  for (const [message, code] of [
    ['longer than that', '1009'],
    ['short', '1000']
  ] as const) {
    const connection = once(server, 'connection')
    const client = await open(t, port, '/')
    const [socket] = await connection
    const stream = implementation.createWebSocketStream(socket as never)
    const ended = new Signal<unknown>()
    finished(stream.resume(), { writable: false }, error => ended.fire(error))
    client.socket.send(message)
    if (code === '1000') client.socket.close(1000)
    t.match(await client.closed(), code)
    const error = await ended.wait('end')
    t.equal(error instanceof Error, code === '1009', String(error))
  }
})

both('an unacceptable extension offer does not prevent an acceptable one', async (t, implementation) => {
  const { port } = await listening(t, implementation, { perMessageDeflate: true })
  const response = await shake(t, port, '/', {
    'Sec-WebSocket-Extensions': 'x-other; a=b, permessage-deflate; client_max_window_bits'
  })
  t.equal(response.status, 101)
  t.match(headerOf(response, 'sec-websocket-extensions'), /^permessage-deflate/)
  t.equal(
    headerOf(await shake(t, port, '/', { 'Sec-WebSocket-Key': KEY }), 'sec-websocket-extensions'),
    undefined
  )
})

both(
  'a peer that breaks the protocol gets the close code, and error is emitted',
  async (t, implementation) => {
    const { server, port } = await listening(t, implementation)
    const failed = new Signal<Error>()
    server.on('connection', socket => socket.on('error', error => failed.fire(error)))
    const client = await connectRaw(t, port)
    client.write(handshake('/'))
    await client.response()
    client.write(Buffer.from([0x81, 0x01, 0x61]))
    const frame = await client.frame()
    t.equal(frame.opcode, 8)
    t.equal(Buffer.from(frame.payload).readUInt16BE(), 1002)
    t.type(await failed.wait('error'), Error)
  }
)

both('members of a subclass can be set and read', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  const [, [socket]] = await connect(t, server, port)
  t.strictSame([socket.CONNECTING, socket.OPEN, socket.CLOSING, socket.CLOSED], [0, 1, 2, 3])
  t.strictSame(
    [socket.protocol, socket.extensions, socket.isPaused, socket.binaryType],
    ['', '', false, 'nodebuffer']
  )
  socket.isAlive = true
  t.equal(socket.isAlive, true)
  socket.terminate()
  await once(socket, 'close')
})

both('binaryType accepts its known values, and ignores others', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  const [, [socket]] = await connect(t, server, port)
  for (const type of ['arraybuffer', 'fragments', 'nodebuffer', 'arraybuffer']) {
    socket.binaryType = type
    t.equal(socket.binaryType, type)
  }
  for (const type of ['', 'Blob', 'buffer', null, undefined, 7, {}]) {
    socket.binaryType = type
    t.equal(socket.binaryType, 'arraybuffer', String(type))
  }
})

both('the constants of the class and of its sockets are read-only', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  const [, [socket]] = await connect(t, server, port)
  const { WebSocket } = implementation
  class Derived extends Object(WebSocket) {}
  for (const [value, name] of ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'].entries()) {
    for (const target of [WebSocket, Object.getPrototypeOf(socket), socket, Derived]) {
      t.equal(Reflect.set(target, name, 7), false, name)
      t.equal(Reflect.get(target, name), value, name)
      t.ok(name in target)
    }
    t.ok(Object.keys(WebSocket).includes(name))
  }
})

both('a broadcast can iterate over clients', async (t, implementation) => {
  const { server, port } = await listening(t, implementation)
  const clients = [new Client(t, port, '/'), new Client(t, port, '/')]
  for (const client of clients) await client.opened()
  for (const client of server.clients) client.send('all')
  for (const client of clients) t.equal(await client.next(), 'all')
})
