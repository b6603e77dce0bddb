import type { Duplex, DuplexOptions } from 'node:stream'
import type { WebSocket } from '../socket/websocket.js'

/**
 * A connection as a stream, with backpressure both ways. As in `ws`, of the object modes only `readableObjectMode` is
 * honoured, in which text is read as strings.
 */
export function createWebSocketStream(socket: WebSocket, options: DuplexOptions = {}): Duplex {
  return socket.stream({ ...options, objectMode: false, writableObjectMode: false })
}
