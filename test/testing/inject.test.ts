import { once } from 'node:events'
import type { Http2ServerResponse } from 'node:http2'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import upgrade from '../../lib/index.js'
import {
  type InjectContext,
  InjectInvalidResponseError,
  InjectRefusedError,
  inject,
  WebSocket
} from '../../lib/testing/index.js'
import { bareApp, listen, makeApp, Signal, tick, withDeadline } from '../helpers/app.js'
import { bareHttp2App, makeHttp2App } from '../helpers/http2.js'
import { CERTIFICATE, KEY } from '../socket/certificate.js'
import { closing, nextEvent } from '../socket/harness.js'

/** The next message of a client, as text. */
async function next(client: WebSocket): Promise<string> {
  const [data] = await nextEvent<[Buffer, boolean]>(client, 'message')
  return String(data)
}

/** The error with which an injection is refused. */
async function refused(injected: Promise<WebSocket>): Promise<InjectRefusedError> {
  const error: unknown = await injected.then(
    () => new Error('it was not refused'),
    error => error
  )
  if (!(error instanceof InjectRefusedError)) throw error
  return error
}

t.test('messages pass in both directions without a port', async t => {
  const { app } = await makeApp(t)
  app.get('/chat/:room', { websocket: true }, (socket, request) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
    socket.send(JSON.stringify([request.params, request.query]))
  })
  const client = await app.injectWS('/chat/a?b=c')
  t.ok(client instanceof WebSocket)
  t.equal(client.readyState, WebSocket.OPEN)
  t.equal(await next(client), '[{"room":"a"},{"b":"c"}]')
  client.send('text')
  t.strictSame(await nextEvent(client, 'message'), [Buffer.from('text'), false])
  client.send(Buffer.alloc(300_000, 7))
  t.strictSame(await nextEvent(client, 'message'), [Buffer.alloc(300_000, 7), true])
  t.equal(app.server.listening, false)
  t.equal(app.websocketServer.clients.size, 1)
})

t.test('data that both sides send is copied, so neither changes the bytes of the other', async t => {
  const { app } = await makeApp(t)
  const sent = Buffer.alloc(100_000, 1)
  const got = new Signal<Buffer>()
  app.get('/', { websocket: true }, socket => {
    socket.on('message', data => got.fire(data))
    socket.send(sent)
  })
  const client = await app.injectWS()
  const [received] = await nextEvent<[Buffer]>(client, 'message')
  received.fill(9)
  t.ok(sent.every(byte => byte === 1))
  const own = Buffer.alloc(100_000, 2)
  client.send(own)
  const atServer = await got.wait('message')
  t.strictSame(atServer, Buffer.alloc(100_000, 2))
  t.ok(own.every(byte => byte === 2))
})

t.test(
  'messages that the server sends immediately are received, whenever and however they are read',
  async t => {
    const { app } = await makeApp(t)
    app.get('/', { websocket: true }, socket => {
      socket.send('one')
      socket.send('two')
      setImmediate(() => socket.send('three'))
    })
    app.get('/bye', { websocket: true }, socket => {
      for (const word of ['one', 'two', 'three']) socket.send(word)
      socket.close(4000, 'that was all')
    })
    const late = await app.injectWS()
    for (let i = 0; i < 10; i++) await tick()
    t.strictSame([await next(late), await next(late), await next(late)], ['one', 'two', 'three'])

    const gone = await app.injectWS('/bye')
    t.equal(await closing(gone), '4000 that was all', 'a close is seen although no messages were read')
    const messages: unknown[] = []
    for await (const message of gone) messages.push(message)
    t.strictSame(messages, ['one', 'two', 'three'])

    const early: string[] = []
    const onMessage = (data: Buffer): void => void early.push(String(data))
    const client = await app.injectWS('/bye', {}, { onInit: client => client.on('message', onMessage) })
    await closing(client)
    t.strictSame(early, ['one', 'two', 'three'])
  }
)

t.test('onInit, the open event and onOpen are called in this order, before any message', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, socket => {
    socket.send('hello')
    socket.terminate()
  })
  const order: string[] = []
  const seen = new Set<WebSocket>()
  const client = await app.injectWS(
    '/',
    {},
    {
      onInit(client) {
        seen.add(client)
        order.push(`init ${client.readyState}`)
        client.on('open', () => order.push('open'))
        client.onopen = () => order.push('onopen')
        client.on('message', () => order.push('message'))
        client.on('close', () => order.push('close'))
      },
      onOpen(client) {
        seen.add(client)
        order.push('onOpen')
      }
    }
  )
  t.strictSame([...seen], [client])
  t.strictSame(order, [`init ${WebSocket.OPEN}`, 'open', 'onopen', 'onOpen'])
  t.equal(
    await closing(client),
    '1006',
    'the close event is emitted for a listener added after the await only'
  )
})

for (const name of ['onInit', 'onOpen'] as const) {
  t.test(`an error thrown by ${name} rejects injectWS and ends the connection`, async t => {
    const { app } = await makeApp(t)
    const ended = new Signal<number>()
    app.get('/', { websocket: true }, socket => void socket.on('close', code => ended.fire(code)))
    const error = new Error('from the test')
    const fail = (): void => {
      throw error
    }
    await t.rejects(app.injectWS('/', {}, { [name]: fail }), error)
    t.equal(await ended.wait('end'), 1006)
  })
}

t.test('the request has the given URL, headers and address', async t => {
  const { app } = await makeApp(t, {}, { trustProxy: '192.0.2.1' })
  app.get('/', { websocket: true }, (socket, request) => {
    const { ip, host, protocol, headers, ws, method } = request
    const { remotePort } = request.socket
    socket.send(JSON.stringify({ ip, host, protocol, ws, method, headers, remotePort }))
  })
  const ask = async (context?: InjectContext) => JSON.parse(await next(await app.injectWS('/', context)))

  const plain = await ask()
  t.match(plain, { ip: '127.0.0.1', host: 'localhost', protocol: 'http', ws: true, method: 'GET' })
  t.strictSame(Object.keys(plain.headers).sort(), [
    'connection',
    'host',
    'sec-websocket-key',
    'sec-websocket-version',
    'upgrade'
  ])
  t.type(plain.remotePort, 'number')
  t.not((await ask()).remotePort, plain.remotePort)

  const own = await ask({
    headers: {
      Cookie: 'a=1',
      'X-List': ['b', 'c'],
      Upgrade: 'h2c',
      'sec-websocket-version': '8',
      x: undefined,
      y: 1
    },
    remoteAddress: '2001:db8::1'
  })
  t.match(own, {
    ip: '2001:db8::1',
    headers: { cookie: 'a=1', 'x-list': 'b, c', upgrade: 'websocket', y: '1' }
  })
  t.equal(own.headers['sec-websocket-version'], '13', 'the handshake fields cannot be set')
  t.notOk('x' in own.headers)

  const forwarded = { 'x-forwarded-for': '198.51.100.9', 'x-forwarded-host': 'example.com' }
  t.match(await ask({ headers: forwarded }), { ip: '127.0.0.1', host: 'localhost' }, 'an untrusted address')
  const proxied = await ask({ headers: forwarded, remoteAddress: '192.0.2.1' })
  t.match(proxied, { ip: '198.51.100.9', host: 'example.com' })
})

t.test('the same-origin rule of the server applies', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, socket => socket.close())
  await app.injectWS('/', { headers: { origin: 'http://localhost' } })
  await app.injectWS('/', { headers: { Host: 'example.com', Origin: 'http://example.com' } })
  const { statusCode, body } = await refused(
    app.injectWS('/', { headers: { origin: 'http://evil.example' } })
  )
  t.equal(statusCode, 403)
  t.equal(JSON.parse(body).code, 'FST_UPGRADE_FORBIDDEN_ORIGIN')
})

t.test('subprotocols are offered and checked, as a list or as a header', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: { subprotocol: ['b', 'c'] } }, socket => socket.send(socket.protocol))
  const offers: InjectContext[] = [
    { subprotocols: ['a', 'c', 'b'] },
    { subprotocols: 'c' },
    { headers: { 'Sec-WebSocket-Protocol': 'a, c,b' } },
    { headers: { 'sec-websocket-protocol': ['a', 'c'] } }
  ]
  for (const context of offers) {
    const client = await app.injectWS('/', context)
    t.equal(client.protocol, 'c')
    t.equal(await next(client), 'c')
  }
  t.match(JSON.parse((await refused(app.injectWS('/', { subprotocols: ['a'] }))).body), {
    code: 'FST_UPGRADE_UNSUPPORTED_SUBPROTOCOL'
  })
  t.match(
    JSON.parse((await refused(app.injectWS('/', { headers: { 'sec-websocket-protocol': 'a b' } }))).body),
    {
      code: 'FST_UPGRADE_INVALID_SUBPROTOCOL'
    }
  )
})

t.test('permessage-deflate is offered on request, and then used', async t => {
  const { app } = await makeApp(t, {
    perMessageDeflate: { threshold: 0, serverNoContextTakeover: false, clientNoContextTakeover: false }
  })
  const asked = new Signal<string | undefined>()
  app.get('/', { websocket: true }, (socket, request) => {
    asked.fire(request.headers['sec-websocket-extensions'])
    socket.on('message', data => {
      socket.send(data)
      socket.send(String(socket.traffic.bytesReceived))
    })
  })
  const data = 'to and fro, '.repeat(1_000)
  const roundTrip = async (perMessageDeflate?: InjectContext['perMessageDeflate']) => {
    const client = await app.injectWS('/', { perMessageDeflate })
    client.send(data)
    const same = (await next(client)) === data
    const { bytesReceived } = client.traffic
    return {
      extensions: client.extensions,
      same,
      small: Number(await next(client)) < 1000 && bytesReceived < 1000
    }
  }
  t.strictSame(await roundTrip(), { extensions: '', same: true, small: false })
  t.equal(await asked.wait('request'), undefined)
  t.strictSame(await roundTrip(false), { extensions: '', same: true, small: false })
  const compressed = { extensions: 'permessage-deflate', same: true, small: true }
  t.strictSame(await roundTrip(true), compressed)
  t.strictSame(
    await roundTrip({ serverMaxWindowBits: 9, clientNoContextTakeover: true, level: 9 }),
    compressed
  )
  t.strictSame(await roundTrip({ threshold: 100_000, clientNoContextTakeover: true }), {
    ...compressed,
    small: false
  })
})

t.test('a client of an application that declines compression works without it', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, socket => socket.send('a'))
  const client = await app.injectWS('/', { perMessageDeflate: true })
  t.equal(client.extensions, '')
  t.equal(await next(client), 'a')
})

t.test('hooks run, and their refusals reject with status, headers and body', async t => {
  const { app } = await makeApp(t)
  app.addHook('onRequest', async (request, reply) => {
    if (request.headers.authorization === undefined) {
      return reply.code(401).header('www-authenticate', 'Bearer').send({ message: 'who are you?' })
    }
  })
  app.get('/', { websocket: true }, socket => socket.send('in'))
  const error = await refused(app.injectWS('/'))
  t.match(error, {
    name: 'Error',
    message: 'Unexpected server response: 401',
    code: 'FST_UPGRADE_INJECT_REFUSED',
    statusCode: 401,
    headers: { 'www-authenticate': 'Bearer', 'content-type': /json/ },
    body: '{"message":"who are you?"}'
  })
  t.equal(await next(await app.injectWS('/', { headers: { authorization: 'Bearer x' } })), 'in')
})

t.test('onInit is not called for a refused client', async t => {
  const { app } = await makeApp(t)
  const fail = (): void => void t.fail('there is no client')
  t.equal((await refused(app.injectWS('/nothing', {}, { onInit: fail, onOpen: fail }))).statusCode, 404)
})

t.test('refusals are the same as from the server', async t => {
  const { app } = await makeApp(t, { handshakeTimeout: 20 })
  app.get('/', { websocket: true }, socket => socket.send('in'))
  app.get('/ordinary', async () => 'ordinary')
  app.get('/slow', { websocket: true, onRequest: () => {} }, () => {})
  app.get(
    '/cut',
    {
      websocket: true,
      onRequest: async request => {
        request.socket.destroy()
      }
    },
    () => {}
  )
  t.equal((await refused(app.injectWS('/nothing'))).statusCode, 404)
  t.equal((await refused(app.injectWS('/ordinary'))).statusCode, 404)
  t.equal((await refused(app.injectWS('/slow'))).statusCode, 503)
  const post = await refused(app.injectWS('/', { method: 'POST' }))
  t.match(post, { statusCode: 405, headers: { allow: 'GET' } })
  t.equal((await refused(app.injectWS('no-path'))).statusCode, 400)
  await t.rejects(app.injectWS('/cut'), { code: 'ECONNRESET' })
  t.equal((await app.inject('/ordinary')).body, 'ordinary')
})

t.test('invalid options are refused before a connection is made', async t => {
  const { app } = await makeApp(t)
  app.server.on('connection', () => t.fail('no connection is made'))
  await t.rejects(app.injectWS('/a b'), { code: 'ERR_UNESCAPED_CHARACTERS' })
  await t.rejects(app.injectWS('/', { headers: { 'a b': 'c' } }), { code: 'ERR_INVALID_HTTP_TOKEN' })
  await t.rejects(app.injectWS('/', { headers: { a: 'b\r\nc: d' } }), { code: 'ERR_INVALID_CHAR' })
})

t.test('injectWS waits until the application is ready', async t => {
  const { app } = bareApp(t)
  app.register(upgrade)
  app.register(async scope => {
    scope.get('/', { websocket: true }, socket => socket.send('late'))
  })
  t.equal(await next(await inject(app)), 'late')
})

t.test('a listening server accepts both kinds of clients', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, socket => socket.send('in'))
  await listen(app)
  t.equal(await next(await app.injectWS()), 'in')
})

t.test('an application over TLS is served as over TLS', async t => {
  const https = Fastify({ https: { key: KEY, cert: CERTIFICATE } })
  t.teardown(() => https.close())
  await https.register(upgrade)
  https.get('/', { websocket: true }, (socket, request) => {
    socket.send(`${request.protocol} ${request.ip}`)
    socket.on('message', data => socket.send(data))
  })
  const client = await https.injectWS()
  t.equal(await next(client), 'https 127.0.0.1')
  client.send('a')
  t.equal(await next(client), 'a')
  const { statusCode } = await refused(https.injectWS('/nothing'))
  t.equal(statusCode, 404)
})

t.test('each scope has its own connections', async t => {
  const { app } = bareApp(t)
  const scopes: FastifyInstance[] = []
  for (const prefix of ['/a', '/b']) {
    app.register(
      async scope => {
        await scope.register(upgrade)
        scope.get('/', { websocket: true }, socket => socket.send(prefix))
        scopes.push(scope)
      },
      { prefix }
    )
  }
  await app.ready()
  const [a, b] = scopes
  if (a === undefined || b === undefined) throw new Error('no scopes')
  t.equal(await next(await a.injectWS('/a')), '/a')
  const { injectWS } = b
  t.equal(await next(await injectWS('/b')), '/b')
  t.equal(a.websocketServer.clients.size, 1)
  t.equal(b.websocketServer.clients.size, 1)
})

t.test('a hundred concurrent clients each receive their own data', async t => {
  const { app } = await makeApp(t)
  app.get('/:id', { websocket: true }, (socket, request) => {
    socket.on('message', data => socket.send(`${request.url} ${request.ip} ${data}`))
  })
  const ids = Array.from({ length: 100 }, (_, id) => id)
  const answers = await Promise.all(
    ids.map(async id => {
      const client = await app.injectWS(`/${id}`, { remoteAddress: `10.0.0.${id}` })
      client.send(String(id))
      return next(client)
    })
  )
  t.strictSame(
    answers,
    ids.map(id => `/${id} 10.0.0.${id} ${id}`)
  )
  t.equal(app.websocketServer.clients.size, 100)
})

t.test('backpressure reaches the other side in both directions', async t => {
  const { app } = await makeApp(t, { highWaterMark: 1_000, maxPayload: 10_000_000 })
  const opened = new Signal<WebSocket>()
  app.get('/', { websocket: true }, socket => {
    socket.pause()
    socket.on('message', () => {})
    opened.fire(socket)
  })
  const client = await app.injectWS()
  client.pause()
  const server = await opened.wait('server')
  for (const [from, to] of [
    [server, client],
    [client, server]
  ] as const) {
    while (from.send(Buffer.alloc(50_000)));
    while (from.bufferedAmount < 500_000) from.send(Buffer.alloc(50_000))
    await tick()
    t.ok(from.bufferedAmount > 100_000, `${from.bufferedAmount} bytes are buffered`)
    to.resume()
    await withDeadline(from.drained(), 5_000, 'drain')
    t.ok(from.bufferedAmount <= 65_536)
  }
})

t.test('an error thrown by a listener of the client is an error of the test', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, socket => socket.send('a'))
  const uncaught = once(process, 'uncaughtException')
  const error = new Error('an assertion that fails')
  const client = await app.injectWS()
  client.on('message', () => {
    throw error
  })
  t.equal((await uncaught)[0], error)
})

t.test('a server that breaks the protocol makes injectWS or the client fail', async t => {
  const { app } = bareApp(t)
  const answers = [
    ['Sec-WebSocket-Accept: wrong', 'The accept value does not match the key.'],
    ['Sec-WebSocket-Protocol: other', 'The server chose a subprotocol that was not offered.'],
    ['Sec-WebSocket-Extensions: permessage-deflate', 'The server chose an extension that was not offered.']
  ] as const
  const { acceptValue } = await import('../../lib/protocol/handshake/accept.js')
  app.server.on('upgrade', (request, socket) => {
    const field = String(request.headers['x-field'])
    const accept = acceptValue(String(request.headers['sec-websocket-key']))
    const right = field.startsWith('Sec-WebSocket-Accept') ? '' : `Sec-WebSocket-Accept: ${accept}\r\n`
    socket.on('error', () => {})
    socket.on('end', () => ended.push(field)).resume()
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n')
    socket.write(`${right}${field}\r\n\r\n`)
    // A text message, in the same chunk as the end of the head, and later a frame that breaks the protocol.
    if (request.url !== '/frames') return
    socket.write('\u0081\u0001a', 'latin1')
    setImmediate(() => setImmediate(() => socket.write('\u0083\u0000', 'latin1')))
  })
  const ended: string[] = []
  for (const [field, message] of answers) {
    await t.rejects(inject(app, '/', { headers: { 'x-field': field } }), {
      constructor: InjectInvalidResponseError,
      code: 'FST_UPGRADE_INJECT_INVALID_RESPONSE',
      statusCode: 101,
      message
    })
  }
  await tick()
  t.strictSame(
    ended,
    answers.map(([field]) => field),
    'the connections are ended'
  )
  const client = await inject(app, '/frames', { headers: { 'x-field': 'X-Right: yes' } })
  const [error] = await nextEvent<[Error]>(client, 'error')
  t.match(error, { code: 'FST_UPGRADE_INVALID_OPCODE' })
  t.equal(await next(client), 'a')
})

t.test('an application without the plugin rejects injectWS', async t => {
  const { app } = bareApp(t)
  app.get('/', async () => 'ordinary')
  t.match(await refused(inject(app)), { statusCode: 200, body: 'ordinary' })
  app.server.on('upgrade', (_request, socket) => {
    socket.on('error', () => {})
    socket.end('HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\ncut short')
  })
  await t.rejects(inject(app), { code: 'ECONNRESET' })
})

t.test('httpVersion: 2: a WebSocket is a stream of a session in memory', async t => {
  for (const cleartext of [true, false]) {
    const { app } = await makeHttp2App(t, { perMessageDeflate: true }, { cleartext })
    app.get('/:room', { websocket: { subprotocol: ['a', 'b'] } }, (socket, request) => {
      const { raw, ip, host, headers, protocol } = request
      const seen = [raw.httpVersion, ip, protocol, host, headers.cookie, socket.protocol, request.params]
      socket.send(JSON.stringify(seen))
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
    })
    const client = await app.injectWS('/tea', {
      httpVersion: 2,
      remoteAddress: '10.0.0.1',
      headers: { host: 'a.test', cookie: 'c=d', Upgrade: 'x' },
      subprotocols: ['x', 'b'],
      perMessageDeflate: true
    })
    t.equal(
      await next(client),
      `["2.0","10.0.0.1","http${cleartext ? '' : 's'}","a.test","c=d","b",{"room":"tea"}]`
    )
    t.equal(client.protocol, 'b')
    t.equal(client.extensions, 'permessage-deflate')
    const large = 'x'.repeat(300_000)
    client.send(large)
    t.equal(await next(client), large)
    const closed = closing(client)
    client.close(1000)
    t.equal(await closed, '1000')
    if (!cleartext) {
      const other = await app.injectWS('/tea', { subprotocols: 'a' })
      t.match(await next(other), '["1.1"')
    }
    const left = await app.injectWS('/tea', { httpVersion: 2, subprotocols: 'a' })
    await next(left)
    const ended = closing(left)
    await withDeadline(app.close(), 10_000, 'close')
    t.equal(await ended, '1001')
  }
})

t.test('httpVersion: 2: refusals, and answers that are not valid', async t => {
  const { app } = await makeHttp2App(t, {}, { cleartext: true })
  app.get('/ws', { websocket: true }, () => {})
  const refusal = await refused(app.injectWS('/none', { httpVersion: 2 }))
  t.equal(refusal.statusCode, 404)
  t.match(refusal.body, 'Route GET:/none not found')
  const forbidden = await refused(
    app.injectWS('/ws', { httpVersion: 2, headers: { origin: 'https://a.test' } })
  )
  t.equal(forbidden.statusCode, 403)
  const off = await makeHttp2App(t, { http2: false })
  const { app: http1 } = await makeApp(t)
  for (const other of [off.app, http1])
    await t.rejects(other.injectWS('/', { httpVersion: 2 }), { code: 'FST_UPGRADE_INJECT_HTTP2' })
  const { app: bare } = bareHttp2App(t, { cleartext: true })
  Reflect.apply(Reflect.get(bare.server, 'updateSettings'), bare.server, [{ enableConnectProtocol: true }])
  const answer = (request: { readonly url: string }, response: Http2ServerResponse): void => {
    if (request.url === '/reset') response.stream.close(2)
    else if (request.url === '/gone') response.stream.close()
    else response.stream.respond({ ':status': 200, 'sec-websocket-protocol': 'x' })
  }
  Reflect.apply(bare.server.on, bare.server, ['connect', answer])
  await t.rejects(inject(bare, '/', { httpVersion: 2 }), {
    code: 'FST_UPGRADE_INJECT_INVALID_RESPONSE',
    statusCode: 200
  })
  await t.rejects(inject(bare, '/reset', { httpVersion: 2 }), { code: 'ERR_HTTP2_STREAM_ERROR' })
  await t.rejects(inject(bare, '/gone', { httpVersion: 2 }), { message: 'without an answer' })
})
