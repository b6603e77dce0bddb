import { jetstreamManager } from '@nats-io/jetstream'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { Redis, type RedisOptions } from 'ioredis'
import { Redis as Valkey } from 'iovalkey'
import type { Test } from 'tap'
import { type NatsBrokerOptions, type NatsHistoryOptions, natsBroker } from '../../lib/brokers/nats/nats.js'
import type { HistoryBroker } from '../../lib/index.js'

const HOST = '127.0.0.1'

export type ClientOptions = Omit<RedisOptions, 'replyMapping'>

interface Address {
  readonly port: number
}

/** A client that connects at its first command, and is disconnected when `t` ends. */
export function redisClient(t: Test, { port }: Address, options: ClientOptions = {}): Redis {
  const client = new Redis(port, HOST, { lazyConnect: true, ...options })
  t.teardown(() => client.disconnect())
  return client
}

/** The same for iovalkey. */
export function valkeyClient(t: Test, { port }: Address): Valkey {
  const client = new Valkey(port, HOST, { lazyConnect: true })
  t.teardown(() => client.disconnect())
  return client
}

/** A connection that reconnects without limit, and is closed when `t` ends. */
export async function natsConnection(
  t: Test,
  { port }: Address,
  options: object = {}
): Promise<NatsConnection> {
  const servers = `${HOST}:${port}`
  const connection = await connect({ servers, maxReconnectAttempts: -1, reconnectTimeWait: 50, ...options })
  t.teardown(() => connection.close())
  return connection
}

/** A broker with a connection of its own, which keeps histories. */
export async function jetStreamBroker(
  t: Test,
  address: Address,
  options: NatsBrokerOptions & { readonly history?: Partial<NatsHistoryOptions> } = {}
): Promise<HistoryBroker> {
  const connection = await natsConnection(t, address)
  const manager = await jetstreamManager(connection, { checkAPI: false })
  return natsBroker(connection, { ...options, history: { manager, ...options.history } })
}
