import { Server, type ServerOptions } from 'socket.io'
import { io, type Socket } from 'socket.io-client'
import t, { type Test } from 'tap'
import upgrade from '../../lib/index.js'
import { bareApp, connectRaw, handshake, listen, ms, request, Signal, withDeadline } from '../helpers/app.js'
import { addRoutes, checkClose, checkRoutes } from '../helpers/neighbour.js'

type Order = 'before' | 'after'

/** An application with both, registered in either order. */
async function startBoth(t: Test, order: Order, options: Partial<ServerOptions> = {}) {
  const { app, log } = bareApp(t)
  const attach = (): Server => {
    const server = new Server(app.server, { serveClient: false, ...options })
    server.on('connection', socket => {
      socket.on('word', (word: string, answer: (word: string) => void) => answer(`io: ${word}`))
    })
    // It answers its own open requests, so that the HTTP server can close.
    app.addHook('preClose', async () => void server.disconnectSockets(true))
    return server
  }
  const before = order === 'before' ? attach() : undefined
  await app.register(upgrade)
  const server = before ?? attach()
  addRoutes(app)
  return { app, log, server, port: await listen(app) }
}

async function connectIo(t: Test, port: number, transports: readonly string[]): Promise<Socket> {
  const client = io(`http://127.0.0.1:${port}`, {
    transports: [...transports],
    reconnection: false,
    forceNew: true
  })
  t.teardown(() => client.disconnect())
  const connected = new Signal<string>()
  client.on('connect', () => connected.fire('connect'))
  client.on('connect_error', error => connected.fire(`connect_error: ${error.message}`))
  t.equal(await connected.wait('socket.io'), 'connect')
  return client
}

const ask = (client: Socket, word: string): Promise<unknown> =>
  client.timeout(ms(10_000)).emitWithAck('word', word)

/** The client uses WebSocket from the beginning, or after polling. */
async function speaksWebSocket(client: Socket): Promise<void> {
  const { engine } = client.io
  if (engine.transport.name === 'websocket') return
  const upgraded = new Signal()
  engine.on('upgrade', () => upgraded.fire())
  await upgraded.wait('upgrade from polling')
}

for (const order of ['before', 'after'] as const) {
  for (const transports of [['websocket'], ['polling', 'websocket'], ['polling']]) {
    t.test(`socket.io works by ${transports.join(', then ')}, attached ${order} the plugin`, async t => {
      const { app, server, port } = await startBoth(t, order)
      const client = await connectIo(t, port, transports)
      if (transports.includes('websocket')) await speaksWebSocket(client)
      t.equal(client.io.engine.transport.name, transports.at(-1))
      t.equal(await ask(client, 'one'), 'io: one')
      await checkRoutes(t, port)
      t.equal(await ask(client, 'two'), 'io: two')
      t.equal((await request(t, port, 'GET', '/')).body, 'page')
      t.equal((await request(t, port, 'GET', '/echo')).status, 426)
      const gone = new Signal()
      client.on('disconnect', () => gone.fire())
      // Its server waits 30 s for a poll to end, with a timer that would keep this process alive.
      if (!transports.includes('websocket')) client.disconnect()
      await checkClose(t, app, port)
      await gone.wait('disconnect')
      t.equal(server.of('/').sockets.size, 0)
    })
  }
}

t.test(
  'a handshake for a path of neither is ended by socket.io, and an ordinary request gets 404',
  async t => {
    const { app, port } = await startBoth(t, 'after', { destroyUpgradeTimeout: 50 })
    t.equal((await request(t, port, 'GET', '/nowhere')).status, 404)
    const client = await connectRaw(t, port)
    client.write(handshake('/nowhere'))
    await client.end()
    t.equal(String(client.data), '', 'without an answer')
    client.socket.end()
    await withDeadline(app.close(), 10_000, 'app.close()')
  }
)

t.test(
  'a slow plugin handshake is ended by socket.io only if it was attached before, with destroyUpgrade',
  async t => {
    for (const [order, destroyUpgrade, isLeftAlone] of [
      ['after', true, true],
      ['before', true, false],
      ['before', false, true]
    ] as const) {
      const { app } = bareApp(t)
      const attach = (): Server =>
        new Server(app.server, { serveClient: false, destroyUpgrade, destroyUpgradeTimeout: 50 })
      if (order === 'before') attach()
      await app.register(upgrade)
      if (order === 'after') attach()
      const allowed = new Signal()
      app.get('/slow', { websocket: true, onRequest: () => allowed.promise }, () => {})
      const client = await connectRaw(t, await listen(app))
      client.write(handshake('/slow'))
      if (isLeftAlone) {
        // The timer of socket.io, which would have started before this one, has run by then.
        setTimeout(() => allowed.fire(), ms(100))
        t.equal((await client.response()).status, 101, `attached ${order} the plugin, ${destroyUpgrade}`)
      } else {
        await client.end()
        t.equal(String(client.data), '', 'socket.io treats it as unanswered')
      }
      allowed.fire()
      client.socket.end()
    }
  }
)
