import type { Duplex, DuplexOptions } from 'node:stream'
import type { WebSocket } from '../transport/websocket.js'

/**
 * A connection as a stream, with backpressure both ways. As in `ws`, of the object modes only `readableObjectMode` is
 * honoured, in which text is read as strings; and a peer that breaks the protocol or sends too much is an error of the
 * stream, as what was read is not all.
 */
export function createWebSocketStream(socket: WebSocket, options: DuplexOptions = {}): Duplex {
  const stream = socket.stream({ ...options, objectMode: false, writableObjectMode: false })
  // Not before the peer is told why: the destruction of a stream cuts the connection.
  socket.once('error', error => socket.once('close', () => stream.destroy(error)))
  return stream
}
