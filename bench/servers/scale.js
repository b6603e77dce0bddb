// One of several processes that share topics through an engine. ENGINE is redis or nats, ENGINE_PORT its port. HISTORY is 1
// for a topic with history.
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { HOST, listening, MAX_PAYLOAD, portOf } from './control.js'

const { ENGINE, ENGINE_PORT = '', HISTORY } = process.env

const history = HISTORY === '1' ? { size: 1000, ttl: 600_000 } : undefined

const BROKERS = {
  redis: async () => {
    const [{ Redis }, { redisBroker }] = await Promise.all([
      import('ioredis'),
      import('fastify-upgrade/redis')
    ])
    return redisBroker(new Redis(Number(ENGINE_PORT), HOST))
  },
  nats: async () => {
    const [{ connect }, { jetstreamManager }, { natsBroker }] = await Promise.all([
      import('@nats-io/transport-node'),
      import('@nats-io/jetstream'),
      import('fastify-upgrade/nats')
    ])
    const connection = await connect({ servers: `${HOST}:${ENGINE_PORT}` })
    if (history === undefined) return natsBroker(connection)
    return natsBroker(connection, { history: { manager: await jetstreamManager(connection) } })
  }
}

const broker = await BROKERS[/** @type {keyof typeof BROKERS} */ (ENGINE)]()
const app = Fastify()
await app.register(upgrade, { broker, maxPayload: MAX_PAYLOAD, ...(history && { history }) })
app.get('/', { websocket: true }, async socket => {
  await socket.subscribe('scale')
  socket.on('message', data => {
    app.websocketServer.publish('scale', data)
  })
  socket.send('subscribed')
})
await app.listen({ port: 0, host: HOST })
listening(portOf(app.server))
