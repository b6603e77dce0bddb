// Compiles applications with versions of TypeScript that Fastify 5 supports, against the built declarations: with all of
// them where TEST_TYPESCRIPT is `all`, and else with the oldest and the newest.
import { execFile } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import ts from 'typescript'
import { root } from '../helpers/root.js'
import { ms } from '../helpers/timeout.js'

const run = promisify(execFile)
const folder = join(root, 'test', 'typescript')
const { devDependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
const all = [...Object.keys(devDependencies), 'typescript']
const versions = process.env.TEST_TYPESCRIPT === 'all' ? all : [...all.slice(0, 1), ...all.slice(-2, -1)]

const IMPORTS = `
  import { once } from 'node:events'
  import Fastify, { type FastifyTypeProvider } from 'fastify'
  import upgrade, {
    type ClientOf,
    type FastifyUpgradeOptions,
    MemoryBroker,
    MemoryHub,
    prepare,
    WebSocket,
    type WebSocketHandler
  } from 'fastify-upgrade'
  import * as all from 'fastify-upgrade'
  import asyncapi from 'fastify-upgrade/asyncapi'
  import { brokerContract } from 'fastify-upgrade/broker-contract'
  import { natsBroker } from 'fastify-upgrade/nats'
  import { redisBroker, type RedisClient } from 'fastify-upgrade/redis'
  import { inject } from 'fastify-upgrade/testing'
  import ws, { type RawData, WebSocketServer } from 'fastify-upgrade/ws'

  const options = (): FastifyUpgradeOptions => ({ broker: new MemoryBroker(new MemoryHub()) })
  const handler: WebSocketHandler = (socket, request) => socket.send(prepare(request.url))
  const plugins = [upgrade, all.default]
  const state: 1 = WebSocket.OPEN
  export type Data = RawData
  type Client<Route, Provider extends FastifyTypeProvider> = ClientOf<Route, Provider>
  export const brokers = (redis: RedisClient) => [natsBroker, redisBroker(redis), brokerContract]
`

const REQUIRES = `
  import { once } from 'node:events'
  import Fastify = require('fastify')
  import upgrade = require('fastify-upgrade')
  import asyncapi = require('fastify-upgrade/asyncapi')
  import { brokerContract } from 'fastify-upgrade/broker-contract'
  import nats = require('fastify-upgrade/nats')
  import redis = require('fastify-upgrade/redis')
  import testing = require('fastify-upgrade/testing')
  import ws = require('fastify-upgrade/ws')

  type FastifyTypeProvider = Fastify.FastifyTypeProvider
  type Client<Route, Provider extends FastifyTypeProvider> = upgrade.ClientOf<Route, Provider>
  const { WebSocketServer } = ws
  const { inject } = testing
  const options = (): upgrade.FastifyUpgradeOptions => ({
    broker: new upgrade.MemoryBroker(new upgrade.MemoryHub())
  })
  const handler: upgrade.WebSocketHandler = (socket, request) => socket.send(upgrade.prepare(request.url))
  const plugins = [upgrade, upgrade.default, upgrade.fastifyUpgrade]
  const state: 1 = upgrade.WebSocket.OPEN
  export const use = (socket: upgrade.WebSocket, other: ws, client: testing.WebSocket, data: ws.RawData) =>
    [socket.protocol, other.protocol, client.protocol, data]
  export const brokers = (client: redis.RedisClient) => [nats.natsBroker, redis.redisBroker(client), brokerContract]
`

const USE = `
  /** Schemas that have a value as their example. */
  interface ExampleProvider extends FastifyTypeProvider {
    validator: this['schema'] extends { readonly example: infer Example } ? Example : unknown
    serializer: this['schema'] extends { readonly example: infer Example } ? Example : unknown
  }
  type Say = { type: 'say'; text: string } | { type: 'typing' }
  const schema = { receive: {} as { example: Say }, send: {} as { example: { from: string } } }
  export const sent: Client<typeof schema, ExampleProvider>['send'] = { type: 'say', text: 'hi' }

  async function main(): Promise<void> {
    for (const plugin of plugins) {
      const app = Fastify()
      await app.register(plugin, options())
      await app.register(asyncapi, { info: { title: 'App', version: '1' } })
      // @ts-expect-error there is no such option
      void (() => app.register(plugin, { maxPayloads: 1 }))
      app.get('/', { websocket: true }, handler)
      app.get<{ Params: { room: string } }>(
        '/rooms/:room',
        { websocket: { topics: ({ params }) => [params.room] } },
        (socket, request) => {
          const room: string = request.params.room
          if (room !== 'a') socket.close()
          socket.on('message', data => socket.send(data.subarray(1)))
          // @ts-expect-error there is no such parameter
          request.params.other
        }
      )
      // @ts-expect-error a WebSocket handler gets no reply
      void (() => app.get('/', { websocket: true }, (_socket, request) => request.send('x')))
      app.withTypeProvider<ExampleProvider>().get('/typed', { websocket: true, schema }, async socket => {
        for await (const message of socket) {
          if (message.type === 'say') socket.send({ from: message.text })
          // @ts-expect-error a string is no value of the schema
          socket.send('text')
        }
      })
      app.get<{ Receive: Say }>('/named', { websocket: true, schema }, socket => {
        socket.on('message', message => socket.send(message.type))
      })
      const client = await app.injectWS('/')
      const [text] = await once(client, 'message')
      const room = await inject(app, '/rooms/a')
      room.send('text')
      const [reply] = await once(room, 'message')
      void app.websocketServer.publish('a', prepared())
      const [published] = await once(room, 'message')
      console.log(String(text), String(reply), String(published), client.readyState === state)
      await app.close()
    }
  }
  class Own extends ws {
    readonly label = 'own'
  }
  const server = new WebSocketServer({ noServer: true, WebSocket: Own })
  server.on('connection', socket => socket.on('message', data => socket.send(data)))
  const other: ws.Server = new ws.Server({ noServer: true })
  other.on('connection', socket => ws.createWebSocketStream(socket).resume())
  void main()
`

const esm = `${IMPORTS}\nconst prepared = () => prepare('all')\n${USE}`
const equals = `${REQUIRES}\nconst prepared = () => upgrade.prepare('all')\n${USE}`

/** Uses more of the types than the others do, together with those of `ws`. */
const surface = `
  import Fastify from 'fastify'
  import upgrade, { fastifyWebsocket, type PerMessageDeflateOptions, type PreparedMessage, prepare } from 'fastify-upgrade'
  import asyncapi, { type AsyncApiDocument } from 'fastify-upgrade/asyncapi'
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

  const info = { title: 'App', version: '1' }
  await app.register(asyncapi, { info, routePrefix: '/docs', onRequest: async request => request.log.info('docs') })
  app.get('/documented', { websocket: true, schema: { hide: true, tags: ['a'], summary: 'a' } }, () => {})
  const document: AsyncApiDocument = app.asyncapi()
  const yaml: string = app.asyncapi({ yaml: true }) + document.info.title
  // @ts-expect-error info is required
  await app.register(asyncapi, { routePrefix: yaml })

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
`

function applications(t: Test): string {
  const link = (name: string, target = join(root, 'node_modules', name)) => t.fixture('symlink', target)
  return t.testdir({
    'package.json': '{}',
    'esm.mts': esm,
    'cjs.cts': esm,
    'cjs.ts': esm,
    'equals.cts': equals,
    'equals.ts': equals,
    'surface.mts': surface,
    node_modules: {
      fastify: link('fastify'),
      ws: link('ws'),
      '@types': link('@types'),
      'fastify-upgrade': link('fastify-upgrade', root)
    }
  })
}

t.setTimeout(ms(1_200_000))

for (const name of versions) {
  const path = join(name === 'typescript' ? root : folder, 'node_modules', name)
  const skip = existsSync(path) ? false : 'run: npm ci --prefix test/typescript'
  t.test(`applications compile with ${name}`, { skip }, async t => {
    // With the installed version the declarations of all packages have to be free of errors.
    const scope = name === 'typescript' ? ['all'] : []
    const { stdout } = await run(process.execPath, [join(folder, 'compile.js'), path, ...scope], {
      cwd: applications(t)
    })
    t.equal(stdout, '')
  })
}

t.test('applications run: as ES modules, and as CommonJS with and without esModuleInterop', async t => {
  const cwd = applications(t)
  const emit = (source: string, file: string, module: ts.ModuleKind, esModuleInterop: boolean): void => {
    const compilerOptions = { module, esModuleInterop, target: ts.ScriptTarget.ES2022 }
    writeFileSync(join(cwd, file), ts.transpileModule(source, { compilerOptions }).outputText)
  }
  emit(esm, 'esm.mjs', ts.ModuleKind.ESNext, true)
  emit(esm, 'interop.cjs', ts.ModuleKind.CommonJS, true)
  emit(esm, 'plain.cjs', ts.ModuleKind.CommonJS, false)
  emit(equals, 'equals.cjs', ts.ModuleKind.CommonJS, true)
  for (const [file, plugins] of [
    ['esm.mjs', 2],
    ['interop.cjs', 2],
    ['plain.cjs', 2],
    ['equals.cjs', 3]
  ] as const) {
    const { stdout, stderr } = await run(process.execPath, [file], { cwd })
    t.equal(stdout, '/ ext all true\n'.repeat(plugins), file)
    t.equal(stderr, '', file)
  }
})
