import rateLimit from '@fastify/rate-limit'
import t from 'tap'
import upgrade from '../../lib/index.js'
import { bareApp, headerOf, listen, open, request, shake } from '../helpers/app.js'

const limit = { max: 2, timeWindow: '1 minute' }

for (const order of ['before', 'after'] as const) {
  t.test(`@fastify/rate-limit, registered ${order} the plugin, counts handshakes`, async t => {
    const { app } = bareApp(t)
    if (order === 'before') await app.register(rateLimit, limit)
    await app.register(upgrade)
    if (order === 'after') await app.register(rateLimit, limit)
    app.get('/', { websocket: true }, socket => socket.send('in'))
    app.get('/free', { websocket: true, config: { rateLimit: false } }, () => {})
    app.route({ method: 'GET', url: '/both', handler: async () => 'page', wsHandler: () => {} })
    const port = await listen(app)

    const first = await open(t, port, '/')
    t.equal(await first.next(), 'in')
    t.equal(first.headers['x-ratelimit-remaining'], '1')
    const allowed = await shake(t, port, '/')
    const refused = await shake(t, port, '/')
    const results = [allowed, refused].map(response => [
      response.status,
      headerOf(response, 'x-ratelimit-limit'),
      headerOf(response, 'x-ratelimit-remaining')
    ])
    t.strictSame(results, [
      [101, '2', '0'],
      [429, '2', '0']
    ])
    t.match(headerOf(refused, 'retry-after'), /^\d+$/)
    t.match(JSON.parse(refused.body), { statusCode: 429, error: 'Too Many Requests' })
    for (let i = 0; i < 4; i++) t.equal((await shake(t, port, '/free')).status, 101)
    t.equal((await shake(t, port, '/both')).status, 429, 'all routes share a limit')
    t.equal((await request(t, port, 'GET', '/both')).status, 429)
  })
}

t.test('@fastify/rate-limit: a limit of the route counts each handshake once', async t => {
  for (const order of ['before', 'after'] as const) {
    const { app } = bareApp(t)
    if (order === 'before') await app.register(rateLimit, { global: false })
    await app.register(upgrade)
    if (order === 'after') await app.register(rateLimit, { global: false })
    const config = { rateLimit: limit }
    app.get('/', { websocket: true, config }, () => {})
    app.route({ method: 'GET', url: '/both', config, handler: async () => 'page', wsHandler: () => {} })
    const port = await listen(app)
    for (const path of ['/', '/both']) {
      const statuses = []
      for (let i = 0; i < 3; i++) statuses.push((await shake(t, port, path)).status)
      t.strictSame(statuses, [101, 101, 429], `${path}, ${order}`)
    }
  }
})
