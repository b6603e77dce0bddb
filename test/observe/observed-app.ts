import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { MemoryBroker, MemoryHub } from '../../lib/index.js'
import {
  connectRaw,
  handshake,
  listen,
  makeApp,
  ms,
  open,
  shake,
  tick,
  withDeadline
} from '../helpers/app.js'
import { frame } from '../protocol/wire.js'

/** A broker that loses what its engine delivers, or refuses to publish. */
class FaultyBroker extends MemoryBroker {
  isDeaf = false
  isRefusing = false

  override receive(...args: Parameters<MemoryBroker['receive']>): void {
    if (!this.isDeaf) super.receive(...args)
  }

  override async publish(...args: Parameters<MemoryBroker['publish']>): Promise<void> {
    if (this.isRefusing) throw Object.assign(new Error('alice'), { code: 'alice' })
    await super.publish(...args)
  }
}

/**
 * An application in which everything that is measured has happened at least once, and a connection is open.
 * @param observe registers what measures.
 */
export async function observedApp(
  t: Test,
  observe: (app: FastifyInstance) => PromiseLike<unknown>
): Promise<FastifyInstance> {
  const broker = new FaultyBroker(new MemoryHub())
  const { app } = await makeApp(t, {
    broker,
    history: topic => (topic.startsWith('room') ? { size: 100, ttl: 60_000 } : undefined),
    backpressure: 'drop',
    maxBufferedAmount: 100_000,
    maxPayload: 1000,
    heartbeat: { interval: ms(60), timeout: ms(30) }
  })
  await observe(app)
  const { websocketServer: server } = app
  const sockets: { close(code: number): void }[] = []
  app.get('/rooms/:room', { websocket: { subprotocol: ['chat.v1'] } }, async (socket, request) => {
    sockets.push(socket)
    const { since } = request.query as Record<string, string>
    socket.on('message', data => {
      if (String(data) === 'fail') throw Object.assign(new Error('alice'), { code: 'alice' })
    })
    await socket.subscribe('room-17', {
      since: since === 'last' ? since : since === undefined ? undefined : { offset: 1, epoch: 'alice' },
      onLost: () => {}
    })
    socket.send('ready')
  })
  app.get('/drop', { websocket: true }, socket => {
    for (let i = 0; i < 3; i++) socket.send('a'.repeat(60_000))
    socket.close(1000)
  })
  const never = (_request: unknown, _reply: unknown, _done: () => void): void => {}
  app.get('/never', { websocket: { handshakeTimeout: 20 }, preHandler: never }, () => {})
  const port = await listen(app)
  const chat = { protocols: ['chat.v1'], headers: { 'x-forwarded-for': '192.0.2.7' } }

  const client = await open(t, port, '/rooms/room-17?user=alice', chat)
  await client.next()
  await server.publish('room-17', '1')
  broker.isDeaf = true
  await server.publish('room-17', '2')
  broker.isDeaf = false
  await server.publish('room-17', '3')
  for (let i = 1; i <= 3; i++) await client.next()
  await server.publish('alice', 'hush')
  broker.isRefusing = true
  await server.publish('alice', 'hush').catch(() => {})
  broker.isRefusing = false
  for (let i = 4; i <= 6; i++) await server.publish('room-17', String(i))
  for (const since of ['last', 'alice']) {
    const other = await open(t, port, `/rooms/room-17?since=${since}`, chat)
    const wait = async (): Promise<void> => {
      while ((await other.next()) !== 'ready');
    }
    await withDeadline(wait(), 10_000, 'the subscription')
    other.socket.send(since === 'last' ? 'fail' : 'a'.repeat(2000))
    await other.closed()
  }
  await (await open(t, port, '/drop')).closed()
  await shake(t, port, '/never')
  await shake(t, port, '/rooms/room-17', { Origin: 'http://alice.example' })
  const beating = await connectRaw(t, port)
  beating.write(handshake('/rooms/room-17', { 'Sec-WebSocket-Protocol': 'chat.v1' }))
  await beating.head()
  await beating.until(() => beating.data.includes(Buffer.from([0x89, 0])), 'a ping')
  beating.write(frame(10, ''))
  while (![...server.clients].some(({ latency }) => latency !== undefined)) await tick()
  return app
}
