import type { Server } from 'node:http'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import upgrade, { type FastifyUpgradeOptions, type WebSocketHandler } from '../../lib/index.js'
import {
  bareApp,
  close,
  connectRaw,
  handshake,
  listen,
  open,
  type RawClient,
  Signal,
  tick,
  watchProcess,
  withDeadline
} from '../helpers/app.js'
import { bytes, frame } from '../protocol/wire.js'

// Peers that reset or disconnect at every step of a connection.

interface Step {
  readonly options?: (wait: () => Promise<void>) => FastifyUpgradeOptions
  /** Runs before the plugin is registered. */
  readonly before?: (app: FastifyInstance, wait: () => Promise<void>) => void
  /**
   * Adds the route `/`; the default counts and echoes. `wait` signals that it was reached, and waits until the peer is
   * gone.
   */
  readonly route?: (app: FastifyInstance, handler: WebSocketHandler, wait: () => Promise<void>) => void
  readonly writes?: readonly (string | Uint8Array)[]
  /** The actions of the client before it disconnects. */
  readonly until?: (client: RawClient, reached: Signal) => Promise<unknown>
  /** The end of the connection as the socket reports it; left out without a connection. */
  readonly codes?: readonly number[]
}

const reached = (_client: RawClient, signal: Signal): Promise<void> => signal.wait('the step')
const MESSAGE = frame(1, 'x'.repeat(1_000))

/** A hook of the route that takes time. */
function during(hook: 'onRequest' | 'preParsing' | 'preValidation' | 'preHandler' | 'onSend'): Step {
  return {
    route: (app, handler, wait) => {
      app.get('/', { websocket: true, [hook]: async () => wait() }, handler)
    },
    until: reached
  }
}

/** The actions of the server after the connection is open. */
function serverDoes(work: WebSocketHandler): NonNullable<Step['route']> {
  return (app, handler) => {
    app.get('/', { websocket: true }, function (socket, request) {
      Reflect.apply(handler, this, [socket, request])
      Reflect.apply(work, this, [socket, request])
    })
  }
}

const sendMuch: WebSocketHandler = socket => {
  for (let i = 0; i < 10; i++) socket.send(Buffer.alloc(1_000_000))
}
const open101 = (client: RawClient): Promise<unknown> => client.response()
const afterClose = async (client: RawClient): Promise<unknown> => {
  await client.response()
  return client.frame()
}

const STEPS: Readonly<Record<string, Step>> = {
  'after half of the request line': { writes: [handshake('/').slice(0, 8)] },
  'after the request line': { writes: ['GET / HTTP/1.1\r\n'] },
  'in the middle of a field': { writes: [handshake('/').slice(0, 60)] },
  'before the last line break': { writes: [handshake('/').slice(0, -2)] },
  'during onRequest from before the plugin': {
    before: (app, wait) => {
      app.addHook('onRequest', async ({ url }) => {
        if (url === '/') await wait()
      })
    },
    until: reached
  },
  'during onRequest': during('onRequest'),
  'during preParsing': during('preParsing'),
  'during preValidation': during('preValidation'),
  'during preHandler': during('preHandler'),
  'during onSend': during('onSend'),
  'during the check of the origin': {
    options: wait => ({ origin: () => wait().then(() => true) }),
    writes: [handshake('/', { Origin: 'http://a.test' })],
    until: reached
  },
  'during the choice of the subprotocol': {
    options: wait => ({ selectSubprotocol: () => wait().then(() => 'a') }),
    writes: [handshake('/', { 'Sec-WebSocket-Protocol': 'a' })],
    until: reached
  },
  'behind a slow request': {
    before: (app, wait) => {
      app.get('/slow', async () => {
        await wait()
        return 'slow'
      })
    },
    writes: ['GET /slow HTTP/1.1\r\nHost: x\r\n\r\n', handshake('/')],
    until: reached
  },
  'after a refusal': { writes: [handshake('/nowhere')], until: open101 },
  'with the 101': { until: open101, codes: [1006] },
  'with the 101, behind messages': {
    writes: [handshake('/'), ...Array.from({ length: 50 }, () => MESSAGE)],
    until: open101,
    codes: [1006]
  },
  'with the 101, in the middle of a message': {
    writes: [handshake('/'), MESSAGE.subarray(0, 500)],
    until: open101,
    codes: [1006]
  },
  'in the middle of a frame header': {
    writes: [handshake('/'), MESSAGE.subarray(0, 3)],
    until: open101,
    codes: [1006]
  },
  'between two fragments': {
    writes: [handshake('/'), frame(1, 'first', { fin: false })],
    until: open101,
    codes: [1006]
  },
  'while an async handler waits': {
    route: (app, handler, wait) => {
      app.get('/', { websocket: true }, async function (socket, request) {
        Reflect.apply(handler, this, [socket, request])
        await wait()
      })
    },
    until: async (client, signal) => Promise.all([client.response(), signal.wait('handler')]),
    codes: [1006]
  },
  'while much waits to be written': {
    route: serverDoes(sendMuch),
    until: async client => {
      await client.response()
      client.socket.pause()
      await tick()
    },
    codes: [1006]
  },
  'while messages are compressed in the thread pool': {
    options: () => ({ perMessageDeflate: true }),
    route: serverDoes(sendMuch),
    writes: [handshake('/', { 'Sec-WebSocket-Extensions': 'permessage-deflate' })],
    until: open101,
    codes: [1006]
  },
  'before it answers the Close': {
    route: serverDoes(socket => socket.close(4000)),
    until: afterClose,
    codes: [1006]
  },
  'in the middle of its Close': {
    route: serverDoes(socket => socket.close(4000)),
    until: async client => {
      await afterClose(client)
      client.write(close(4000).subarray(0, 5))
    },
    codes: [1006]
  },
  'after its answer to the Close': {
    route: serverDoes(socket => socket.close(4000)),
    until: async client => {
      await afterClose(client)
      client.write(close(4000))
      await client.end()
    },
    codes: [4000]
  },
  'after both Close frames, of which its own came first': {
    writes: [handshake('/'), close(4000)],
    until: afterClose,
    codes: [4000]
  },
  'after both Close frames crossed': {
    route: serverDoes(socket => socket.close(4001)),
    writes: [handshake('/'), close(4000)],
    until: afterClose,
    codes: [4000]
  },
  'behind its Close, while much waits to be written': {
    route: serverDoes(sendMuch),
    writes: [handshake('/'), close(4000)],
    until: async client => {
      await client.response()
      client.socket.pause()
      await tick()
    },
    codes: [1006, 4000]
  },
  'after it broke the protocol': {
    writes: [handshake('/'), frame(3, '')],
    until: afterClose,
    codes: [1006]
  }
}

const LEAVES: Readonly<Record<string, (client: RawClient) => void>> = {
  resets: client => client.socket.resetAndDestroy(),
  leaves: client => client.socket.destroy()
}

/** Resolves when the server has one connection. */
async function oneConnection({ server }: { readonly server: Server }): Promise<void> {
  const count = (): Promise<number> =>
    new Promise((resolve, reject) => {
      server.getConnections((error, connections) => (error ? reject(error) : resolve(connections)))
    })
  while ((await count()) !== 1) await tick()
}

async function withBystander(t: Test, step: Step, codes: number[]) {
  const { app, log } = bareApp(t)
  const signal = new Signal()
  const gone = new Signal()
  const wait = async (): Promise<void> => {
    signal.fire()
    await gone.promise
  }
  step.before?.(app, wait)
  await app.register(upgrade, { heartbeat: false, ...step.options?.(wait) })
  const handler: WebSocketHandler = socket => {
    socket.on('message', data => socket.send(data))
    socket.on('close', code => codes.push(code))
  }
  if (step.route === undefined) app.get('/', { websocket: true }, handler)
  else step.route(app, handler, wait)
  app.get('/echo', { websocket: true }, socket => {
    socket.on('message', data => socket.send(data, { binary: false }))
  })
  const port = await listen(app)
  return { app, log, port, signal, gone, bystander: await open(t, port, '/echo') }
}

for (const [when, step] of Object.entries(STEPS)) {
  for (const [how, leave] of Object.entries(LEAVES)) {
    t.test(`a peer ${how} ${when}`, async t => {
      const uncaught = watchProcess(t)
      const codes: number[] = []
      const { app, log, port, signal, gone, bystander } = await withBystander(t, step, codes)
      const client = await connectRaw(t, port)
      await new Promise<unknown>(resolve =>
        client.socket.write(bytes(...(step.writes ?? [handshake('/')])), resolve)
      )
      await step.until?.(client, signal)
      leave(client)
      await withDeadline(oneConnection(app), 10_000, 'the end of the connection')
      // The pending work of the application ends only now.
      gone.fire()
      await tick()
      bystander.socket.send('alive')
      t.equal(await bystander.next(), 'alive')
      t.equal(app.websocketServer.clients.size, 1)
      t.equal(codes.length, step.codes === undefined ? 0 : 1)
      for (const code of codes) t.ok(step.codes?.includes(code), `${code}`)
      t.strictSame(
        log.lines.filter(({ level }) => level > 30).map(({ msg }) => msg),
        []
      )
      t.strictSame(uncaught, [])
    })
  }
}
