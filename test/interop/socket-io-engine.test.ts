import { Server, type ServerOptions } from 'socket.io'
import { io, type ManagerOptions, type Socket, type SocketOptions } from 'socket.io-client'
import t, { type Test } from 'tap'
import upgrade from '../../lib/index.js'
import { WebSocketServer } from '../../lib/ws/index.js'
import { bareApp, connectRaw, handshake, listen, ms, Signal, shake, withDeadline } from '../helpers/app.js'
import { addRoutes, checkClose, checkRoutes } from '../helpers/neighbour.js'

// socket.io on the WebSocketServer of this package, beside routes of the plugin.

const ENGINES: WebSocketServer[] = []

/** The server class of this package, and a record that it was used. */
class Engine extends WebSocketServer {
  constructor(options: ConstructorParameters<typeof WebSocketServer>[0]) {
    super(options)
    ENGINES.push(this)
  }
}

async function start(t: Test, options: Partial<ServerOptions> = {}) {
  const { app } = bareApp(t)
  await app.register(upgrade)
  const before = ENGINES.length
  const server = new Server(app.server, { serveClient: false, wsEngine: Engine, ...options })
  t.equal(ENGINES.length, before + 1, 'socket.io has created its server with the class of this package')
  server.on('connection', socket => {
    socket.on('word', (word: string, answer: (word: string) => void) => answer(`io: ${word}`))
    socket.on('bytes', (bytes: Buffer, answer: (bytes: Buffer) => void) =>
      answer(Buffer.concat([bytes, bytes]))
    )
    socket.on('to all', (word: string) => server.emit('all', word))
    socket.on('to others', (bytes: Buffer) => socket.broadcast.emit('others', bytes))
    socket.on('leave me', () => socket.disconnect(true))
  })
  app.addHook('preClose', async () => void server.disconnectSockets(true))
  addRoutes(app)
  return { app, server, port: await listen(app) }
}

async function connectIo(
  t: Test,
  port: number,
  transports: string[] = ['websocket'],
  options: Partial<ManagerOptions & SocketOptions> = {}
): Promise<Socket> {
  const client = io(`http://127.0.0.1:${port}`, {
    transports,
    reconnection: false,
    forceNew: true,
    ...options
  })
  t.teardown(() => client.disconnect())
  const connected = new Signal<string>()
  client.on('connect', () => connected.fire('connect'))
  client.on('connect_error', error => connected.fire(`connect_error: ${error.message}`))
  t.equal(await connected.wait('socket.io'), 'connect')
  const { engine } = client.io
  if (engine.transport.name !== 'websocket') {
    const upgraded = new Signal()
    engine.on('upgrade', () => upgraded.fire())
    await upgraded.wait('upgrade from polling')
  }
  t.equal(engine.transport.name, 'websocket')
  return client
}

const ask = (client: Socket, event: string, data: unknown): Promise<unknown> =>
  client.timeout(ms(10_000)).emitWithAck(event, data)

/** The arguments of the next event with this name. */
function next(client: Socket, event: string): Promise<unknown> {
  const signal = new Signal<unknown>()
  client.once(event, (value: unknown) => signal.fire(value))
  return signal.wait(event)
}

for (const perMessageDeflate of [false, true, { threshold: 16 }]) {
  const name = `with perMessageDeflate: ${JSON.stringify(perMessageDeflate)}`

  t.test(`text, bytes and acks work from polling to a WebSocket, beside the plugin, ${name}`, async t => {
    const { app, server, port } = await start(t, { perMessageDeflate })
    const client = await connectIo(t, port, ['polling', 'websocket'])
    const transport = Reflect.get(Object(client.io.engine.transport), 'ws')
    t.equal(transport.extensions !== '', perMessageDeflate !== false, `extensions "${transport.extensions}"`)
    t.equal(await ask(client, 'word', 'one'), 'io: one')
    const long = 'x'.repeat(100_000)
    t.equal(await ask(client, 'word', long), `io: ${long}`)
    const bytes = Buffer.from(Array.from({ length: 5000 }, (_, i) => i % 7))
    t.ok(Buffer.concat([bytes, bytes]).equals(asBuffer(await ask(client, 'bytes', bytes))))
    await checkRoutes(t, port)
    t.equal(await ask(client, 'word', 'two'), 'io: two')
    const gone = next(client, 'disconnect')
    await checkClose(t, app, port)
    await gone
    t.equal(server.of('/').sockets.size, 0)
  })

  t.test(`broadcasts of text and bytes reach the right clients, ${name}`, async t => {
    const { port } = await start(t, { perMessageDeflate })
    const clients = [await connectIo(t, port), await connectIo(t, port), await connectIo(t, port)]
    const [first] = clients
    const all = clients.map(client => next(client, 'all'))
    first?.emit('to all', 'word '.repeat(100))
    t.strictSame(
      await Promise.all(all),
      clients.map(() => 'word '.repeat(100))
    )
    first?.on('others', () => t.fail('not to the sender'))
    const others = clients.slice(1).map(client => next(client, 'others'))
    first?.emit('to others', Buffer.alloc(3000, 7))
    for (const bytes of await Promise.all(others)) t.ok(Buffer.alloc(3000, 7).equals(asBuffer(bytes)))
    t.equal(first && (await ask(first, 'word', 'after')), 'io: after')
  })
}

const asBuffer = (value: unknown): Buffer => (Buffer.isBuffer(value) ? value : Buffer.from(String(value)))

t.test('either side may disconnect, and a reset is a disconnect', async t => {
  const { server, port } = await start(t)
  const byServer = await connectIo(t, port)
  const reason = next(byServer, 'disconnect')
  byServer.emit('leave me')
  t.equal(await reason, 'io server disconnect')

  for (const way of ['disconnect', 'reset'] as const) {
    const client = await connectIo(t, port)
    const id = client.id ?? ''
    const gone = new Signal<string>()
    server
      .of('/')
      .sockets.get(id)
      ?.on('disconnect', why => gone.fire(why))
    if (way === 'disconnect') client.disconnect()
    else Reflect.get(Object(client.io.engine.transport), 'ws').terminate()
    t.equal(
      await gone.wait('disconnect'),
      way === 'disconnect' ? 'client namespace disconnect' : 'transport close'
    )
  }
})

t.test('headers of initial_headers are sent with the 101, and an invalid handshake is refused', async t => {
  const { server, port } = await start(t)
  server.engine.on('initial_headers', (headers: Record<string, string>) => {
    headers['x-io'] = 'yes'
  })
  const response = await shake(t, port, '/socket.io/?EIO=4&transport=websocket')
  t.equal(response.status, 101)
  t.strictSame(response.headers.get('x-io'), ['yes'])
  const client = await connectRaw(t, port)
  client.write(handshake('/socket.io/?EIO=4&transport=websocket', { 'Sec-WebSocket-Key': 'short' }))
  t.equal((await client.response()).status, 400)
  await client.end()
})

t.test('maxHttpBufferSize limits the size of a message', async t => {
  const { port } = await start(t, { maxHttpBufferSize: 1000 })
  const client = await connectIo(t, port)
  const gone = next(client, 'disconnect')
  client.emit('word', 'x'.repeat(2000))
  t.equal(await gone, 'transport close')
})

t.test('the test detects a server whose sockets do not send', async t => {
  class Mute extends WebSocketServer {
    override handleUpgrade(...args: Parameters<WebSocketServer['handleUpgrade']>): void {
      const [request, socket, head, callback] = args
      super.handleUpgrade(request, socket, head, (client, same) => {
        Object.assign(client, { send: () => true })
        return callback(client, same)
      })
    }
  }
  const { app } = bareApp(t)
  await app.register(upgrade)
  const server = new Server(app.server, { serveClient: false, wsEngine: Mute })
  t.teardown(() => server.disconnectSockets(true))
  const port = await listen(app)
  const client = io(`http://127.0.0.1:${port}`, {
    transports: ['websocket'],
    reconnection: false,
    forceNew: true,
    timeout: ms(300)
  })
  t.teardown(() => client.disconnect())
  const result = new Signal<string>()
  client.on('connect', () => result.fire('connect'))
  client.on('connect_error', () => result.fire('no connection'))
  t.equal(await withDeadline(result.promise, 10_000, 'an answer'), 'no connection')
})
