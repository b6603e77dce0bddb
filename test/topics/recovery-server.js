/**
 * One process of an application with a topic with history. It uses the built package. Clients are subscribed since the
 * position in their query; the parent process requests publications.
 */
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { redisBroker } from 'fastify-upgrade/redis'
import { Redis } from 'ioredis'

const report = message => process.send?.(message)
process.on('uncaughtException', error => report({ unexpected: `uncaught ${error.stack}` }))
process.on('unhandledRejection', error => report({ unexpected: `rejected ${error}` }))
process.on('disconnect', () => process.exit())

const { port, durable, limits } = JSON.parse(process.env.SERVER_SETTINGS)
const redis = new Redis(port, '127.0.0.1').on('error', () => {})
const app = Fastify({ forceCloseConnections: true })
await app.register(upgrade, { broker: redisBroker(redis, { durable }), history: limits })
app.addHook('onClose', () => redis.disconnect())

const deliver = ({ offset, epoch, data }) => JSON.stringify({ offset, epoch, number: Number(data) })

app.get('/', { websocket: { deliver } }, async (socket, { query }) => {
  const since = query.epoch === undefined ? undefined : { offset: Number(query.offset), epoch: query.epoch }
  const onLost = position => socket.send(JSON.stringify({ ...position, lost: true }))
  const { recovered, position } = await socket.subscribe('room', { since, onLost })
  socket.send(JSON.stringify({ ...position, lost: since !== undefined && !recovered }))
})

process.on('message', async number => {
  if (number === 'close') {
    await app.close()
    process.disconnect()
    return
  }
  const reply = await app.websocketServer.publish('room', String(number), { id: String(number) }).then(
    position => ({ number, position }),
    () => ({ number, position: undefined })
  )
  report(reply)
})

await app.listen({ port: 0, host: '127.0.0.1' })
report({ port: app.server.address().port })
