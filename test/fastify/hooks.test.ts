import { once } from 'node:events'
import cookie from '@fastify/cookie'
import type { FastifyReply, FastifyRequest } from 'fastify'
import t from 'tap'
import { WebSocket as UndiciWebSocket } from 'undici'
import {
  ACCEPT,
  Client,
  codeOf,
  connectRaw,
  handshake,
  headerOf,
  listen,
  makeApp,
  open,
  request as ordinary,
  Signal,
  shake,
  text,
  withDeadline
} from '../helpers/app.js'

const HOOKS = ['onRequest', 'preParsing', 'preValidation', 'preHandler'] as const
type Refuse = (request: FastifyRequest, reply: FastifyReply) => unknown

t.test('onRequest … preHandler run for upgrades, in order, before the handler', async t => {
  const { app } = await makeApp(t)
  const order: string[] = []
  app.addHook('onRequest', (_request, _reply, done) => {
    order.push('onRequest')
    done()
  })
  app.addHook('preParsing', async () => {
    order.push('preParsing')
  })
  app.addHook('preValidation', (_request, _reply, done) => {
    order.push('preValidation')
    setImmediate(done)
  })
  app.addHook('preHandler', async () => {
    order.push('preHandler')
  })
  app.addHook('onSend', async () => {
    order.push('onSend')
  })
  app.get('/', { websocket: true }, socket => {
    order.push('handler')
    socket.close(1000)
  })
  const port = await listen(app)
  const client = await open(t, port, '/')
  t.equal(await client.closed(), '1000')
  t.strictSame(order, ['onRequest', 'preParsing', 'preValidation', 'preHandler', 'onSend', 'handler'])
})

const REFUSALS: Readonly<Record<string, Refuse>> = {
  'reply.send, sync': (_request, reply) => {
    reply.code(401).header('www-authenticate', 'Basic').send({ who: 'are you' })
  },
  'reply.send, async': async (_request, reply) => {
    await null
    return reply.code(401).header('www-authenticate', 'Basic').send({ who: 'are you' })
  },
  'reply.send, async and later': async (_request, reply) => {
    await new Promise(setImmediate)
    reply.code(401).header('www-authenticate', 'Basic').send({ who: 'are you' })
    return reply
  }
}

for (const hook of HOOKS) {
  for (const [name, refuse] of Object.entries(REFUSALS)) {
    t.test(`${hook} refuses with ${name}`, async t => {
      const { app, log } = await makeApp(t)
      Reflect.apply(app.addHook, app, [
        hook,
        (request: FastifyRequest, reply: FastifyReply) => refuse(request, reply)
      ])
      app.get('/', { websocket: true }, () => t.fail('no connection'))
      const port = await listen(app)
      const response = await shake(t, port, '/')
      t.equal(response.status, 401)
      t.equal(headerOf(response, 'www-authenticate'), 'Basic')
      t.equal(headerOf(response, 'connection'), 'close')
      t.equal(response.body, '{"who":"are you"}')
      await log.until('request completed')
      t.strictSame(log.with('WebSocket closed'), [])
    })
  }

  t.test(`${hook} refuses by an error`, async t => {
    const { app } = await makeApp(t)
    const error = Object.assign(new Error('too hot'), { statusCode: 418, code: 'TEAPOT' })
    const sync = (request: FastifyRequest, _reply: FastifyReply, ...rest: unknown[]): void => {
      if (request.url === '/?sync') throw error
      doneOf(rest)()
    }
    const async = async (request: FastifyRequest): Promise<void> => {
      await null
      if (request.url === '/?async') throw error
    }
    const callback = (request: FastifyRequest, _reply: FastifyReply, ...rest: unknown[]): void => {
      setImmediate(doneOf(rest), request.url === '/?callback' ? error : undefined)
    }
    for (const fn of [sync, async, callback]) Reflect.apply(app.addHook, app, [hook, fn])
    app.get('/', { websocket: true }, socket => socket.close(1000))
    const port = await listen(app)
    for (const way of ['sync', 'async', 'callback']) {
      const response = await shake(t, port, `/?${way}`)
      t.equal(response.status, 418, way)
      t.equal(codeOf(response), 'TEAPOT', way)
    }
    const client = await open(t, port, '/')
    t.equal(await client.closed(), '1000')
  })
}

/** The callback of a hook, which comes after the payload if there is one. */
function doneOf(rest: readonly unknown[]): (error?: unknown) => void {
  const done = rest.at(-1)
  if (typeof done !== 'function') throw new Error('no callback')
  return error => Reflect.apply(done, undefined, error === undefined ? [] : [error])
}

t.test('clients of ws and undici receive the refusal of a hook', async t => {
  const { app } = await makeApp(t)
  app.addHook('preHandler', async (_request, reply) => reply.code(402).send('pay'))
  app.get('/', { websocket: true }, () => t.fail('no connection'))
  const port = await listen(app)
  const undici = new UndiciWebSocket(`ws://127.0.0.1:${port}/`)
  const failed = new Signal()
  undici.addEventListener('error', () => failed.fire())
  undici.addEventListener('open', () => t.fail('open'))
  await failed.wait('error of undici')
  const client = new Client(t, port, '/')
  const [, response] = await withDeadline(once(client.socket, 'unexpected-response'), 5_000, 'refusal')
  t.equal(response.statusCode, 402)
})

t.test('hooks of the route and its scope run, and those of other scopes do not', async t => {
  const { app } = await makeApp(t)
  const ran: string[] = []
  const hook = (name: string) => async (): Promise<void> => void ran.push(name)
  app.addHook('onRequest', hook('root'))
  await app.register(async scope => {
    scope.addHook('onRequest', hook('scope'))
    scope.get('/in', { websocket: true, onRequest: [hook('route')], preHandler: hook('late') }, socket =>
      socket.close(1000)
    )
  })
  await app.register(async other => {
    other.addHook('onRequest', hook('other'))
  })
  const port = await listen(app)
  const client = await open(t, port, '/in')
  await client.closed()
  t.strictSame(ran, ['root', 'scope', 'route', 'late'])
})

t.test('headers and cookies that hooks set are sent with the 101', async t => {
  const { app } = await makeApp(t)
  await app.register(cookie)
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-on-request', 'one').setCookie('a', request.cookies.session ?? 'none', { path: '/' })
  })
  app.addHook('preHandler', (_request, reply, done) => {
    reply.header('x-list', ['p', 'q']).header('x-number', 7).setCookie('b', '2', { httpOnly: true })
    reply.raw.setHeader('x-raw', 'raw')
    done()
  })
  app.addHook('onSend', async (_request, reply) => {
    reply.header('x-on-send', 'late').setCookie('c', '3')
  })
  app.get('/', { websocket: true }, socket => socket.close(1000))
  const port = await listen(app)
  const response = await shake(t, port, '/', { Cookie: 'session=s1' })
  t.equal(response.status, 101)
  t.equal(headerOf(response, 'sec-websocket-accept'), ACCEPT)
  t.equal(headerOf(response, 'x-on-request'), 'one')
  t.equal(headerOf(response, 'x-on-send'), 'late')
  t.equal(headerOf(response, 'x-number'), '7')
  t.equal(headerOf(response, 'x-raw'), 'raw')
  t.strictSame(response.headers.get('x-list'), ['p', 'q'])
  t.strictSame(response.headers.get('set-cookie'), [
    'a=s1; Path=/; SameSite=Lax',
    'b=2; HttpOnly; SameSite=Lax',
    'c=3; SameSite=Lax'
  ])
})

t.test(
  'hop-by-hop fields, body fields and Sec-WebSocket-* that hooks set are not sent with the 101',
  async t => {
    const { app } = await makeApp(t)
    app.addHook('preHandler', async (_request, reply) => {
      reply.headers({
        connection: 'close',
        'keep-alive': 'timeout=5',
        'proxy-connection': 'close',
        te: 'trailers',
        trailer: 'x-last',
        'transfer-encoding': 'chunked',
        upgrade: 'h2c',
        'content-length': '5',
        'sec-websocket-accept': 'wrong',
        'Sec-WebSocket-Protocol': 'smuggled',
        'sec-websocket-extensions': 'permessage-deflate',
        'x-stays': 'here'
      })
    })
    app.get('/', { websocket: { subprotocol: 'chat' } }, socket => socket.close(1000))
    const port = await listen(app)
    const response = await shake(t, port, '/', { 'Sec-WebSocket-Protocol': 'chat' })
    t.strictSame(response.head.split('\r\n'), [
      'HTTP/1.1 101 Switching Protocols',
      'Upgrade: websocket',
      'Connection: Upgrade',
      `Sec-WebSocket-Accept: ${ACCEPT}`,
      'Sec-WebSocket-Protocol: chat',
      'x-stays: here'
    ])
  }
)

t.test(
  'params, query, headers and decorators belong to the request, and request.ws is true for handshakes',
  async t => {
    const { app } = await makeApp(t)
    await app.register(cookie)
    app.decorateRequest('visitor', '')
    const kinds: boolean[] = []
    app.addHook('onRequest', async request => {
      kinds.push(request.ws)
      request.setDecorator('visitor', 'ada')
    })
    app.get<{ Params: { room: string }; Querystring: { n: string } }>(
      '/:room',
      { websocket: true },
      (socket, request) => {
        const { ip, params, query, cookies, method, url } = request
        socket.send(
          JSON.stringify({ ip, params, query, cookies, method, url, user: request.getDecorator('visitor') })
        )
        t.equal(request.ws, true)
        t.equal(request.headers.host, 'localhost')
        t.equal(request.routeOptions.url, '/:room')
      }
    )
    app.get('/plain', request => ({ ws: request.ws }))
    const port = await listen(app)
    const client = await open(t, port, '/tea?n=1', { headers: { cookie: 'c=d', host: 'localhost' } })
    t.strictSame(JSON.parse(await client.next()), {
      ip: '127.0.0.1',
      params: { room: 'tea' },
      query: { n: '1' },
      cookies: { c: 'd' },
      method: 'GET',
      url: '/tea?n=1',
      user: 'ada'
    })
    t.equal((await ordinary(t, port, 'GET', '/plain')).body, '{"ws":false}')
    const injected = await app.inject('/plain')
    t.strictSame(injected.json(), { ws: false })
    t.strictSame(kinds, [true, false, false])
  }
)

t.test('the handler is called with the instance of its scope as this', async t => {
  const { app } = await makeApp(t)
  app.decorate('tag', 'root')
  await app.register(async scope => {
    scope.decorate('inner', 'scope')
    scope.get('/in', { websocket: true }, function (socket) {
      socket.send(`${this === scope} ${this.hasDecorator('inner')} ${this.getDecorator('tag')}`)
    })
  })
  app.get('/out', { websocket: true }, function (socket) {
    socket.send(`${this === app} ${this.hasDecorator('inner')}`)
  })
  const port = await listen(app)
  t.equal(await (await open(t, port, '/in')).next(), 'true true root')
  t.equal(await (await open(t, port, '/out')).next(), 'true false')
})

t.test('schemas of params, query string and headers are validated, and a mismatch gets 400', async t => {
  const { app } = await makeApp(t)
  const schema = {
    params: { type: 'object', properties: { id: { type: 'integer' } } },
    querystring: {
      type: 'object',
      required: ['token'],
      properties: { token: { type: 'string', minLength: 3 } }
    },
    headers: { type: 'object', required: ['x-tenant'], properties: { 'x-tenant': { type: 'string' } } }
  }
  app.get<{ Params: { id: number } }>('/:id', { websocket: true, schema }, (socket, request) => {
    socket.send(typeof request.params.id)
  })
  const port = await listen(app)
  const good = await open(t, port, '/7?token=abc', { headers: { 'x-tenant': 'a' } })
  t.equal(await good.next(), 'number')
  for (const [path, headers] of [
    ['/seven?token=abc', { 'X-Tenant': 'a' }],
    ['/7?token=ab', { 'X-Tenant': 'a' }],
    ['/7?token=abc', {}]
  ] as const) {
    const response = await shake(t, port, path, headers)
    t.equal(response.status, 400, path)
    t.equal(codeOf(response), 'FST_ERR_VALIDATION', path)
  }
})

t.test('preValidation may set values that the schema requires', async t => {
  const { app } = await makeApp(t)
  const schema = { querystring: { type: 'object', required: ['filled'] } }
  app.addHook('preValidation', async request => {
    Object.assign(request.query as object, { filled: 'in' })
  })
  app.get('/', { websocket: true, schema }, (socket, request) => socket.send(JSON.stringify(request.query)))
  const port = await listen(app)
  t.equal(await (await open(t, port, '/')).next(), '{"filled":"in"}')
})

t.test('a slow hook delays the 101, and frames sent with the handshake are delivered', async t => {
  const { app } = await makeApp(t)
  const entered = new Signal()
  const go = new Signal()
  const preHandler = async (): Promise<void> => {
    entered.fire()
    await go.promise
  }
  app.get('/', { websocket: true, preHandler }, socket => {
    socket.on('message', data => socket.send(`got ${data}`))
  })
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'), text('one'))
  await entered.wait('hook')
  client.write(text('two'))
  await shake(t, port, '/elsewhere')
  t.equal(client.data.length, 0)
  go.fire()
  t.equal((await client.response()).status, 101)
  t.equal(String((await client.frame()).payload), 'got one')
  t.equal(String((await client.frame()).payload), 'got two')
})
