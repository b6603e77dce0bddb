import mercurius, { type PubSub } from 'mercurius'
import t, { type Test } from 'tap'
import upgrade, { WebSocketServer } from '../../lib/index.js'
import { bareApp, listen, open, request, Signal, shake } from '../helpers/app.js'
import { makeLegacyClient, makeTransportClient } from './graphql-clients.js'

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
  const users: unknown[] = []
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
            users.push(Reflect.get(context, 'user'))
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
      context: async (_socket, { query }) => ({ user: Reflect.get(Object(query), 'user') }),
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
  return { app, log, subscribed, disconnected, users, post, port, url: `ws://127.0.0.1:${port}/graphql` }
}

t.test('it uses the plugin in place of @fastify/websocket and registers no other', async t => {
  const { app, port } = await start(t)
  t.ok(app.websocketServer instanceof WebSocketServer)
  t.match(app.printPlugins(), /fastify-upgrade/)
  t.notMatch(app.printPlugins(), /@fastify\/websocket/)
  t.equal(app.server.listenerCount('upgrade'), 1)
  t.equal((await shake(t, port, '/graphql')).status, 101)
  const ordinary = await request(t, port, 'GET', '/graphql?query=%7Bnotes%7D')
  t.strictSame(JSON.parse(ordinary.body), { data: { notes: [] } }, 'ordinary requests at the same path work')
})

for (const makeClient of [makeTransportClient, makeLegacyClient]) {
  t.test(`${makeClient.name}: subscriptions`, async t => {
    const { app, url, subscribed, disconnected, users, post } = await start(t)
    const client = makeClient(t, `${url}?user=ada`)
    const counted = await client.results('subscription { count(to: 3) }')
    t.strictSame(counted, [{ count: 1 }, { count: 2 }, { count: 3 }])
    const [socket] = app.websocketServer.clients
    t.equal(socket?.protocol, client.protocol)

    const noted = client.results('subscription { noted }', 1)
    await subscribed.wait('subscription')
    t.strictSame(await post('mutation { note(text: "one") }'), { data: { note: true } })
    t.strictSame(await noted, [{ noted: 'one' }], 'the value published over HTTP')
    t.strictSame(users, ['ada'], 'its context has the request')
    client.close()
    await disconnected.wait('onDisconnect')
  })
}

t.test('queries work over the WebSocket', async t => {
  const { url } = await start(t)
  const client = makeTransportClient(t, url)
  t.strictSame(await client.results('{ notes }'), [{ notes: [] }])
})

t.test('a client that onConnect refuses is closed', async t => {
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
