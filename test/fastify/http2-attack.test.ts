import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { listen, text, tick, watchProcess } from '../helpers/app.js'
import { CANCEL, type Http2Client, makeHttp2App, Session } from '../helpers/http2.js'
import { connectFields, DATA, Http2Bytes, http2Frame, RST_STREAM } from '../helpers/http2-bytes.js'

/** Connections at a time, for each address. */
const LIMIT = 300

interface Target {
  readonly app: FastifyInstance
  readonly port: number
  /** Fails unless the server works, and nothing is left of what was done to it. */
  check(t: Test): Promise<void>
}

async function target(t: Test): Promise<Target> {
  const uncaught = watchProcess(t)
  const { app } = await makeHttp2App(t, { maxConnectionsPerAddress: LIMIT }, { cleartext: true })
  app.addHook('onRequest', async request => void (request.url.includes('slow') && (await tick())))
  app.get('/slow', { websocket: true }, () => {})
  app.get('/echo', { websocket: true }, socket => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
  const port = await listen(app)
  return {
    app,
    port,
    check: async t => {
      const session = await Session.open(t, port, { host: '127.0.0.1', cleartext: true })
      // The end of a session may take the server a moment.
      const client = await untilAccepted(session)
      client.write(text('well'))
      t.equal(await client.text(), 'well')
      session.session.destroy()
      while (app.websocketServer.clients.size > 0) await tick()
      t.strictSame(uncaught, [])
    }
  }
}

/** A WebSocket, once the connections of a session that has ended have left room for it. */
async function untilAccepted(session: Session): Promise<Http2Client> {
  for (;;) {
    const client = session.connect('/echo')
    if ((await client.status()) === 200) return client
    await tick()
  }
}

t.test('a malformed extended CONNECT ends its own stream only', async t => {
  const { port, check } = await target(t)
  const session = await Http2Bytes.open(t, port)
  const neighbour = session.request(connectFields('/echo'))
  t.equal(await session.answer(neighbour), 'status 200')
  const cases: Record<string, [string, string][]> = {
    'no :path': connectFields('/echo', [':path']),
    'no :scheme': connectFields('/echo', [':scheme']),
    'no :authority': connectFields('/echo', [':authority']),
    'two :protocol': [[':protocol', 'websocket'], ...connectFields('/echo')],
    'two :path': [[':path', '/echo'], ...connectFields('/echo')],
    'GET with :protocol': [[':method', 'GET'], ...connectFields('/echo', [':method'])],
    'an empty :path': connectFields(''),
    'a :path without a slash': connectFields('echo'),
    'an empty :authority': [
      ...connectFields('/echo', [':authority', 'sec-websocket-version']),
      [':authority', '']
    ],
    'a scheme of its own': [
      ...connectFields('/echo', [':scheme', 'sec-websocket-version']),
      [':scheme', 'wss']
    ],
    'a connection header': [...connectFields('/echo'), ['connection', 'upgrade']],
    'an upgrade header': [...connectFields('/echo'), ['upgrade', 'websocket']],
    'a name in upper case': [...connectFields('/echo'), ['X-Upper', 'x']],
    'a pseudo header behind the others': [...connectFields('/echo', [':scheme']), [':scheme', 'http']],
    'a long content-length': [...connectFields('/echo'), ['content-length', '10']],
    'a content-length that is no number': [...connectFields('/echo'), ['content-length', 'x']],
    'two hosts': [...connectFields('/echo'), ['host', 'localhost'], ['host', 'localhost']],
    'two versions': [...connectFields('/echo'), ['sec-websocket-version', '13']]
  }
  for (const [name, fields] of Object.entries(cases)) {
    const stream = session.request(fields)
    t.match(await session.answer(stream), /^(?:reset 1|status 400)$/, name)
  }
  session.write(http2Frame(DATA, 0, neighbour, text('still')))
  const { payload } = await session.find(DATA, neighbour)
  t.equal(payload.toString('utf8', 2), 'still')
  session.destroy()
  await check(t)
})

t.test('a body is refused', async t => {
  const { port, check } = await target(t)
  const session = await Http2Bytes.open(t, port)
  const neighbour = session.request(connectFields('/echo'))
  t.equal(await session.answer(neighbour), 'status 200')
  for (const path of ['/echo', '/slow', '/none']) {
    const fields: [string, string][] = [...connectFields(path), ['content-length', '4']]
    t.equal(await session.answer(session.request(fields, 'body', true)), 'status 400', `${path}: its length`)
    t.equal(await session.answer(session.request(fields)), 'status 400', `${path}: a body that does not come`)
  }
  session.write(http2Frame(DATA, 0, neighbour, text('still')))
  t.equal((await session.find(DATA, neighbour)).payload.toString('utf8', 2), 'still')
  session.destroy()
  await check(t)
})

t.test(
  'a content-length that lies costs the stream or, as for every request in Node 22, the session',
  async t => {
    const { port, check } = await target(t)
    for (const path of ['/echo', '/slow', '/none']) {
      for (const lie of ['0', '3', '9']) {
        const session = await Http2Bytes.open(t, port)
        const fields: [string, string][] = [...connectFields(path), ['content-length', lie]]
        const answer = await session.answer(session.request(fields, 'body', true))
        const expected =
          lie === '0'
            ? /^(?:reset 1|status (?:200|404)|goaway [12])$/
            : /^(?:reset 1|status 400|goaway [12])$/
        t.match(answer, expected, `${path}: content-length ${lie}`)
        session.destroy()
      }
    }
    await check(t)
  }
)

t.test('data before the answer is the first data of the WebSocket, as over HTTP/1.1', async t => {
  const { port, check } = await target(t)
  const session = await Http2Bytes.open(t, port)
  for (const path of ['/echo', '/echo?slow']) {
    const early = session.request(connectFields(path), text('early'))
    t.equal((await session.find(DATA, early)).payload.toString('utf8', 2), 'early', path)
    const wrong = session.request(connectFields(path), 'body')
    const close = (await session.find(DATA, wrong)).payload
    t.strictSame([close.readUInt8(0), close.readUInt16BE(2)], [0x88, 1002], `${path}: no frame`)
    const ended = session.request(connectFields(path), 'body', true)
    t.equal(await session.answer(ended), 'status 200')
    const refused = session.request(connectFields('/none'), 'body')
    t.equal(await session.answer(refused), 'status 404')
  }
  session.destroy()
  await check(t)
})

t.test('thousands of rapid resets leak nothing', async t => {
  const { app, port, check } = await target(t)
  const reset = Buffer.alloc(4)
  reset.writeUInt32BE(CANCEL)
  for (const path of ['/echo', '/slow', '/none']) {
    const session = await Http2Bytes.open(t, port)
    for (let round = 0; round < 20; round++) {
      const batch: Buffer[] = []
      for (let i = 0; i < 50; i++) {
        const { stream, bytes } = session.head(connectFields(path))
        batch.push(bytes, http2Frame(RST_STREAM, 0, stream, reset))
      }
      session.write(...batch)
      await tick()
    }
    session.destroy()
  }
  await check(t)
  const session = await Session.open(t, port, { host: '127.0.0.1', cleartext: true })
  const clients = Array.from({ length: LIMIT }, () => session.connect('/echo'))
  const statuses = await Promise.all(clients.map(client => client.status()))
  t.ok(
    statuses.every(status => status === 200),
    'no slot is lost'
  )
  t.equal(await session.connect('/echo').status(), 503)
  t.equal(app.websocketServer.clients.size, LIMIT)
  session.session.destroy()
  await check(t)
})
