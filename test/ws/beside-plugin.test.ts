import t, { type Test } from 'tap'
import upgrade, { type FastifyUpgradeOptions } from '../../lib/index.js'
import { type ServerOptions, WebSocketServer } from '../../lib/ws/index.js'
import { bareApp, connectRaw, handshake, listen, ms, open, request, Signal, shake } from '../helpers/app.js'
import { addRoutes, checkRoutes } from '../helpers/neighbour.js'
import { echo, endAfter } from './servers.js'

// A server of `fastify-upgrade/ws` on the HTTP server of an application with the plugin.

interface Options extends FastifyUpgradeOptions {
  readonly server: ServerOptions
}

/** Creates both in either order. */
async function both(
  t: Test,
  { server: options, ...rest }: Options,
  check: (app: ReturnType<typeof bareApp>['app'], server: WebSocketServer, order: string) => Promise<void>
): Promise<void> {
  for (const order of ['before', 'after']) {
    const { app } = bareApp(t)
    const make = (): WebSocketServer => new WebSocketServer({ server: app.server, ...options })
    const before = order === 'before' ? make() : undefined
    await app.register(upgrade, rest)
    const server = before ?? make()
    endAfter(t, server)
    await check(app, server, order)
  }
}

t.test('each answers its own paths, with and without the option path', async t => {
  for (const path of ['/ws', undefined]) {
    await both(t, { server: { path } }, async (app, server, order) => {
      echo(server)
      addRoutes(app)
      const port = await listen(app)
      await checkRoutes(t, port)
      const client = await open(t, port, '/ws')
      client.socket.send('ours')
      t.equal(await client.next(), 'ours', `${order} ${path}`)
      t.equal((await request(t, port, 'GET', '/')).body, 'page')
    })
  }
})

t.test('a path of both is answered in the order of the listeners when the option path is set', async t => {
  await both(t, { server: { path: '/both' } }, async (app, server, order) => {
    server.on('connection', socket => socket.send('before'))
    app.get('/both', { websocket: true }, socket => socket.send('after'))
    t.equal(await (await open(t, await listen(app), '/both')).next(), order)
  })
})

t.test("a handshake that takes longer than the other's handshakeTimeout is left alone", async t => {
  const verifyClient: ServerOptions['verifyClient'] = (_info, callback) => {
    setTimeout(callback, ms(300), true)
  }
  const slow: Options = {
    handshakeTimeout: ms(50),
    server: { path: '/slow', handshakeTimeout: ms(10_000), verifyClient }
  }
  await both(t, slow, async (app, _server, order) => {
    t.equal((await shake(t, await listen(app), '/slow')).status, 101, `the server is slow: ${order}`)
  })
  const fast: Options = { handshakeTimeout: ms(10_000), server: { path: '/other', handshakeTimeout: ms(50) } }
  await both(t, fast, async (app, _server, order) => {
    const onRequest = (): Promise<void> => new Promise(resolve => setTimeout(resolve, ms(300)))
    app.get('/slow', { websocket: true, onRequest }, () => {})
    t.equal((await shake(t, await listen(app), '/slow')).status, 101, `the plugin is slow: ${order}`)
  })
})

t.test('a handshake that waits for earlier requests is answered once, by the owner of its path', async t => {
  await both(t, { server: {} }, async (app, server, order) => {
    server.on('connection', socket => socket.send('from the server'))
    const asked = new Signal()
    app.get('/page', () => asked.promise)
    app.get('/own', { websocket: true }, socket => socket.send('from the plugin'))
    const port = await listen(app)
    for (const [path, from] of [
      ['/own', 'from the plugin'],
      ['/other', 'from the server']
    ] as const) {
      const client = await connectRaw(t, port)
      client.write('GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n', handshake(path))
      setImmediate(() => asked.fire())
      await client.until(() => client.data.includes(from), from)
      t.equal(String(client.data).match(/HTTP\/1.1 101/g)?.length, 1, `${order} ${path}`)
      client.socket.destroy()
    }
  })
})
