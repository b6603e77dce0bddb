import { createTRPCClient, createWSClient, httpLink, wsLink } from '@trpc/client'
import { initTRPC, TRPCError } from '@trpc/server'
import { type CreateFastifyContextOptions, fastifyTRPCPlugin } from '@trpc/server/adapters/fastify'
import { applyWSSHandler } from '@trpc/server/adapters/ws'
import t, { type Test } from 'tap'
import type { WebSocketServer } from 'ws'
import { listen, makeApp, ms, open, Signal, withDeadline } from '../helpers/app.js'
import { PageSocket } from './page-socket.js'

interface Context {
  readonly user: string | undefined
}

const { procedure, router } = initTRPC.context<Context>().create()

/** @param left called when the endless subscription has ended. */
function makeRouter(left: Signal) {
  return router({
    greet: procedure
      .input((input: unknown) => String(input))
      .query(({ input, ctx }) => `hello ${input}, says ${ctx.user}`),
    fail: procedure.mutation(() => {
      throw new TRPCError({ code: 'FORBIDDEN', message: 'not you' })
    }),
    count: procedure
      .input((input: unknown) => Number(input))
      .subscription(async function* ({ input }) {
        for (let count = 1; count <= input; count++) yield count
      }),
    forever: procedure.subscription(async function* ({ signal }) {
      try {
        for (let count = 0; signal?.aborted === false; count++) {
          yield count
          await new Promise(setImmediate)
        }
      } finally {
        left.fire()
      }
    })
  })
}

type Router = ReturnType<typeof makeRouter>

interface KeepAlive {
  readonly enabled: boolean
  readonly pingMs: number
  readonly pongWaitMs: number
}

async function start(t: Test, keepAlive?: KeepAlive) {
  const { app } = await makeApp(t)
  const left = new Signal()
  const createContext = ({ req, info }: CreateFastifyContextOptions): Context => ({
    user: info.connectionParams?.user ?? String(req.headers['x-user'])
  })
  await app.register(fastifyTRPCPlugin<Router>, {
    prefix: '/trpc',
    useWSS: true,
    trpcOptions: { router: makeRouter(left), createContext, ...(keepAlive && { keepAlive }) }
  })
  return { app, left, port: await listen(app) }
}

function connect(t: Test, port: number, path = '/trpc') {
  const client = createWSClient({
    url: `ws://127.0.0.1:${port}${path}`,
    WebSocket: PageSocket,
    connectionParams: { user: 'ada' },
    retryDelayMs: () => 0
  })
  t.teardown(() => client.close())
  return createTRPCClient<Router>({ links: [wsLink({ client })] })
}

t.test('queries, mutations and subscriptions work over one connection', async t => {
  const { app, port } = await start(t)
  const trpc = connect(t, port)
  t.equal(await trpc.greet.query('you'), 'hello you, says ada')
  await t.rejects(trpc.fail.mutate(), { message: 'not you' })
  const counts: number[] = []
  const completed = new Promise<void>((onComplete, onError) => {
    trpc.count.subscribe(500, { onData: count => counts.push(count), onComplete, onError })
  })
  await withDeadline(completed, 10_000, 'end of the subscription')
  const expected = Array.from({ length: 500 }, (_, i) => i + 1)
  t.strictSame(counts, expected)
  t.equal(app.websocketServer.clients.size, 1)
})

t.test('the same path answers ordinary requests of tRPC', async t => {
  const { port } = await start(t)
  const trpc = createTRPCClient<Router>({
    links: [httpLink({ url: `http://127.0.0.1:${port}/trpc`, headers: { 'x-user': 'a page' } })]
  })
  t.equal(await trpc.greet.query('you'), 'hello you, says a page')
})

t.test('a subscription ends when its client leaves it, and when its connection is closed', async t => {
  for (const leave of ['unsubscribe', 'close'] as const) {
    const { app, port, left } = await start(t)
    const running = new Signal()
    const trpc = connect(t, port)
    const subscription = trpc.forever.subscribe(undefined, { onData: () => running.fire() })
    await running.wait('data')
    if (leave === 'unsubscribe') subscription.unsubscribe()
    else for (const socket of app.websocketServer.clients) socket.terminate()
    await left.wait(`end of the generator after ${leave}`)
    subscription.unsubscribe()
  }
})

t.test('keepAlive cuts a client that does not answer, and no other client', async t => {
  const { app, port } = await start(t, { enabled: true, pingMs: ms(50), pongWaitMs: ms(500) })
  let connections = 0
  app.websocketServer.on('connection', () => connections++)
  const silent = await open(t, port, '/trpc')
  t.equal(await silent.next(), 'PING')
  const trpc = connect(t, port)
  t.equal(await trpc.greet.query('you'), 'hello you, says ada')
  t.equal(await silent.closed(), '1006')
  t.equal(await trpc.greet.query('you'), 'hello you, says ada')
  t.equal(connections, 2, 'on the same connection')
})

t.test('broadcastReconnectNotification makes the clients of websocketServer reconnect', async t => {
  const { app } = await makeApp(t)
  // It uses `on` and `clients` of the server that it receives.
  const wss: unknown = app.websocketServer
  const { broadcastReconnectNotification } = applyWSSHandler({
    wss: wss as WebSocketServer,
    router: makeRouter(new Signal()),
    createContext: () => ({ user: 'bob' }),
    prefix: '/own'
  })
  app.get('/own', { websocket: true }, () => {})
  const trpc = connect(t, await listen(app), '/own')
  const again = new Signal()
  t.equal(await trpc.greet.query('you'), 'hello you, says bob')
  const left = new Signal()
  for (const socket of app.websocketServer.clients) socket.on('close', () => left.fire())
  app.websocketServer.once('connection', () => again.fire())
  broadcastReconnectNotification()
  await again.wait('second connection')
  t.equal(await trpc.greet.query('you'), 'hello you, says bob')
  await left.wait('end of the first')
  t.equal(app.websocketServer.clients.size, 1)
})
