// node recovery.js publish: publishes to topics with history, prints the position of the first publication of each, and ends.
// node recovery.js: serves clients that recover the rest. ENGINE is redis or nats, ENGINE_PORT its port.
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { connectBroker } from './broker.js'
import { HOST, listening, portOf } from './control.js'

const { ENGINE = '', ENGINE_PORT = '', TOPICS = '', MISSED = '', CONNECTIONS = '' } = process.env
const SIZE = 128

const broker = await connectBroker(ENGINE, Number(ENGINE_PORT), true)
const app = Fastify()
await app.register(upgrade, { broker, history: { size: 100, ttl: 600_000 } })

app.get('/echo', { websocket: true }, socket => {
  socket.on('message', data => socket.send(data))
})
app.get('/:topic', { websocket: true }, async (socket, request) => {
  const { topic } = /** @type {{ topic: string }} */ (request.params)
  const { offset, epoch } = /** @type {{ offset: string, epoch: string }} */ (request.query)
  const { recovered } = await socket.subscribe(topic, { since: { offset: Number(offset), epoch } })
  if (recovered !== true) socket.close(4000, 'not recovered')
})

if (process.argv[2] === 'publish') await publish()
else {
  await app.listen({ port: 0, host: HOST, backlog: Number(CONNECTIONS) })
  listening(portOf(app.server))
}

async function publish() {
  const topics = Array.from({ length: Number(TOPICS) }, (_, i) => `topic-${i}`)
  const paths = await Promise.all(
    topics.map(async topic => {
      const position = await app.websocketServer.publish(topic, Buffer.alloc(SIZE))
      if (position === undefined) throw new Error('a publication has no position')
      for (let i = 0; i < Number(MISSED); i++) await app.websocketServer.publish(topic, Buffer.alloc(SIZE))
      return `/${topic}?offset=${position.offset}&epoch=${encodeURIComponent(position.epoch)}`
    })
  )
  console.log(JSON.stringify(paths))
  process.exit()
}
