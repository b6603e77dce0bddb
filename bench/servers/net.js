// Echoes the received bytes: no WebSocket server on node:net can do less work for an echo.
import { createServer } from 'node:net'
import { BACKLOG, HOST, listening, portOf } from './control.js'

const server = createServer({ noDelay: true }, socket => {
  socket.on('error', () => {})
  socket.on('data', chunk => socket.write(chunk))
})

server.listen(0, HOST, BACKLOG, () => listening(portOf(server)))
