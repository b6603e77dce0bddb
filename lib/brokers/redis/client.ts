import { randomInt } from 'node:crypto'
import { hasMethods } from '../engine.js'

/** The part that the broker uses of `Redis` of `ioredis` or `iovalkey`, and so of `app.redis` of `@fastify/redis`. */
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
  callBuffer(...args: [command: string, ...args: (string | Buffer | number)[]]): Promise<unknown>
  sunsubscribe(...channels: string[]): Promise<unknown>
}

/** The part that the broker uses of `Cluster`. */
export interface RedisCluster extends RedisClient {
  duplicate(first?: object, second?: object): RedisCluster
  nodes(role: 'master'): RedisClient[]
}

export function isCluster(client: RedisClient): client is RedisCluster {
  return 'nodes' in client
}

export function isClient(client: unknown): client is RedisClient {
  return hasMethods(client, ['duplicate', 'publish', 'spublish', 'callBuffer'])
}

/** `Cluster` of `iovalkey` and of early versions of `ioredis` cannot receive messages from sharded channels. */
export function hasShardedChannels(client: RedisClient): boolean {
  if (!isCluster(client)) return true
  const trial = duplicateCluster(client, true)
  trial.disconnect()
  return 'shardedSubscribers' in trial
}

/**
 * The options in which the broker's own connections differ from the given client. The broker reconnects by itself, with new
 * connections each time. A client that reconnects sends queued commands late or twice, and does not report when its
 * subscriptions are restored.
 */
const OWN = {
  keyPrefix: '',
  lazyConnect: true,
  retryStrategy: null,
  reconnectOnError: null,
  enableOfflineQueue: false,
  // The check needs permission for INFO. The broker sends a PING instead.
  enableReadyCheck: false,
  enableAutoPipelining: false,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  // The broker has one reply timeout for all commands of a connection.
  commandTimeout: undefined,
  socketTimeout: undefined,
  // Pending commands are rejected soon after a disconnect.
  disconnectTimeout: 200
}

const OWN_CLUSTER = {
  keyPrefix: '',
  lazyConnect: true,
  clusterRetryStrategy: null,
  clusterNodeRetryStrategy: null,
  // The client connects to each node at its first command and must queue the command until then.
  enableOfflineQueue: true,
  enableAutoPipelining: false,
  // A node may have received a command already, so the client must not repeat it.
  retryDelayOnFailover: 0,
  redisOptions: OWN
}

/** @returns a connection for the broker, not open yet. */
export function duplicate(client: RedisClient): RedisClient {
  return client.duplicate(OWN)
}

export function duplicateCluster(cluster: RedisCluster, shardedSubscribers: boolean): RedisCluster {
  return cluster.duplicate([], { ...OWN_CLUSTER, shardedSubscribers })
}

/** @returns a random node of an open cluster. Each node forwards published messages to all others. */
export function anyNode(cluster: RedisCluster): RedisClient {
  const nodes = cluster.nodes('master')
  return nodes[randomInt(nodes.length)]
}
