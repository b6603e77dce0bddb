import { fileURLToPath } from 'node:url'
import autoload from '@fastify/autoload'
import t from 'tap'
import { codeOf, listen, makeApp, open, shake } from '../helpers/app.js'

t.test('@fastify/autoload: WebSocket routes from a folder, behind the hooks beside them', async t => {
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
})
