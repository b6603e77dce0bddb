// A server whose clients have a session: a hook, or the listener of `upgrade`, finds it by the cookie of the handshake.
import { createServer } from 'node:http'
import cookie from '@fastify/cookie'
import Fastify from 'fastify'
import { WebSocketServer } from 'ws'
import { HOST, listening, portOf } from './control.js'

const { SESSION = '', CONNECTIONS = '' } = process.env
const backlog = Number(CONNECTIONS)
const sessions = new Map([[SESSION, { user: 'one' }]])

/** @param {import('ws').WebSocket} socket */
function echo(socket) {
  socket.on('message', (data, isBinary) => {
    socket.send(data, { binary: isBinary })
  })
}

/** @param {import('fastify').FastifyPluginAsync} plugin */
async function listenWithFastify(plugin) {
  const app = Fastify()
  await app.register(cookie)
  await app.register(plugin)
  app.addHook('onRequest', (request, reply, done) => {
    if (sessions.has(request.cookies.session ?? '')) done()
    else reply.code(401).send()
  })
  app.get('/', { websocket: true }, echo)
  await app.listen({ port: 0, host: HOST, backlog })
  listening(portOf(app.server))
}

/** @param {string | undefined} header */
function sessionOf(header = '') {
  const pair = header.split(';').find(one => one.trimStart().startsWith('session='))
  return decodeURIComponent(pair?.trim().slice('session='.length) ?? '')
}

function listenWithWs() {
  const server = createServer()
  const sockets = new WebSocketServer({
    server,
    verifyClient: (/** @type {{ req: import('node:http').IncomingMessage }} */ { req }) =>
      sessions.has(sessionOf(req.headers.cookie))
  })
  sockets.on('connection', socket => {
    socket.on('error', () => {})
    echo(socket)
  })
  server.listen(0, HOST, backlog, () => listening(portOf(server)))
}

const [, , kind] = process.argv
if (kind === 'ws') listenWithWs()
else await listenWithFastify((await import(kind)).default)
