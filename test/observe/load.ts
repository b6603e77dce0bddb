import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { close, connectRaw, handshake, listen, shake, text, tick } from '../helpers/app.js'
import { decode, frame } from '../protocol/wire.js'

/** Personal data of the clients, which must not appear in metrics. */
export const SECRETS = ['127.0.0.1', 'alice', 'hush', 'room-17', 'token']

/** Numbers that the clients have counted themselves. */
export interface Counts {
  connections: number
  messagesSent: number
  messagesReceived: number
  bytesSent: number
  bytesReceived: number
  readonly codes: Map<string, number>
}

export function addRoutes(app: FastifyInstance): void {
  app.get('/rooms/:room', { websocket: { subprotocol: ['echo.v1'] } }, socket => {
    socket.on('message', (data, isBinary) => {
      socket.send(data, { binary: isBinary })
      if (data.length > 40) socket.close(4000 + data.length)
    })
  })
  app.get('/token', { websocket: { selectSubprotocol: ([first]) => first } }, socket => socket.close(1000))
}

/** Opens connections one after another, sends messages, and counts everything on the wire. */
export async function load(t: Test, app: FastifyInstance): Promise<Counts> {
  const port = await listen(app)
  const codes = new Map<string, number>()
  const counts: Counts = {
    connections: 0,
    messagesSent: 0,
    messagesReceived: 0,
    bytesSent: 0,
    bytesReceived: 0,
    codes
  }
  for (let i = 0; i < 30; i++) {
    const client = await connectRaw(t, port)
    client.write(
      handshake(`/rooms/room-17?user=alice${i}&key=hush`, {
        'Sec-WebSocket-Protocol': 'echo.v1',
        'X-Forwarded-For': '192.0.2.7'
      })
    )
    await client.head()
    counts.connections++
    const frames: Buffer[] = []
    for (let j = 0; j <= i; j++) frames.push(j % 2 === 0 ? text(`message ${j}`) : frame(2, Buffer.alloc(j)))
    counts.messagesSent += frames.length
    const isClosedByClient = i % 3 > 0
    if (isClosedByClient) frames.push(close(1000 + (i % 3)))
    else {
      frames.push(text('a'.repeat(50)))
      counts.messagesSent++
    }
    const sent = Buffer.concat(frames)
    counts.bytesSent += sent.length
    client.write(sent)
    if (!isClosedByClient) {
      await client.until(() => decode(client.data).some(({ opcode }) => opcode === 8), 'close')
      const reply = close(4050)
      counts.bytesSent += reply.length
      client.write(reply)
    }
    await client.end()
    client.socket.destroy()
    counts.bytesReceived += client.data.length
    const received = decode(client.data)
    counts.messagesReceived += received.filter(({ opcode }) => opcode < 8).length
    const code = String(received.find(({ opcode }) => opcode === 8)?.payload.readUInt16BE(0))
    codes.set(code, (codes.get(code) ?? 0) + 1)
  }
  await shake(t, port, '/rooms/room-17', {
    'Sec-WebSocket-Protocol': 'echo.v1',
    Origin: 'http://alice.example'
  })
  await shake(t, port, '/none/alice')
  const client = await connectRaw(t, port)
  client.write(handshake('/token', { 'Sec-WebSocket-Protocol': 'token.hush' }), close(1000))
  await client.end()
  client.socket.destroy()
  while (app.websocketServer.clients.size > 0) await tick()
  return counts
}
