import { on, once } from 'node:events'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { WebSocket } from '../../lib/index.js'
import { type Client, listen, makeApp, open, request, Signal, withDeadline } from '../helpers/app.js'

/** Both ends of a connection, with code that relies on a behaviour of `ws`. */
interface Ends {
  readonly t: Test
  readonly app: FastifyInstance
  readonly socket: WebSocket
  readonly client: Client
}

interface Habit {
  readonly habit: string
  /** The libraries that rely on it. */
  readonly users: string
  readonly check: (ends: Ends) => Promise<void>
}

/** The arguments of the next event of the socket. */
const next = (socket: WebSocket, event: string): Promise<unknown[]> =>
  withDeadline(once(socket, event), 10_000, event)

const HABITS: readonly Habit[] = [
  {
    habit: 'text arrives as a Buffer, with isBinary false',
    users: 'mercurius, @trpc/server, graphql-ws',
    check: async ({ t, socket, client }) => {
      client.socket.send('text')
      t.strictSame(await next(socket, 'message'), [Buffer.from('text'), false])
      client.socket.send(Buffer.from('bytes'))
      t.strictSame(await next(socket, 'message'), [Buffer.from('bytes'), true])
    }
  },
  {
    habit: "events.on(socket, 'message') yields [data, isBinary], and no message between is lost",
    users: 'mercurius',
    check: async ({ t, socket, client }) => {
      const messages = on(socket, 'message')
      for (const text of ['one', 'two', 'three']) client.socket.send(text)
      for (const text of ['one', 'two', 'three']) {
        await new Promise(setImmediate)
        const { value } = await withDeadline(messages.next(), 10_000, 'message')
        t.strictSame(value, [Buffer.from(text), false])
      }
      await messages.return?.()
    }
  },
  {
    habit: "binaryType = 'arraybuffer' may be assigned when the socket is open; text stays a Buffer",
    users: 'y-websocket, @hocuspocus/server',
    check: async ({ t, socket, client }) => {
      socket.binaryType = 'arraybuffer'
      client.socket.send(Buffer.from([1, 2]))
      const [data, isBinary] = await next(socket, 'message')
      t.ok(data instanceof ArrayBuffer)
      t.strictSame(
        [Array.from(new Uint8Array(data instanceof ArrayBuffer ? data : [])), isBinary],
        [[1, 2], true]
      )
      client.socket.send('text')
      t.strictSame(await next(socket, 'message'), [Buffer.from('text'), false])
    }
  },
  {
    habit: 'ping and pong accept the callback first, or after the data',
    users: 'heartbeats',
    check: async ({ t, socket, client }) => {
      const pings: string[] = []
      const pongs: string[] = []
      client.socket.on('ping', data => pings.push(String(data)))
      client.socket.on('pong', data => pongs.push(String(data)))
      for (const send of [
        (done: () => void) => socket.ping(done),
        (done: () => void) => socket.ping('data', done),
        (done: () => void) => socket.ping('data', false, done),
        (done: () => void) => socket.pong(done)
      ]) {
        const sent = new Signal()
        send(() => sent.fire())
        await sent.wait('callback')
      }
      const echoed = new Signal()
      socket.on('pong', data => String(data) === 'last' && echoed.fire())
      socket.ping('last')
      await echoed.wait('pong of the client')
      t.strictSame(pings, ['', 'data', 'data', 'last'])
      t.strictSame(pongs, [''])
    }
  },
  {
    habit: 'close(code, Buffer) works, and the close event has (code, Buffer)',
    users: '@hocuspocus/server, graphql-ws',
    check: async ({ t, socket, client }) => {
      const closed = next(socket, 'close')
      socket.close(4001, Buffer.from('grüße'))
      t.equal(await client.closed(), '4001 grüße')
      t.strictSame((await closed).slice(0, 2), [4001, Buffer.from('grüße')])
    }
  },
  {
    habit: 'send(data, {}, callback), send(data, undefined, callback) and send(data, callback) work',
    users: 'y-websocket, graphql-ws',
    check: async ({ t, socket, client }) => {
      for (const send of [
        (done: (error?: Error) => void) => socket.send('sent', {}, done),
        (done: (error?: Error) => void) => socket.send('sent', undefined, done),
        (done: (error?: Error) => void) => socket.send('sent', done)
      ]) {
        const sent = new Signal<unknown>()
        send(error => sent.fire(error))
        t.notOk(await sent.wait('callback'))
        t.equal(await client.next(), 'sent')
      }
    }
  },
  {
    habit: 'the callback of send on a closed socket gets an error, and nothing is thrown or emitted',
    users: 'y-websocket',
    check: async ({ t, socket, client }) => {
      socket.on('error', error => t.fail('emitted', { error }))
      client.socket.close()
      await next(socket, 'close')
      const sent = new Signal<unknown>()
      socket.send('late', {}, error => sent.fire(error))
      t.ok((await sent.wait('callback')) instanceof Error)
      socket.send('late')
    }
  },
  {
    habit: 'the constants of the states are on the instance',
    users: 'graphql-ws, @trpc/server',
    check: async ({ t, socket, client }) => {
      t.strictSame([socket.CONNECTING, socket.OPEN, socket.CLOSING, socket.CLOSED], [0, 1, 2, 3])
      t.equal(socket.readyState, socket.OPEN)
      socket.close()
      t.equal(socket.readyState, socket.CLOSING)
      await client.closed()
      if (socket.readyState !== socket.CLOSED) await next(socket, 'close')
      t.equal(socket.readyState, socket.CLOSED)
    }
  },
  {
    habit: 'addEventListener passes text as a string, and its target is the socket',
    users: 'code written for pages',
    check: async ({ t, socket, client }) => {
      const events: unknown[] = []
      const ended = new Signal()
      socket.addEventListener('message', event => {
        events.push([typeof event.data, String(event.data), event.type, event.target === socket])
        if (events.length === 2) socket.close(4000, 'enough')
      })
      socket.addEventListener('close', event => {
        events.push([event.code, event.reason, event.wasClean])
        ended.fire()
      })
      client.socket.send('text')
      client.socket.send(Buffer.from('bytes'))
      await ended.wait('close')
      t.strictSame(events, [
        ['string', 'text', 'message', true],
        ['object', 'bytes', 'message', true],
        [4000, 'enough', true]
      ])
    }
  },
  {
    habit: 'own properties may be set, by name or by symbol',
    users: 'heartbeats, subscriptions-transport-ws',
    check: async ({ t, app, socket }) => {
      const kUser = Symbol('user')
      Object.assign(socket, { isAlive: true, user: { id: 1 }, [kUser]: 2 })
      const [same] = app.websocketServer.clients
      t.equal(same, socket)
      t.strictSame([Reflect.get(socket, 'isAlive'), Reflect.get(socket, kUser)], [true, 2])
    }
  },
  {
    habit: 'websocketServer.options.handleProtocols, assigned late, is read at the next handshake',
    users: 'graphql-ws',
    check: async ({ t, app, client }) => {
      app.websocketServer.options.handleProtocols = protocols => protocols.has('two') && 'two'
      const again = await open(t, portOf(client), '/', { protocols: ['one', 'two'] })
      t.equal(again.socket.protocol, 'two')
    }
  },
  {
    habit: "websocketServer.once('error') receives errors that are emitted there",
    users: 'graphql-ws',
    check: async ({ t, app }) => {
      const errors: unknown[] = []
      app.websocketServer.once('error', error => errors.push(error))
      const error = new Error('of the server')
      app.websocketServer.emit('error', error)
      t.strictSame(errors, [error])
      t.equal(app.websocketServer.listenerCount('error'), 0)
    }
  },
  {
    habit: 'clients can be iterated, with forEach and size, while its sockets close',
    users: 'broadcasts',
    check: async ({ t, app, socket, client }) => {
      const other = await open(t, portOf(client), '/')
      t.equal(app.websocketServer.clients.size, 2)
      t.ok(app.websocketServer.clients.has(socket))
      app.websocketServer.clients.forEach(one => {
        if (one.readyState === one.OPEN) one.send('all')
      })
      t.strictSame([await client.next(), await other.next()], ['all', 'all'])
      for (const one of app.websocketServer.clients) one.terminate()
      t.strictSame([await client.closed(), await other.closed()], ['1006', '1006'])
    }
  },
  {
    habit: 'removeAllListeners and a second close cause no errors',
    users: '@hocuspocus/server',
    check: async ({ t, app, socket, client }) => {
      socket.on('message', () => t.fail('removed'))
      socket.removeAllListeners()
      socket.on('message', data => socket.send(`still ${data}`))
      client.socket.send('here')
      t.equal(await client.next(), 'still here')
      socket.removeAllListeners()
      const closed = next(socket, 'close')
      socket.close(4000, 'first')
      socket.close(4001, 'second')
      t.equal(await client.closed(), '4000 first')
      await closed
      socket.close()
      socket.terminate()
      t.equal(app.websocketServer.clients.size, 0)
    }
  },
  {
    habit: 'a message listener may remove a listener, and may add one for once',
    users: '@hocuspocus/server',
    check: async ({ t, socket, client }) => {
      const first = (data: Buffer): void => {
        socket.off('message', first)
        socket.once('message', again => socket.send(`second ${again}`))
        socket.send(`first ${data}`)
      }
      socket.on('message', first)
      for (const text of ['1', '2']) client.socket.send(text)
      t.strictSame([await client.next(), await client.next()], ['first 1', 'second 2'])
    }
  },
  {
    habit: 're-emitted data of the socket reaches its listeners again',
    users: '@hocuspocus/server',
    check: async ({ t, socket }) => {
      const again = next(socket, 'message')
      socket.emit('message', Buffer.from('queued'), true)
      t.strictSame(await again, [Buffer.from('queued'), true])
    }
  },
  {
    habit: 'a plain GET is answered where a wsHandler is beside a handler',
    users: 'mercurius',
    check: async ({ t, client }) => {
      const response = await request(t, portOf(client), 'GET', '/')
      t.strictSame([response.status, response.body], [200, 'page'])
    }
  }
]

function portOf({ socket }: Client): number {
  return Number(new URL(socket.url).port)
}

for (const { habit, users, check } of HABITS) {
  t.test(`${habit} (${users})`, async t => {
    const { app } = await makeApp(t)
    const opened = new Signal<WebSocket>()
    app.route({
      method: 'GET',
      url: '/',
      handler: async () => 'page',
      wsHandler: socket => opened.fire(socket)
    })
    const client = await open(t, await listen(app), '/')
    await check({ t, app, client, socket: await opened.wait('connection') })
  })
}
