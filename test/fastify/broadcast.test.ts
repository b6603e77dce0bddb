import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { WebSocket as WsWebSocket } from 'ws'
import {
  type PreparedMessage,
  prepare,
  type SendData,
  type WebSocket,
  type WebSocketRouteOptions
} from '../../lib/index.js'
import {
  close,
  ERROR,
  listen,
  makeApp,
  open,
  Signal,
  shake,
  tick,
  watchProcess,
  withDeadline
} from '../helpers/app.js'
import { frame } from '../protocol/wire.js'
import { inflated, nextFrame, openRaw, TAKEOVER, Window } from './deflate-client.js'

/** Routes with different compression parameters, and an offer for each. */
const ROUTES: Readonly<Record<string, readonly [WebSocketRouteOptions['perMessageDeflate'], offer: string]>> =
  {
    '/plain': [false, 'permessage-deflate'],
    '/declined': [true, 'x-other'],
    '/alone': [true, 'permessage-deflate'],
    '/narrow': [true, 'permessage-deflate; server_max_window_bits=9'],
    '/stored': [{ zlibDeflateOptions: { level: 0 } }, 'permessage-deflate'],
    '/high': [{ threshold: 500_000 }, 'permessage-deflate'],
    '/takeover': [TAKEOVER, 'permessage-deflate'],
    '/both': [TAKEOVER, 'permessage-deflate; server_no_context_takeover']
  }

const MESSAGES: Readonly<Record<string, SendData>> = {
  small: 'small',
  empty: '',
  text: 'žluťoučký kůň 🐎 '.repeat(300),
  number: 42,
  bytes: Buffer.from('bytes '.repeat(400)),
  noise: randomBytes(5000),
  large: 'large '.repeat(30_000),
  'large noise': new Uint8Array(randomBytes(100_000)).buffer,
  view: new DataView(new Uint8Array(Buffer.from('a view '.repeat(300))).buffer, 7, 1400)
}

/** The bytes that arrive for a message that is sent uncompressed. */
function bytesOf(data: SendData): Buffer {
  if (typeof data === 'string' || typeof data === 'number') return Buffer.from(String(data))
  if (ArrayBuffer.isView(data)) return Buffer.from(data.buffer, data.byteOffset, data.byteLength)
  return Buffer.from(data)
}

/** A server with all routes, and the signals of their handlers. */
async function serve(t: Test) {
  const { app, log } = await makeApp(t)
  for (const [path, [perMessageDeflate]] of Object.entries(ROUTES)) {
    app.get(path, { websocket: { perMessageDeflate } }, () => {})
  }
  return { app, log, port: await listen(app) }
}

t.test(
  'broadcast delivers each message once to each client, in order, with its compression parameters',
  async t => {
    const { app, port } = await serve(t)
    const readers = await Promise.all(
      Object.entries(ROUTES).map(async ([path, [, offer]]) => {
        const { client } = await openRaw(t, port, path, offer)
        return { path, client, window: new Window() }
      })
    )
    const { websocketServer } = app
    for (const data of Object.values(MESSAGES)) websocketServer.broadcast(data)
    websocketServer.broadcast('as bytes', { binary: true })
    websocketServer.broadcast(Buffer.from('as text'), { binary: false })
    websocketServer.broadcast('x'.repeat(5000), { compress: false })
    websocketServer.broadcast('end')
    const expected = [
      ...Object.values(MESSAGES).map(data => ({
        opcode: typeof data === 'string' || typeof data === 'number' ? 1 : 2,
        data: bytesOf(data)
      })),
      { opcode: 2, data: Buffer.from('as bytes') },
      { opcode: 1, data: Buffer.from('as text') },
      { opcode: 1, data: Buffer.from('x'.repeat(5000)) },
      { opcode: 1, data: Buffer.from('end') }
    ]
    for (const { path, client, window } of readers) {
      const compressed: number[] = []
      for (const [i, { opcode, data }] of expected.entries()) {
        const got = await nextFrame(client)
        t.strictSame([got.fin, got.opcode], [true, opcode], `${path}: message ${i}`)
        const bits = path === '/narrow' ? 9 : 15
        const inflate = (payload: Buffer): Buffer =>
          path === '/takeover' ? window.inflated(payload) : inflated(payload, bits)
        t.ok((got.rsv === 4 ? inflate(got.payload) : got.payload).equals(data), `${path}: data of ${i}`)
        if (got.rsv === 4) compressed.push(i)
      }
      const byAll = expected.map((_, i) => i).filter(i => i !== expected.length - 2)
      const expectedOf: Readonly<Record<string, number[]>> = {
        '/plain': [],
        '/declined': [],
        '/high': [],
        '/takeover': byAll
      }
      // Messages with takeover off: text and bytes of some size, the view, and a message for the thread pool.
      const alone = path === '/stored' ? [6, 7] : [2, 4, 6, 7, 8]
      t.strictSame(compressed, expectedOf[path] ?? alone, `${path}: the compressed messages`)
      t.equal(client.data.length, 0, `${path}: nothing else`)
    }
  }
)

t.test('broadcast skips closing connections, and no others', async t => {
  const uncaught = watchProcess(t)
  const { app, log } = await makeApp(t)
  const sockets = new Map<string, WebSocket>()
  app.get<{ Params: { name: string } }>('/:name', { websocket: true }, (socket, { params }) => {
    sockets.set(params.name, socket)
  })
  const port = await listen(app)
  const server = app.websocketServer
  t.doesNotThrow(() => server.broadcast('no recipient'))
  const names = ['a', 'b', 'c'] as const
  const [a, b, c] = await Promise.all(names.map(name => open(t, port, `/${name}`)))
  // It does not answer the Close frame, so its connection remains among the clients.
  const { client: mute } = await openRaw(t, port, '/mute')
  for (const name of ['b', 'mute']) sockets.get(name)?.close(1000)
  t.equal(server.clients.size, 4)
  server.broadcast('to the open ones')
  t.equal(await a?.next(), 'to the open ones')
  t.equal(await c?.next(), 'to the open ones')
  t.equal(await b?.closed(), '1000')
  t.strictSame(b?.messages, [])
  t.equal((await nextFrame(mute)).opcode, 8, 'the Close frame is last')
  mute.write(close(1000))
  await mute.end()
  t.equal(mute.data.length, 0)
  t.strictSame(log.at(ERROR), [])
  t.strictSame(uncaught, [])
})

t.test('a prepared message may be sent repeatedly, to one client or to all', async t => {
  const { app, port } = await serve(t)
  const data = Buffer.from('to be changed '.repeat(5000))
  const large = prepare(data, { binary: false })
  const expected = String(data)
  // It is copied, so later changes of the data have no effect.
  data.fill(0)
  const text = prepare('text')
  t.strictSame([large.isBinary, large.compress, text.isBinary], [false, true, false])
  t.strictSame([large.size, text.size, prepare('é').size, prepare(7).size], [expected.length, 4, 2, 1])
  const clients = await Promise.all(['/plain', '/alone', '/takeover'].map(path => open(t, port, path)))
  const written = new Signal()
  for (let i = 0; i < 3; i++) {
    app.websocketServer.broadcast(large)
    for (const socket of app.websocketServer.clients) {
      t.equal(socket.send(text), false, 'more than highWaterMark is buffered')
      socket.send(large, () => written.fire())
    }
    app.websocketServer.broadcast(text)
  }
  await written.wait('callback')
  // Once more after it is known how well it compresses.
  app.websocketServer.broadcast(large)
  for (const client of clients) {
    const received: string[] = []
    for (let i = 0; i < 13; i++) received.push(await client.next())
    const round = [expected, 'text', expected, 'text']
    t.ok(received.join('|') === [...round, ...round, ...round, expected].join('|'), 'all, in order')
    t.equal(client.messages.length, 0)
  }
})

t.test(
  'broadcast messages are queued until a message that is being sent in fragments is finished',
  async t => {
    const { app } = await makeApp(t, { perMessageDeflate: true })
    app.get('/', { websocket: { topics: () => ['room'] } }, async socket => {
      socket.send('this is ', { fin: false })
      app.websocketServer.broadcast(Buffer.from('broadcast'))
      await tick()
      void app.websocketServer.publish('room', 'published')
      socket.send('the ', { fin: false })
      socket.send('end')
    })
    const port = await listen(app)
    for (const perMessageDeflate of [true, false]) {
      const socket = new WsWebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate })
      t.teardown(() => socket.terminate())
      const received: string[] = []
      socket.on('message', (data, isBinary) => received.push(`${isBinary} ${data}`))
      while (received.length < 3) await withDeadline(once(socket, 'message'), 10_000, 'message')
      t.strictSame(received, ['false this is the end', 'true broadcast', 'false published'])
      socket.terminate()
      await withDeadline(once(socket, 'close'), 10_000, 'close')
    }
  }
)

t.test('invalid data throws, and no client receives anything', async t => {
  const { app, port } = await serve(t)
  const client = await open(t, port, '/alone')
  const wrong = { code: 'FST_UPGRADE_INVALID_DATA' }
  for (const data of [null, undefined, {}, [1], true, Symbol('x'), () => {}]) {
    t.throws(() => Reflect.apply(prepare, undefined, [data]), wrong)
    t.throws(() => Reflect.apply(app.websocketServer.broadcast, app.websocketServer, [data]), wrong)
    for (const socket of app.websocketServer.clients) {
      t.throws(() => Reflect.apply(socket.send, socket, [data]), wrong)
    }
  }
  app.websocketServer.broadcast('valid')
  t.equal(await client.next(), 'valid')
})

t.test('sending a prepared message to a closed connection calls back with an error', async t => {
  const { app, port } = await serve(t)
  const message: PreparedMessage = prepare('x'.repeat(100_000))
  const { client } = await openRaw(t, port, '/alone')
  const [socket] = app.websocketServer.clients
  client.write(frame(8, ''))
  await client.end()
  const error = await new Promise<unknown>(resolve => {
    t.equal(
      socket?.send(message, error => resolve(error)),
      false
    )
  })
  t.match(error, { code: 'FST_UPGRADE_NOT_OPEN' })
  client.socket.end()
  await tick()
  t.equal((await shake(t, port, '/plain')).status, 101)
})
