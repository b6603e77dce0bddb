import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { close, listen, ms, open, Signal, text, watchProcess } from '../helpers/app.js'
import { CANCEL, makeHttp2App, NO_ERROR, Session } from '../helpers/http2.js'

/** Sends back each message. */
function echo(app: FastifyInstance, path = '/echo'): void {
  app.get(path, { websocket: true }, socket => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
}

for (const cleartext of [false, true]) {
  t.test(`RFC 8441: a WebSocket is a stream of the session, ${cleartext ? 'cleartext' : 'TLS'}`, async t => {
    const uncaught = watchProcess(t)
    const { app, log } = await makeHttp2App(t, {}, { cleartext })
    echo(app)
    app.get('/page', async request => request.raw.httpVersion)
    const port = await listen(app)
    const session = await Session.open(t, port, { host: '127.0.0.1', cleartext })
    t.equal(session.isAnnounced, true)
    const first = await session.open('/echo')
    const second = await session.open('/echo')
    t.equal(first.headers['sec-websocket-accept'], undefined)
    for (const [client, word] of [
      [first, 'one'],
      [second, 'two'],
      [first, 'three']
    ] as const) {
      client.write(text(word))
      t.equal(await client.text(), word)
    }
    t.strictSame(await session.get('/page'), { status: 200, body: '2.0' })
    first.write(close(1000))
    t.equal((await first.frame()).opcode, 8)
    await first.until(() => first.ended, 'the end')
    first.stream.end()
    t.equal(await first.reset(), NO_ERROR)
    second.write(text('still'))
    t.equal(await second.text(), 'still')
    const line = await log.until('WebSocket closed')
    t.equal(line.code, 1000)
    t.strictSame(uncaught, [])
  })
}

/** What an application sees of a WebSocket that a client opens and cuts. */
async function lifeOf(t: Test, way: 1 | 2): Promise<string[]> {
  const { app } = await makeHttp2App(t)
  const events: string[] = []
  const ended = new Signal()
  app.addHook('onRequest', async (request, reply) => {
    events.push(`onRequest ${request.method} ${request.ws} ${request.host.split(':')[0]} ${request.protocol}`)
    reply.header('x-hook', 'a').header('set-cookie', ['a=1', 'b=2']).header('keep-alive', 'x')
  })
  app.addHook('onSend', async (_request, _reply, payload) => void events.push(`onSend ${payload}`))
  app.addHook('onRequestAbort', async _request => void events.push('onRequestAbort'))
  app.addHook('onResponse', async (_request, reply) => {
    events.push(`onResponse ${reply.sent}`)
    ended.fire()
  })
  app.get('/', { websocket: { subprotocol: ['b', 'c'] } }, (socket, request) => {
    request.raw.on('close', () => events.push('request close'))
    request.raw.on('end', () => events.push('request end'))
    request.signal.addEventListener('abort', () => events.push('signal'))
    events.push(`handler ${socket.protocol} ${request.headers.host === request.host} ${request.ip}`)
    socket.on('close', code => events.push(`close ${code}`))
  })
  const port = await listen(app)
  if (way === 1) {
    const client = await open(t, port, '/?x=1', { secure: true, protocols: ['a', 'c', 'b'] })
    t.match(client.headers, { 'sec-websocket-protocol': 'c', 'x-hook': 'a', 'set-cookie': ['a=1', 'b=2'] })
    client.socket.terminate()
  } else {
    const session = await Session.open(t, port, { host: '127.0.0.1' })
    const client = await session.open('/?x=1', { 'sec-websocket-protocol': 'a, c, b' })
    t.match(client.headers, { 'sec-websocket-protocol': 'c', 'x-hook': 'a', 'set-cookie': ['a=1', 'b=2'] })
    t.equal(client.headers['content-length'], undefined)
    client.stream.close(CANCEL)
  }
  await ended.wait('the end of the request')
  return events
}

t.test('hooks, headers, the subprotocol and the end are as over HTTP/1.1', async t => {
  const events = await lifeOf(t, 2)
  t.strictSame(events, [
    'onRequest GET true 127.0.0.1 https',
    'onSend undefined',
    'handler c true 127.0.0.1',
    'close 1006',
    'request end',
    'request close',
    'signal',
    'onResponse true'
  ])
  t.strictSame(events, await lifeOf(t, 1))
})

t.test('refusals are ordinary responses', async t => {
  const uncaught = watchProcess(t)
  const { app } = await makeHttp2App(t, { maxConnectionsPerAddress: 3 })
  echo(app)
  app.get('/two', { websocket: { subprotocol: 'two' } }, () => {})
  app.get('/page', async () => 'page')
  app.get(
    '/hook',
    { websocket: true, onRequest: async (_request, reply) => reply.code(402).send('pay') },
    () => {}
  )
  app.get('/ok', { websocket: true, onRequest: async (_request, reply) => reply.send('ok') }, () => {})
  const port = await listen(app)
  const session = await Session.open(t, port, { host: '127.0.0.1' })
  const refusal = async (path: string, fields = {}, options = {}): Promise<unknown> => {
    const client = session.connect(path, fields, options)
    const status = await client.status()
    const body = await client.body()
    t.equal(await client.reset(), NO_ERROR)
    const code: unknown = body.startsWith('{') ? JSON.parse(body).code : body
    return `${status} ${code ?? ''}`.trim()
  }
  t.equal(await refusal('/none'), '404')
  t.equal(await refusal('/page'), '404')
  t.equal(await refusal('/two'), '400 FST_UPGRADE_UNSUPPORTED_SUBPROTOCOL')
  t.equal(await refusal('/echo', { origin: 'https://evil.test' }), '403 FST_UPGRADE_FORBIDDEN_ORIGIN')
  t.equal(await refusal('/echo', { 'sec-websocket-version': '8' }), '426 FST_UPGRADE_UNSUPPORTED_VERSION')
  t.equal(
    await refusal('/echo', { 'sec-websocket-version': undefined }),
    '426 FST_UPGRADE_UNSUPPORTED_VERSION'
  )
  t.equal(await refusal('/echo', { 'sec-websocket-protocol': 'a b' }), '400 FST_UPGRADE_INVALID_SUBPROTOCOL')
  t.equal(await refusal('/echo', { 'sec-websocket-extensions': ';' }), '400 FST_UPGRADE_INVALID_EXTENSIONS')
  t.equal(await refusal('/echo', { ':authority': 'a.test', host: 'b.test' }), '400 FST_UPGRADE_INVALID_HOST')
  t.equal(await refusal('/echo', {}, { endStream: true }), '400 FST_UPGRADE_ENDED_STREAM')
  t.equal(await refusal('/echo#x'), '400 FST_UPGRADE_INVALID_TARGET')
  t.equal(await refusal('/hook'), '402 pay')
  t.equal(await refusal('/ok'), '500 ok', 'a status of 2xx would accept')
  t.equal(await refusal('/echo', { ':protocol': 'connect-udp' }), '501')
  t.equal(
    await refusal('/echo', { ':protocol': undefined, ':path': undefined, ':authority': 'localhost' }),
    '405',
    'an ordinary CONNECT'
  )
  const get = await session.get('/echo')
  t.equal(get.status, 426)
  t.match(get.body, 'FST_UPGRADE_UPGRADE_REQUIRED')
  const clients = [await session.open('/echo'), await session.open('/echo'), await session.open('/echo')]
  t.equal(await refusal('/echo'), '503 FST_UPGRADE_TOO_MANY_CONNECTIONS', 'streams count')
  for (const client of clients) {
    client.write(text('x'))
    t.equal(await client.text(), 'x')
  }
  t.strictSame(uncaught, [])
})

t.test('hooks that are slow, fail, or set headers that HTTP/2 does not have', async t => {
  const uncaught = watchProcess(t)
  const { app } = await makeHttp2App(t, { handshakeTimeout: ms(100) })
  app.addHook('onRequest', async (request, reply) => {
    const { connection, value } = Object(request.query)
    if (connection !== undefined) reply.header(connection, 'x')
    if (value !== undefined) reply.header('x-value', value)
  })
  app.get('/echo', { websocket: true }, socket => {
    socket.on('message', data => socket.send(String(data)))
  })
  app.get('/slow', { websocket: true, onRequest: () => new Promise(() => {}) }, () => {})
  app.get('/fails', { websocket: true, preHandler: async () => Promise.reject(new Error('no')) }, () => {})
  app.get('/sends', { websocket: true, onSend: async () => Promise.reject(new Error('no')) }, () => {})
  const raw = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    reply.hijack()
    if (request.url === '/raw') {
      reply.raw.setHeader('keep-alive', 'x')
      reply.raw.setHeader('x-a', 'b')
      reply.raw.writeHead(402)
    } else reply.raw.writeHead(402, ['x-a', 'b'])
    reply.raw.end()
  }
  for (const path of ['/raw', '/list']) app.get(path, { websocket: true, onRequest: raw }, () => {})
  app.get('/throws', { websocket: true }, () => {
    throw new Error('no')
  })
  const session = await Session.open(t, await listen(app), { host: '127.0.0.1' })
  const neighbour = await session.open('/echo')
  for (const [path, status] of [
    ['/slow', 503],
    ['/fails', 500],
    ['/sends', 500],
    [`/echo?value=${encodeURIComponent('a\r\nb: c')}`, 500]
  ] as const) {
    const client = session.connect(path)
    t.equal(await client.status(), status, path)
    t.equal(client.headers.b, undefined)
    t.equal(await client.reset(), NO_ERROR)
  }
  for (const name of ['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'te', 'http2-settings']) {
    const client = await session.open(`/echo?connection=${name}`)
    t.equal(client.headers[name], undefined, name)
    const refused = session.connect(`/none?connection=${name}`)
    t.equal(await refused.status(), 404, name)
    t.equal(refused.headers[name], undefined)
  }
  const split = session.connect(`/none?value=${encodeURIComponent('a\r\nb: c')}`)
  await split.reset()
  t.equal(split.headers.b, undefined)
  for (const path of ['/raw', '/list']) {
    const client = session.connect(path)
    t.equal(await client.status(), 402, path)
    t.match(client.headers, { 'x-a': 'b', 'keep-alive': undefined })
  }
  const thrown = await session.open('/throws')
  const { opcode, payload } = await thrown.frame()
  t.strictSame([opcode, payload.readUInt16BE(0)], [8, 1011])
  neighbour.write(text('still'))
  t.equal(await neighbour.text(), 'still')
  t.strictSame(uncaught, [])
})

t.test('a client that leaves before the answer aborts the request, once', async t => {
  const { app } = await makeHttp2App(t, { maxConnections: 1 })
  const events: string[] = []
  const begun = new Signal()
  const aborted = new Signal()
  const goOn = new Signal()
  app.addHook('onRequestAbort', async _request => {
    events.push('onRequestAbort')
    aborted.fire()
  })
  app.get(
    '/',
    {
      websocket: true,
      preHandler: async request => {
        if (request.headers.wait === undefined) return
        request.signal.addEventListener('abort', () => events.push('signal'))
        request.raw.on('close', () => events.push('close'))
        begun.fire()
        await goOn.promise
      }
    },
    () => events.push('handler')
  )
  const session = await Session.open(t, await listen(app), { host: '127.0.0.1' })
  const client = session.connect('/', { wait: '1' })
  await begun.wait('the handshake')
  t.equal(await session.connect('/').status(), 503, 'it takes a slot')
  client.stream.close(CANCEL)
  await aborted.wait('the abort')
  goOn.fire()
  await session.open('/')
  t.strictSame([...events].sort(), ['close', 'handler', 'onRequestAbort', 'signal'])
})

/** Where Node has no `WebSocket`, or one that uses HTTP/1.1 only, there is nothing to see. */
const undici = Number.parseInt(process.versions.undici ?? '0', 10)

t.test(
  'the WebSocket of Node 26 uses HTTP/2 by itself, and those before it HTTP/1.1',
  {
    skip: typeof globalThis.WebSocket === 'undefined' && 'this version of Node has no WebSocket'
  },
  async t => {
    const { app } = await makeHttp2App(t)
    app.get('/', { websocket: true }, (socket, request) => socket.send(request.raw.httpVersion))
    const port = await listen(app)
    const { NODE_TLS_REJECT_UNAUTHORIZED = '1' } = process.env
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
    t.teardown(() => {
      process.env.NODE_TLS_REJECT_UNAUTHORIZED = NODE_TLS_REJECT_UNAUTHORIZED
    })
    const client = new globalThis.WebSocket(`wss://127.0.0.1:${port}/`)
    const message = new Signal<unknown>()
    client.onmessage = ({ data }) => message.fire(data)
    client.onerror = event => t.fail(String(Reflect.get(event, 'message')))
    t.equal(await message.wait('a message'), undici >= 8 ? '2.0' : '1.1')
    client.close()
  }
)
