import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import { BACKLOG, DEFLATE, HOST, listening, MAX_PAYLOAD, portOf } from './control.js'

const app = Fastify()
await app.register(websocket, { options: { perMessageDeflate: DEFLATE, maxPayload: MAX_PAYLOAD } })

app.get('/', { websocket: true }, socket => {
  socket.on('message', (data, isBinary) => {
    socket.send(data, { binary: isBinary })
  })
})

app.get('/fan', { websocket: true }, socket => {
  socket.on('message', (data, isBinary) => {
    for (const client of app.websocketServer.clients) {
      if (client.readyState === 1) client.send(data, { binary: isBinary })
    }
  })
})

await app.listen({ port: 0, host: HOST, backlog: BACKLOG })
listening(portOf(app.server))
