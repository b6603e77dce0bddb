import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { restartable } from '@fastify/restartable'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import upgrade, { type FastifyUpgradeOptions } from '../../lib/index.js'
import {
  connectRaw,
  handshake,
  headerOf,
  ms,
  open,
  request,
  Signal,
  shake,
  withDeadline
} from '../helpers/app.js'
import { portOf } from '../ws/servers.js'

// Several applications on one HTTP server, concurrently or one after the other.

type Handler = (request: IncomingMessage, response: ServerResponse) => void

/** An HTTP server that passes ordinary requests to the newest application. */
class Shared {
  readonly server: Server = createServer((request, response) => this.#handler(request, response))
  #handler: Handler = () => {}

  constructor(t: Test) {
    t.teardown(() => {
      this.server.closeAllConnections()
      this.server.close()
    })
  }

  get port(): number {
    return portOf(this.server)
  }

  async listen(): Promise<number> {
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    return this.port
  }

  /** An application on that server, with a WebSocket route that sends its name. */
  async app(
    t: Test,
    name: string,
    paths: readonly string[],
    { plugin = {}, ...options }: FastifyServerOptions & { plugin?: FastifyUpgradeOptions } = {}
  ): Promise<FastifyInstance> {
    const app = Fastify({
      ...options,
      serverFactory: handler => {
        this.#handler = handler
        return this.server
      }
    })
    t.teardown(() => app.close())
    await app.register(upgrade, plugin)
    for (const path of paths) app.get(path, { websocket: true }, socket => socket.send(name))
    return app
  }
}

const closing = async (app: FastifyInstance): Promise<void> => {
  await withDeadline(app.close(), 10_000, 'app.close()')
}

/** The properties of a server that a registration may change. */
const stateOf = (server: Server): unknown[] => [
  server.emit,
  Object.hasOwn(server, 'emit'),
  server.listenerCount('upgrade'),
  Reflect.get(server, 'shouldUpgradeCallback')
]

t.test('two running applications each answer their own paths', async t => {
  const shared = new Shared(t)
  const before = stateOf(shared.server)
  const first = await shared.app(t, 'first', ['/both', '/a'])
  const second = await shared.app(t, 'second', ['/both', '/b'])
  await Promise.all([first.ready(), second.ready()])
  const port = await shared.listen()
  t.equal(shared.server.listenerCount('upgrade'), 1, 'one listener')
  const clients = new Map<string, Awaited<ReturnType<typeof open>>>()
  for (const [path, name] of [
    ['/a', 'first'],
    ['/b', 'second'],
    ['/both', 'first']
  ] as const) {
    const client = await open(t, port, path)
    t.equal(await client.next(), name, path)
    clients.set(path, client)
  }
  t.equal((await shake(t, port, '/nowhere')).status, 404)
  t.equal(first.websocketServer.clients.size, 2)
  t.equal(second.websocketServer.clients.size, 1)

  await closing(first)
  t.equal(await clients.get('/a')?.closed(), '1001')
  t.equal(clients.get('/b')?.socket.readyState, 1, 'the other application continues')
  t.equal(await (await open(t, port, '/both')).next(), 'second')
  t.equal((await shake(t, port, '/a')).status, 404)
  await closing(second)
  t.strictSame(stateOf(shared.server), before, 'the server is restored')
})

t.test('rewriteUrl and constraints of each application apply', async t => {
  const shared = new Shared(t)
  const first = await shared.app(t, 'first', ['/a'], {
    rewriteUrl: ({ url = '' }) => url.replace('/one', '')
  })
  const second = await shared.app(t, 'second', ['/b'], {
    rewriteUrl: ({ url = '' }) => url.replace('/two', '')
  })
  second.get('/a', { websocket: true, constraints: { host: 'b.example' } }, socket => socket.send('second'))
  await Promise.all([first.ready(), second.ready()])
  const port = await shared.listen()
  t.equal(await (await open(t, port, '/one/a')).next(), 'first')
  t.equal(await (await open(t, port, '/two/b')).next(), 'second')
  t.equal((await shake(t, port, '/one/b')).status, 404)
  t.equal(await (await open(t, port, '/two/a', { headers: { host: 'b.example' } })).next(), 'second')
})

t.test('a handshake that waits for earlier requests is passed to the application with its path', async t => {
  const shared = new Shared(t)
  await (await shared.app(t, 'first', ['/a'])).ready()
  const asked = new Signal()
  const second = await shared.app(t, 'second', ['/b'])
  second.get('/page', () => asked.promise)
  await second.ready()
  const client = await connectRaw(t, await shared.listen())
  client.write('GET /page HTTP/1.1\r\nHost: x\r\n\r\n', handshake('/b'))
  setImmediate(() => asked.fire())
  await client.until(() => client.data.includes('second'), 'second')
})

t.test('a handshake for no application is left to another listener', async t => {
  const shared = new Shared(t)
  for (const name of ['first', 'second']) await (await shared.app(t, name, [`/${name}`])).ready()
  shared.server.on('upgrade', ({ url }: IncomingMessage, socket: Duplex) => {
    if (url === '/other') socket.end('HTTP/1.1 101 Other\r\n\r\n')
  })
  const port = await shared.listen()
  t.equal((await shake(t, port, '/other')).head, 'HTTP/1.1 101 Other')
  for (const name of ['first', 'second']) t.equal(await (await open(t, port, `/${name}`)).next(), name)
})

t.test('an application that has not started is skipped', async t => {
  const shared = new Shared(t)
  const plugin = { handshakeTimeout: ms(100) }
  const first = await shared.app(t, 'first', ['/'], { plugin })
  const second = await shared.app(t, 'second', ['/', '/b'], { plugin })
  const port = await shared.listen()
  t.equal((await shake(t, port, '/')).status, 404, 'no application has started')
  await second.ready()
  t.equal(await (await open(t, port, '/')).next(), 'second')
  await first.ready()
  t.equal(await (await open(t, port, '/')).next(), 'first')
})

t.test('while an application closes, its own paths get 503, and other paths are served', async t => {
  const shared = new Shared(t)
  const hold = new Signal()
  const first = await shared.app(t, 'first', ['/a', '/both'], {
    plugin: { preClose: () => hold.promise, shutdown: { timeout: ms(60_000) } }
  })
  await first.ready()
  await (await shared.app(t, 'second', ['/both'])).ready()
  const port = await shared.listen()
  const closed = first.close()
  const response = await shake(t, port, '/a')
  t.equal(response.status, 503)
  t.equal(headerOf(response, 'retry-after'), '5')
  t.equal(await (await open(t, port, '/both')).next(), 'second')
  hold.fire()
  await withDeadline(closed, 10_000, 'app.close()')
})

t.test('when all applications close, a handshake gets 503', async t => {
  const shared = new Shared(t)
  const hold = new Signal()
  const plugin = { preClose: () => hold.promise, shutdown: { timeout: ms(60_000) } }
  const apps = [
    await shared.app(t, 'first', ['/a'], { plugin }),
    await shared.app(t, 'second', ['/b'], { plugin })
  ]
  for (const app of apps) await app.ready()
  const port = await shared.listen()
  const closed = Promise.all(apps.map(app => app.close()))
  for (const path of ['/a', '/b', '/nowhere']) t.equal((await shake(t, port, path)).status, 503, path)
  hold.fire()
  await withDeadline(closed, 10_000, 'app.close()')
})

t.test('a new application may use the server of a closed one', async t => {
  const shared = new Shared(t)
  for (const name of ['first', 'second', 'third']) {
    const app = await shared.app(t, name, ['/'])
    await app.listen({ port: 0, host: '127.0.0.1' })
    const client = await open(t, shared.port, '/')
    t.equal(await client.next(), name)
    t.equal((await request(t, shared.port, 'GET', '/')).status, 426)
    await closing(app)
    t.equal(await client.closed(), '1001')
    t.equal(shared.server.listenerCount('upgrade'), 0)
  }
})

t.test('hot reload works: the new application starts before the old one is closed, and may fail', async t => {
  const shared = new Shared(t)
  const port = await shared.listen()
  let old = await shared.app(t, '0', ['/', '/0'])
  await old.ready()
  for (const name of ['1', '2']) {
    const client = await open(t, port, '/')
    const failing = await shared.app(t, 'failing', ['/'])
    failing.register(async () => {
      throw new Error('broken')
    })
    await t.rejects(async () => failing.ready(), { message: 'broken' })
    const next = await shared.app(t, name, ['/', `/${name}`])
    await next.ready()
    await closing(old)
    t.equal(await client.closed(), '1001')
    t.equal(await (await open(t, port, '/')).next(), name)
    t.equal((await shake(t, port, `/${Number(name) - 1}`)).status, 404, 'the old paths are gone')
    old = next
  }
})

t.test('@fastify/restartable', async t => {
  let starts = 0
  const app = await restartable(async (factory, options) => {
    const instance = factory(options)
    const name = String(++starts)
    await instance.register(upgrade)
    instance.get('/', { websocket: true }, socket => socket.send(name))
    instance.get('/page', async () => name)
    return instance
  }, {})
  t.teardown(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  const port = portOf(app.server)
  for (const name of ['1', '2', '3']) {
    const client = await open(t, port, '/')
    t.equal(await client.next(), name)
    t.equal((await request(t, port, 'GET', '/page')).body, name)
    t.equal(await (await app.injectWS('/')).protocol, '')
    await withDeadline(app.restart(), 10_000, 'app.restart()')
    t.equal(await client.closed(), '1001')
    t.equal(app.server.listenerCount('upgrade'), 1)
  }
  await closing(app)
  t.equal(app.server.listenerCount('upgrade'), 0)
})

t.test('an application whose registration fails leaves nothing on the server', async t => {
  const shared = new Shared(t)
  const before = stateOf(shared.server)
  const plugins: readonly FastifyUpgradeOptions[] = [
    { maxConnections: -1 },
    { maxPayload: -1 },
    { shutdown: { timeout: -1 } }
  ]
  for (const plugin of plugins) {
    await t.rejects(shared.app(t, 'failing', [], { plugin }), { code: 'FST_UPGRADE_INVALID_OPTION' })
    t.strictSame(stateOf(shared.server), before)
  }
})
