import { randomInt } from 'node:crypto'

/** What a broker needs of a client: `Redis` of `ioredis` or `iovalkey`, and so `app.redis` of `@fastify/redis`. */
export interface RedisClient {
  readonly options: { readonly keyPrefix?: string | undefined }
  duplicate(first?: object, second?: object): RedisClient
  connect(): Promise<unknown>
  disconnect(): void
  on(event: 'messageBuffer' | 'smessageBuffer', listener: (channel: Buffer, message: Buffer) => void): unknown
  on(event: 'error', listener: (error: Error) => void): unknown
  on(event: 'end' | '-node', listener: () => void): unknown
  ping(): Promise<unknown>
  publish(channel: string, message: Buffer): Promise<unknown>
  spublish(channel: string, message: Buffer): Promise<unknown>
  subscribe(...channels: string[]): Promise<unknown>
  ssubscribe(...channels: string[]): Promise<unknown>
  unsubscribe(...channels: string[]): Promise<unknown>
  sunsubscribe(...channels: string[]): Promise<unknown>
}

/** The same of `Cluster`. */
export interface RedisCluster extends RedisClient {
  nodes(role: 'master'): RedisClient[]
}

export function isCluster(client: RedisClient): client is RedisCluster {
  return 'nodes' in client
}

export function isClient(client: unknown): client is RedisClient {
  if (typeof client !== 'object' || client === null) return false
  return ['duplicate', 'publish', 'spublish'].every(name => typeof Reflect.get(client, name) === 'function')
}

/** Clusters of `iovalkey`, and of `ioredis` at first, take no messages from sharded channels. */
export function hasShardedChannels(client: RedisClient): boolean {
  if (!isCluster(client)) return true
  const trial = duplicateSharded(client)
  trial.disconnect()
  return 'shardedSubscribers' in trial
}

/**
 * What differs from the options of the given client. The broker connects again by itself, with a new connection each time:
 * a client that does it would send commands again, or late, and tells nobody when its subscriptions are there again.
 */
const OWN = {
  keyPrefix: '',
  lazyConnect: true,
  retryStrategy: null,
  reconnectOnError: null,
  enableOfflineQueue: false,
  // It needs the permission for INFO; a PING finds out the same.
  enableReadyCheck: false,
  enableAutoPipelining: false,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  // The commands of a connection share one deadline.
  commandTimeout: undefined,
  socketTimeout: undefined,
  disconnectTimeout: 1000
}

const OWN_CLUSTER = {
  keyPrefix: '',
  lazyConnect: true,
  clusterRetryStrategy: null,
  clusterNodeRetryStrategy: null,
  enableOfflineQueue: false,
  enableAutoPipelining: false,
  // What a node has perhaps got is not sent again.
  retryDelayOnFailover: 0,
  redisOptions: OWN
}

/** A connection of one's own to the engine of `client`, which is not open yet. */
export function duplicate(client: RedisClient): RedisClient {
  return isCluster(client) ? client.duplicate([], OWN_CLUSTER) : client.duplicate(OWN)
}

/** The same for sharded channels. */
export function duplicateSharded(client: RedisClient): RedisClient {
  if (!isCluster(client)) return duplicate(client)
  return client.duplicate([], { ...OWN_CLUSTER, shardedSubscribers: true })
}

/** A node that takes what is published; in a cluster each passes it on to all others. */
export function anyNode(cluster: RedisCluster): RedisClient {
  const nodes = cluster.nodes('master')
  const node = nodes.at(randomInt(Math.max(nodes.length, 1)))
  if (node === undefined) throw new Error('the cluster has no nodes')
  return node
}
