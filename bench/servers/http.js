// Answers a handshake with 101 and does nothing else: no WebSocket server on node:http can do less work for a handshake.
import { listenWithBarest101 } from './barest-101.js'

listenWithBarest101(socket => socket.on('data', () => {}))
