// This project, used as by applications. BUILD is the folder that has its dist. With SECURE it speaks HTTP/2 and HTTP/1.1 over
// TLS.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import Fastify from 'fastify'
import { BACKLOG, DEFLATE, HOST, listening, MAX_PAYLOAD, portOf } from './control.js'

const { BUILD = '', SECURE } = process.env

/** @param {string} file */
const load = file => import(pathToFileURL(join(BUILD, 'dist', file)).href)

async function makeApp() {
  if (SECURE === undefined) return Fastify()
  const { makeCertificate } = await load('examples/http2/certificate.js')
  return Fastify({ http2: true, https: { ...makeCertificate(), allowHTTP1: true } })
}

const { default: upgrade } = await load('lib/index.js')
const app = await makeApp()
await app.register(upgrade, {
  maxPayload: MAX_PAYLOAD,
  // An echo of the largest message has to fit into the queue as a whole.
  maxBufferedAmount: MAX_PAYLOAD,
  ...(DEFLATE && { perMessageDeflate: true })
})

app.get('/', { websocket: true }, socket => {
  socket.on('message', (data, isBinary) => {
    socket.send(data, { binary: isBinary })
  })
})

app.get('/fan', { websocket: true }, socket => {
  socket.on('message', (data, isBinary) => sendToAll(data, { binary: isBinary }))
})

/**
 * @typedef {{ send(data: import('ws').RawData, options: { binary: boolean }): void }} Client
 * @typedef {{ clients: Set<Client>, broadcast?: Client['send'] }} Clients
 * @type {Client['send']}
 */
function sendToAll(data, options) {
  const server = /** @type {Clients} */ (app.websocketServer)
  // Earlier builds have no `broadcast`.
  if (server.broadcast !== undefined) server.broadcast(data, options)
  else for (const client of server.clients) client.send(data, options)
}

await app.listen({ port: 0, host: HOST, backlog: BACKLOG })
listening(portOf(app.server))
