// One of several processes that share topics through an engine. ENGINE is redis or nats, ENGINE_PORT its port.
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { HOST, listening, MAX_PAYLOAD, portOf } from './control.js'

const { ENGINE, ENGINE_PORT = '' } = process.env

const BROKERS = {
  redis: async () => {
    const [{ Redis }, { redisBroker }] = await Promise.all([
      import('ioredis'),
      import('fastify-upgrade/redis')
    ])
    return redisBroker(new Redis(Number(ENGINE_PORT), HOST))
  },
  nats: async () => {
    const [{ connect }, { natsBroker }] = await Promise.all([
      import('@nats-io/transport-node'),
      import('fastify-upgrade/nats')
    ])
    return natsBroker(await connect({ servers: `${HOST}:${ENGINE_PORT}` }))
  }
}

const broker = await BROKERS[/** @type {keyof typeof BROKERS} */ (ENGINE)]()
const app = Fastify()
await app.register(upgrade, { broker, maxPayload: MAX_PAYLOAD })
app.get('/', { websocket: true }, async socket => {
  await socket.subscribe('scale')
  socket.on('message', data => {
    app.websocketServer.publish('scale', data)
  })
  socket.send('subscribed')
})
await app.listen({ port: 0, host: HOST })
listening(portOf(app.server))
