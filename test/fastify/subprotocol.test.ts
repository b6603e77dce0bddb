import type { IncomingMessage } from 'node:http'
import t, { type Test } from 'tap'
import { hasWebSocketRoute } from '../../lib/fastify/routes/subprotocol.js'
import upgrade from '../../lib/index.js'
import {
  bareApp,
  codeOf,
  connectRaw,
  handshake,
  headerOf,
  listen,
  makeApp,
  open,
  request,
  Signal,
  shake,
  watchProcess
} from '../helpers/app.js'

/** The route that a handshake reached, and the selected subprotocol. */
async function reach(t: Test, port: number, path: string, offers: string[], headers = {}): Promise<string> {
  const client = await open(t, port, path, { protocols: offers, headers })
  const route = await client.next()
  client.socket.terminate()
  return `${route} ${client.socket.protocol}`.trimEnd()
}

const sendName = (name: string) => (socket: { send(data: string): unknown }) => void socket.send(name)

t.test('the order of the client decides among the subprotocols of a path', async t => {
  const { app } = await makeApp(t)
  app.get('/chat', { websocket: { subprotocol: 'chat.v2' } }, sendName('two'))
  app.get('/chat', { websocket: { subprotocol: ['chat.v1', 'chat'] } }, sendName('one'))
  const port = await listen(app)
  t.equal(await reach(t, port, '/chat', ['chat.v2', 'chat.v1']), 'two chat.v2')
  t.equal(await reach(t, port, '/chat', ['chat.v1', 'chat.v2']), 'one chat.v1')
  t.equal(await reach(t, port, '/chat', ['x', 'chat', 'chat.v2']), 'one chat')
  for (const offers of ['x', 'Chat', undefined]) {
    const response = await shake(t, port, '/chat', { 'Sec-WebSocket-Protocol': offers })
    t.equal(response.status, 400)
    t.equal(codeOf(response), 'FST_UPGRADE_UNSUPPORTED_SUBPROTOCOL')
    t.match(response.body, 'chat.v2, chat.v1, chat')
  }
})

t.test('the route without a subprotocol receives all other offers, and selects none', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, sendName('plain'))
  app.get('/', { websocket: { subprotocol: 'a' } }, sendName('a'))
  const port = await listen(app)
  t.equal(await reach(t, port, '/', ['a']), 'a a')
  t.equal(await reach(t, port, '/', []), 'plain')
  const response = await shake(t, port, '/', { 'Sec-WebSocket-Protocol': 'x, y' })
  t.equal(response.status, 101)
  t.equal(headerOf(response, 'sec-websocket-protocol'), undefined)
  const second = await shake(t, port, '/', { 'Sec-WebSocket-Protocol': 'x\r\nSec-WebSocket-Protocol: ,a,' })
  t.equal(headerOf(second, 'sec-websocket-protocol'), 'a', 'several header lines form one list')
})

t.test('a subprotocol with the name of an Object.prototype property works like any other', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: { subprotocol: 'a' } }, sendName('a'))
  app.get('/own', { websocket: { subprotocol: ['constructor', '__proto__'] } }, sendName('own'))
  const port = await listen(app)
  for (const name of ['constructor', '__proto__', 'toString', 'hasOwnProperty']) {
    const response = await shake(t, port, '/', { 'Sec-WebSocket-Protocol': name })
    t.equal(response.status, 400, name)
    t.equal(codeOf(response), 'FST_UPGRADE_UNSUPPORTED_SUBPROTOCOL')
  }
  t.equal(await reach(t, port, '/own', ['valueOf', '__proto__', 'constructor']), 'own __proto__')
})

t.test('parametric and wildcard routes may be beside an HTTP route', async t => {
  const { app } = await makeApp(t)
  app.get('/rooms/:room', { websocket: { subprotocol: 'a' } }, (socket, request) => {
    const { room } = Object(request.params)
    socket.send(`room ${room}`)
  })
  app.get('/rooms/:room', async () => 'http')
  app.get('/*', { websocket: { subprotocol: 'b' } }, sendName('wildcard'))
  const port = await listen(app)
  t.equal(await reach(t, port, '/rooms/1', ['a']), 'room 1 a')
  t.equal(await reach(t, port, '/else/where', ['b']), 'wildcard b')
  t.equal(
    (await shake(t, port, '/rooms/1', { 'Sec-WebSocket-Protocol': 'b' })).status,
    400,
    'the path decides'
  )
  t.equal((await app.inject('/rooms/1')).body, 'http')
})

t.test('with a host constraint, routes of other hosts do not hide those of the requested host', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: { subprotocol: 'a' }, constraints: { host: 'a.test' } }, sendName('a'))
  app.get('/', { websocket: { subprotocol: ['b', 'c'] }, constraints: { host: 'b.test' } }, sendName('b'))
  app.get('/', { websocket: true, constraints: { host: 'c.test' } }, sendName('c'))
  const port = await listen(app)
  const at = (host: string, ...offers: string[]): Promise<string> =>
    reach(t, port, '/', offers, { Host: host })
  t.equal(await at('a.test', 'b', 'a'), 'a a')
  t.equal(await at('b.test', 'a', 'c', 'b'), 'b c')
  t.equal(await at('c.test'), 'c')
  const status = async (host: string, offers: string): Promise<number> =>
    (await shake(t, port, '/', { Host: host, 'Sec-WebSocket-Protocol': offers })).status
  t.equal(await status('a.test', 'b'), 400)
  t.equal(await status('c.test', 'a'), 101)
  t.equal(await status('d.test', 'a'), 404)
})

t.test('with a host constraint, a request for another host matches the next path', async t => {
  const { app } = await makeApp(t)
  app.get(
    '/rooms/lobby',
    { websocket: { subprotocol: ['a', 'b'] }, constraints: { host: 'a.test' } },
    sendName('lobby')
  )
  app.get('/rooms/:id', { websocket: { subprotocol: ['b', 'c'] } }, sendName('room'))
  const port = await listen(app)
  t.equal(await reach(t, port, '/rooms/lobby', ['c', 'a', 'b'], { Host: 'a.test' }), 'lobby a')
  t.equal(await reach(t, port, '/rooms/lobby', ['a', 'c', 'b'], { Host: 'b.test' }), 'room c')
  const response = await shake(t, port, '/rooms/lobby', { Host: 'b.test', 'Sec-WebSocket-Protocol': 'a' })
  t.equal(response.status, 400)
  t.match(response.body, /speaks b, c\./)
})

t.test('a request without a URL finds no route', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, sendName('root'))
  await app.ready()
  t.equal(hasWebSocketRoute(app, { headers: {} }, [{}]), false)
  t.equal(hasWebSocketRoute(app, { url: '/', headers: {} }, [{}]), true)
})

t.test('a constraint of the application works as well, also with another upgrade listener', async t => {
  const tenant = {
    name: 'tenant',
    storage() {
      const handlers = new Map()
      return { get: (key: unknown) => handlers.get(key) ?? null, set: handlers.set.bind(handlers) }
    },
    deriveConstraint: ({ headers }: IncomingMessage) => headers['x-tenant'],
    validate() {}
  }
  for (const hasOther of [false, true]) {
    const { app } = bareApp(t)
    app.addConstraintStrategy(tenant)
    await app.register(upgrade)
    app.get('/', { websocket: { subprotocol: 'a' }, constraints: { tenant: 'one' } }, sendName('one'))
    app.get('/', { websocket: true, constraints: { tenant: 'two' } }, sendName('two'))
    if (hasOther) app.server.on('upgrade', () => {})
    const port = await listen(app)
    t.equal(await reach(t, port, '/', ['a'], { 'x-tenant': 'one' }), 'one a')
    t.equal(await reach(t, port, '/', [], { 'x-tenant': 'two' }), 'two')
    t.equal((await shake(t, port, '/', { 'x-tenant': 'three' })).status, 404)
    t.equal((await request(t, port, 'GET', '/')).status, 426)
  }
})

t.test('a version constraint works as well', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: { subprotocol: 'a' }, constraints: { version: '1.0.0' } }, sendName('one'))
  app.get('/', { websocket: { subprotocol: 'a' }, constraints: { version: '2.0.0' } }, sendName('two'))
  const port = await listen(app)
  t.equal(await reach(t, port, '/', ['x', 'a'], { 'Accept-Version': '2.x' }), 'two a')
  t.equal(await reach(t, port, '/', ['a'], { 'Accept-Version': '1.x' }), 'one a')
  t.equal((await shake(t, port, '/', { 'Sec-WebSocket-Protocol': 'a' })).status, 404)
})

t.test('selectSubprotocol selects on routes without a subprotocol', async t => {
  const { app } = await makeApp(t, { selectSubprotocol: offers => offers.at(-1) })
  app.get('/sync', { websocket: true }, sendName('sync'))
  app.get(
    '/async',
    { websocket: { selectSubprotocol: async offers => offers.find(name => name === 'b') } },
    sendName('async')
  )
  app.get('/none', { websocket: { selectSubprotocol: () => undefined } }, sendName('none'))
  app.get('/wrong', { websocket: { selectSubprotocol: () => 'z' } }, () => t.fail('no connection'))
  app.get(
    '/throws',
    {
      websocket: {
        selectSubprotocol: () => {
          throw new Error('sync')
        }
      }
    },
    () => t.fail('no')
  )
  app.get('/rejects', { websocket: { selectSubprotocol: () => Promise.reject('async') } }, () => t.fail('no'))
  app.get('/own', { websocket: { subprotocol: 'a' } }, sendName('own'))
  const port = await listen(app)
  t.equal(await reach(t, port, '/sync', ['a', 'b']), 'sync b')
  t.equal(await reach(t, port, '/sync', []), 'sync')
  t.equal(await reach(t, port, '/async', ['a', 'b', 'c']), 'async b')
  t.equal(await reach(t, port, '/own', ['a', 'b']), 'own a')
  t.equal(
    headerOf(await shake(t, port, '/none', { 'Sec-WebSocket-Protocol': 'a' }), 'sec-websocket-protocol'),
    undefined
  )
  for (const path of ['/wrong', '/throws', '/rejects']) {
    t.equal((await shake(t, port, path, { 'Sec-WebSocket-Protocol': 'a' })).status, 500, path)
  }
  t.equal(
    codeOf(await shake(t, port, '/wrong', { 'Sec-WebSocket-Protocol': 'a' })),
    'FST_UPGRADE_INVALID_CHOICE'
  )
})

t.test('a choice after the deadline is ignored', async t => {
  const { app } = await makeApp(t, { handshakeTimeout: 50 })
  const choice = new Signal<string>()
  const websocket = { selectSubprotocol: () => choice.promise }
  app.get('/', { websocket }, () => t.fail('no connection'))
  const uncaught = watchProcess(t)
  const client = await connectRaw(t, await listen(app))
  client.write(handshake('/', { 'Sec-WebSocket-Protocol': 'a' }))
  const response = await client.response()
  t.equal(response.status, 503)
  t.equal(codeOf(response), 'FST_UPGRADE_HANDSHAKE_TIMEOUT')
  choice.fire('a')
  await client.end()
  t.equal(client.data.length, 0)
  t.strictSame(uncaught, [])
})

t.test('handleProtocols is read at each handshake', async t => {
  const { app } = await makeApp(t, { options: {} })
  app.get('/', { websocket: true }, sendName('plain'))
  const port = await listen(app)
  const offer = { 'Sec-WebSocket-Protocol': 'a, b' }
  t.equal(headerOf(await shake(t, port, '/', offer), 'sec-websocket-protocol'), undefined)
  app.websocketServer.options.handleProtocols = (protocols, request) => {
    t.equal(request.url, '/')
    return [...protocols][1] ?? false
  }
  t.equal(headerOf(await shake(t, port, '/', offer), 'sec-websocket-protocol'), 'b')
  app.websocketServer.options.handleProtocols = () => false
  t.equal(headerOf(await shake(t, port, '/', offer), 'sec-websocket-protocol'), undefined)
})

t.test(
  'the refusal differs for clients that offered no subprotocol and clients that offered others',
  async t => {
    const { app } = await makeApp(t)
    app.get('/', { websocket: { subprotocol: ['v1', 'v2'] } }, () => {})
    app.get('/here', { websocket: { subprotocol: 'v1' }, constraints: { host: 'here.test' } }, () => {})
    app.get('/here', { websocket: { subprotocol: 'v2' }, constraints: { host: 'there.test' } }, () => {})
    const port = await listen(app)
    const refusal = async (path: string, fields: Readonly<Record<string, string>>): Promise<unknown> => {
      const { status, body } = await shake(t, port, path, fields)
      return [status, JSON.parse(body).message]
    }
    const none = 'The client has to offer a subprotocol'
    const others = 'None of the offered subprotocols is spoken here'
    const offer = { 'Sec-WebSocket-Protocol': 'v3' }
    t.strictSame(await refusal('/', {}), [400, `${none}; this path speaks v1, v2.`])
    t.strictSame(await refusal('/', offer), [400, `${others}; this path speaks v1, v2.`])
    const elsewhere = { Host: 'here.test', 'Sec-WebSocket-Protocol': 'v2' }
    t.match(await refusal('/here', elsewhere), [400, new RegExp(`^${others}`)])
    t.match(await refusal('/here', { Host: 'here.test' }), [400, new RegExp(`^${none}`)])
  }
)

t.test('a subprotocol can be registered once per path', async t => {
  const { app } = await makeApp(t)
  app.get('/a/:x', { websocket: { subprotocol: ['v1', 'v2'] } }, () => {})
  for (const url of ['/a/:x', '/a/:other']) {
    t.throws(() => app.get(url, { websocket: { subprotocol: ['v3', 'v2'] } }, () => {}), {
      code: 'FST_UPGRADE_DUPLICATED_SUBPROTOCOL',
      message: /v2/
    })
  }
  app.get('/a/:x', { websocket: { subprotocol: 'v3' } }, () => {})
  app.get('/a/b', { websocket: { subprotocol: 'v1' } }, () => {})
  app.get('/a/:x', { websocket: { subprotocol: 'v1' }, constraints: { host: 'a.test' } }, () => {})
  app.get('/a/:x', { websocket: true }, () => {})
  t.throws(() => app.get('/a/:x', { websocket: true }, () => {}), { code: 'FST_ERR_DUPLICATED_ROUTE' })
})

t.test('a path with more routes than the router supports throws', async t => {
  const { app } = await makeApp(t)
  app.get('/', async () => 'http')
  for (let i = 0; i < 30; i++) app.get('/', { websocket: { subprotocol: `v${i}` } }, sendName(`route ${i}`))
  t.throws(() => app.get('/', { websocket: { subprotocol: 'one-more' } }, () => {}), {
    code: 'FST_UPGRADE_TOO_MANY_ROUTES'
  })
  const port = await listen(app)
  t.equal(await reach(t, port, '/', ['x', 'v29']), 'route 29 v29')
})
