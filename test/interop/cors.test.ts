import cors from '@fastify/cors'
import t from 'tap'
import { codeOf, headerOf, listen, makeApp, open, shake } from '../helpers/app.js'

const PAGE = 'https://page.test'

t.test(
  '@fastify/cors: its headers have no effect on handshakes, and do not decide which origins may connect',
  async t => {
    const { app } = await makeApp(t)
    await app.register(cors, { origin: [PAGE], credentials: true })
    app.get('/', { websocket: true }, socket => socket.send('in'))
    app.get('/open', { websocket: { origin: PAGE } }, socket => socket.send('in'))
    const port = await listen(app)

    const refused = await shake(t, port, '/', { Origin: PAGE })
    t.strictSame([refused.status, codeOf(refused)], [403, 'FST_UPGRADE_FORBIDDEN_ORIGIN'])
    const opened = await shake(t, port, '/open', { Origin: PAGE })
    t.strictSame(
      [opened.status, headerOf(opened, 'access-control-allow-origin'), headerOf(opened, 'vary')],
      [101, PAGE, 'Origin']
    )
    t.equal(await (await open(t, port, '/open', { origin: PAGE })).next(), 'in')
    t.equal(await (await open(t, port, '/')).next(), 'in', 'without an origin')

    const preflight = await fetch(`http://127.0.0.1:${port}/open`, {
      method: 'OPTIONS',
      headers: { origin: PAGE, 'access-control-request-method': 'GET' }
    })
    t.equal(preflight.status, 204)
  }
)
