/** The process that is attacked. It answers requests of its parent, and reports unexpected events immediately. */
import { once } from 'node:events'
import { Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import upgrade, { type WebSocket } from '../../lib/index.js'
import { portOf } from '../helpers/app.js'

/** The state of the server. */
export interface State {
  readonly clients: number
  /** The well-behaved connections among them. */
  readonly goodClients: number
  /** TCP connections. */
  readonly connections: number
  /** Requests that were hidden in bodies. */
  readonly smuggled: number
  /** Bytes after a garbage collection. */
  readonly heap: number
  readonly buffers: number
  readonly resident: number
}

const ON_PURPOSE = 'on purpose'

/** Only one route is too slow for its handshakes. */
const EXPECTED = [ON_PURPOSE, 'FST_UPGRADE_HANDSHAKE_TIMEOUT']

const report = (message: unknown): void => void process.send?.(message)
const unexpected = (what: string): void => report({ unexpected: what })
process.on('uncaughtException', error => unexpected(`uncaught ${error.stack}`))
process.on('unhandledRejection', error =>
  unexpected(`rejected ${error instanceof Error ? error.stack : error}`)
)

/** An error line means that something went wrong here, and no peer should be able to cause it. */
const log = new Writable({
  write(chunk, _encoding, done) {
    const line = String(chunk)
    if (/"level":[56]0/.test(line) && !EXPECTED.some(text => line.includes(text))) unexpected(line)
    done()
  }
})

const good = new WeakSet<WebSocket>()
let smuggled = 0

const app: FastifyInstance = Fastify({ logger: { level: 'debug', stream: log }, forceCloseConnections: true })
await app.register(upgrade, {
  maxPayload: 65536,
  handshakeTimeout: 2000,
  closeTimeout: 300,
  heartbeat: { interval: 3000, timeout: 3000 },
  shutdown: { timeout: 1000 }
})
app.websocketServer.on('connection', (socket, request) => {
  if (request.url?.endsWith('?good')) good.add(socket)
})
app.get('/state', () => 'up')
app.post('/state', request => ({ body: request.body }))
app.get('/smuggled', () => {
  smuggled++
  return 'smuggled'
})
app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body))
addRoutes(app)
await app.listen({ port: 0, host: '127.0.0.1' })
report({ port: portOf(app) })

process.on('message', async message => {
  if (message === 'state') report({ state: await state() })
  else if (message === 'end') {
    await app.close()
    process.disconnect()
  }
})

function addRoutes(app: FastifyInstance): void {
  const echo = (socket: WebSocket): void => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  }
  app.get('/echo', { websocket: true }, echo)
  app.get('/iterate', { websocket: true }, async socket => {
    for await (const message of socket) {
      if (!socket.send(message)) await socket.drained().catch(() => {})
    }
  })
  app.get('/stream', { websocket: true }, socket => {
    const stream = socket.stream()
    stream.on('error', () => {})
    stream.pipe(stream)
  })
  // Errors of a stream without an error listener belong to the application, which decides about them.
  app.get('/pipe', { websocket: { errorHandler: (_error, socket) => socket.close(4001) } }, socket => {
    const stream = socket.stream()
    stream.pipe(stream)
  })
  app.get('/sub', { websocket: { subprotocol: ['chat.v2', 'chat.v1'] } }, echo)
  app.get('/sub', { websocket: { subprotocol: 'other' } }, echo)
  app.get('/select', { websocket: { selectSubprotocol: async offers => offers.at(-1) } }, echo)
  app.get('/deflate', { websocket: { perMessageDeflate: { threshold: 0 } } }, echo)
  const takeover = { serverNoContextTakeover: false, clientNoContextTakeover: false }
  app.get('/takeover', { websocket: { perMessageDeflate: takeover } }, echo)
  app.get('/small', { websocket: { maxPayload: 64, perMessageDeflate: true } }, echo)
  // Reading waits for the pending handler.
  app.get('/late', { websocket: true }, async socket => {
    await delay(20)
    echo(socket)
  })
  app.get('/hooks', { websocket: true, onRequest: () => delay(5), preHandler: () => delay(5) }, echo)
  app.get('/timeout', { websocket: { handshakeTimeout: 20 }, onRequest: () => delay(60) }, echo)
  app.get(
    '/refuse',
    { websocket: true, onRequest: async (_request, reply) => reply.code(401).send('no') },
    echo
  )
  app.get('/throws', { websocket: true }, () => {
    throw new Error(ON_PURPOSE)
  })
  app.get('/rejects', { websocket: true }, async socket => {
    // It rejects with the errors of the peer, which are expected here.
    await once(socket, 'message').catch(() => {})
    throw new Error(ON_PURPOSE)
  })
  app.get('/listener', { websocket: true }, socket => {
    socket.on('message', () => {
      throw new Error(ON_PURPOSE)
    })
  })
  app.get('/closes', { websocket: true }, socket => socket.close(4000, 'bye'))
}

async function state(): Promise<State> {
  const connections = await new Promise<number>((resolve, reject) =>
    app.server.getConnections((error, count) => (error ? reject(error) : resolve(count)))
  )
  await collect()
  const { heapUsed, external, rss } = process.memoryUsage()
  const clients = [...app.websocketServer.clients]
  return {
    clients: clients.length,
    goodClients: clients.filter(client => good.has(client)).length,
    connections,
    smuggled,
    heap: heapUsed,
    buffers: external,
    resident: rss
  }
}

/** Finalizers run between collections. */
async function collect(): Promise<void> {
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.()
    await delay(1)
  }
}
