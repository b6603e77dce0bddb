import { Readable } from 'node:stream'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import upgrade, { type FastifyUpgradeOptions } from '../../lib/index.js'
import type { WebSocket } from '../../lib/socket/websocket.js'
import { duration, Signal, withDeadline } from '../helpers/app.js'
import { nginxSkip, startNginx } from '../helpers/nginx.js'
import { type SlowReader, startSlowReader } from '../helpers/slow-reader.js'
import { ms } from '../helpers/timeout.js'
import { CERTIFICATE, KEY } from '../socket/certificate.js'
import { start as startWs } from '../ws/servers.js'

// Clients, in separate processes, that read continuously and much more slowly than the application sends: the frames that
// they have to answer are behind megabytes in the buffers of the kernel or of a proxy.

const CHUNK = Buffer.alloc(100_000)
/** The number of bytes that a client reads in six seconds. */
const READ = 30
const RATE = 500_000
/** More than the kernel buffers. */
const UNREAD = 1000

/** `ws` is a server of fastify-upgrade/ws. */
const WAYS = ['direct', 'TLS', 'nginx', 'ws'] as const
type Way = (typeof WAYS)[number]

/**
 * A peer without a sign of life gets a hundred timeouts. That is less than the reading takes where the kernel's queue
 * shows that the peer reads, so nothing else can keep the connection open.
 */
function timeoutOf(way: Way): number {
  return way !== 'nginx' && process.platform === 'linux' ? ms(30) : ms(300)
}

type Options = Pick<FastifyUpgradeOptions, 'heartbeat' | 'closeTimeout' | 'maxBufferedAmount'>

interface Kind {
  readonly options: (timeout: number) => Options
  /** Sends everything, and closes with 1000 after the peer has read it, or immediately. */
  readonly send: (socket: WebSocket, chunks: number, onBehind: () => void) => Promise<void> | undefined
  /** The reasons for which a peer that has stopped is cut. */
  readonly reason: string
}

const heartbeat = (timeout: number) => ({ interval: Math.max(timeout, ms(500)), timeout })

const KINDS: Readonly<Record<string, Kind>> = {
  heartbeat: {
    options: timeout => ({ heartbeat: heartbeat(timeout) }),
    send: async (socket, chunks, onBehind) => {
      socket.on('pong', data => {
        if (String(data) === 'all') socket.close(1000)
      })
      for (let i = 0; i < chunks; i++) {
        if (socket.send(CHUNK)) continue
        onBehind()
        await socket.drained()
      }
      socket.ping('all')
    },
    reason: 'FST_UPGRADE_SILENT_PEER'
  },
  closeTimeout: {
    options: closeTimeout => ({ closeTimeout, heartbeat: false, maxBufferedAmount: 2 ** 27 }),
    send: (socket, chunks, onBehind) => {
      for (let i = 0; i < chunks; i++) socket.send(CHUNK)
      socket.close(1000)
      onBehind()
      return undefined
    },
    reason: 'FST_UPGRADE_CLOSE_TIMEOUT'
  },
  stream: {
    options: timeout => ({ heartbeat: heartbeat(timeout), closeTimeout: timeout }),
    send: (socket, chunks, onBehind) => {
      const stream = socket.stream()
      stream.on('error', () => {})
      Readable.from(Array.from({ length: chunks }, () => CHUNK)).pipe(stream)
      onBehind()
      return undefined
    },
    reason: 'FST_UPGRADE_SILENT_PEER'
  }
}

interface Connection {
  readonly reader: SlowReader
  /** The close code, and the error of this side. */
  readonly end: Signal<string>
  /** The maximum amount is pending for the peer. */
  readonly behind: Signal
}

async function connect(
  t: Test,
  way: Way,
  options: Options,
  work: (socket: WebSocket, onBehind: () => void) => Promise<void> | undefined
): Promise<Connection> {
  const end = new Signal<string>()
  const behind = new Signal()
  const own = await serve(t, way, options, socket => {
    socket.on('close', (code, _reason, error) =>
      end.fire(`${code} ${error ? Reflect.get(error, 'code') : ''}`)
    )
    void work(socket, () => behind.fire())?.catch(() => {})
  })
  const port = way === 'nginx' ? await startNginx(t, { backends: [own] }) : own
  return { reader: startSlowReader(t, { port, rate: RATE, secure: way === 'TLS' }), end, behind }
}

/** Starts a server and returns its port. */
async function serve(
  t: Test,
  way: Way,
  options: Options,
  handler: (socket: WebSocket) => void
): Promise<number> {
  if (way === 'ws') {
    const { server, port } = await startWs(t, options)
    server.on('connection', handler)
    return port
  }
  const https = way === 'TLS' ? { key: KEY, cert: CERTIFICATE } : null
  const app = Fastify({ https })
  t.teardown(() => app.close())
  await app.register(upgrade, { shutdown: { timeout: ms(200) }, ...options })
  app.get('/', { websocket: true }, handler)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return Number(Reflect.get(Object(app.server.address()), 'port'))
}

const ways = WAYS.filter(way => way !== 'nginx' || nginxSkip === false)

// They mostly wait, so all of them run concurrently.
t.jobs = 2 * Object.keys(KINDS).length

for (const [name, { options, send, reason }] of Object.entries(KINDS)) {
  t.test(`${name}: a client that reads slowly receives everything`, { buffered: true }, async t => {
    const check = async (way: Way): Promise<void> => {
      const { reader, end } = await connect(t, way, options(timeoutOf(way)), (socket, onBehind) =>
        send(socket, READ, onBehind)
      )
      const seen = await reader.seen()
      t.match(seen, { payload: READ * CHUNK.length, close: 1000 }, way)
      t.equal(await end.wait('end'), '1000 ', way)
    }
    await Promise.all(ways.map(check))
  })

  t.test(`${name}: a client that has stopped is cut within the bound`, { buffered: true }, async t => {
    const timeout = ms(30)
    const check = async (way: Way): Promise<void> => {
      const { reader, end, behind } = await connect(t, way, options(timeout), (socket, onBehind) => {
        const sent = send(socket, UNREAD, onBehind)
        // Nothing is read, so the stream waits for the peer.
        if (name === 'stream') socket.pause()
        return sent
      })
      await behind.wait('backpressure')
      reader.stop()
      const took = await duration(withDeadline(end.promise, 40_000, 'cut'))
      t.equal(await end.promise, `1006 ${reason}`, way)
      // The system of the client accepts data a little longer, and this process may be slow.
      t.ok(took < 101 * timeout + ms(10_000), `${way}: ${took} ms`)
    }
    await Promise.all(ways.map(check))
  })
}
