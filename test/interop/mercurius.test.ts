import mercurius, { type PubSub } from 'mercurius'
import t, { type Test } from 'tap'
import upgrade, { WebSocketServer } from '../../lib/index.js'
import { bareApp, listen, open, request, Signal, shake } from '../helpers/app.js'
import { type MakeGraphqlClient, makeLegacyClient, makeTransportClient } from './graphql-clients.js'

const PROTOCOLS = ['graphql-transport-ws', 'graphql-ws']

const schema = `
  type Query { notes: [String] }
  type Mutation { note(text: String!): Boolean }
  type Subscription { noted: String, count(to: Int!): Int }
`

async function start(t: Test) {
  const { app, log } = bareApp(t)
  await app.register(upgrade, {
    options: { handleProtocols: offers => PROTOCOLS.find(name => offers.has(name)) ?? false }
  })
  const subscribed = new Signal()
  const disconnected = new Signal()
  const contexts: unknown[] = []
  await app.register(mercurius, {
    schema,
    resolvers: {
      Query: { notes: () => [] },
      Mutation: {
        note: async (_, { text }, { pubsub }: { pubsub: PubSub }) => {
          await pubsub.publish({ topic: 'NOTED', payload: { noted: text } })
          return true
        }
      },
      Subscription: {
        noted: {
          subscribe: async (_root, _args, context) => {
            contexts.push(Reflect.get(context, 'user'))
            const topic = await context.pubsub.subscribe('NOTED')
            subscribed.fire()
            return topic
          }
        },
        count: {
          subscribe: async function* (_root: unknown, { to }: { to: number }) {
            for (let count = 1; count <= to; count++) yield { count }
          }
        }
      }
    },
    subscription: {
      fullWsTransport: true,
      context: async (_socket, { headers }) => ({ user: headers['x-user'] ?? 'nobody' }),
      onConnect: ({ payload }) => payload?.token !== 'bad',
      onDisconnect: () => disconnected.fire()
    }
  })
  const port = await listen(app)
  const post = async (query: string): Promise<unknown> => {
    const response = await fetch(`http://127.0.0.1:${port}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query })
    })
    return response.json()
  }
  return { app, log, subscribed, disconnected, contexts, post, port, url: `ws://127.0.0.1:${port}/graphql` }
}

t.test('it takes the plugin for @fastify/websocket and registers no other', async t => {
  const { app, port } = await start(t)
  t.ok(app.websocketServer instanceof WebSocketServer)
  t.match(app.printPlugins(), /fastify-upgrade/)
  t.notMatch(app.printPlugins(), /@fastify\/websocket/)
  t.equal(app.server.listenerCount('upgrade'), 1)
  t.equal((await shake(t, port, '/graphql')).status, 101)
  const ordinary = await request(t, port, 'GET', '/graphql?query=%7Bnotes%7D')
  t.strictSame(JSON.parse(ordinary.body), { data: { notes: [] } }, 'ordinary requests at the same path')
})

/** Published over HTTP, got over the WebSocket. */
async function checkPublished(t: Test, makeClient: MakeGraphqlClient): Promise<void> {
  const { app, url, subscribed, disconnected, contexts, post } = await start(t)
  const client = makeClient(t, url)
  const counted = await client.results('subscription { count(to: 3) }')
  t.strictSame(counted, [{ count: 1 }, { count: 2 }, { count: 3 }])
  t.strictSame(
    Array.from(app.websocketServer.clients, ({ protocol }) => protocol),
    [client.protocol]
  )
  const raw = await open(t, Number(new URL(url).port), '/graphql', {
    protocols: [client.protocol],
    headers: { 'x-user': 'somebody' }
  })
  raw.socket.send(JSON.stringify({ type: 'connection_init' }))
  t.match(JSON.parse(await raw.next()), { type: 'connection_ack' })
  const isLegacy = client.protocol === 'graphql-ws'
  const start_ = {
    id: '1',
    type: isLegacy ? 'start' : 'subscribe',
    payload: { query: 'subscription { noted }' }
  }
  raw.socket.send(JSON.stringify(start_))
  await subscribed.wait('subscription')
  t.strictSame(contexts, ['somebody'], 'the request is there for its context')
  t.strictSame(await post('mutation { note(text: "one") }'), { data: { note: true } })
  const next = { type: isLegacy ? 'data' : 'next', id: '1', payload: { data: { noted: 'one' } } }
  t.strictSame(JSON.parse(await raw.next()), next)
  raw.socket.close()
  await disconnected.wait('onDisconnect')
}

for (const makeClient of [makeTransportClient, makeLegacyClient]) {
  t.test(`${makeClient.name}: subscriptions`, t => checkPublished(t, makeClient))
}

t.test('queries over the WebSocket', async t => {
  const { url } = await start(t)
  const client = makeTransportClient(t, url)
  t.strictSame(await client.results('{ notes }'), [{ notes: [] }])
})

t.test('whom onConnect refuses', async t => {
  const { url } = await start(t)
  for (const makeClient of [makeTransportClient, makeLegacyClient]) {
    await t.rejects(makeClient(t, url, 'bad').results('subscription { count(to: 1) }'), makeClient.name)
  }
})

t.test('a client that offers no subprotocol is closed with 1002 by mercurius', async t => {
  const { port } = await start(t)
  t.capture(console, 'log')
  const client = await open(t, port, '/graphql')
  t.equal(await client.closed(), '1002')
})
