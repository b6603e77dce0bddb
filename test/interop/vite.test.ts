import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { createServer, type ViteDevServer } from 'vite'
import upgrade from '../../lib/index.js'
import { bareApp, connectRaw, handshake, listen, ms, open, request, shake } from '../helpers/app.js'
import { addRoutes, checkClose, checkRoutes } from '../helpers/neighbour.js'

const HMR = { protocols: ['vite-hmr'] }
const SCRIPT = 'export const name = "main"'

/** A project with one module, which Vite serves. */
async function makeProject(t: Test): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'vite-'))
  t.teardown(() => rm(root, { recursive: true, force: true }))
  await writeFile(join(root, 'main.js'), SCRIPT)
  return root
}

/** An application with both, started in either order, with Vite's middlewares for paths without a route. */
async function startBoth(
  t: Test,
  order: 'before' | 'after',
  hmr: { readonly path?: string } = {},
  addMore: (app: FastifyInstance) => unknown = () => {}
) {
  const { app, log } = bareApp(t)
  const root = await makeProject(t)
  const start = (): Promise<ViteDevServer> =>
    createServer({
      root,
      configFile: false,
      appType: 'custom',
      logLevel: 'error',
      cacheDir: join(root, 'cache'),
      optimizeDeps: { noDiscovery: true },
      server: { middlewareMode: true, hmr: { server: app.server, ...hmr } }
    })
  const early = order === 'before' ? await start() : undefined
  await app.register(upgrade, { handshakeTimeout: ms(1000) })
  const vite = early ?? (await start())
  app.addHook('preClose', () => vite.close())
  app.addHook('onRequest', (request, reply, done) => {
    if (request.ws || !request.is404) done()
    else vite.middlewares(request.raw, reply.raw, done)
  })
  addRoutes(app)
  addMore(app)
  const port = await listen(app)
  return { app, log, vite, root, port, query: `/?token=${vite.config.webSocketToken}` }
}

for (const order of ['before', 'after'] as const) {
  t.test(`Vite's HMR works, started ${order} the plugin`, async t => {
    const { app, vite, port, query } = await startBoth(t, order)
    t.equal(app.server.listenerCount('upgrade'), 2)
    const origin = `http://127.0.0.1:${port}`
    const hmr = await open(t, port, query, { ...HMR, origin })
    t.strictSame(JSON.parse(await hmr.next()), { type: 'connected' })
    t.equal(hmr.socket.protocol, 'vite-hmr')
    await checkRoutes(t, port)
    vite.ws.send({ type: 'custom', event: 'greeting', data: 'hello' })
    t.strictSame(JSON.parse(await hmr.next()), { type: 'custom', event: 'greeting', data: 'hello' })
    t.equal((await request(t, port, 'GET', '/')).body, 'page')
    const { status, body } = await request(t, port, 'GET', '/main.js')
    t.equal(status, 200)
    t.match(body, SCRIPT, 'from the middlewares of Vite')
    t.equal((await request(t, port, 'GET', '/echo')).status, 426)
    await checkClose(t, app, port)
    t.equal(await hmr.closed(), '1006', 'Vite closes its clients this way')
  })
}

t.test('Vite refuses its own upgrades itself', async t => {
  const { app, port, query } = await startBoth(t, 'after')
  const ask = async (path: string): Promise<number> => {
    const client = await connectRaw(t, port)
    client.write(handshake(path, { 'Sec-WebSocket-Protocol': 'vite-hmr', Origin: 'http://localhost' }))
    const { status } = await client.response()
    client.socket.end()
    return status
  }
  t.equal(await ask('/?token=wrong'), 400)
  t.equal(await ask(query), 101)
  t.equal(await ask('/chat'), 400, 'the route of the plugin does not support vite-hmr')
  await app.close()
})

t.test('with a WebSocket route of the plugin at the base of Vite, Vite uses its own path', async t => {
  const { app, vite, port } = await startBoth(t, 'after', { path: 'hmr' }, app =>
    app.get('/', { websocket: true }, socket => socket.send('ours'))
  )
  const hmr = await open(t, port, `/hmr?token=${vite.config.webSocketToken}`, HMR)
  t.strictSame(JSON.parse(await hmr.next()), { type: 'connected' })
  const ours = await open(t, port, '/')
  t.equal(await ours.next(), 'ours')
  t.equal((await shake(t, port, '/', { 'Sec-WebSocket-Protocol': 'vite-hmr' })).status, 101)
  await checkClose(t, app, port)
})

t.test('an ordinary request without a path gets 404', async t => {
  const { port } = await startBoth(t, 'after')
  t.equal((await request(t, port, 'GET', '/nowhere.js')).status, 404)
})

// Vite ignores upgrades of other paths, and the plugin does so until the handshake deadline.
t.test('a handshake for a path of neither gets 404 at the deadline', async t => {
  const { app, port } = await startBoth(t, 'after')
  t.equal((await shake(t, port, '/nowhere')).status, 404)
  await checkClose(t, app, port)
})
