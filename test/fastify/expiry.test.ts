import { once } from 'node:events'
import type { FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { MemoryBroker, MemoryHub, type WebSocket, type WebSocketRouteOptions } from '../../lib/index.js'
import {
  close,
  codeOf,
  connectRaw,
  handshake,
  type LogLine,
  listen,
  makeApp,
  ms,
  open,
  Signal,
  shake,
  withDeadline
} from '../helpers/app.js'

/** The milliseconds in the query. */
const inQuery = ({ query }: FastifyRequest): number => Date.now() + Number(Reflect.get(Object(query), 'in'))

async function serve(t: Test, websocket: WebSocketRouteOptions = {}) {
  const { app, log } = await makeApp(t, { expires: inQuery })
  const sockets: WebSocket[] = []
  app.get('/', { websocket }, socket => {
    sockets.push(socket)
  })
  const port = await listen(app)
  const connect = async (milliseconds: number) => {
    const client = await open(t, port, `/?in=${milliseconds}`)
    const socket = sockets.at(-1)
    if (socket === undefined) throw new Error('no handler ran')
    return { client, socket }
  }
  return { app, log, port, connect }
}

t.test('a connection is closed with 1008 when it expires', async t => {
  const { connect, log } = await serve(t)
  const before = Date.now()
  const { client, socket } = await connect(ms(300))
  const { expiresAt = 0 } = socket
  t.ok(expiresAt >= before + ms(300) && expiresAt <= Date.now() + ms(300))
  const [, , error] = await withDeadline(once(socket, 'close'), 10_000, 'close')
  t.ok(Date.now() >= expiresAt)
  t.equal(error, undefined, 'the peer has answered')
  t.equal(await client.closed(), '1008 expired')
  t.equal(socket.expiresAt, expiresAt)
  t.match(await log.until('WebSocket closed'), { code: 1008 })
})

t.test('renew moves the expiry of a connection', async t => {
  const { connect } = await serve(t, { expiredCode: 4401 })
  const { client, socket } = await connect(ms(200))
  const until = Date.now() + ms(600)
  t.equal(socket.renew(new Date(until)), true)
  t.equal(socket.expiresAt, until)
  t.equal(await client.closed(), '4401 expired')
  t.ok(Date.now() >= until)
  t.equal(socket.renew(Date.now() + 1e6), false, 'after the end')
  t.equal(socket.expiresAt, until)
})

t.test('renew with a time that has passed closes the connection', async t => {
  const { connect } = await serve(t)
  const { client, socket } = await connect(1e6)
  t.equal(socket.renew(Date.now() - 1), false)
  t.equal(socket.readyState, socket.CLOSING)
  t.equal(socket.renew(Date.now() + 1e6), false, 'while it closes')
  t.equal(await client.closed(), '1008 expired')
})

t.test('renew sets the expiry of a connection without one, and takes times only', async t => {
  const { app } = await makeApp(t)
  const opened = new Signal<WebSocket>()
  app.get('/', { websocket: true }, socket => opened.fire(socket))
  const client = await open(t, await listen(app), '/')
  const socket = await opened.wait('handler')
  t.equal(socket.expiresAt, undefined)
  for (const until of [
    Number.NaN,
    Infinity,
    -Infinity,
    new Date('x'),
    undefined,
    null,
    '2030-01-01',
    1n,
    {}
  ]) {
    t.throws(() => Reflect.apply(socket.renew, socket, [until]), {
      code: 'FST_UPGRADE_INVALID_EXPIRY',
      message: /milliseconds since 1970.*"exp"/
    })
  }
  t.equal(socket.expiresAt, undefined)
  t.equal(socket.renew(Date.now() + ms(50)), true)
  t.equal(await client.closed(), '1008 expired')
  Reflect.set(socket, 'expiresAt', 'own')
  t.equal(Reflect.get(socket, 'expiresAt'), 'own', 'as applications have done before there was the property')
})

t.test('the function "expires" may refuse a handshake', async t => {
  const { app, log } = await makeApp(t)
  const choices: Readonly<Record<string, () => unknown>> = {
    '/never': () => undefined,
    '/date': () => new Date(Date.now() + 1e6),
    '/past': () => Date.now() - 1,
    '/seconds': () => Math.floor(Date.now() / 1000) + 3600,
    '/throws': () => {
      throw Object.assign(new Error('no'), { statusCode: 403 })
    },
    '/null': () => null,
    '/nan': () => Number.NaN,
    '/text': () => '2030-01-01',
    '/invalid': () => new Date('x'),
    '/promise': async () => Date.now() + 1e6,
    '/rejects': () => Promise.reject(new Error('rejected'))
  }
  let handlers = 0
  for (const [path, expires] of Object.entries(choices)) {
    const websocket: object = { expires }
    app.get(path, { websocket }, () => {
      handlers++
    })
  }
  const port = await listen(app)
  for (const path of ['/never', '/date']) t.equal((await shake(t, port, path)).status, 101, path)
  t.equal(handlers, 2)
  for (const path of ['/past', '/seconds']) {
    const response = await shake(t, port, path)
    t.equal(response.status, 401, path)
    t.equal(codeOf(response), 'FST_UPGRADE_EXPIRED')
  }
  t.equal((await shake(t, port, '/throws')).status, 403)
  for (const path of ['/null', '/nan', '/text', '/invalid', '/promise', '/rejects']) {
    const response = await shake(t, port, path)
    t.equal(response.status, 500, path)
    t.equal(codeOf(response), 'FST_UPGRADE_INVALID_EXPIRY')
  }
  t.equal(handlers, 2)
  const isUncaught = ({ msg }: LogLine): boolean => msg.includes('unhandled')
  t.notOk(log.lines.some(isUncaught))
})

t.test('a connection that expires while the hooks of the reply are at work is closed at once', async t => {
  let expiresAt = Infinity
  const { app } = await makeApp(t, {
    expires: () => {
      expiresAt = Date.now() + 20
      return expiresAt
    }
  })
  app.addHook('onSend', async () => {
    while (Date.now() < expiresAt) await new Promise(resolve => setTimeout(resolve, 5))
  })
  const states: number[] = []
  app.get('/', { websocket: true }, socket => {
    states.push(socket.readyState)
  })
  const client = await connectRaw(t, await listen(app))
  client.write(handshake('/'))
  t.equal((await client.response()).status, 101)
  t.match(await client.frame(), { opcode: 8 })
  t.strictSame(states, [2])
})

t.test('a peer that does not answer is cut, and one that is closing does not expire', async t => {
  const { app } = await makeApp(t, { closeTimeout: ms(100), heartbeat: false })
  const closes: unknown[] = []
  app.get('/', { websocket: true }, socket => {
    socket.on('close', (code, _reason, error) =>
      closes.push([code, error && 'code' in error ? error.code : undefined])
    )
    socket.renew(Date.now() + ms(20))
  })
  const opened = new Signal<WebSocket>()
  app.get('/closing', { websocket: true }, socket => {
    socket.renew(Date.now() + ms(50))
    socket.close(1000, 'done')
    opened.fire(socket)
  })
  const port = await listen(app)
  const silent = await connectRaw(t, port)
  silent.write(handshake('/'))
  await silent.response()
  await silent.gone()
  t.strictSame(closes, [[1006, 'FST_UPGRADE_CLOSE_TIMEOUT']])
  const client = await connectRaw(t, port)
  client.write(handshake('/closing'))
  await client.response()
  const socket = await opened.wait('handler')
  const closed = once(socket, 'close')
  await new Promise(resolve => setTimeout(resolve, ms(60)))
  client.write(close(1000))
  t.match(await withDeadline(closed, 10_000, 'close'), [1000])
})

t.test('expiredCode is a close code, of the plugin and of routes', async t => {
  for (const expiredCode of [1005, 999, '1008', 1008.5])
    await t.rejects(Reflect.apply(makeApp, undefined, [t, { expiredCode }]), {
      code: 'FST_UPGRADE_INVALID_OPTION'
    })
  const { app } = await makeApp(t, { expiredCode: 4001, expires: inQuery })
  app.get('/', { websocket: true }, () => {})
  app.get('/own', { websocket: { expiredCode: 4002 } }, () => {})
  const port = await listen(app)
  t.equal(await (await open(t, port, `/?in=${ms(100)}`)).closed(), '4001 expired')
  t.equal(await (await open(t, port, `/own?in=${ms(100)}`)).closed(), '4002 expired')
})

t.test('the connections of a user are renewed in all processes', async t => {
  const hub = new MemoryHub()
  const user = ({ headers }: FastifyRequest): string | undefined => headers['x-user']?.toString()
  const apps = await Promise.all(
    [1, 2].map(async () => {
      const { app } = await makeApp(t, { broker: new MemoryBroker(hub), user, expires: inQuery })
      const sockets: WebSocket[] = []
      app.get('/', { websocket: true }, socket => {
        sockets.push(socket)
      })
      return { app, sockets, port: await listen(app) }
    })
  )
  const headers = { 'x-user': 'ada' }
  const clients = await Promise.all(apps.map(({ port }) => open(t, port, `/?in=${ms(60_000)}`, { headers })))
  const [first] = apps
  const ada = first?.app.websocketServer.user('ada')
  const until = Date.now() + ms(120_000)
  t.strictSame(await ada?.renew(new Date(until)), { connections: 2, processes: 2, isComplete: true })
  for (const { sockets } of apps) t.equal(sockets[0]?.expiresAt, until)
  t.match(await ada?.renew(Date.now()), { connections: 2 })
  for (const client of clients) t.equal(await client.closed(), '1008 expired')
  t.match(await ada?.connections(), { connections: 0 })
  t.throws(() => ada?.renew(Number.NaN), { code: 'FST_UPGRADE_INVALID_EXPIRY' })
})
