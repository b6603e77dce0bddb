import { fileURLToPath } from 'node:url'
import autoload from '@fastify/autoload'
import t from 'tap'
import upgrade from '../../lib/index.js'
import { bareApp, codeOf, listen, makeApp, open, shake } from '../helpers/app.js'

t.test(
  '@fastify/autoload: WebSocket routes are loaded from a folder, with the hooks beside them',
  async t => {
    const { app } = await makeApp(t)
    await app.register(autoload, {
      dir: fileURLToPath(new URL('fixtures/routes', import.meta.url)),
      autoHooks: true,
      cascadeHooks: true,
      autoHooksPattern: /^autohooks\.[jt]s$/,
      routeParams: true,
      options: { prefix: '/api' },
      forceESM: true
    })
    const port = await listen(app)
    const headers = { 'x-key': 'good' }
    const echo = await open(t, port, '/api/echo', { headers })
    echo.socket.send('hello')
    t.equal(await echo.next(), 'hello')
    const room = await open(t, port, '/api/rooms/one', { headers })
    t.equal(await room.next(), 'room one')
    for (const path of ['/api/echo', '/api/rooms/one']) {
      const refused = await shake(t, port, path)
      t.strictSame([refused.status, codeOf(refused)], [401, 'NO_KEY'])
    }
    t.equal((await shake(t, port, '/api/nowhere', headers)).status, 404)
  }
)

t.test(
  '@fastify/autoload: options of other plugins do not reach the plugin that a folder registers',
  async t => {
    const { app } = bareApp(t)
    // The options that fastify-cli passes for `-- --foo=1`.
    const options = { foo: 1 }
    for (const folder of ['plugins', 'routes']) {
      await app.register(autoload, {
        dir: fileURLToPath(new URL(`fixtures/${folder}`, import.meta.url)),
        routeParams: true,
        options: { ...options },
        forceESM: true
      })
    }
    const port = await listen(app)
    const echo = await open(t, port, '/echo')
    echo.socket.send('hello')
    t.equal(await echo.next(), 'hello')
    echo.socket.send('x'.repeat(65_537))
    t.match(await echo.closed(), /^1009/, 'its own options apply')

    const { app: direct } = bareApp(t)
    // The types refuse them, too.
    await t.rejects(async () => Reflect.apply(direct.register, direct, [upgrade, { ...options }]), {
      code: 'FST_UPGRADE_UNKNOWN_OPTION'
    })
  }
)
