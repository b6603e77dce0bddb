import type { IncomingMessage } from 'node:http'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import type { WebSocket } from '../../lib/index.js'
import { type App, type Client, listen, makeApp, open, Signal, tick, withDeadline } from '../helpers/app.js'

// A request takes more memory than an idle connection, so it is released when nothing waits for its end.

setFlagsFromString('--expose-gc')
const gc: () => void = runInNewContext('gc')

// The tests run at the same time, so that one collection of garbage, which takes long, is for all of them.
t.jobs = 100
let collection: Promise<void> | undefined

type Handler = (socket: WebSocket, request: FastifyRequest) => unknown

interface Kept {
  readonly app: App['app']
  readonly client: Client
  /** The request of the connection, while it is referenced. */
  readonly request: WeakRef<FastifyRequest>
}

/** A connection whose handler has settled. */
async function connect(
  t: Test,
  handler: Handler,
  prepare: (app: App['app']) => void = () => {},
  logger: boolean = false
): Promise<Kept> {
  const { app } = await makeApp(t, {}, logger ? {} : { logger: false })
  prepare(app)
  const requests: WeakRef<FastifyRequest>[] = []
  app.get('/', { websocket: true }, (socket, request) => {
    requests.push(new WeakRef(request))
    socket.on('ping', () => socket.send('pinged'))
    return handler(socket, request)
  })
  const client = await open(t, await listen(app), '/')
  await settle(client)
  const [request] = requests
  if (request === undefined) throw new Error('no request')
  return { app, client, request }
}

/** The connection has processed its input so far. */
async function settle(client: Client): Promise<void> {
  client.socket.ping()
  await client.next()
}

/** Collects garbage in the next tick, once for all tests that ask for it. */
function collectOnce(): Promise<void> {
  collection ??= tick().then(() => {
    collection = undefined
    gc()
  })
  return collection
}

/** Collects garbage until the request is gone. */
async function isCollected(request: WeakRef<FastifyRequest>): Promise<boolean> {
  const wait = async (): Promise<true> => {
    while (request.deref() !== undefined) await collectOnce()
    return true
  }
  return withDeadline(wait(), 5_000, 'the request is collected').catch(() => false)
}

/** Collects garbage often enough for everything else. */
async function collect(): Promise<void> {
  for (let i = 0; i < 10; i++) await collectOnce()
}

const IDLE: Readonly<Record<string, Handler>> = {
  'a handler that returns': () => {},
  'an async handler': async () => {
    await null
  },
  'a handler with listeners of its socket': socket => {
    socket.on('message', () => {})
    socket.on('close', () => {})
  },
  'a handler that looked at its request': (socket, request) => {
    socket.send(`${request.url} ${request.headers.host} ${request.ip} ${request.id}`)
  },
  'a handler that removed its listener': (_socket, { raw }) => {
    const listener = (): void => {}
    raw.on('close', listener)
    raw.off('close', listener)
  }
}

for (const [name, handler] of Object.entries(IDLE)) {
  t.test(`the request is released after ${name}`, async t => {
    const { client, request } = await connect(t, handler)
    t.equal(await isCollected(request), true)
    client.socket.close(1000)
    t.equal(await client.closed(), '1000')
  })
}

const events: string[] = []
const ended = (): Signal => new Signal()

t.test('with an onResponse hook the request is kept, and the hook receives it', async t => {
  const done = new Signal<FastifyRequest>()
  const { client, request } = await connect(
    t,
    () => {},
    app => app.addHook('onResponse', async request => done.fire(request))
  )
  await collect()
  t.not(request.deref(), undefined)
  client.socket.close()
  t.equal(await done.wait('onResponse'), request.deref())
})

t.test('with a logger the request is kept until it has been logged', async t => {
  const { client, request } = await connect(t, () => {}, undefined, true)
  await collect()
  t.not(request.deref(), undefined)
  client.socket.close()
  await client.closed()
  t.equal(await isCollected(request), true)
})

t.test('with an errorHandler the request is kept, and the handler receives it', async t => {
  const { app } = await makeApp(t, {}, { logger: false })
  const called = new Signal<FastifyRequest>()
  const requests: WeakRef<FastifyRequest>[] = []
  const errorHandler = (_error: Error, _socket: WebSocket, request: FastifyRequest): void =>
    called.fire(request)
  app.get('/', { websocket: { errorHandler } }, (socket, request) => {
    requests.push(new WeakRef(request))
    socket.on('message', () => {
      throw new Error('late')
    })
  })
  const client = await open(t, await listen(app), '/')
  await collect()
  t.not(requests[0]?.deref(), undefined)
  client.socket.send('x')
  t.equal(await called.wait('errorHandler'), requests[0]?.deref())
})

/** Ways to observe the end of a request. */
const WATCHERS: Readonly<Record<string, (request: FastifyRequest, listener: () => void) => void>> = {
  'request.signal': (request, listener) => request.signal.addEventListener('abort', listener),
  'close of request.raw': ({ raw }, listener) => void raw.once('close', listener),
  'end of request.raw': ({ raw }, listener) => void raw.once('end', listener)
}

for (const [name, watch] of Object.entries(WATCHERS)) {
  t.test(`${name} fires when the listener is added in the handler`, async t => {
    const end = ended()
    const { client } = await connect(t, (_socket, request) => watch(request, () => end.fire()))
    await collect()
    client.socket.close()
    await end.wait(name)
  })

  t.test(`${name} fires when the listener is added after an await`, async t => {
    const end = ended()
    const listens = new Signal()
    const { client } = await connect(t, async (_socket, request) => {
      await tick()
      watch(request, () => end.fire())
      listens.fire()
    })
    await listens.wait('listener')
    await collect()
    client.socket.close()
    await end.wait(name)
  })

  t.test(`${name} fires when the listener is added later and the request is still referenced`, async t => {
    const end = ended()
    const { client } = await connect(t, (socket, request) => {
      socket.on('message', () => {
        watch(request, () => end.fire())
        socket.send('listens')
      })
    })
    await collect()
    client.socket.send('listen')
    t.equal(await client.next(), 'listens')
    await collect()
    client.socket.close()
    await end.wait(name)
  })

  t.test(`${name} fires when the listener is added later and the request is released then`, async t => {
    const end = ended()
    const { client } = await connect(t, (socket, request) => {
      socket.once('message', () => {
        watch(request, () => end.fire())
        socket.send('listens')
      })
    })
    await collect()
    client.socket.send('listen')
    t.equal(await client.next(), 'listens')
    await collect()
    client.socket.close()
    await end.wait(name)
  })
}

t.test('no listener is called before the request has ended', async t => {
  const raws: IncomingMessage[] = []
  const { client } = await connect(t, (_socket, { raw }) => {
    raws.push(raw)
    raw.once('close', () => events.push('close'))
  })
  await collect()
  await settle(client)
  t.strictSame(events, [])
  t.equal(raws[0]?.destroyed, false)
  client.socket.close()
  await client.closed()
  await tick()
  t.strictSame(events, ['close'])
})
