import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'
import { BACKLOG, DEFLATE, HOST, listening, MAX_PAYLOAD, portOf } from './control.js'

const server = createServer()
const sockets = new WebSocketServer({ server, perMessageDeflate: DEFLATE, maxPayload: MAX_PAYLOAD })

sockets.on('connection', (socket, request) => {
  socket.on('error', () => {})
  socket.on('message', (data, isBinary) => {
    const options = { binary: isBinary }
    if (request.url !== '/fan') socket.send(data, options)
    else for (const client of sockets.clients) if (client.readyState === 1) client.send(data, options)
  })
})

server.listen(0, HOST, BACKLOG, () => listening(portOf(server)))
