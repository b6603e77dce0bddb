import t, { type Test } from 'tap'
import upgrade from '../../lib/index.js'
import {
  ACCEPT,
  bareApp,
  codeOf,
  connectRaw,
  handshake,
  headerOf,
  KEY,
  listen,
  makeApp,
  ms,
  PAGE_ACCEPT,
  PAGE_HANDSHAKE,
  Signal,
  shake,
  tick,
  watchProcess,
  withDeadline
} from '../helpers/app.js'
import { bytes, frame } from '../protocol/wire.js'

/** The 101 byte for byte. */
const accepted = (accept: string, more = ''): string =>
  `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n${more}\r\n`

async function echoServer(t: Test, options = {}): Promise<number> {
  const { app } = await makeApp(t, options)
  app.get('/', { websocket: true }, socket => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
  app.get('/chatsocket', { websocket: { origin: ['http://localhost:63342'] } }, socket =>
    socket.on('message', () => {})
  )
  app.get('/same-origin', { websocket: true }, socket => socket.on('message', () => {}))
  app.get('/plain', async () => 'plain')
  app.post('/', async () => 'posted')
  return listen(app)
}

/** Sends bytes and returns all data until the response is complete. */
async function answer(t: Test, port: number, request: string): Promise<string> {
  const client = await connectRaw(t, port)
  client.write(request)
  await client.until(() => client.data.includes('\r\n\r\n'), 'head')
  return client.data.toString('latin1')
}

t.test('the handshake with the key x3JJHMbDL1EzLkh9GBhXDw== gets the right accept value', async t => {
  const port = await echoServer(t)
  const request = handshake('/', { 'Sec-WebSocket-Key': 'x3JJHMbDL1EzLkh9GBhXDw==' })
  t.equal(await answer(t, port, request), accepted('HSmrc0sMlYUkAGmm5OPpG2HaGWk='))
})

t.test(
  'a handshake with the key of RFC 6455 section 4.1, whose spare bits are not zero, is accepted',
  async t => {
    const port = await echoServer(t)
    const request = handshake('/', { 'Sec-WebSocket-Key': 'AQIDBAUGBwgJCgsMDQ4PEC==' })
    t.equal(await answer(t, port, request), accepted('OfS0wDaT5NoxF2gqm7Zj2YtetzM='))
  }
)

t.test('a handshake of a page of http://localhost:63342 is checked by its origin', async t => {
  const port = await echoServer(t)
  t.equal(await answer(t, port, PAGE_HANDSHAKE), accepted(PAGE_ACCEPT), 'its origin is allowed')
  const refused = await answer(t, port, PAGE_HANDSHAKE.replace('/chatsocket', '/same-origin'))
  t.match(refused, /^HTTP\/1.1 403 Forbidden\r\n/, 'its origin is not allowed')
})

t.test('the handshake of RFC 6455 section 1.2 may be split at every byte, and sent byte by byte', async t => {
  const port = await echoServer(t)
  const request = handshake('/')
  for (let cut = 1; cut < request.length; cut += 7) {
    const client = await connectRaw(t, port)
    client.write(request.slice(0, cut))
    await new Promise(resolve => client.socket.write(request.slice(cut), resolve))
    await client.until(() => client.data.includes('\r\n\r\n'), 'head')
    if (String(client.data) !== accepted(ACCEPT)) t.fail(`cut at ${cut}: ${client.data}`)
    client.socket.destroy()
  }
  const client = await connectRaw(t, port)
  for (const char of request) await new Promise(resolve => client.socket.write(char, resolve))
  await client.until(() => client.data.includes('\r\n\r\n'), 'head')
  t.equal(String(client.data), accepted(ACCEPT))
})

t.test('frames in the same segment as the request are delivered', async t => {
  const port = await echoServer(t)
  const client = await connectRaw(t, port)
  client.write(handshake('/'), frame(1, 'first'), frame(2, 'second'))
  await client.response()
  t.match(await client.frame(), { opcode: 1, payload: Buffer.from('first') })
  t.match(await client.frame(), { opcode: 2, payload: Buffer.from('second') })
})

t.test('the 101 has the subprotocol, followed by the headers that hooks set', async t => {
  const { app } = await makeApp(t)
  app.addHook('onRequest', async (_request, reply) => void reply.header('X-Hook', 'yes'))
  app.get('/', { websocket: { subprotocol: ['b', 'a'] } }, () => {})
  const port = await listen(app)
  const request = handshake('/', { 'Sec-WebSocket-Protocol': 'x, a, b' })
  t.equal(await answer(t, port, request), accepted(ACCEPT, 'Sec-WebSocket-Protocol: a\r\nx-hook: yes\r\n'))
})

for (const [name, fields] of Object.entries<Record<string, string>>({
  'tokens in any case': { Upgrade: 'WebSocket', Connection: 'keep-alive, UPGRADE' },
  'several tokens in Upgrade': { Upgrade: 'foo, websocket' },
  'protocols with versions in Upgrade': { Upgrade: 'foo/1, websocket, WebSocket/13' },
  'an empty list of extensions': { 'Sec-WebSocket-Extensions': '' },
  'an empty body': { 'Content-Length': '0' },
  'unknown extensions': { 'Sec-WebSocket-Extensions': 'foo; bar="baz", x-y; z=1' },
  'unacceptable parameters of an extension': {
    'Sec-WebSocket-Extensions': 'permessage-deflate; server_max_window_bits=99'
  },
  'a query': { 'X-Anything': '1' }
})) {
  t.test(`a valid handshake with ${name} is accepted`, async t => {
    const port = await echoServer(t)
    t.equal(await answer(t, port, handshake('/?q=1', fields)), accepted(ACCEPT))
  })
}

interface Row {
  readonly request: string
  readonly status: number
  readonly code?: string
  readonly headers?: Readonly<Record<string, string>>
}

const good = handshake('/')
const without = (name: string): string => handshake('/', { [name]: undefined })
const again = (line: string): string => good.replace('\r\n\r\n', `\r\n${line}\r\n\r\n`)
const bad = (request: string, code: string): Row => ({ request, status: 400, code })
const otherVersion = (version: string): Row => ({
  request: handshake('/', { 'Sec-WebSocket-Version': version }),
  status: 426,
  code: 'UNSUPPORTED_VERSION',
  headers: { 'sec-websocket-version': '13', upgrade: 'websocket', connection: 'Upgrade, close' }
})
const otherMethod = (method: string): Row => ({
  request: good.replace('GET', method),
  status: 405,
  code: 'METHOD_NOT_ALLOWED',
  headers: { allow: 'GET' }
})

const REFUSALS: Readonly<Record<string, Row>> = {
  POST: otherMethod('POST'),
  PUT: otherMethod('PUT'),
  DELETE: otherMethod('DELETE'),
  'no key': bad(without('Sec-WebSocket-Key'), 'INVALID_KEY'),
  'a repeated key': bad(again(`Sec-WebSocket-Key: ${KEY}`), 'INVALID_KEY'),
  'a key of 15 bytes': bad(good.replace(KEY, Buffer.alloc(15).toString('base64')), 'INVALID_KEY'),
  'a key of 17 bytes': bad(good.replace(KEY, Buffer.alloc(17).toString('base64')), 'INVALID_KEY'),
  'a key without padding': bad(good.replace(KEY, KEY.slice(0, -2)), 'INVALID_KEY'),
  'a key in the other alphabet': bad(good.replace(KEY, '-_-_-_-_-_-_-_-_-_-_-w=='), 'INVALID_KEY'),
  'a second Host': bad(again('Host: other'), 'INVALID_HOST'),
  'an empty Host': bad(handshake('/', { Host: '' }), 'INVALID_HOST'),
  'a repeated version': bad(again('Sec-WebSocket-Version: 13'), 'REPEATED_VERSION'),
  'an absolute target': bad(good.replace('GET /', 'GET http://localhost/'), 'INVALID_TARGET'),
  'version 8': otherVersion('8'),
  'version 013': otherVersion('013'),
  'version 13, 8': otherVersion('13, 8'),
  'no version': { ...otherVersion('13'), request: without('Sec-WebSocket-Version') },
  'a malformed subprotocol': bad(handshake('/', { 'Sec-WebSocket-Protocol': 'a b' }), 'INVALID_SUBPROTOCOL'),
  'a repeated subprotocol': bad(handshake('/', { 'Sec-WebSocket-Protocol': 'a, a' }), 'INVALID_SUBPROTOCOL'),
  'an empty subprotocol': bad(handshake('/', { 'Sec-WebSocket-Protocol': '' }), 'INVALID_SUBPROTOCOL'),
  'a body': bad(`${handshake('/', { 'Content-Length': '5' })}hello`, 'UNEXPECTED_BODY'),
  'a body in chunks': bad(
    `${handshake('/', { 'Transfer-Encoding': 'chunked' })}5\r\nhello\r\n0\r\n\r\n`,
    'UNEXPECTED_BODY'
  ),
  'a malformed extension': bad(handshake('/', { 'Sec-WebSocket-Extensions': 'a;=b' }), 'INVALID_EXTENSIONS'),
  'another origin': {
    request: handshake('/', { Origin: 'http://evil.test' }),
    status: 403,
    code: 'FORBIDDEN_ORIGIN'
  },
  'an ordinary route': { request: handshake('/plain'), status: 404 },
  'no route': { request: handshake('/nowhere'), status: 404 }
}

for (const [name, { request, status, code, headers = {} }] of Object.entries(REFUSALS)) {
  t.test(`a handshake with ${name} is refused with ${status}`, async t => {
    const port = await echoServer(t)
    const client = await connectRaw(t, port)
    client.write(request)
    const response = await client.response()
    t.equal(response.status, status)
    t.equal(headerOf(response, 'connection'), headers.connection ?? 'close')
    t.match(headerOf(response, 'content-type'), /^application\/json/)
    if (code !== undefined) t.equal(codeOf(response), `FST_UPGRADE_${code}`)
    for (const [field, value] of Object.entries(headers)) t.equal(headerOf(response, field), value)
    await client.end()
    t.equal(client.data.length, 0)
  })
}

/** Bodies of handshakes: the part that arrives with the head, and the data after the refusal. */
const BODIES: Readonly<
  Record<string, readonly [fields: Record<string, string>, first: Uint8Array, rest: string]>
> = {
  'that is a frame': [{ 'Content-Length': '11' }, frame(1, 'hello'), ''],
  'that is a request': [
    { 'Content-Length': '40' },
    bytes('GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    ''
  ],
  'with a frame and a request behind it': [
    { 'Content-Length': '5' },
    bytes('hello', frame(1, 'frame'), 'GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    ''
  ],
  'in chunks with a request behind it': [
    { 'Transfer-Encoding': 'chunked' },
    bytes('5\r\nhello\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    ''
  ],
  'of which nothing has come': [{ 'Content-Length': '5' }, bytes(''), 'hello'],
  'of which a part has come': [
    { 'Content-Length': '10' },
    bytes('hello'),
    'worldGET /second HTTP/1.1\r\nHost: localhost\r\n\r\n'
  ],
  'in chunks of which one has come': [
    { 'Transfer-Encoding': 'chunked' },
    bytes('5\r\nhello\r\n'),
    '0\r\n\r\nGET /second HTTP/1.1\r\nHost: localhost\r\n\r\n'
  ],
  'in a coding that there is not': [{ 'Transfer-Encoding': 'foo' }, bytes('hello'), 'world']
}

for (const [kind, [fields, first, rest]] of Object.entries(BODIES)) {
  t.test(
    `RFC 9110 section 7.8: a handshake with a body ${kind} is refused, and its connection ends`,
    async t => {
      const uncaught = watchProcess(t)
      const { app } = await makeApp(t)
      app.get('/', { websocket: true }, () => t.fail('no connection'))
      app.get('/slow', async () => {
        await tick()
        return 'slow'
      })
      app.get('/second', () => t.fail('no second request'))
      const client = await connectRaw(t, await listen(app))
      client.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n', handshake('/', fields), first)
      t.equal((await client.response()).body, 'slow')
      const response = await client.response()
      t.equal(response.status, 400)
      t.equal(codeOf(response), 'FST_UPGRADE_UNEXPECTED_BODY')
      t.equal(headerOf(response, 'connection'), 'close')
      client.write(rest)
      await client.end()
      client.socket.end()
      await client.gone()
      t.equal(client.data.length, 0)
      t.strictSame(uncaught, [])
    }
  )
}

t.test('a handshake without Host gets 400', async t => {
  // Node would answer this request itself by default.
  const { app } = await makeApp(t, {}, { http: { requireHostHeader: false } })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  const response = await shake(t, port, '/', { Host: undefined })
  t.equal(response.status, 400)
  t.equal(codeOf(response), 'FST_UPGRADE_INVALID_HOST')
})

t.test('an ordinary request on a path with WebSocket routes only gets 426', async t => {
  const { app } = await makeApp(t)
  app.get('/ws', { websocket: true }, () => {})
  const port = await listen(app)
  for (const method of ['GET', 'HEAD']) {
    const response = await app.inject({ method: method === 'GET' ? 'GET' : 'HEAD', url: '/ws' })
    t.equal(response.statusCode, 426, method)
    t.equal(response.headers.upgrade, 'websocket')
    t.equal(response.headers.connection, 'Upgrade')
  }
  t.equal((await app.inject({ method: 'POST', url: '/ws' })).statusCode, 404)
  t.equal((await app.inject('/elsewhere')).statusCode, 404)
  const client = await connectRaw(t, port)
  client.write(handshake('/ws', { Connection: 'keep-alive' }))
  const response = await client.response()
  t.equal(response.status, 400, 'a request whose Connection header lacks upgrade is an ordinary request')
  t.equal(codeOf(response), 'FST_UPGRADE_INVALID_CONNECTION')
  client.write('GET /ws HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
  t.equal((await client.response()).status, 426, 'HTTP/1.0')
})

t.test('a handshake whose hooks take longer than handshakeTimeout gets 503, and is cut', async t => {
  const { app } = await makeApp(t, { handshakeTimeout: ms(50) })
  const go = new Signal()
  app.get('/', { websocket: true, preHandler: () => go.promise }, () => t.fail('no connection'))
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  const response = await client.response()
  t.equal(response.status, 503)
  t.equal(codeOf(response), 'FST_UPGRADE_HANDSHAKE_TIMEOUT')
  await client.end()
  go.fire()
})

t.test('a reply hook that never settles does not keep the client connected', async t => {
  const { app } = await makeApp(t, { handshakeTimeout: ms(50) })
  app.get('/', { websocket: true, onSend: () => new Promise(() => {}) }, () => t.fail('no connection'))
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  // The refusal runs the same hook, so the client is cut when its time to read is over.
  await client.gone()
  t.equal(String(client.data), '')
})

t.test('a route may have its own handshakeTimeout', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: { handshakeTimeout: ms(50) }, preHandler: () => new Promise(() => {}) }, () => {})
  const port = await listen(app)
  t.equal((await shake(t, port, '/')).status, 503)
})

t.test('a handshake that a hook from before the plugin delays is cut at the deadline', async t => {
  const { app } = bareApp(t)
  app.addHook('onRequest', (_request, _reply, _done) => {})
  await app.register(upgrade, { handshakeTimeout: ms(50) })
  app.get('/', { websocket: true }, () => t.fail('no connection'))
  const client = await connectRaw(t, await listen(app))
  client.write(handshake('/'))
  await client.gone()
  t.equal(client.data.length, 0)
})

t.test('handshakeTimeout does not run while a handshake waits for earlier requests', async t => {
  const { app } = await makeApp(t, { handshakeTimeout: ms(50) })
  app.get('/slow', async () => {
    await new Promise(resolve => setTimeout(resolve, ms(150)))
    return 'slow'
  })
  app.get('/', { websocket: true }, socket => socket.send('open'))
  const client = await connectRaw(t, await listen(app))
  client.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n', handshake('/'))
  t.equal((await client.response()).body, 'slow')
  t.equal((await client.response()).status, 101)
})

t.test('a handshake behind pipelined requests waits for their responses', async t => {
  const { app } = await makeApp(t)
  const go = new Signal()
  app.get('/slow', async () => {
    await go.promise
    return 'slow'
  })
  app.get('/fast', async () => 'fast')
  app.get('/', { websocket: true }, socket => socket.send('open'))
  const port = await listen(app)
  const client = await connectRaw(t, port)
  const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`
  client.write(get('/slow'), get('/fast'), handshake('/'))
  setImmediate(() => go.fire())
  t.equal((await client.response()).body, 'slow')
  t.equal((await client.response()).body, 'fast')
  t.equal((await client.response()).status, 101)
  t.equal(String((await client.frame()).payload), 'open')
})

t.test('a client may disconnect before the responses that precede its handshake', async t => {
  const { app } = await makeApp(t)
  const entered = new Signal()
  const gone = new Signal()
  app.addHook('onRequest', async ({ url, ws }) => {
    if (ws) t.fail(`no hook runs for ${url}`)
  })
  app.get('/slow', async request => {
    request.raw.socket.once('close', () => gone.fire())
    entered.fire()
    await gone.promise
    return 'slow'
  })
  app.get('/', { websocket: true }, () => t.fail('no connection'))
  const client = await connectRaw(t, await listen(app))
  client.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n', handshake('/'))
  await entered.wait('request')
  client.socket.resetAndDestroy()
  await gone.wait('end of the socket')
  await tick()
  await withDeadline(app.close(), 10_000, 'app.close()')
})

t.test('a handshake behind a response that closes the connection is ignored', async t => {
  const { app } = await makeApp(t)
  app.get('/last', async (_request, reply) => reply.header('connection', 'close').send('last'))
  app.addHook('onRequest', async ({ ws }) => {
    if (ws) t.fail('no hook runs')
  })
  app.get('/', { websocket: true }, () => t.fail('no connection'))
  const client = await connectRaw(t, await listen(app))
  client.write('GET /last HTTP/1.1\r\nHost: x\r\n\r\n', handshake('/'))
  t.equal((await client.response()).body, 'last')
  await client.end()
  t.equal(client.data.length, 0)
  await client.gone()
})

t.test('a client that resets at any moment affects no other client', async t => {
  const { app } = await makeApp(t)
  const entered = new Signal()
  const go = new Signal()
  const preHandler = (): Promise<void> => {
    entered.fire()
    return go.promise
  }
  app.get('/slow', { websocket: true, preHandler }, () => t.fail('no connection'))
  app.get('/', { websocket: true }, socket => {
    socket.on('message', data => socket.send(data))
  })
  const port = await listen(app)
  const request = handshake('/slow')
  for (const part of [
    request.slice(0, 20),
    request.slice(0, -2),
    handshake('/nowhere'),
    handshake('/'),
    request
  ]) {
    const client = await connectRaw(t, port)
    await new Promise(resolve => client.socket.write(part, resolve))
    if (part === request) await entered.wait('hook')
    client.socket.resetAndDestroy()
  }
  const client = await connectRaw(t, port)
  client.write(handshake('/'), frame(1, 'alive'))
  await client.response()
  t.equal(String((await client.frame()).payload), 'alive')
  go.fire()
})

t.test('a refused client that neither reads nor disconnects does not delay app.close()', async t => {
  const { app } = await makeApp(t, { shutdown: { timeout: ms(100) } })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/nowhere'), bytes('more'))
  await client.response()
  await client.end()
  await app.close()
  await client.gone()
})

t.test('behind an async hook from before the plugin, the deadline of the route applies', async t => {
  const { app } = bareApp(t)
  app.addHook('onRequest', async () => tick())
  await app.register(upgrade, { handshakeTimeout: ms(60_000) })
  const preHandler = (): Promise<void> => new Promise(() => {})
  app.get('/', { websocket: { handshakeTimeout: ms(100) }, preHandler }, () => t.fail('no connection'))
  t.equal((await shake(t, await listen(app), '/')).status, 503)
})
