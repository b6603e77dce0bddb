import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { WebSocketServer } from '../../lib/ws/index.js'
import { listen, makeApp, ms, open, withDeadline } from '../helpers/app.js'
import { CERTIFICATE, KEY } from '../socket/certificate.js'
import { play } from './conversation.js'
import { testPeer } from './scenarios.js'

testPeer(t, 'ws', async () => ({
  play: (script, origin) =>
    play(
      class extends WebSocket {
        constructor(url: string, protocols: string[]) {
          super(url, protocols, { origin })
        }
      },
      script
    )
}))

t.test('fragments and control frames of ws are received', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, socket => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
    socket.on('ping', data => socket.send(`ping ${data}`))
    socket.on('pong', data => socket.send(`pong ${data}`))
  })
  const client = await open(t, await listen(app), '/')
  const { socket } = client
  socket.send('one ', { fin: false })
  socket.ping('p')
  socket.send('two ', { fin: false })
  socket.pong('q')
  socket.send('three', { fin: true })
  const pong = withDeadline(once(socket, 'pong'), 10_000, 'pong')
  t.equal(await client.next(), 'ping p')
  t.equal(await client.next(), 'pong q')
  t.equal(await client.next(), 'one two three')
  t.equal(String((await pong)[0]), 'p')
})

t.test('ws receives fragments and control frames', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, async socket => {
    socket.send('one ', { fin: false })
    socket.ping('p')
    socket.send('two ', { fin: false })
    socket.send('three')
    const [data] = await once(socket, 'pong')
    socket.send(`pong ${data}`)
  })
  const client = await open(t, await listen(app), '/')
  t.equal(await client.next(), 'one two three')
  t.equal(await client.next(), 'pong p')
})

const MIB = 2 ** 20
/** More than what the operating system buffers for a connection, so that something stays pending. */
const LIMIT = { maxBufferedAmount: 11 * MIB }

/** Listens with an echo at `/`, on HTTP or HTTPS. */
const ECHOES = {
  plugin: async (t: Test, isSecure: boolean, perMessageDeflate: boolean) => {
    const serverFactory = (handler: RequestListener): Server =>
      isSecure ? createTlsServer({ key: KEY, cert: CERTIFICATE }, handler) : createServer(handler)
    const { app } = await makeApp(t, { maxPayload: 32 * MIB, perMessageDeflate, ...LIMIT }, { serverFactory })
    app.get('/', { websocket: true }, socket => {
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
    })
    return listen(app)
  },
  'fastify-upgrade/ws': async (t: Test, isSecure: boolean, perMessageDeflate: boolean) => {
    const server: Server = isSecure ? createTlsServer({ key: KEY, cert: CERTIFICATE }) : createServer()
    const sockets = new WebSocketServer({ server, perMessageDeflate, ...LIMIT })
    sockets.on('connection', socket => {
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
    const address = server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }
}

for (const [name, start] of Object.entries(ECHOES)) {
  for (const isSecure of [false, true]) {
    for (const isDeflated of [false, true]) {
      const way = `${isSecure ? 'wss' : 'ws'}, ${isDeflated ? 'deflated' : 'plain'}`
      t.test(`a message above maxBufferedAmount is echoed to a peer that reads: ${name}, ${way}`, async t => {
        const port = await start(t, isSecure, isDeflated)
        const { socket } = await open(t, port, '/', { secure: isSecure })
        t.equal(socket.extensions, isDeflated ? 'permessage-deflate' : '')
        // Most of it cannot be compressed, so that the compressed message is above the limit, too.
        const data = Buffer.concat([randomBytes(12 * MIB), Buffer.alloc(MIB)])
        for (const _ of [1, 2]) {
          socket.send(data)
          const [echo]: unknown[] = await withDeadline(once(socket, 'message'), ms(60_000), 'the echo')
          t.ok(Buffer.isBuffer(echo) && echo.equals(data))
        }
        socket.close(1000)
        const [code]: unknown[] = await withDeadline(once(socket, 'close'), ms(10_000), 'close')
        t.equal(code, 1000)
      })
    }
  }
}
