import dns, { type LookupAddress, type LookupOptions } from 'node:dns'
import { once } from 'node:events'
import { networkInterfaces } from 'node:os'
import Fastify, { type FastifyPluginAsync } from 'fastify'
import t from 'tap'
import type { WebSocket, WebSocketHandler } from '../../lib/index.js'
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
  shake
} from '../helpers/app.js'
import { CERTIFICATE, KEY } from '../socket/certificate.js'

/** A handler that sends its name. */
const says =
  (name: string) =>
  (socket: WebSocket): void => {
    socket.send(name)
  }

async function answer(t: Parameters<typeof open>[0], port: number, path: string): Promise<string> {
  const client = await open(t, port, path)
  const message = await client.next()
  client.socket.close()
  return message
}

t.test('prefixes, parameters and wildcards work for WebSocket routes', async t => {
  const { app } = await makeApp(t)
  await app.register(
    async scope => {
      scope.get('/', { websocket: true }, says('root'))
      scope.get('/room/:id', { websocket: true }, (socket, { params, query }) => {
        socket.send(JSON.stringify({ params, query }))
      })
      await scope.register(async inner => inner.get('/files/*', { websocket: true }, says('files')), {
        prefix: '/v1'
      })
    },
    { prefix: '/api' }
  )
  const port = await listen(app)
  t.equal(await answer(t, port, '/api'), 'root')
  t.equal(await answer(t, port, '/api/'), 'root')
  t.equal(
    await answer(t, port, '/api/room/a%20b?x=1'),
    JSON.stringify({ params: { id: 'a b' }, query: { x: '1' } })
  )
  t.equal(await answer(t, port, '/api/v1/files/a/b'), 'files')
  for (const path of ['/', '/api/room', '/api/v1/files', '/v1/files/a']) {
    t.equal((await shake(t, port, path)).status, 404, path)
  }
})

t.test('a handler and a wsHandler may share a URL', async t => {
  const { app } = await makeApp(t)
  app.route({
    method: 'GET',
    url: '/both',
    handler: (_request, reply) => {
      reply.send('ordinary')
    },
    wsHandler: says('websocket')
  })
  const port = await listen(app)
  const response = await request(t, port, 'GET', '/both')
  t.equal(response.status, 200)
  t.equal(response.body, 'ordinary')
  t.equal(await answer(t, port, '/both'), 'websocket')
  t.equal((await request(t, port, 'HEAD', '/both')).status, 200, 'the HEAD route belongs to the handler')
  t.equal((await request(t, port, 'POST', '/both')).status, 404)
})

t.test('a wsHandler route keeps the prefix, the hooks, the other methods and the options', async t => {
  const { app } = await makeApp(t, { maxPayload: 100 })
  const seen: string[] = []
  await app.register(
    async scope => {
      for (const url of ['/', '/both']) {
        scope.route({
          method: ['GET', 'POST'],
          url,
          websocket: { subprotocol: 'chat', maxPayload: 1 },
          config: { name: url },
          preHandler: async ({ method, ws, routeOptions }) => {
            seen.push(`${method} ${ws} ${Reflect.get(routeOptions.config, 'name')}`)
          },
          handler: async ({ method }) => method,
          wsHandler: says('websocket')
        })
      }
    },
    { prefix: '/api' }
  )
  const port = await listen(app)
  for (const [path, name] of [
    ['/api', '/'],
    ['/api/', '/'],
    ['/api/both', '/both']
  ] as const) {
    seen.length = 0
    t.equal((await request(t, port, 'GET', path)).body, 'GET', path)
    t.equal((await request(t, port, 'POST', path)).body, 'POST', path)
    const client = await open(t, port, path, { protocols: ['chat'] })
    t.equal(await client.next(), 'websocket', path)
    client.socket.send('ab')
    t.equal(await client.closed(), '1009 message too big', path)
    t.strictSame(seen, [`GET false ${name}`, `POST false ${name}`, `GET true ${name}`])
    t.equal((await shake(t, port, path, { 'Sec-WebSocket-Protocol': 'other' })).status, 400, path)
  }
})

t.test('a wsHandler with websocket: false or undefined is still a WebSocket handler', async t => {
  const { app } = await makeApp(t)
  for (const websocket of [false, undefined] as const) {
    app.route({
      method: 'GET',
      url: `/${websocket}`,
      websocket,
      handler: async () => 'ordinary',
      wsHandler: says('websocket')
    })
  }
  const port = await listen(app)
  for (const path of ['/false', '/undefined']) {
    t.equal((await request(t, port, 'GET', path)).body, 'ordinary')
    t.equal(await answer(t, port, path), 'websocket')
  }
})

t.test('websocket: false does not change the route', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: false }, async ({ ws }) => String(ws))
  const port = await listen(app)
  t.equal((await request(t, port, 'GET', '/')).body, 'false')
  t.equal((await shake(t, port, '/')).status, 404, 'an ordinary route accepts no handshakes')
})

t.test(
  'a WebSocket route with a wildcard or a parameter also matches paths of ordinary routes below it',
  async t => {
    const { app } = await makeApp(t)
    const seen: string[] = []
    const sendName =
      (name: string): WebSocketHandler =>
      (socket, { routeOptions, params }) =>
        socket.send(JSON.stringify({ name, url: routeOptions.url, params }))
    app.get('/http', { onRequest: async () => void seen.push('http') }, async () => 'page')
    app.get('/rooms/http', async () => 'room')
    app.get('/ws', { websocket: true }, sendName('static'))
    app.get('/rooms/:room', { websocket: true }, sendName('parameter'))
    app.get(
      '/*',
      { websocket: true, onRequest: async () => void seen.push('wildcard') },
      sendName('wildcard')
    )
    const port = await listen(app)
    const ask = async (path: string): Promise<unknown> => JSON.parse(await answer(t, port, path))
    t.strictSame(await ask('/http'), { name: 'wildcard', url: '/*', params: { '*': 'http' } })
    t.strictSame(await ask('/rooms/http'), {
      name: 'parameter',
      url: '/rooms/:room',
      params: { room: 'http' }
    })
    t.strictSame(await ask('/rooms/a/b'), { name: 'wildcard', url: '/*', params: { '*': 'rooms/a/b' } })
    t.strictSame(await ask('/ws'), { name: 'static', url: '/ws', params: {} })
    t.strictSame(seen, ['wildcard', 'wildcard'], 'the hooks of the matched route run')
    t.equal((await request(t, port, 'GET', '/http')).body, 'page')
    t.equal((await request(t, port, 'GET', '/rooms/http')).body, 'room')
    t.equal((await request(t, port, 'GET', '/elsewhere')).status, 426)
  }
)

t.test('an ordinary route with a wildcard also matches paths of WebSocket routes below it', async t => {
  const { app } = await makeApp(t)
  app.get('/ws', { websocket: true }, says('websocket'))
  app.get('/*', async ({ routeOptions }) => routeOptions.url)
  const port = await listen(app)
  t.equal(await answer(t, port, '/ws'), 'websocket')
  t.equal((await request(t, port, 'GET', '/ws')).body, '/*', 'not 426')
  t.equal((await shake(t, port, '/http')).status, 404)
})

t.test('an HTTP route at the same path may be declared before or after, with its own hooks', async t => {
  for (const first of ['http', 'websocket']) {
    const { app } = await makeApp(t)
    const seen: string[] = []
    const declare = {
      http: () => {
        app.get('/', { onRequest: async () => void seen.push('http') }, async () => 'ordinary')
      },
      websocket: () => {
        app.get(
          '/',
          { websocket: true, onRequest: async () => void seen.push('websocket') },
          says('websocket')
        )
      }
    }
    if (first === 'http') declare.http()
    declare.websocket()
    if (first !== 'http') declare.http()
    const port = await listen(app)
    t.equal((await request(t, port, 'GET', '/')).body, 'ordinary')
    t.equal(await answer(t, port, '/'), 'websocket')
    t.equal((await request(t, port, 'HEAD', '/')).status, 200)
    t.strictSame(seen, ['http', 'websocket', 'http'])
  }
})

t.test('HEAD on a path with WebSocket routes only gets 426', async t => {
  for (const exposeHeadRoutes of [true, false]) {
    const { app } = await makeApp(t, {}, { exposeHeadRoutes })
    app.get('/', { websocket: true }, says('websocket'))
    app.route({ method: ['GET', 'HEAD'], url: '/list', websocket: true, handler: says('list') })
    const port = await listen(app)
    for (const path of ['/', '/list']) {
      const response = await request(t, port, 'HEAD', path)
      t.equal(response.status, 426)
      t.equal(headerOf(response, 'upgrade'), 'websocket')
      t.equal(headerOf(response, 'connection'), 'Upgrade, close', 'the client asked for the end')
      t.equal(response.body, '')
    }
    t.equal(await answer(t, port, '/'), 'websocket')
    t.equal(await answer(t, port, '/list'), 'list')
  }
})

t.test('an application may declare its own HEAD route beside a WebSocket route', async t => {
  const { app } = await makeApp(t)
  app.head('/', async (_request, reply) => reply.header('x-mine', '1').send())
  app.get('/', { websocket: true, exposeHeadRoute: false }, says('websocket'))
  const port = await listen(app)
  const response = await request(t, port, 'HEAD', '/')
  t.equal(response.status, 200)
  t.equal(headerOf(response, 'x-mine'), '1')
  t.equal(await answer(t, port, '/'), 'websocket')
})

t.test('ignoreTrailingSlash, ignoreDuplicateSlashes and caseSensitive of the router apply', async t => {
  const { app } = await makeApp(
    t,
    {},
    { routerOptions: { ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, caseSensitive: false } }
  )
  app.get('/Chat', { websocket: true }, says('chat'))
  await app.register(async scope => scope.get('/', { websocket: true }, says('scope')), { prefix: '/scope' })
  app.route({ method: 'GET', url: '/both/', handler: async () => 'ordinary', wsHandler: says('both') })
  const port = await listen(app)
  for (const path of ['/chat', '/CHAT/', '//chat']) t.equal(await answer(t, port, path), 'chat', path)
  for (const path of ['/scope', '/scope/']) t.equal(await answer(t, port, path), 'scope', path)
  for (const path of ['/both', '/both/']) {
    t.equal(await answer(t, port, path), 'both', path)
    t.equal((await request(t, port, 'GET', path)).body, 'ordinary', path)
  }
  t.equal((await request(t, port, 'GET', '//chat/')).status, 426)
})

t.test('rewriteUrl is called once for a handshake, and the router uses its result', async t => {
  const urls: unknown[] = []
  const { app } = await makeApp(
    t,
    {},
    {
      rewriteUrl({ url }) {
        urls.push(url)
        return url === '/old' ? '/new?from=old' : '/nowhere'
      }
    }
  )
  app.get('/new', { websocket: true }, (socket, { url, originalUrl, query }) => {
    socket.send(JSON.stringify([url, originalUrl, query]))
  })
  const port = await listen(app)
  t.equal(await answer(t, port, '/old'), JSON.stringify(['/new?from=old', '/old', { from: 'old' }]))
  t.equal((await shake(t, port, '/new')).status, 404)
  t.equal((await request(t, port, 'GET', '/old')).status, 426)
  t.strictSame(urls, ['/old', '/new', '/old'])
})

t.test('hasRoute, findRoute and printRoutes show WebSocket routes by their constraint', async t => {
  const { app } = await makeApp(t)
  app.get('/chat', { websocket: { subprotocol: 'chat' } }, says('chat'))
  app.get('/chat', { websocket: true }, says('plain'))
  await app.ready()
  t.ok(app.hasRoute({ method: 'GET', url: '/chat', constraints: { websocket: ['chat'] } }))
  t.ok(app.hasRoute({ method: 'GET', url: '/chat', constraints: { websocket: true } }))
  t.notOk(app.hasRoute({ method: 'GET', url: '/chat' }), 'there is no ordinary route')
  t.notOk(app.hasRoute({ method: 'GET', url: '/chat', constraints: { websocket: ['other'] } }))
  t.match(app.printRoutes(), /chat \(GET, HEAD\).*"websocket"/s)
})

t.test('invalid route declarations throw', async t => {
  const { app } = await makeApp(t)
  // The types refuse these, too.
  const wrong: readonly [string, unknown][] = [
    ['has to have the method GET', { method: 'POST', websocket: true, handler: says('x') }],
    ['neither a boolean nor an object', { method: 'GET', websocket: 1, handler: says('x') }],
    ['neither a boolean nor an object', { method: 'GET', websocket: null, handler: says('x') }],
    ['neither a boolean nor an object', { method: 'GET', websocket: 'chat', handler: says('x') }],
    ['with a wsHandler has to have GET', { method: 'POST', wsHandler: says('x'), handler: async () => 'x' }],
    ['has a handler that is no function', { method: 'GET', wsHandler: 7, handler: async () => 'x' }]
  ]
  for (const [message, options] of wrong) {
    t.throws(
      () => Reflect.apply(app.route, app, [{ url: '/', ...Object(options) }]),
      { code: 'FST_UPGRADE_INVALID_ROUTE', message: new RegExp(message) },
      JSON.stringify(options)
    )
  }
  t.throws(() => Reflect.apply(app.post, app, ['/post', { websocket: true }, says('x')]), {
    code: 'FST_UPGRADE_INVALID_ROUTE',
    message: 'The WebSocket route /post has to have the method GET.'
  })
})

t.test('a route declared before the plugin makes the start fail', async t => {
  const { app } = bareApp(t)
  app.get('/early', { websocket: true }, says('early'))
  await app.register(upgrade)
  await t.rejects(async () => app.listen({ port: 0 }), {
    code: 'FST_UPGRADE_ROUTE_BEFORE_PLUGIN',
    message: /GET \/early /
  })
})

const places: Record<string, FastifyPluginAsync> = {
  'in a plugin beside it': async scope => {
    scope.get('/', { websocket: true }, says('here'))
  },
  'in a nested plugin': async scope => {
    await scope.register(async inner => {
      inner.get('/', { websocket: true }, says('here'))
    })
  },
  'after others were loaded': async scope => {
    scope.after(() => {
      scope.get('/', { websocket: true }, says('here'))
    })
  }
}
for (const [where, plugin] of Object.entries(places)) {
  t.test(`register works without await for a route ${where}`, async t => {
    const { app } = bareApp(t)
    app.register(upgrade)
    app.register(plugin)
    const port = await listen(app)
    t.equal(await answer(t, port, '/'), 'here')
  })
}

t.test('localhost listens on both stacks, and both accept handshakes', async t => {
  // Not every machine resolves localhost to both.
  const hasV6 = Object.values(networkInterfaces()).some(list =>
    list?.some(({ address }) => address === '::1')
  )
  const second = hasV6 ? { address: '::1', family: 6 } : { address: '127.0.0.2', family: 4 }
  const { lookup } = dns
  t.intercept(dns, 'lookup', {
    value: (
      host: string,
      options: LookupOptions,
      done: (error: null, addresses: LookupAddress[]) => void
    ) => {
      if (host !== 'localhost' || !options.all) Reflect.apply(lookup, dns, [host, options, done])
      else setImmediate(done, null, [{ address: '127.0.0.1', family: 4 }, second])
    }
  })
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, says('here'))
  const port = await listen(app, 'localhost')
  t.equal(app.addresses().length, 2)
  for (const host of ['127.0.0.1', hasV6 ? '[::1]' : second.address]) {
    const client = await open(t, port, '/', { host })
    t.equal(await client.next(), 'here', host)
  }
  t.equal(app.websocketServer.clients.size, 2)
})

t.test('a server with https accepts handshakes', async t => {
  const app = Fastify({ https: { key: KEY, cert: CERTIFICATE } })
  t.teardown(() => app.close())
  await app.register(upgrade)
  app.get('/', { websocket: true }, (socket, { protocol }) => socket.send(protocol))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = Object(app.server.address())
  const client = await connectRaw(t, port, { tls: {} })
  client.write(handshake('/', { Origin: 'https://localhost' }))
  t.equal((await client.response()).status, 101)
  t.equal(String((await client.frame()).payload), 'https')
  const refused = await connectRaw(t, port, { tls: {} })
  refused.write(handshake('/', { Origin: 'https://other.test' }))
  const response = await refused.response()
  t.equal(response.status, 403, 'a page of another host')
  t.equal(codeOf(response), 'FST_UPGRADE_FORBIDDEN_ORIGIN')
})

t.test('a connection that was kept alive may upgrade', async t => {
  const { app } = await makeApp(t)
  app.get('/', async () => 'ordinary')
  app.get('/ws', { websocket: true }, says('here'))
  const port = await listen(app)
  const client = await connectRaw(t, port)
  for (let i = 0; i < 3; i++) {
    client.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    t.equal((await client.response()).body, 'ordinary')
  }
  client.write(handshake('/ws'))
  t.equal((await client.response()).status, 101)
  t.equal(String((await client.frame()).payload), 'here')
})

t.test('a refusal with a body larger than the socket buffer is sent whole', async t => {
  const { app } = await makeApp(t)
  const body = 'x'.repeat(5_000_000)
  app.get(
    '/',
    { websocket: true, onRequest: async (_request, reply) => reply.code(401).send(body) },
    says('here')
  )
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.socket.pause()
  client.write(handshake('/'))
  await once(client.socket, 'readable')
  client.socket.resume()
  const response = await client.response()
  t.equal(response.status, 401)
  t.ok(response.body === body, 'all of it arrives')
  await client.end()
})
