import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import * as all from '../lib/index.js'
import * as testing from '../lib/testing/index.js'
import { root } from './helpers/root.js'

t.test('the package exports the documented names', async t => {
  t.strictSame(Object.keys(all).sort(), [
    'MemoryBroker',
    'MemoryHub',
    'WebSocket',
    'WebSocketServer',
    'default',
    'fastifyUpgrade',
    'fastifyWebsocket',
    'prepare'
  ])
  t.equal(all.default, all.fastifyUpgrade)
  t.equal(all.default, all.fastifyWebsocket, 'the name of @fastify/websocket')
})

t.test(
  'import and require of each built entry of the package return the same values under the same names',
  async t => {
    const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    const entries = Object.keys(exports).filter(name => name !== './package.json')
    t.strictSame(entries, ['.', './ws', './testing', './broker-contract', './redis', './nats'])
    const load = createRequire(import.meta.url)
    for (const entry of entries) {
      const name = `fastify-upgrade${entry.slice(1)}`
      const imported: Readonly<Record<string, unknown>> = await import(name)
      const required: Readonly<Record<string, unknown>> = load(name)
      const names = Object.keys(imported)
      t.ok(names.length > 0, name)
      for (const one of names) t.equal(required[one], imported[one], `${name}: ${one}`)
      if (imported.default) t.equal(required, imported.default, `${name}: the module itself`)
      else t.strictSame(Object.keys(required), names, `${name}: no other names`)
    }
  }
)

t.test('the built fastify-upgrade/testing entry works', async t => {
  const imported: Readonly<Record<string, unknown>> = await import('fastify-upgrade/testing')
  t.strictSame(Object.keys(imported).sort(), [
    'InjectInvalidResponseError',
    'InjectRefusedError',
    'WebSocket',
    'inject'
  ])
  t.strictSame(Object.keys(testing).sort(), Object.keys(imported).sort())
})

t.test('the built broker entries load none of their peer dependencies, not even for types', async t => {
  const { peerDependenciesMeta } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const peers = Object.keys(peerDependenciesMeta)
  t.strictSame(peers, ['@nats-io/transport-node', 'ioredis', 'iovalkey'])
  const files = readdirSync(join(root, 'dist', 'lib'), { recursive: true, encoding: 'utf8' })
  for (const file of files.filter(name => /\.(js|d\.ts)$/.test(name))) {
    const text = readFileSync(join(root, 'dist', 'lib', file), 'utf8')
    t.notOk(
      peers.some(peer => text.includes(`'${peer}'`)),
      file
    )
  }
  t.strictSame(Object.keys(await import('fastify-upgrade/redis')), ['redisBroker'])
  t.strictSame(Object.keys(await import('fastify-upgrade/nats')), ['natsBroker'])
})

t.test('an application in TypeScript compiles with this package as its only dependency', async t => {
  const modules = (name: string): string => join(root, 'node_modules', name)
  const compilerOptions = {
    noEmit: true,
    strict: true,
    target: 'es2023',
    module: 'nodenext',
    types: ['node']
  }
  const path = t.testdir({
    'package.json': JSON.stringify({ type: 'module' }),
    'tsconfig.json': JSON.stringify({ compilerOptions, files: ['app.ts'] }),
    'app.ts': `
      import Fastify from 'fastify'
      import upgrade, { fastifyWebsocket, type PerMessageDeflateOptions, type PreparedMessage, prepare } from 'fastify-upgrade'
      import ws, { type RawData, WebSocketServer } from 'fastify-upgrade/ws'
      import { natsBroker } from 'fastify-upgrade/nats'
      import { redisBroker, type RedisClient } from 'fastify-upgrade/redis'
      import { inject } from 'fastify-upgrade/testing'
      import type { WebSocket, WebSocketServer as WsServer } from 'ws'

      const app = Fastify()
      await app.register(upgrade, { maxPayload: 10 })
      await Fastify().register(fastifyWebsocket, { options: { maxPayload: 10 } })
      app.get('/', { websocket: true }, (socket, request) => {
        const asWs: WebSocket = socket
        asWs.on('message', data => socket.send(String(data) + request.ws))
      })
      // @ts-expect-error there is no such option
      app.get('/', { websocket: { sub: 'chat' } }, socket => socket.close())
      const perMessageDeflate: PerMessageDeflateOptions = { threshold: 10 }
      app.get('/deflate', { websocket: { perMessageDeflate } }, socket => socket.send(prepare('text')))
      const message: PreparedMessage = prepare('text', { binary: true })
      app.websocketServer.broadcast(message)
      app.websocketServer.broadcast('text')
      for (const client of app.websocketServer.clients) client.close()
      const client = await app.injectWS('/', { headers: { a: 'b' } })
      for (const one of [client, await inject(app)]) one.send(one.protocol)

      const serve = (redis: RedisClient) => app.register(upgrade, { broker: redisBroker(redis, { sharded: true }) })
      // @ts-expect-error that is no connection
      natsBroker({})

      class Own extends ws {
        readonly label = 'own'
      }
      const server: WsServer = new WebSocketServer({ server: app.server, path: '/ws', WebSocket: Own })
      server.on('connection', socket => socket.on('message', (data: RawData) => socket.send(data)))
      const other: ws.Server = new ws.Server({ noServer: true })
      other.on('connection', socket => ws.createWebSocketStream(socket).resume())
      // @ts-expect-error there is no client
      new ws('ws://localhost')
    `,
    node_modules: {
      fastify: t.fixture('symlink', modules('fastify')),
      ws: t.fixture('symlink', modules('ws')),
      '@types': t.fixture('symlink', modules('@types')),
      'fastify-upgrade': t.fixture('symlink', root)
    }
  })
  const tsc = join(modules('typescript'), 'bin', 'tsc')
  const compile = promisify(execFile)(process.execPath, [tsc, '-p', path])
  const { stdout } = await compile.catch((error: { stdout: string }) => error)
  t.equal(stdout, '')
})
