import t from 'tap'
import upgrade, { type WebSocket } from '../../lib/index.js'
import { bareApp, listen, makeApp, open, request, WARN } from '../helpers/app.js'

// @fastify/rate-limit and @fastify/otel add to the lists of a route in place.
t.test(
  'an onRoute hook that adds to the lists of a route with a wsHandler adds once to its HTTP route',
  async t => {
    for (const order of ['before', 'after'] as const) {
      const { app } = bareApp(t)
      const seen: string[] = []
      const addOnRoute = (): void => {
        app.addHook('onRoute', route => {
          const hook = async ({ ws }: { ws: boolean }): Promise<void> =>
            void seen.push(ws ? 'websocket' : 'http')
          if (Array.isArray(route.preHandler)) route.preHandler.push(hook)
          else route.preHandler = [hook]
        })
      }
      if (order === 'before') addOnRoute()
      await app.register(upgrade)
      if (order === 'after') addOnRoute()
      const route = {
        method: 'GET',
        // Fastify shares the lists of a route with the HEAD route that it adds.
        exposeHeadRoute: false,
        handler: async () => 'page',
        wsHandler: (socket: WebSocket): void => {
          socket.send('')
        }
      } as const
      app.route({ ...route, url: '/' })
      app.route({ ...route, url: '/list', preHandler: [async () => {}] })
      const port = await listen(app)
      for (const path of ['/', '/list']) {
        seen.length = 0
        await request(t, port, 'GET', path)
        t.strictSame(seen, ['http'], `${path}, ${order}`)
        await (await open(t, port, path)).next()
        t.ok(seen.includes('websocket'), `${path}, ${order}`)
      }
    }
  }
)

t.test('a route with a misspelt option logs a warning that suggests the right name', async t => {
  const { app, log } = await makeApp(t)
  const declare = (url: string, options: object): void => {
    Reflect.apply(app.route, app, [{ method: 'GET', url, handler: () => {}, ...options }])
  }
  for (const [name, meant] of [
    ['websockets', 'websocket'],
    ['webSocket', 'websocket'],
    ['Websocket', 'websocket'],
    ['web_socket', 'websocket'],
    ['webscoket', 'websocket'],
    ['wshandler', 'wsHandler'],
    ['wsHandlers', 'wsHandler'],
    ['wsHandle', 'wsHandler']
  ] as const) {
    log.lines.length = 0
    declare(`/${name}`, { [name]: true })
    t.strictSame(
      log.at(WARN).map(({ msg }) => msg),
      [`the route /${name} has the option "${name}", which has no effect; did you mean "${meant}"?`]
    )
  }
  log.lines.length = 0
  app.get('/websocket', { websocket: true }, () => {})
  app.route({ method: 'GET', url: '/both', handler: () => {}, wsHandler: () => {} })
  // Option names of other plugins.
  declare('/others', {
    handlers: [],
    socket: 1,
    webhook: 1,
    config: {},
    errorHandler: () => {},
    ws: true,
    sse: true
  })
  t.strictSame(log.at(WARN), [])
})
