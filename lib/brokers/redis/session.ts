import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Deadline } from '../deadline.js'
import {
  anyNode,
  duplicate,
  duplicateCluster,
  isCluster,
  type RedisClient,
  type RedisCluster
} from './client.js'

/** Channels that are subscribed to at a time. */
const CHUNK = 1000

/** Milliseconds that the ends of connections are waited for; those of an engine that is away may take for ever. */
const END_TIME = 2000

export interface RedisSettings {
  readonly client: RedisClient
  readonly sharded: boolean
  /** Milliseconds that the engine has to answer. */
  readonly timeout: number
}

export interface RedisSessionEvents {
  onMessage(channel: string, message: Uint8Array): void
  /** Once, whether it was open or not. Nothing is told afterwards. */
  onEnd(error: Error): void
}

/** Two connections to the engine, one that publishes and one that is subscribed. It ends with either of them. */
export class RedisSession {
  readonly #settings: RedisSettings
  readonly #events: RedisSessionEvents
  readonly #connections: RedisClient[] = []
  readonly #ends: Promise<unknown>[] = []
  readonly #probe = randomBytes(16).toString('hex')
  #publisher: RedisClient | undefined
  #subscriber: RedisClient | undefined
  #timer: NodeJS.Timeout | undefined
  #deadline: Deadline | undefined
  /** What a connection told last. */
  #error: Error | undefined
  /** Why it has ended. */
  #reason: Error | undefined

  constructor(settings: RedisSettings, events: RedisSessionEvents) {
    this.#settings = settings
    this.#events = events
  }

  /** Resolves to whether the session is open and subscribed to the channels; otherwise it has ended. */
  async open(channels: readonly string[]): Promise<boolean> {
    this.#expectAnswer()
    await this.#prepare(channels).catch(error => this.end(this.#error ?? error))
    if (this.#reason !== undefined) return false
    this.#check()
    return true
  }

  publish(channel: string, message: Uint8Array): Promise<void> {
    const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength)
    return this.#answer(
      this.#settings.sharded
        ? this.#publisher?.spublish(channel, bytes)
        : this.#publisher?.publish(channel, bytes)
    )
  }

  subscribe(channels: readonly string[]): Promise<void> {
    return this.#answer(
      this.#settings.sharded
        ? // The channels of one command would have to be in one slot.
          Promise.all(channels.map(channel => this.#subscriber?.ssubscribe(channel)))
        : this.#subscriber?.subscribe(...channels)
    )
  }

  unsubscribe(channel: string): Promise<void> {
    return this.#answer(
      this.#settings.sharded
        ? this.#subscriber?.sunsubscribe(channel)
        : this.#subscriber?.unsubscribe(channel)
    )
  }

  /** Clients say of all commands that a connection ends with only that it is closed. */
  async #answer(command: Promise<unknown> | undefined): Promise<void> {
    try {
      await command
    } catch (error) {
      throw this.#reason ?? error
    }
  }

  end(error: Error): void {
    if (this.#reason !== undefined) return
    this.#reason = error
    clearTimeout(this.#timer)
    this.#deadline?.cancel()
    for (const connection of this.#connections) connection.disconnect()
    this.#events.onEnd(error)
  }

  /** Resolves when the connections have ended, or will soon. */
  async ended(): Promise<void> {
    await Promise.race([Promise.all(this.#ends), sleep(END_TIME, undefined, { ref: false })])
  }

  async #prepare(channels: readonly string[]): Promise<void> {
    await this.#connect()
    for (let i = 0; i < channels.length; i += CHUNK) {
      await this.subscribe(channels.slice(i, i + CHUNK))
      // Each answer counts: with many channels all of them together take longer.
      this.#expectAnswer()
    }
    // An answer of both, so that a refused password is known.
    await this.#ask()
  }

  async #connect(): Promise<void> {
    const make = await this.#source()
    if (this.#reason !== undefined) return
    const publisher = this.#own(make())
    const subscriber = this.#own(make())
    const { sharded } = this.#settings
    for (const connection of [publisher, subscriber]) {
      const onLoss = (): void => this.end(this.#error ?? new Error('the connection to Redis has ended'))
      connection.on('end', onLoss)
      // Of a cluster: the client finds another node, and what came meanwhile is lost.
      connection.on('-node', onLoss)
    }
    subscriber.on(sharded ? 'smessageBuffer' : 'messageBuffer', (channel, message) => {
      if (this.#reason === undefined) this.#events.onMessage(channel.toString(), message)
    })
    await Promise.all([publisher.connect(), subscriber.connect()])
    this.#publisher = publisher
    this.#subscriber = subscriber
  }

  /** What makes the connections. */
  async #source(): Promise<() => RedisClient> {
    const { client, sharded } = this.#settings
    if (!isCluster(client)) return () => duplicate(client)
    if (sharded) return () => duplicateCluster(client, true)
    const node = await this.#findNode(client)
    return () => duplicate(node)
  }

  /**
   * The client of a cluster publishes through a node by chance each time, which does not keep the order, and does not tell
   * when the one that it is subscribed to is lost: so it is asked for a node only.
   */
  async #findNode(client: RedisCluster): Promise<RedisClient> {
    const cluster = duplicateCluster(client, false)
    this.#own(cluster)
    await cluster.connect()
    const node = anyNode(cluster)
    cluster.disconnect()
    return node
  }

  #own(connection: RedisClient): RedisClient {
    this.#connections.push(connection)
    this.#ends.push(new Promise<void>(resolve => connection.on('end', resolve)))
    connection.on('error', error => {
      this.#error = error
    })
    return connection
  }

  /** Asks again and again: an engine that hangs, or a network that swallows everything, does not tell that it is gone. */
  #check(): void {
    this.#deadline?.cancel()
    this.#timer = setTimeout(async () => {
      this.#expectAnswer()
      // A refusal is an answer, too.
      await this.#ask().catch(() => {})
      if (this.#reason === undefined) this.#check()
    }, this.#settings.timeout)
  }

  #expectAnswer(): void {
    const { timeout } = this.#settings
    this.#deadline?.cancel()
    this.#deadline = new Deadline(timeout, () =>
      this.end(new Error(`Redis has not answered within ${timeout} ms`))
    )
  }

  /** A connection that is subscribed may not send much else. */
  async #ask(): Promise<void> {
    await Promise.all([...this.#nodes().map(node => node.ping()), this.unsubscribe(this.#probe)])
  }

  /** All that is published through: a cluster would ask one by chance. */
  #nodes(): readonly RedisClient[] {
    if (this.#publisher === undefined) return []
    return isCluster(this.#publisher) ? this.#publisher.nodes('master') : [this.#publisher]
  }
}
