// One of several processes that share topics through an engine. ENGINE is redis or nats, ENGINE_PORT its port. HISTORY is 1
// for a topic with history.
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { connectBroker } from './broker.js'
import { HOST, listening, MAX_PAYLOAD, portOf } from './control.js'

const { ENGINE = '', ENGINE_PORT = '', HISTORY } = process.env

const history = HISTORY === '1' ? { size: 1000, ttl: 600_000 } : undefined

const broker = await connectBroker(ENGINE, Number(ENGINE_PORT), history !== undefined)
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
