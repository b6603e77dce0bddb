/**
 * One process of an application. It uses the built package, so that it starts quickly. Connections are in the topic `room`,
 * and a client sends how many numbers the process has to publish there. The parent process sends requests, and gets the
 * states of the broker and the presence members.
 */
import cluster from 'node:cluster'
import { connect } from '@nats-io/transport-node'
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { natsBroker } from 'fastify-upgrade/nats'
import { redisBroker } from 'fastify-upgrade/redis'
import { Redis } from 'ioredis'

const report = message => process.send?.(message)
process.on('uncaughtException', error => report({ unexpected: `uncaught ${error.stack}` }))
process.on('unhandledRejection', error => report({ unexpected: `rejected ${error}` }))
process.on('disconnect', () => process.exit())

const settings = JSON.parse(process.env.SERVER_SETTINGS)

async function makeBroker() {
  const { engine, port } = settings
  if (engine === 'redis') return redisBroker(new Redis(port, '127.0.0.1').on('error', () => {}))
  const servers = `127.0.0.1:${port}`
  return natsBroker(await connect({ servers, maxReconnectAttempts: -1, reconnectTimeWait: 50 }))
}

async function serve() {
  const app = Fastify({ forceCloseConnections: true })
  await app.register(upgrade, {
    broker: await makeBroker(),
    presence: settings.presence,
    user: () => 'everyone'
  })
  const server = app.websocketServer
  const rejected = []
  /** The topics of messages that the broker did not accept. */
  const lost = []
  let published = 0
  let accepted = 0
  let last = Promise.resolve()
  let load

  const publish = () => {
    const number = ++published
    last = server.publish('room', `${process.pid} ${number}`).then(
      () => {
        accepted = Math.max(accepted, number)
      },
      () => rejected.push(number)
    )
  }

  app.get('/', { websocket: true }, async (socket, { query }) => {
    socket.on('message', data => {
      for (let n = Number(data); n > 0; n--) publish()
    })
    await Promise.all([socket.subscribe('room'), socket.subscribe('members', { presence: query.name })])
    socket.send(`ready ${process.pid}`)
  })

  const replies = {
    load: () => {
      load = setInterval(() => {
        for (let n = 0; n < 3; n++) publish()
      }, 5)
    },
    pause: async () => {
      clearInterval(load)
      await last
      return published
    },
    published: () => published,
    reached: () => server.user('everyone').connections(),
    accepted: () => accepted,
    lost: () => ({
      rejected,
      lost: lost.filter(topic => topic === 'room').length,
      total: server.lost,
      reported: lost.length
    })
  }
  process.on('message', async request => report({ request, reply: await replies[request]() }))

  server.on('broker', ({ type, topic }) => {
    if (type === 'lost') lost.push(topic)
    if (type === 'up' || type === 'down') report({ state: type })
  })
  const presence = server.presence('members')
  const reportMembers = () => report({ members: Array.from(presence.members.values(), ({ data }) => data) })
  presence.on('join', reportMembers)
  presence.on('leave', reportMembers)

  await app.listen({ port: 0, host: '127.0.0.1' })
  report({ port: app.server.address().port })
}

const workers = Number(process.env.SERVER_WORKERS)
if (workers > 0 && cluster.isPrimary) {
  let listening = 0
  cluster.on('listening', (_worker, { port }) => {
    if (++listening === workers) report({ port })
  })
  for (let n = 0; n < workers; n++) cluster.fork()
} else {
  await serve()
}
