import { HOST } from './control.js'

/**
 * A broker that is connected to an engine.
 * @param {string} engine redis or nats.
 * @param {number} port
 * @param {boolean} hasHistory whether some topic keeps a history.
 */
export async function connectBroker(engine, port, hasHistory) {
  if (engine === 'redis') {
    const [{ Redis }, { redisBroker }] = await Promise.all([
      import('ioredis'),
      import('fastify-upgrade/redis')
    ])
    return redisBroker(new Redis(port, HOST))
  }
  const [{ connect }, { jetstreamManager }, { natsBroker }] = await Promise.all([
    import('@nats-io/transport-node'),
    import('@nats-io/jetstream'),
    import('fastify-upgrade/nats')
  ])
  const connection = await connect({ servers: `${HOST}:${port}` })
  return hasHistory
    ? natsBroker(connection, { history: { manager: await jetstreamManager(connection) } })
    : natsBroker(connection)
}
