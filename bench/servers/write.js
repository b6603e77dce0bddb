// Answers each message of the workload `fan` with one `socket.write` per connection, of a frame that is made once, and does
// nothing else. It does not parse: the load sends one message at a time, in one write.
import { FIN, TEXT } from '../load/frame.js'
import { WORKLOADS } from '../workloads.js'
import { listenWithBarest101 } from './barest-101.js'

const size = WORKLOADS.find(({ kind }) => kind === 'fan')?.size ?? 0
// RFC 6455 section 5.2, for 126 to 65,535 bytes.
const frame = Buffer.concat([Buffer.from([FIN | TEXT, 126, size >> 8, size & 255]), Buffer.alloc(size, 'x')])

/** @type {import('node:stream').Duplex[]} */
const sockets = []

listenWithBarest101(socket => {
  sockets.push(socket)
  socket.on('data', () => {
    for (const receiver of sockets) receiver.write(frame)
  })
})
