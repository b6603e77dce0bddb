/**
 * One process of an application, of the built package, as several have to start soon. Connections are in the topic `room`, and whatever a client sends has it publish so many
 * numbers. Its parent asks questions, and is told what becomes of the broker and of the members.
 */
import cluster from 'node:cluster'
import { connect } from '@nats-io/transport-node'
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { natsBroker } from 'fastify-upgrade/nats'
import { redisBroker } from 'fastify-upgrade/redis'
import { Redis } from 'ioredis'

const tell = message => process.send?.(message)
process.on('uncaughtException', error => tell({ unexpected: `uncaught ${error.stack}` }))
process.on('unhandledRejection', error => tell({ unexpected: `rejected ${error}` }))
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
  await app.register(upgrade, { broker: await makeBroker(), presence: settings.presence })
  const server = app.websocketServer
  const rejected = []
  /** The topics of messages that the broker did not take. */
  const lost = []
  let published = 0
  let taken = 0
  let last = Promise.resolve()
  let load

  const publish = () => {
    const number = ++published
    last = server.publish('room', `${process.pid} ${number}`).then(
      () => {
        taken = Math.max(taken, number)
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

  const answers = {
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
    taken: () => taken,
    lost: () => ({
      rejected,
      lost: lost.filter(topic => topic === 'room').length,
      total: server.lost,
      told: lost.length
    })
  }
  process.on('message', async question => tell({ question, answer: await answers[question]() }))

  server.on('broker', ({ type, topic }) => {
    if (type === 'lost') lost.push(topic)
    if (type === 'up' || type === 'down') tell({ state: type })
  })
  const presence = server.presence('members')
  const tellMembers = () => tell({ members: Array.from(presence.members.values(), ({ data }) => data) })
  presence.on('join', tellMembers)
  presence.on('leave', tellMembers)

  await app.listen({ port: 0, host: '127.0.0.1' })
  tell({ port: app.server.address().port })
}

const workers = Number(process.env.SERVER_WORKERS)
if (workers > 0 && cluster.isPrimary) {
  let listening = 0
  cluster.on('listening', (_worker, { port }) => {
    if (++listening === workers) tell({ port })
  })
  for (let n = 0; n < workers; n++) cluster.fork()
} else {
  await serve()
}
