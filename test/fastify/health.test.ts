import { once } from 'node:events'
import t from 'tap'
import type { Broker, BrokerEvents } from '../../lib/index.js'
import { listen, makeApp, ms, open, request, shake } from '../helpers/app.js'

t.test('health() counts the connections and says whether the broker is connected', async t => {
  let events: BrokerEvents | undefined
  const broker: Broker = {
    start: one => {
      events = one
    },
    publish: async () => {},
    subscribe: async () => {},
    unsubscribe: async () => {},
    close: async () => {}
  }
  const { app } = await makeApp(t, { broker })
  app.get('/', { websocket: true }, () => {})
  const server = app.websocketServer
  t.strictSame(server.health(), { connections: 0, isClosing: false, broker: 'down' })
  events?.onUp()
  await app.injectWS('/')
  t.strictSame(server.health(), { connections: 1, isClosing: false, broker: 'up' })
  events?.onDown()
  t.equal(server.health().broker, 'down')

  const { app: single } = await makeApp(t)
  t.strictSame(single.websocketServer.health(), { connections: 0, isClosing: false, broker: undefined })
})

t.test('a rolling update of Kubernetes: readiness, the preStop hook, SIGTERM, the end', async t => {
  const spread = ms(200)
  const { app } = await makeApp(t, { shutdown: { timeout: ms(5_000), spread } })
  const { websocketServer } = app
  app.get('/ready', (_request, reply) => {
    const { isClosing } = websocketServer.health()
    reply.code(isClosing ? 503 : 200).send({ isClosing })
  })
  app.get('/drain', (_request, reply) => {
    websocketServer.close()
    reply.code(204).send()
  })
  app.get('/', { websocket: true }, socket => {
    socket.on('message', data => socket.send(String(data)))
  })
  const port = await listen(app)
  t.equal((await request(t, port, 'GET', '/ready')).status, 200)
  const clients = await Promise.all(Array.from({ length: 10 }, () => open(t, port, '/')))

  // The preStop hook.
  t.equal((await request(t, port, 'GET', '/drain')).status, 204)
  t.equal((await request(t, port, 'GET', '/ready')).status, 503, 'the load balancer takes other pods')
  const late = await shake(t, port, '/')
  t.equal(late.status, 503)
  t.strictSame(late.headers.get('retry-after'), ['5'])
  const [first] = clients
  first?.socket.send('still here')
  t.equal(await first?.next(), 'still here', 'open connections go on')
  t.strictSame(websocketServer.health(), { connections: 10, isClosing: true, broker: undefined })

  // SIGTERM.
  const closes: number[] = []
  for (const { socket } of clients) void once(socket, 'close').then(() => closes.push(performance.now()))
  const closed = app.close()
  for (const client of clients) t.equal(await client.closed(), '1001')
  await closed
  t.equal(websocketServer.health().connections, 0)
  t.ok(Math.max(...closes) - Math.min(...closes) > 1, 'the clients do not reconnect all at once')
})
