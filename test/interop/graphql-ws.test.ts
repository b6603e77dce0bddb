import { createRequire } from 'node:module'
import {
  execute,
  GraphQLInt,
  GraphQLNonNull,
  GraphQLObjectType,
  GraphQLSchema,
  GraphQLString,
  subscribe
} from 'graphql'
import type { ServerOptions } from 'graphql-ws'
import { SubscriptionServer } from 'subscriptions-transport-ws'
import t, { type Test } from 'tap'
import { type FastifyUpgradeOptions, WebSocket, type WebSocketHandler } from '../../lib/index.js'
import { listen, makeApp, open, Signal, shake } from '../helpers/app.js'
import { makeLegacyClient, makeTransportClient } from './graphql-clients.js'

/** Of a subscription. */
interface Course {
  readonly running: Signal
  readonly left: Signal
}

/** The properties that its handler adds to a context. */
type Extra = Readonly<Record<'socket' | 'request', unknown>>

// Its types import those of @fastify/websocket, which declare the same members of Fastify in another way.
const {
  makeHandler
}: { makeHandler(options: ServerOptions<Record<string, unknown>, Extra>): WebSocketHandler } = createRequire(
  import.meta.url
)('graphql-ws/use/@fastify/websocket')

const schema = new GraphQLSchema({
  query: new GraphQLObjectType({
    name: 'Query',
    fields: { greeting: { type: GraphQLString, resolve: () => 'hello' } }
  }),
  subscription: new GraphQLObjectType({
    name: 'Subscription',
    fields: {
      count: {
        type: GraphQLInt,
        args: { to: { type: new GraphQLNonNull(GraphQLInt) } },
        subscribe: async function* (_, { to }) {
          for (let count = 1; count <= to; count++) yield { count }
        }
      },
      forever: {
        type: GraphQLInt,
        subscribe: async function* (_source, _args, { running, left }: Course) {
          try {
            running.fire()
            for (let forever = 0; ; forever++) {
              yield { forever }
              await new Promise(setImmediate)
            }
          } finally {
            left.fire()
          }
        }
      }
    }
  })
})

/** Both protocols on one path. */
async function start(t: Test, options: FastifyUpgradeOptions = {}) {
  const { app } = await makeApp(t, options)
  const course = { running: new Signal(), left: new Signal() }
  const extras: Extra[] = []
  app.get(
    '/graphql',
    { websocket: { subprotocol: 'graphql-transport-ws' } },
    makeHandler({
      schema,
      context: ({ extra }) => {
        extras.push(extra)
        return course
      }
    })
  )
  const legacy = new SubscriptionServer({ schema, execute, subscribe }, { noServer: true })
  app.get('/graphql', { websocket: { subprotocol: 'graphql-ws' } }, (socket, request) => {
    legacy.server.emit('connection', socket, request.raw)
  })
  const port = await listen(app)
  return { app, course, extras, port, url: `ws://127.0.0.1:${port}/graphql` }
}

for (const makeClient of [makeTransportClient, makeLegacyClient]) {
  t.test(`${makeClient.name}: subscriptions work on a path with both protocols`, async t => {
    const { app, url } = await start(t)
    const protocols: string[] = []
    app.websocketServer.on('connection', socket => protocols.push(socket.protocol))
    const client = makeClient(t, url)
    const both = await Promise.all([
      client.results('subscription { count(to: 3) }'),
      client.results('subscription { other: count(to: 50) }')
    ])
    t.strictSame(both[0], [{ count: 1 }, { count: 2 }, { count: 3 }])
    t.strictSame(both[1]?.length, 50)
    t.strictSame(both[1]?.at(-1), { other: 50 })
    t.strictSame(protocols, [client.protocol], 'on one connection')
    client.close()
  })
}

t.test('queries go over the same connection', async t => {
  const { url, extras } = await start(t)
  const client = makeTransportClient(t, url)
  t.strictSame(await client.results('{ greeting }'), [{ greeting: 'hello' }])
  t.ok(extras[0]?.socket instanceof WebSocket, 'its context has the socket of this package')
  t.match(extras[0]?.request, { ws: true }, 'and the request')
})

t.test('a client that leaves ends its subscription', async t => {
  const { url, course } = await start(t)
  const client = makeTransportClient(t, url)
  const results = client.results('subscription { forever }')
  await course.running.wait('subscription')
  client.close()
  await results.catch(() => {})
  await course.left.wait('end of the generator')
})

t.test('protocol errors of a client close the connection with the code of graphql-ws', async t => {
  const { port } = await start(t)
  const early = await open(t, port, '/graphql', { protocols: ['graphql-transport-ws'] })
  early.socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query: '{ greeting }' } }))
  t.equal(await early.closed(), '4401 Unauthorized')
  const invalid = await open(t, port, '/graphql', { protocols: ['graphql-transport-ws'] })
  invalid.socket.send('no JSON')
  t.match(await invalid.closed(), /^4400 /)
  t.equal((await shake(t, port, '/graphql', { 'Sec-WebSocket-Protocol': 'soap' })).status, 400)
})

// It assigns `handleProtocols` at its first connection, so that the first one is selected in another way.
t.test('the handler works on a route without subprotocols', async t => {
  const { app } = await makeApp(t, {
    options: { handleProtocols: protocols => protocols.has('graphql-transport-ws') && 'graphql-transport-ws' }
  })
  const own = app.websocketServer.options.handleProtocols
  app.get('/graphql', { websocket: true }, makeHandler({ schema }))
  const url = `ws://127.0.0.1:${await listen(app)}/graphql`
  for (const attempt of [1, 2]) {
    const client = makeTransportClient(t, url)
    t.same(await client.results('subscription { count(to: 1) }'), [{ count: 1 }], `connection ${attempt}`)
    client.close()
  }
  t.not(app.websocketServer.options.handleProtocols, own, 'the second time by its own choice')
})

t.test('an error that the server emits closes its clients with 4500', async t => {
  const { app, port } = await start(t)
  const client = await open(t, port, '/graphql', { protocols: ['graphql-transport-ws'] })
  t.capture(console, 'error')
  app.websocketServer.emit('error', new Error('of the server'))
  t.equal(await client.closed(), '4500 of the server')
})
