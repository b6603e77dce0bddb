import { makeBroadcast } from '../message.js'
import { echoByEvents } from './routes.js'

const EVERY = 250

/**
 * A scope with clients of its own, of which each gets every broadcast from its opening to its end.
 * @param {import('fastify').FastifyInstance} app in whose scope the plugin is registered.
 * @param {import('./routes.js').Context} context
 * @param {(data: Buffer, options: { binary: boolean }) => import('fastify-upgrade').PreparedMessage} prepare
 */
export function addBroadcast(app, context, prepare) {
  /** @type {Map<import('fastify-upgrade').WebSocket, import('./book.js').Page>} */
  const pages = new Map()
  const echo = echoByEvents(context)
  app.get('/broadcast', { websocket: { perMessageDeflate: true } }, (socket, request) => {
    pages.set(socket, echo(socket, request))
    socket.on('close', () => pages.delete(socket))
  })
  let seq = 0
  const timer = setInterval(() => {
    const data = makeBroadcast(seq++)
    const server = app.websocketServer
    for (const client of server.clients) {
      const page = pages.get(client)
      if (page !== undefined && client.readyState === client.OPEN) page.pushed++
    }
    // By turns both ways there are.
    if (seq % 2 === 0) server.broadcast(data, { binary: false })
    else {
      const message = prepare(data, { binary: false })
      for (const client of server.clients) client.send(message)
    }
  }, EVERY)
  app.addHook('onClose', async () => clearInterval(timer))
}
