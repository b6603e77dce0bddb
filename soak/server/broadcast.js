import { makeBroadcast } from '../message.js'
import { echoByEvents, numbersOf } from './routes.js'

const EVERY = 250

/** The topic of all clients of the scope, in which each is a member, too. */
const TOPIC = 'broadcast'

/** The other topics, which clients join and leave with each message. */
const ROOMS = Array.from({ length: 50 }, (_, at) => `room ${at}`)

const TOPICS = [TOPIC, ...ROOMS]

/**
 * A scope with its own clients, each of which receives every broadcast from its opening to its end.
 * @param {import('fastify').FastifyInstance} app in whose scope the plugin is registered.
 * @param {import('./routes.js').Context} context
 * @param {(data: Buffer, options: { binary: boolean }) => import('fastify-upgrade').PreparedMessage} prepare
 */
export function addBroadcast(app, context, prepare) {
  /** @type {Map<import('fastify-upgrade').WebSocket, import('./book.js').Page>} */
  const pages = new Map()
  const echo = echoByEvents(context, undefined, changeRoom)
  app.get('/broadcast', { websocket: { perMessageDeflate: true } }, (socket, request) => {
    void socket.subscribe(TOPIC, { presence: { id: numbersOf(request).id } })
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
    // All ways of broadcasting alternate.
    if (seq % 3 === 0) server.broadcast(data, { binary: false })
    else if (seq % 3 === 1) void server.publish(TOPIC, data, { binary: false })
    else {
      const message = prepare(data, { binary: false })
      for (const client of server.clients) client.send(message)
    }
  }, EVERY)
  app.addHook('onClose', async () => clearInterval(timer))
}

/**
 * @param {import('fastify-upgrade').WebSocket} socket
 * @param {import('fastify').FastifyRequest} request
 * @param {number} count
 */
function changeRoom(socket, request, count) {
  const room = ROOMS[(numbersOf(request).id + count) % ROOMS.length]
  if (socket.topics.has(room)) socket.unsubscribe(room)
  else void socket.subscribe(room, { presence: count })
}

/**
 * The presence members, as seen by another server with the same broker.
 * @param {import('fastify-upgrade').WebSocketServer} server
 * @param {{ joined: number, left: number }} seen
 */
export async function watchRooms(server, seen) {
  const presences = TOPICS.map(topic => server.presence(topic))
  for (const presence of presences) {
    presence.on('join', () => seen.joined++)
    presence.on('leave', () => seen.left++)
  }
  await Promise.all(presences.map(({ ready }) => ready))
}

/**
 * The number of subscriptions of a server.
 * @param {import('fastify-upgrade').WebSocketServer} server
 */
export function subscriptionsOf(server) {
  return TOPICS.reduce((sum, topic) => sum + server.subscriberCount(topic), 0)
}
