import helmet from '@fastify/helmet'
import t from 'tap'
import { headerOf, listen, makeApp, open, shake } from '../helpers/app.js'

// The headers are sent with any response. Browsers ignore them on a 101, except
// Strict-Transport-Security.
t.test(
  '@fastify/helmet: its headers are sent with the 101 and with refusals, except where a route opts out',
  async t => {
    const { app } = await makeApp(t)
    await app.register(helmet)
    app.get('/', { websocket: true }, socket => socket.send('in'))
    app.get('/refused', { websocket: true, preHandler: (_, reply) => void reply.code(403).send() }, () => {})
    app.get('/without', { websocket: true, helmet: false }, () => {})
    app.get('/nonce', { websocket: true, helmet: { enableCSPNonces: true } }, () => {})
    const port = await listen(app)
    for (const [path, status] of [
      ['/', 101],
      ['/refused', 403]
    ] as const) {
      const response = await shake(t, port, path)
      t.equal(response.status, status)
      t.match(headerOf(response, 'strict-transport-security'), /^max-age=/)
      t.equal(headerOf(response, 'x-content-type-options'), 'nosniff')
    }
    const without = await shake(t, port, '/without')
    t.strictSame([without.status, headerOf(without, 'x-content-type-options')], [101, undefined])
    t.match(headerOf(await shake(t, port, '/nonce'), 'content-security-policy'), /'nonce-/)
    t.equal(await (await open(t, port, '/')).next(), 'in')
  }
)
