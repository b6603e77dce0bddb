import { createServer, type Server as HttpServer } from 'node:http'
import { matchMaker, Room, Server, type Client as ServerClient } from '@colyseus/core'
import { WebSocketTransport } from '@colyseus/ws-transport'
import { Client, type Room as ClientRoom } from 'colyseus.js'
import t, { type Test } from 'tap'
import { WebSocket, WebSocketServer } from '../../lib/ws/index.js'
import { Signal, withDeadline } from '../helpers/app.js'
import { portOf } from '../ws/servers.js'

// Colyseus 0.16 on the WebSocketServer of this package. Its transport creates a server of `ws` itself; a subclass replaces it.

/** The code of an application. Pings are sent by this package: those of Colyseus need a server that it creates itself. */
class Transport extends WebSocketTransport {
  constructor(server: HttpServer, make = (options: object) => new WebSocketServer(options)) {
    super({ noServer: true, pingInterval: 0 })
    this.wss = make({ server, maxPayload: 4096, heartbeat: { interval: 3000 } })
    this.wss.on('connection', this.onConnection)
    this.server = server
  }

  /** The connected sockets. */
  get clients(): ReadonlySet<unknown> {
    return this.wss.clients
  }
}

const events = { joined: new Signal<string>(), left: new Signal<boolean>() }

class Chat extends Room {
  override onCreate(): void {
    this.onMessage('word', (client, word) => client.send('word', `colyseus: ${word}`))
    this.onMessage('bytes', (_client, bytes) => this.broadcast('bytes', bytes))
    this.onMessage('leave me', client => client.leave(4001))
  }

  override onJoin(client: ServerClient): void {
    events.joined.fire(client.sessionId)
  }

  override onLeave(_client: ServerClient, consented: boolean): void {
    events.left.fire(consented)
  }
}

interface Running {
  readonly transport: Transport
  readonly client: Client
}

async function start(t: Test, make?: (options: object) => WebSocketServer): Promise<Running> {
  const http = createServer()
  const transport = new Transport(http, make)
  const server = new Server({ transport, greet: false, gracefullyShutdown: false })
  server.define('chat', Chat)
  await server.listen(0, '127.0.0.1')
  t.teardown(async () => {
    await withDeadline(server.gracefullyShutdown(false), 10_000, 'gracefullyShutdown')
    http.closeAllConnections()
  })
  return { transport, client: new Client(`http://127.0.0.1:${portOf(http)}`) }
}

/** The content of the next message of a type. */
function next(room: ClientRoom, type: string): Promise<unknown> {
  const signal = new Signal<unknown>()
  room.onMessage(type, value => signal.fire(value))
  return signal.wait(type)
}

t.test(
  'rooms work: join, text and bytes in both directions, a broadcast, and both ways to leave',
  async t => {
    const { transport, client } = await start(t)
    const room = await client.joinOrCreate('chat')
    t.equal(await events.joined.wait('onJoin'), room.sessionId)
    const other = await client.joinOrCreate('chat')
    t.equal(other.roomId, room.roomId)
    t.equal(transport.clients.size, 2)
    for (const socket of transport.clients) t.ok(socket instanceof WebSocket)

    const word = next(room, 'word')
    room.send('word', 'one')
    t.equal(await word, 'colyseus: one')
    const bytes = [next(room, 'bytes'), next(other, 'bytes')]
    room.send('bytes', new Uint8Array([1, 2, 3]))
    for (const each of await Promise.all(bytes)) t.strictSame([...Object(each)], [1, 2, 3])

    const left = new Signal<number>()
    other.onLeave(code => left.fire(code))
    other.send('leave me')
    t.equal(await left.wait('onLeave'), 4001)
    await events.left.wait('onLeave of the server')
    await room.leave()
    t.equal(matchMaker.stats.local.ccu, 0)
  }
)

t.test('the test detects a server whose sockets do not send', async t => {
  class Mute extends WebSocketServer {
    override emit(event: never, ...args: never): boolean {
      const [socket]: unknown[] = args
      if (socket instanceof WebSocket) Object.assign(socket, { send: () => socket.terminate() })
      return super.emit(event, ...args)
    }
  }
  const { client } = await start(t, options => new Mute(options))
  await t.rejects(withDeadline(client.joinOrCreate('chat'), 5_000, 'joinOrCreate'))
})
