import { randomInt } from 'node:crypto'
import { hasMethods } from '../methods.js'

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
  duplicate(first?: object, second?: object): RedisCluster
  nodes(role: 'master'): RedisClient[]
}

export function isCluster(client: RedisClient): client is RedisCluster {
  return 'nodes' in client
}

export function isClient(client: unknown): client is RedisClient {
  return hasMethods(client, ['duplicate', 'publish', 'spublish'])
}

/** Clusters of `iovalkey`, and of `ioredis` at first, take no messages from sharded channels. */
export function hasShardedChannels(client: RedisClient): boolean {
  if (!isCluster(client)) return true
  const trial = duplicateCluster(client, true)
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
  // What waits for an answer learns soon that there will be none.
  disconnectTimeout: 200
}

const OWN_CLUSTER = {
  keyPrefix: '',
  lazyConnect: true,
  clusterRetryStrategy: null,
  clusterNodeRetryStrategy: null,
  // It connects to a node when it first needs it.
  enableOfflineQueue: true,
  enableAutoPipelining: false,
  // What a node has perhaps got is not sent again.
  retryDelayOnFailover: 0,
  redisOptions: OWN
}

/** A connection of the broker's own, which is not open yet. */
export function duplicate(client: RedisClient): RedisClient {
  return client.duplicate(OWN)
}

export function duplicateCluster(cluster: RedisCluster, shardedSubscribers: boolean): RedisCluster {
  return cluster.duplicate([], { ...OWN_CLUSTER, shardedSubscribers })
}

/** A node by chance, of a cluster that is open. In a cluster each node passes on to all others what is published. */
export function anyNode(cluster: RedisCluster): RedisClient {
  const nodes = cluster.nodes('master')
  return nodes[randomInt(nodes.length)]
}
