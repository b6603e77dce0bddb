import type { FastifyBaseLogger } from 'fastify'
import type { WebSocketServer } from '../../fastify/websocket-server.js'
import { POLICY_VIOLATION } from '../../protocol/close-code.js'
import type { Presence } from '../../topics/presence.js'
import type { ConsoleMessage, ListRequest, PageMessage, TopicDetail } from './messages.js'

/** The close reason of connections that an operator closes. */
const REASON = 'closed by an operator'

const MAX_MEMBERS = 100
const MAX_LIST = 500

/** Pending bytes above which a page that does not read gets no further messages. */
export const MAX_PENDING = 4 * 2 ** 20

/** The connection of a page. */
export interface PageSocket {
  readonly bufferedAmount: number
  readonly readyState: number
  readonly OPEN: number
  send(message: ConsoleMessage): unknown
}

/** A page that an operator has open. */
export class Viewer {
  readonly #server: WebSocketServer
  readonly #socket: PageSocket
  readonly #log: FastifyBaseLogger
  #list: ListRequest = { type: 'list', sort: 'since', limit: 50 }
  #topic: string | undefined
  /** The presence members of the topic. */
  #presence: Presence | undefined

  constructor(server: WebSocketServer, socket: PageSocket, log: FastifyBaseLogger) {
    this.#server = server
    this.#socket = socket
    this.#log = log
  }

  /** Whether the page reads its messages. */
  get isReading(): boolean {
    return this.#socket.readyState === this.#socket.OPEN && this.#socket.bufferedAmount < MAX_PENDING
  }

  send(message: ConsoleMessage): void {
    if (this.isReading) this.#socket.send(message)
  }

  async onMessage(message: PageMessage): Promise<void> {
    switch (message.type) {
      case 'list':
        this.#list = message
        await this.#sendList()
        break
      case 'topic':
        this.#watch(message.topic)
        await this.#sendTopic()
        break
      case 'close': {
        const { connection } = message
        this.#log.info({ connection }, 'an operator closes a connection')
        await this.#answer(this.#server.connection(connection).close(POLICY_VIOLATION, REASON))
        break
      }
      default: {
        const { user } = message
        this.#log.info({ user }, 'an operator closes the connections of a user')
        await this.#answer(this.#server.user(user).close(POLICY_VIOLATION, REASON))
      }
    }
  }

  /** Sends the current state of the list and the topic that the page shows. */
  async refresh(): Promise<void> {
    if (!this.isReading) return
    await Promise.all([this.#sendList(), this.#sendTopic()])
  }

  /** The page has closed. */
  close(): void {
    this.#watch(undefined)
  }

  #watch(topic: string | undefined): void {
    if (this.#topic === topic) return
    this.#presence?.close()
    this.#presence = undefined
    this.#topic = topic
    if (topic !== undefined) this.#presence = this.#server.presence(topic)
  }

  async #answer(
    closing: Promise<{ readonly connections: number; readonly isComplete: boolean }>
  ): Promise<void> {
    const { connections, isComplete } = await closing
    this.send({ type: 'closed', connections, isComplete })
    await this.#sendList()
  }

  async #sendList(): Promise<void> {
    const asked = this.#list
    const { type: _, limit, ...query } = asked
    const { connections, total, isComplete } = await this.#server.connections({
      ...query,
      limit: Math.min(Math.max(limit, 1), MAX_LIST)
    })
    // The page may have asked for another list meanwhile.
    if (asked !== this.#list) return
    this.send({ type: 'list', sort: asked.sort, connections, total, isComplete })
  }

  async #sendTopic(): Promise<void> {
    const topic = this.#topic
    const presence = this.#presence
    if (topic === undefined || presence === undefined) return
    const [{ total: subscribers }, history] = await Promise.all([
      this.#server.connections({ topic, limit: 1 }),
      historyOf(this.#server, topic),
      presence.ready
    ])
    if (topic !== this.#topic) return
    const members = [...presence.members.values()].slice(0, MAX_MEMBERS)
    this.send({
      type: 'topic',
      topic,
      subscribers,
      members: members.map(({ id, data }) => ({ id, data: JSON.stringify(data) })),
      memberCount: presence.members.size,
      history
    })
  }
}

async function historyOf(server: WebSocketServer, topic: string): Promise<TopicDetail['history']> {
  if (!server.hasHistory(topic)) return undefined
  try {
    const { publications, position } = await server.history(topic, { limit: 1 })
    const [oldest] = publications
    return { first: oldest?.offset ?? position.offset + 1, last: position.offset, epoch: position.epoch }
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) }
  }
}
