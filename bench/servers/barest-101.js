import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import { BACKLOG, HOST, listening, portOf } from './control.js'

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

/**
 * Listens with the minimum of JavaScript on node:http that answers a handshake with 101.
 * @param {(socket: import('node:stream').Duplex) => void} onSocket called once the 101 is written.
 */
export function listenWithBarest101(onSocket) {
  const server = createServer()
  server.on('upgrade', (request, socket) => {
    const key = request.headers['sec-websocket-key']
    const accept = createHash('sha1').update(`${key}${GUID}`).digest('base64')
    socket.on('error', () => {})
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        `Sec-WebSocket-Accept: ${accept}\r\n\r\n`
    )
    onSocket(socket)
  })
  server.listen(0, HOST, BACKLOG, () => listening(portOf(server)))
}
