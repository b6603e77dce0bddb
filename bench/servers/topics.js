// A topic with few subscribers, beside connections without subscriptions to it.
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { BACKLOG, HOST, listening, portOf } from './control.js'

const app = Fastify()
await app.register(upgrade)
app.get('/other', { websocket: true }, () => {})
app.get('/topic', { websocket: { topics: () => ['topic'] } }, socket => {
  socket.on('message', (data, isBinary) => {
    app.websocketServer.publish('topic', data, { binary: isBinary })
  })
})
await app.listen({ port: 0, host: HOST, backlog: BACKLOG })
listening(portOf(app.server))
