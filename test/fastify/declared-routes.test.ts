import { channel } from 'node:diagnostics_channel'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import t from 'tap'
import upgrade, { type WebSocket } from '../../lib/index.js'
import { bareApp, listen, open } from '../helpers/app.js'
import { PACKAGES } from '../interop/packages.js'

const greet = (socket: WebSocket): void => {
  socket.send('hello')
}

/** A route as declared by application code without the types of the plugin. */
const declare = (app: FastifyInstance, url: string, options: object): void => {
  Reflect.apply(app.route, app, [{ method: 'GET', url, handler: () => 'page', ...options }])
}

const BEFORE = { code: 'FST_UPGRADE_ROUTE_BEFORE_PLUGIN' }
const OUTSIDE = { code: 'FST_UPGRADE_ROUTE_OUT_OF_SCOPE' }

t.test('a WebSocket route declared before the plugin was registered makes the start fail', async t => {
  const kinds: Readonly<Record<string, object>> = {
    'websocket: true': { websocket: true },
    'an object': { websocket: { maxPayload: 10 } },
    wsHandler: { wsHandler: greet },
    'a list of methods': { method: ['GET', 'HEAD'], exposeHeadRoute: false, websocket: true }
  }
  for (const [name, options] of Object.entries(kinds)) {
    const { app } = bareApp(t)
    declare(app, '/rooms/:room', options)
    await app.register(upgrade)
    await t.rejects(
      async () => app.listen({ port: 0 }),
      { ...BEFORE, message: /GET \/rooms\/:room .*await app\.register/ },
      name
    )
  }
})

t.test('the start fails as well when the await of register is missing', async t => {
  for (const start of ['ready', 'listen', 'inject', 'injectWS'] as const) {
    const { app } = bareApp(t)
    app.register(upgrade)
    app.get('/echo', { websocket: true }, greet)
    const starts: Readonly<Record<typeof start, () => Promise<unknown>>> = {
      ready: async () => app.ready(),
      listen: async () => app.listen({ port: 0 }),
      inject: async () => app.inject('/echo'),
      injectWS: async () => {
        await app.after()
        return app.injectWS('/echo')
      }
    }
    await t.rejects(starts[start], { ...BEFORE, message: /GET \/echo / }, start)
  }
})

t.test(
  'the start fails as well for a route in a plugin that was registered before, and the error has its prefix',
  async t => {
    const { app } = bareApp(t)
    await app.register(
      async scope => {
        scope.get('/', async () => 'page')
        scope.get('/echo', { websocket: true }, greet)
      },
      { prefix: '/api' }
    )
    await app.register(upgrade)
    await t.rejects(async () => app.ready(), { ...BEFORE, message: /GET \/api\/echo / })
  }
)

t.test('a route outside the scope of the plugin makes the start fail', async t => {
  const { app } = bareApp(t)
  // The plugin of an application without fastify-plugin.
  const registersIt: FastifyPluginAsync = async scope => {
    await scope.register(upgrade)
  }
  await app.register(registersIt)
  declare(app, '/outside', { websocket: true })
  await t.rejects(async () => app.ready(), { ...OUTSIDE, message: /GET \/outside .*fastify-plugin/ })

  const { app: wrapped } = bareApp(t)
  await wrapped.register(fp(registersIt))
  wrapped.get('/inside', { websocket: true }, greet)
  await wrapped.ready()
})

t.test('working routes are not refused', async t => {
  const { app } = bareApp(t)
  declare(app, '/ordinary', {})
  declare(app, '/off', { websocket: false })
  app.register(upgrade)
  app.register(async scope => {
    scope.get('/plugin', { websocket: true }, greet)
  })
  app.after(() => {
    app.get('/after', { websocket: true }, greet)
    app.route({ method: 'GET', url: '/both', handler: async () => 'page', wsHandler: greet })
  })
  const port = await listen(app)
  for (const path of ['/plugin', '/after', '/both'])
    t.equal(await (await open(t, port, path)).next(), 'hello')
})

t.test('options that a hook of the application removes are left to the application', async t => {
  const { app } = bareApp(t)
  app.addHook('onRoute', options => {
    Reflect.deleteProperty(options, 'websocket')
  })
  declare(app, '/own', { websocket: true })
  await app.register(upgrade)
  await app.ready()
  t.equal((await app.inject('/own')).body, 'page')
})

t.test('routes of @fastify/websocket in a sibling scope are left to it', async t => {
  const { app } = bareApp(t)
  const [[, websocket]] = PACKAGES
  await app.register(async scope => {
    await scope.register(websocket)
    declare(scope, '/theirs', { websocket: true })
  })
  await app.register(async scope => {
    await scope.register(upgrade)
    scope.get('/ours', { websocket: true }, greet)
  })
  await app.ready()
  t.equal((await app.inject('/theirs')).statusCode, 404)
})

t.test('an application without the plugin may declare any routes', async t => {
  const { app } = bareApp(t)
  declare(app, '/', { websocket: true })
  await app.ready()
  t.equal((await app.inject('/')).body, 'page')
})

t.test('other messages of the diagnostics channel for applications are ignored', async t => {
  for (const message of [{}, { fastify: null }, { fastify: {} }, undefined])
    t.doesNotThrow(() => channel('fastify.initialization').publish(message))
})
