import type { Duplex } from 'node:stream'
import t, { type Test } from 'tap'
import type { WebSocket, WebSocketRouteOptions } from '../../lib/index.js'
import { type Client, listen, makeApp, open, Signal } from '../helpers/app.js'
import { bytes, decode } from '../protocol/wire.js'

/** @returns the chunks of each call of `_write` or `_writev` of a stream, as they are made. */
function chunksOf(stream: Duplex): Buffer[][] {
  const calls: Buffer[][] = []
  const { _write, _writev } = stream
  stream._write = (chunk, encoding, callback) => {
    calls.push([chunk])
    Reflect.apply(_write, stream, [chunk, encoding, callback])
  }
  stream._writev = (chunks, callback) => {
    calls.push(chunks.map(({ chunk }) => chunk as Buffer))
    if (_writev) Reflect.apply(_writev, stream, [chunks, callback])
  }
  return calls
}

/** Three clients in the topic `room`, and the writes to each. */
async function serve(t: Test, websocket: WebSocketRouteOptions = {}) {
  const { app } = await makeApp(t)
  const streams: Duplex[] = []
  const topics = (): string[] => ['room']
  app.get('/', { websocket: { ...websocket, topics } }, (_socket, request) => {
    streams.push(request.raw.socket)
  })
  const port = await listen(app)
  const clients: Client[] = []
  for (let i = 0; i < 3; i++) clients.push(await open(t, port, '/'))
  const writes = streams.map(chunksOf)
  const all = (): Promise<string[]> => Promise.all(clients.map(client => client.next()))
  return { server: app.websocketServer, writes, all }
}

t.test('a message is framed once for all subscribers', async t => {
  const { server, writes, all } = await serve(t)
  void server.publish('room', 'one')
  t.strictSame(await all(), ['one', 'one', 'one'])
  const frames = writes.flat(2)
  t.equal(frames.length, 3)
  t.equal(new Set(frames).size, 1, 'the same bytes of memory')
})

t.test('a message is compressed once for all subscribers with the same compression parameters', async t => {
  const { server, writes, all } = await serve(t, { perMessageDeflate: true })
  const message = 'again '.repeat(500)
  void server.publish('room', message)
  t.strictSame(await all(), [message, message, message])
  const frames = writes.flat(2)
  t.equal(new Set(frames).size, 1, 'the same bytes of memory')
  const [frame] = decode(frames[0] ?? bytes())
  t.equal(frame?.rsv, 4)
  t.ok((frame?.payload.length ?? 0) < 100)
})

t.test('messages published in one tick leave in one write for each subscriber', async t => {
  const { server, writes, all } = await serve(t)
  for (const message of ['one', 'two', 'three']) void server.publish('room', message)
  t.strictSame(writes, [[], [], []], 'nothing before the tick is over')
  for (const message of ['one', 'two', 'three']) t.strictSame(await all(), [message, message, message])
  t.strictSame(
    writes.map(calls => calls.length),
    [1, 1, 1]
  )
})

/** Large messages fill the buffers of the system quickly. */
const LARGE = 'x'.repeat(65_536)
const MOST = 1024

for (const backpressure of ['drop', 'close'] as const) {
  t.test(
    `a subscriber that does not read does not delay the others, with backpressure ${backpressure}`,
    async t => {
      const { app } = await makeApp(t)
      const sockets: WebSocket[] = []
      const topics = (): string[] => ['room']
      const websocket = { topics, backpressure, maxBufferedAmount: 1_000_000 }
      app.get('/', { websocket }, socket => void sockets.push(socket))
      const port = await listen(app)
      const slow = await open(t, port, '/')
      const quick = await open(t, port, '/')
      const [stalled] = sockets
      const { websocketServer } = app
      let drops = 0
      stalled?.on('drop', count => {
        drops += count
      })
      const reason = new Signal<unknown>()
      stalled?.on('close', (_code, _text, why) => reason.fire(why))
      slow.socket.pause()
      const isOver = (): boolean => stalled?.dropped !== 0 || stalled.readyState !== stalled.OPEN
      let sent = 0
      // The quick client has each message before the next one is published.
      for (; sent < MOST && !isOver(); sent++) {
        void websocketServer.publish('room', `${sent} ${LARGE}`)
        t.match(await quick.next(), `${sent} x`)
      }
      t.ok(sent < MOST, `${sent} messages`)
      if (backpressure === 'drop') {
        slow.socket.resume()
        for (let at = 0; at < sent - 1; at++) t.match(await slow.next(), `${at} x`)
        void websocketServer.publish('room', 'last')
        t.equal(await slow.next(), 'last', 'only the dropped messages are missing')
        t.equal(drops, 1)
        t.equal(websocketServer.subscriberCount('room'), 2)
      } else {
        t.match(await reason.wait('close'), { code: 'FST_UPGRADE_BUFFER_OVERFLOW' })
        t.equal(websocketServer.subscriberCount('room'), 1, 'it has left the topic')
        void websocketServer.publish('room', 'last')
      }
      t.equal(await quick.next(), 'last')
    }
  )
}
