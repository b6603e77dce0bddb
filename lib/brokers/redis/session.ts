import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { ReplyTimeout } from '../engine.js'
import {
  anyNode,
  duplicate,
  duplicateCluster,
  isCluster,
  type RedisClient,
  type RedisCluster
} from './client.js'
import type { ScriptCall } from './history.js'

/** Channels in one SUBSCRIBE command. */
const CHUNK = 1000

/** Milliseconds to wait for the end of connections. Connections to an unreachable engine may never end. */
const END_TIMEOUT = 2000

export interface RedisSettings {
  readonly client: RedisClient
  readonly sharded: boolean
  /** Reply timeout in milliseconds. */
  readonly timeout: number
}

export interface RedisSessionEvents {
  onMessage(channel: string, message: Buffer): void
  /** Called once, also when the session never opened. No other events follow. */
  onEnd(error: Error): void
}

/** Two connections to the engine, a publisher and a subscriber. The session ends when either of them ends. */
export class RedisSession {
  readonly #settings: RedisSettings
  readonly #events: RedisSessionEvents
  readonly #connections: RedisClient[] = []
  readonly #ends: Promise<unknown>[] = []
  /** A channel without subscribers: unsubscribing from it is the subscriber's ping. */
  readonly #pingChannel = randomBytes(16).toString('hex')
  #publisher: RedisClient | undefined
  #store: Promise<RedisClient> | undefined
  #storeNodes: () => readonly RedisClient[] = () => []
  #subscriber: RedisClient | undefined
  #healthTimer: NodeJS.Timeout | undefined
  #replyTimeout: ReplyTimeout | undefined
  /** The last error of a connection. */
  #error: Error | undefined
  /** Why the session has ended. */
  #endReason: Error | undefined

  constructor(settings: RedisSettings, events: RedisSessionEvents) {
    this.#settings = settings
    this.#events = events
  }

  /** Resolves with true when the session is open and subscribed to the channels, and with false when it has ended. */
  async open(channels: readonly string[]): Promise<boolean> {
    this.#expectReply()
    await this.#prepare(channels).catch(error => this.end(this.#error ?? error))
    if (this.#endReason !== undefined) return false
    this.#checkHealth()
    return true
  }

  async publish(channel: string, message: Buffer): Promise<void> {
    await this.#run(
      this.#settings.sharded
        ? this.#publisher?.spublish(channel, message)
        : this.#publisher?.publish(channel, message)
    )
  }

  /** Runs a script. Redis knows it by its hash once it has had the text. */
  async run({ script, keys, args }: ScriptCall): Promise<unknown> {
    const client = await this.#openStore()
    const rest = [keys.length, ...keys, ...args] as const
    try {
      return await this.#run(client?.callBuffer('evalsha', script.sha, ...rest))
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error
      return await this.#run(client?.callBuffer('eval', script.text, ...rest))
    }
  }

  async delete(key: string): Promise<void> {
    const client = await this.#openStore()
    await this.#run(client?.callBuffer('del', key))
  }

  async subscribe(channels: readonly string[]): Promise<void> {
    await this.#run(
      this.#settings.sharded
        ? // All channels of one command would have to be in one slot, so each has its own command.
          Promise.all(channels.map(channel => this.#subscriber?.ssubscribe(channel)))
        : this.#subscriber?.subscribe(...channels)
    )
  }

  async unsubscribe(channel: string): Promise<void> {
    await this.#run(
      this.#settings.sharded
        ? this.#subscriber?.sunsubscribe(channel)
        : this.#subscriber?.unsubscribe(channel)
    )
  }

  /** Rejects with the reason if the session ends. Clients only report that the connection is closed. */
  async #run(command: Promise<unknown> | undefined): Promise<unknown> {
    try {
      return await command
    } catch (error) {
      throw this.#endReason ?? error
    }
  }

  end(error: Error): void {
    if (this.#endReason !== undefined) return
    this.#endReason = error
    clearTimeout(this.#healthTimer)
    this.#replyTimeout?.cancel()
    for (const connection of this.#connections) connection.disconnect()
    this.#events.onEnd(error)
  }

  /** Resolves when the connections have ended, or after a timeout. */
  async ended(): Promise<void> {
    await Promise.race([Promise.all(this.#ends), sleep(END_TIMEOUT, undefined, { ref: false })])
  }

  async #prepare(channels: readonly string[]): Promise<void> {
    await this.#connect()
    for (let i = 0; i < channels.length; i += CHUNK) {
      await this.subscribe(channels.slice(i, i + CHUNK))
      // The timeout applies to each reply: many channels take longer than that together.
      this.#expectReply()
    }
    // A reply on both connections shows that the password was accepted.
    await this.#ping()
  }

  async #connect(): Promise<void> {
    const create = await this.#connectionFactory()
    if (this.#endReason !== undefined) return
    const publisher = this.#track(create())
    const subscriber = this.#track(create())
    const { sharded } = this.#settings
    for (const connection of [publisher, subscriber]) this.#endWith(connection)
    subscriber.on(sharded ? 'smessageBuffer' : 'messageBuffer', (channel, message) => {
      if (this.#endReason === undefined) this.#events.onMessage(channel.toString(), message)
    })
    await Promise.all([publisher.connect(), subscriber.connect()])
    this.#publisher = publisher
    this.#subscriber = subscriber
  }

  /** Ends the session when the connection does. */
  #endWith(connection: RedisClient): void {
    const onEnd = (): void => this.end(this.#error ?? new Error('the connection to Redis has ended'))
    connection.on('end', onEnd)
    // A cluster lost a node. The client moves to another one, but messages in between are lost.
    connection.on('-node', onEnd)
  }

  /**
   * Resolves with the client for keys. The publisher reaches one node only when it belongs to a cluster without sharded
   * channels, so there the first use opens a connection to the whole cluster.
   */
  #openStore(): Promise<RedisClient | undefined> | RedisClient | undefined {
    if (this.#endReason !== undefined) throw this.#endReason
    const { client, sharded } = this.#settings
    if (sharded || !isCluster(client)) return this.#publisher
    this.#store ??= this.#connectStore(client)
    return this.#store
  }

  async #connectStore(client: RedisCluster): Promise<RedisClient> {
    const store = duplicateCluster(client, false)
    this.#track(store)
    this.#endWith(store)
    await this.#run(store.connect())
    this.#storeNodes = () => store.nodes('master')
    return store
  }

  /** Resolves with a function that creates connections to the node, or to the cluster. */
  async #connectionFactory(): Promise<() => RedisClient> {
    const { client, sharded } = this.#settings
    if (!isCluster(client)) return () => duplicate(client)
    if (sharded) return () => duplicateCluster(client, true)
    const node = await this.#findNode(client)
    return () => duplicate(node)
  }

  /**
   * The client of a cluster publishes each message through a random node, which breaks the order, and does not report the
   * loss of the node that it is subscribed to. So both connections go to one node, and the cluster only helps to find it.
   */
  async #findNode(client: RedisCluster): Promise<RedisClient> {
    const cluster = duplicateCluster(client, false)
    this.#track(cluster)
    await cluster.connect()
    const node = anyNode(cluster)
    cluster.disconnect()
    return node
  }

  #track(connection: RedisClient): RedisClient {
    this.#connections.push(connection)
    this.#ends.push(new Promise<void>(resolve => connection.on('end', resolve)))
    connection.on('error', error => {
      this.#error = error
    })
    return connection
  }

  /** Pings at regular intervals: an engine that hangs, or a network that drops all packets, keeps connections open. */
  #checkHealth(): void {
    this.#replyTimeout?.cancel()
    this.#healthTimer = setTimeout(async () => {
      this.#expectReply()
      // An error is a reply, too.
      await this.#ping().catch(() => {})
      if (this.#endReason === undefined) this.#checkHealth()
    }, this.#settings.timeout)
  }

  #expectReply(): void {
    const { timeout } = this.#settings
    this.#replyTimeout?.cancel()
    this.#replyTimeout = new ReplyTimeout(timeout, () =>
      this.end(new Error(`Redis did not reply within ${timeout} ms`))
    )
  }

  /** A subscribed connection may send few commands besides UNSUBSCRIBE, so it sends that. */
  async #ping(): Promise<void> {
    const nodes = [...this.#nodes(), ...this.#storeNodes()]
    await Promise.all([...nodes.map(node => node.ping()), this.unsubscribe(this.#pingChannel)])
  }

  /** All nodes that messages are published through. A cluster would ping a random one. */
  #nodes(): readonly RedisClient[] {
    if (this.#publisher === undefined) return []
    return isCluster(this.#publisher) ? this.#publisher.nodes('master') : [this.#publisher]
  }
}
