/**
 * One process of an application with a topic with history. It uses the built package. Clients are subscribed since the
 * position in their query; the parent process requests publications.
 */
import { jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { natsBroker } from 'fastify-upgrade/nats'
import { redisBroker } from 'fastify-upgrade/redis'
import { Cluster, Redis } from 'ioredis'

const report = message => process.send?.(message)
process.on('uncaughtException', error => report({ unexpected: `uncaught ${error.stack}` }))
process.on('unhandledRejection', error => report({ unexpected: `rejected ${error}` }))
process.on('disconnect', () => process.exit())

const HOST = '127.0.0.1'
const { engine, ports, durable, limits } = JSON.parse(process.env.SERVER_SETTINGS)

/** Each creates a broker, and a function that closes its client. */
const ENGINES = {
  redis: async () => {
    const redis = new Redis(ports[0], HOST).on('error', () => {})
    return [redisBroker(redis, { durable }), () => redis.disconnect()]
  },
  cluster: async () => {
    const nodes = ports.map(port => ({ host: HOST, port }))
    const options = { clusterRetryStrategy: () => 100, redisOptions: { connectTimeout: 2000 } }
    const cluster = new Cluster(nodes, options).on('error', () => {})
    return [redisBroker(cluster, { sharded: true, timeout: 2000 }), () => cluster.disconnect()]
  },
  nats: async () => {
    const servers = `${HOST}:${ports[0]}`
    const options = { maxReconnectAttempts: -1, reconnectTimeWait: 50, waitOnFirstConnect: true }
    const nats = await connect({ servers, ...options })
    const manager = await jetstreamManager(nats, { checkAPI: false })
    const history = { manager, storage: durable ? 'file' : 'memory' }
    return [natsBroker(nats, { history }), () => nats.close()]
  }
}

const [broker, close] = await ENGINES[engine]()
const app = Fastify({ forceCloseConnections: true })
await app.register(upgrade, { broker, history: limits, maxRecoveredPublications: 10_000 })
app.addHook('onClose', () => close())

const deliver = ({ offset, epoch, data }) => JSON.stringify({ offset, epoch, number: Number(data) })

app.get('/', { websocket: { deliver } }, async (socket, { query }) => {
  const since = query.epoch === undefined ? undefined : { offset: Number(query.offset), epoch: query.epoch }
  const onLost = position => socket.send(JSON.stringify({ ...position, lost: true }))
  const { recovered, position } = await socket.subscribe('room', { since, onLost })
  if (position === undefined) return
  socket.send(JSON.stringify({ ...position, lost: since !== undefined && !recovered, recovered }))
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

await app.listen({ port: 0, host: HOST })
report({ port: app.server.address().port })
