import { once } from 'node:events'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { createWebSocketStream } from 'ws'
import {
  bareApp,
  connectRaw,
  handshake,
  headerOf,
  type Log,
  listen,
  open,
  request,
  Signal,
  shake,
  tick,
  watchProcess,
  withDeadline
} from '../helpers/app.js'
import type { WebSocketPlugin } from './fixtures/application.js'
import { PACKAGES } from './packages.js'

/** Resolves when all open connections have ended. */
async function endOfAll({ websocketServer }: FastifyInstance): Promise<void> {
  const ends = Array.from(
    websocketServer.clients,
    socket => new Promise(resolve => socket.on('close', resolve))
  )
  await withDeadline(Promise.all(ends), 10_000, 'close')
}

/** The differences between the packages that docs/reference/migrating.md lists: the result of one test with each. */
interface Difference {
  readonly difference: string
  readonly options?: Parameters<WebSocketPlugin>[1]
  /** Whether the application has an error handler, which records its name. */
  readonly errorHandler?: true
  readonly add: (app: FastifyInstance, seen: unknown[]) => void
  readonly look: (ends: Ends) => Promise<unknown>
  readonly theirs: unknown
  readonly ours: unknown
}

interface Ends {
  /** The package. */
  readonly name: string
  readonly t: Test
  readonly app: FastifyInstance
  readonly log: Log
  readonly port: number
  readonly seen: unknown[]
}

const addEcho = (app: FastifyInstance): void => {
  app.get('/', { websocket: true }, socket => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
}

const DIFFERENCES: readonly Difference[] = [
  {
    difference: 'pages of another origin',
    add: addEcho,
    look: async ({ t, port }) => (await shake(t, port, '/', { Origin: 'https://other.test' })).status,
    theirs: 101,
    ours: 403
  },
  {
    difference: 'largest message',
    add: addEcho,
    look: async ({ t, port }) => {
      const client = await open(t, port, '/')
      client.socket.send(Buffer.alloc(2 ** 20 + 1))
      await withDeadline(once(client, 'news'), 10_000, 'message or close')
      return client.messages[0]?.length ?? client.closed()
    },
    theirs: 2 ** 20 + 1,
    ours: '1009 message too big'
  },
  {
    difference: 'an upgrade on an ordinary route',
    add: app => void app.get('/', async () => 'page'),
    look: async ({ t, port }) => (await shake(t, port, '/')).status,
    theirs: 101,
    ours: 404
  },
  {
    difference: 'an ordinary GET on a WebSocket route',
    add: addEcho,
    look: async ({ t, port }) => {
      const { status, headers } = await request(t, port, 'GET', '/')
      return [status, headers.get('upgrade')]
    },
    theirs: [404, undefined],
    ours: [426, ['websocket']]
  },
  {
    difference: 'HEAD on a WebSocket route, and a handshake with HEAD',
    add: addEcho,
    look: async ({ t, port }) => {
      const { status } = await request(t, port, 'HEAD', '/')
      const client = await connectRaw(t, port)
      client.write(handshake('/').replace('GET', 'HEAD'))
      return [status, (await client.head()).status]
    },
    theirs: [404, 404],
    ours: [426, 405]
  },
  {
    difference: 'an upgrade on an ordinary route below a WebSocket route with a wildcard',
    add: (app, seen) => {
      app.get('/http', async () => 'page')
      app.get('/*', { websocket: true }, (socket, request) => {
        seen.push(request.routeOptions.url)
        socket.close(1000)
      })
    },
    look: async ({ t, port, seen }) => {
      const client = await open(t, port, '/http')
      await client.closed()
      return seen
    },
    theirs: [],
    ours: ['/*']
  },
  {
    difference: 'a subprotocol that no route registered',
    add: addEcho,
    look: async ({ t, port }) =>
      headerOf(await shake(t, port, '/', { 'Sec-WebSocket-Protocol': 'a, b' }), 'sec-websocket-protocol'),
    theirs: 'a',
    ours: undefined
  },
  {
    difference: 'headers that hooks set',
    add: app => {
      app.addHook('onRequest', async (_request, reply) => void reply.header('X-Mine', '1'))
      addEcho(app)
    },
    look: async ({ t, port }) => headerOf(await shake(t, port, '/'), 'x-mine'),
    theirs: undefined,
    ours: '1'
  },
  {
    difference: 'onSend and onResponse',
    add: (app, seen) => {
      app.addHook('onSend', async (_request, reply) => void seen.push(`onSend ${reply.statusCode}`))
      app.addHook('onResponse', async (_request, reply) => void seen.push(`onResponse ${reply.statusCode}`))
      addEcho(app)
    },
    look: async ({ t, app, port, seen }) => {
      const client = await open(t, port, '/')
      const closed = endOfAll(app)
      client.socket.close()
      await closed
      await tick()
      return seen
    },
    theirs: [],
    ours: ['onSend 101', 'onResponse 101']
  },
  {
    difference: 'a message that arrives while an async handler awaits',
    add: (app, seen) => {
      app.get('/', { websocket: true }, async socket => {
        const go = new Signal()
        seen.push(go)
        await go.promise
        socket.on('message', data => socket.send(data.toString()))
        socket.send('ready')
      })
    },
    look: async ({ t, name, port, seen }) => {
      const client = await open(t, port, '/')
      client.socket.send('early')
      const pong = once(client.socket, 'pong')
      client.socket.ping()
      // This package reads nothing until there is a listener.
      if (name === '@fastify/websocket') await withDeadline(pong, 10_000, 'pong')
      for (const go of seen) if (go instanceof Signal) go.fire(undefined)
      await client.next()
      client.socket.send('late')
      return client.next()
    },
    theirs: 'late',
    ours: 'early'
  },
  {
    difference: 'app.close()',
    add: addEcho,
    look: async ({ t, app, port }) => {
      const client = await open(t, port, '/')
      await withDeadline(app.close(), 10_000, 'app.close()')
      return client.closed()
    },
    theirs: '1005',
    ours: '1001'
  },
  {
    difference: 'a custom preClose that closes no connection',
    options: { preClose: done => done() },
    add: addEcho,
    look: async ({ t, app, port }) => {
      const client = await open(t, port, '/')
      const closing = app.close()
      client.socket.send('still here')
      await withDeadline(once(client, 'news'), 10_000, 'message or close')
      const first = client.messages[0] ?? (await client.closed())
      client.socket.close(1000)
      await withDeadline(closing, 10_000, 'app.close()')
      return first
    },
    theirs: 'still here',
    ours: '1001'
  },
  {
    difference: 'an error in a listener',
    add: app => {
      app.get('/', { websocket: true }, socket => {
        socket.on('message', async () => {
          throw new Error('of a listener')
        })
      })
    },
    look: async ({ t, port }) => {
      const uncaught = watchProcess(t)
      const client = await open(t, port, '/')
      client.socket.send('')
      client.socket.on('pong', () => client.socket.close(1000))
      client.socket.ping()
      return [await client.closed(), uncaught.map(String)]
    },
    theirs: ['1000', ['Error: of a listener']],
    ours: ['1011', []]
  },
  {
    difference: 'the default errorHandler',
    add: app => {
      app.get('/', { websocket: true }, () => {
        throw new Error('of a handler')
      })
    },
    look: async ({ t, port }) => (await open(t, port, '/')).closed(),
    theirs: '1006',
    ours: '1011'
  },
  {
    difference: 'errorHandler for a peer that breaks the protocol',
    add: addEcho,
    look: async ({ t, port, app, seen }) => {
      const client = await connectRaw(t, port)
      client.write(handshake('/'))
      await client.response()
      const closed = endOfAll(app)
      client.write(Buffer.from([0x81, 0]))
      client.socket.end()
      await closed
      return seen
    },
    errorHandler: true,
    theirs: ['errorHandler'],
    ours: []
  },
  {
    difference: 'send of data that is neither text nor bytes',
    add: app => {
      app.get('/', { websocket: true }, socket => {
        const results = [undefined, null, [1, 2]].map(value => {
          try {
            Reflect.apply(socket.send, socket, [value])
            return 'sent'
          } catch {
            return 'threw'
          }
        })
        socket.send(results.join())
      })
    },
    look: async ({ t, port }) => {
      const client = await open(t, port, '/')
      for (;;) {
        const message = await client.next()
        if (/sent|threw/.test(message)) return message
      }
    },
    theirs: 'sent,sent,sent',
    ours: 'threw,threw,threw'
  },
  {
    difference: 'perMessageDeflate',
    options: { options: { perMessageDeflate: true } },
    add: addEcho,
    look: async ({ t, port }) =>
      headerOf(
        await shake(t, port, '/', { 'Sec-WebSocket-Extensions': 'permessage-deflate' }),
        'sec-websocket-extensions'
      ),
    theirs: 'permessage-deflate',
    ours: 'permessage-deflate; server_no_context_takeover; client_no_context_takeover'
  },
  {
    difference: 'another version of the protocol',
    add: addEcho,
    look: async ({ t, port }) => (await shake(t, port, '/', { 'Sec-WebSocket-Version': '8' })).status,
    theirs: 101,
    ours: 426
  },
  {
    difference: 'other values of Upgrade',
    add: app => void app.get('/', async () => 'page'),
    look: async ({ t, port }) =>
      (await shake(t, port, '/', { Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABk' })).status,
    theirs: 400,
    ours: 200
  },
  {
    difference: 'verifyClient and the hooks',
    options: { options: { verifyClient: () => false } },
    add: (app, seen) => {
      app.addHook('onRequest', async () => void seen.push('onRequest'))
      addEcho(app)
    },
    look: async ({ t, port, seen }) => {
      const { status, headers } = await shake(t, port, '/')
      return [status, headers.get('content-type'), seen]
    },
    theirs: [401, ['text/html'], ['onRequest']],
    ours: [401, ['application/json; charset=utf-8'], []]
  },
  {
    difference: 'a closed connection in the log',
    add: addEcho,
    look: async ({ t, app, port, log }) => {
      const client = await open(t, port, '/')
      const closed = endOfAll(app)
      client.socket.close()
      await closed
      await tick()
      return log.with('WebSocket closed').length
    },
    theirs: 0,
    ours: 1
  },
  {
    difference: 'createWebSocketStream of ws, ended by the application',
    add: (app, seen) => {
      app.get('/', { websocket: true }, socket => {
        const stream = createWebSocketStream(socket)
        stream.on('error', error => seen.push(error instanceof TypeError))
        stream.end('last')
      })
    },
    look: async ({ t, port, seen }) => {
      const client = await open(t, port, '/')
      await client.closed()
      return [client.messages, seen]
    },
    theirs: [['last'], []],
    ours: [['last'], [true]]
  }
]

for (const { difference, options, errorHandler, add, look, theirs, ours } of DIFFERENCES) {
  t.test(difference, async t => {
    for (const [name, plugin] of PACKAGES) {
      const { app, log } = bareApp(t)
      const seen: unknown[] = []
      const handler = errorHandler && { errorHandler: () => void seen.push('errorHandler') }
      await app.register(plugin, { ...options, ...handler })
      add(app, seen)
      const found = await look({ t, name, app, log, port: await listen(app), seen })
      t.strictSame(found, name === 'fastify-upgrade' ? ours : theirs, name)
      // An open connection would delay `app.close()`.
      for (const client of app.websocketServer.clients) client.terminate()
    }
  })
}
