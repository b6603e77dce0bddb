import { once } from 'node:events'
import t, { type Test } from 'tap'
import type { FastifyUpgradeOptions, WebSocket } from '../../lib/index.js'
import {
  type App,
  type Client,
  connectRaw,
  ERROR,
  handshake,
  listen,
  makeApp,
  open,
  tick,
  watchProcess,
  withDeadline
} from '../helpers/app.js'
import { type Fail, SECRET, WAYS } from '../helpers/fault.js'
import { frame } from '../protocol/wire.js'

// Errors of the application on an open connection: each is logged once, closes that connection, and affects no others.

const FAILED = 'a listener or callback of the WebSocket at GET /echo failed'

interface Fault {
  /** Adds a listener or callback that fails, which the client triggers. */
  readonly add: (socket: WebSocket, fail: Fail) => void
  readonly setsOff?: (client: Client) => void
  /** The close code and reason; 1011 for a connection that is open when the error happens. */
  readonly code?: string
}

/** Breaks the protocol, so that the socket emits `error`. */
const violate = ({ socket }: Client): void => {
  const stream: unknown = Reflect.get(socket, '_socket')
  if (stream instanceof Object && 'write' in stream && typeof stream.write === 'function') {
    stream.write(frame(3, 'no such opcode'))
  }
}

const FAULTS: Readonly<Record<string, Fault>> = {
  'a listener of message': {
    add: (socket, fail) => socket.on('message', () => fail()),
    setsOff: ({ socket }) => socket.send('x')
  },
  'a listener of ping': {
    add: (socket, fail) => socket.on('ping', () => fail()),
    setsOff: ({ socket }) => socket.ping('x')
  },
  'a listener of pong': {
    add: (socket, fail) => socket.on('pong', () => fail()),
    setsOff: ({ socket }) => socket.pong('x')
  },
  'a listener of drain': {
    add: (socket, fail) => {
      socket.on('drain', () => fail())
      while (socket.send(Buffer.alloc(1_000_000)));
    }
  },
  'a listener of error': {
    add: (socket, fail) => socket.on('error', () => fail()),
    setsOff: violate,
    code: '1002 unknown opcode'
  },
  'a listener of close': {
    add: (socket, fail) => socket.on('close', () => fail()),
    setsOff: ({ socket }) => socket.close(4000),
    code: '4000'
  },
  'a listener of close after a cut': {
    add: (socket, fail) => {
      socket.on('close', () => fail())
      socket.terminate()
    },
    code: '1006'
  },
  onmessage: {
    add: (socket, fail) => {
      socket.onmessage = () => fail()
    },
    setsOff: ({ socket }) => socket.send('x')
  },
  onclose: {
    add: (socket, fail) => {
      socket.onclose = () => fail()
    },
    setsOff: ({ socket }) => socket.close(4000),
    code: '4000'
  },
  onerror: {
    add: (socket, fail) => {
      socket.onerror = () => fail()
    },
    setsOff: violate,
    code: '1002 unknown opcode'
  },
  'the callback of send': { add: (socket, fail) => void socket.send('x', () => fail()) },
  'the callback of ping': { add: (socket, fail) => socket.ping('x', false, () => fail()) },
  'the callback of pong': { add: (socket, fail) => socket.pong('x', false, () => fail()) },
  'the callback of a send that comes too late': {
    add: (socket, fail) => {
      socket.close(4000)
      socket.send('x', () => fail())
    },
    code: '4000'
  },
  'the callback of a send that is lost in a cut': {
    add: (socket, fail) => {
      socket.send('x', () => fail())
      socket.terminate()
    },
    code: '1006'
  },
  'a listener of the stream': {
    add: (socket, fail) => socket.stream().on('data', () => fail()),
    setsOff: ({ socket }) => socket.send('x')
  }
}

/** An application with a route that echoes, and a connected bystander. */
async function withBystander(
  t: Test,
  options: FastifyUpgradeOptions = {}
): Promise<App & { bystander: Client; port: number }> {
  const made = await makeApp(t, options)
  made.app.get('/echo', { websocket: true }, socket => {
    socket.on('message', data => socket.send(data, { binary: false }))
  })
  const port = await listen(made.app)
  return { ...made, port, bystander: await open(t, port, '/echo') }
}

/** The bystander is served and is the only client, and the log has these errors. */
async function checkOthers(
  t: Test,
  { app, log, bystander }: App & { bystander: Client },
  errors: readonly string[]
): Promise<void> {
  for (const message of errors) t.match((await log.until(message)).err, { message: SECRET })
  bystander.socket.send('alive')
  t.equal(await bystander.next(), 'alive')
  await withDeadline(onlyOne(app.websocketServer.clients), 10_000, 'the end of the other connections')
  await tick()
  t.strictSame(
    log.lines.filter(({ level }) => level > 30).map(({ level, msg }) => `${level} ${msg}`),
    errors.map(message => `${ERROR} ${message}`)
  )
  t.strictSame(app.websocketServer.clients.size, 1)
}

async function onlyOne(clients: ReadonlySet<WebSocket>): Promise<void> {
  for (const socket of [...clients].slice(1))
    if (socket.readyState !== socket.CLOSED) await once(socket, 'close')
}

for (const [what, { add, setsOff, code = '1011' }] of Object.entries(FAULTS)) {
  for (const [how, fail] of Object.entries(WAYS)) {
    t.test(`${what} ${how}`, async t => {
      const uncaught = watchProcess(t)
      let socket: WebSocket | undefined
      const made = await withBystander(t)
      made.app.websocketServer.once('connection', opened => {
        socket = opened
        add(opened, fail)
      })
      const client = await open(t, made.port, '/echo?faulty')
      setsOff?.(client)
      t.equal(await client.closed(), code)
      await checkOthers(t, made, [FAILED])
      t.equal(socket?.readyState, 3)
      t.strictSame(uncaught, [])
    })

    for (const [broken, breaks] of Object.entries(WAYS)) {
      t.test(`${what} ${how}, and errorHandler ${broken}`, async t => {
        const uncaught = watchProcess(t)
        const made = await withBystander(t, { errorHandler: () => breaks() })
        made.app.websocketServer.once('connection', opened => add(opened, fail))
        const client = await open(t, made.port, '/echo?faulty')
        setsOff?.(client)
        const closed = await client.closed()
        // An open connection is cut. A closing one may have ended before.
        t.ok(closed === '1006' || closed === code, closed)
        await checkOthers(t, made, ['the WebSocket error handler failed'])
        t.strictSame(uncaught, [])
      })
    }
  }
}

for (const [how, fail] of Object.entries(WAYS)) {
  t.test(`listeners of websocketServer: connection ${how}`, async t => {
    const uncaught = watchProcess(t)
    const made = await withBystander(t)
    made.app.websocketServer.once('connection', () => fail())
    const client = await open(t, made.port, '/echo')
    t.equal(await client.closed(), '1011')
    await checkOthers(t, made, [FAILED])
    t.strictSame(uncaught, [])
  })

  t.test(`listeners of websocketServer: close ${how}, as the callback of close does`, async t => {
    const uncaught = watchProcess(t)
    const { app, log, bystander } = await withBystander(t)
    let calls = 0
    app.websocketServer.on('close', () => fail())
    app.websocketServer.close(WAYS.throws)
    app.websocketServer.close(() => calls++)
    await withDeadline(app.close(), 10_000, 'app.close()')
    await log.until('a listener of websocketServer failed')
    await tick()
    t.equal(await bystander.closed(), '1001')
    t.equal(calls, 1, 'other callbacks are called')
    t.strictSame(
      log.lines.filter(({ level }) => level > 30).map(({ msg }) => msg),
      Array.from({ length: 2 }, () => 'a listener of websocketServer failed')
    )
    t.strictSame(uncaught, [])
  })
}

t.test('a request that makes the router itself throw is cut and logged', async t => {
  const uncaught = watchProcess(t)
  const { app, log } = await makeApp(
    t,
    {},
    {
      rewriteUrl: ({ url = '/' }) => {
        if (url === '/bad') throw new Error(SECRET)
        return url
      }
    }
  )
  app.get('/', { websocket: true }, socket => socket.close(4000))
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/bad'))
  await client.gone()
  t.equal(client.data.length, 0)
  t.match(await log.until('a WebSocket handshake failed'), { level: ERROR, err: { message: SECRET } })
  t.equal(await (await open(t, port, '/')).closed(), '4000')
  t.strictSame(uncaught, [])
})
