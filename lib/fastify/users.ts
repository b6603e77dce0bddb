import { checked, checkNames, integer, oneOf, readOptions } from '../options/option.js'
import { closeBody } from '../protocol/close-code.js'
import type { SendData } from '../socket/codec.js'
import { toExpiry } from '../socket/error.js'
import type { PreparedMessage, PrepareOptions } from '../socket/prepared-message.js'
import {
  type ConnectionQuery,
  type Connections,
  checkId,
  type Reached
} from '../topics/connections/connections.js'
import { type ConnectionFilter, type ConnectionSort, SORTS } from '../topics/connections/protocol.js'
import { type AnyWebSocket, preparedOf } from './websocket.js'

type AllConnections = Connections<PreparedMessage, AnyWebSocket>

/** The open connections of a user in all processes, as `websocketServer.user(id)`. */
export class User {
  readonly id: string
  readonly #connections: AllConnections

  /** @internal */
  constructor(id: string, connections: AllConnections) {
    checkId('user', id)
    this.id = id
    this.#connections = connections
  }

  /**
   * Sends a message to each connection: at once in this process, and through the broker in the other processes. Each process
   * frames the message once. The result counts the connections that the message was sent to. The clients may not have received
   * it.
   * @returns resolves when all processes have answered, at the latest after two seconds. The promise does not reject. When the
   * broker does not accept the message, the event `broker` reports it as lost.
   * @throws {TypeError} `FST_UPGRADE_INVALID_DATA` when `data` is neither text nor bytes, or `FST_UPGRADE_INVALID_TEXT` when
   * bytes that are to leave as text are not UTF-8.
   */
  send(data: SendData | PreparedMessage, options?: PrepareOptions): Promise<Reached> {
    return this.#connections.sendToUser(this.id, preparedOf(data, options))
  }

  /**
   * Moves the expiry of each connection: see `socket.renew`.
   * @param until a Date, or milliseconds since 1970. A time that has passed closes the connections now.
   * @returns as {@link send} does.
   * @throws {TypeError} `FST_UPGRADE_INVALID_EXPIRY`
   */
  renew(until: Date | number): Promise<Reached> {
    return this.#connections.renewUser(this.id, toExpiry(until))
  }

  /**
   * Starts the closing handshake on each connection.
   * @param code as for `socket.close`.
   * @param reason as for `socket.close`.
   * @returns as {@link send} does.
   * @throws {TypeError} for a code that may not be sent.
   * @throws {RangeError} for a reason that is too long.
   */
  close(code?: number, reason?: string): Promise<Reached> {
    closeBody(code, reason)
    return this.#connections.closeUser(this.id, code, reason)
  }

  /**
   * Counts the connections. `websocketServer.connections({ user })` lists them.
   * @returns as {@link send} does.
   */
  connections(): Promise<Reached> {
    return this.#connections.countOfUser(this.id)
  }
}

/** A connection in any process, as `websocketServer.connection(id)`. */
export class ConnectionById {
  readonly id: string
  readonly #connections: AllConnections

  /** @internal */
  constructor(id: string, connections: AllConnections) {
    checkId('connection', id)
    this.id = id
    this.#connections = connections
  }

  /**
   * Starts the closing handshake, if the connection is open.
   * @param code as for `socket.close`.
   * @param reason as for `socket.close`.
   * @returns resolves when a process has closed the connection or all processes have answered, at the latest after two
   * seconds. The promise does not reject.
   * @throws {TypeError} for a code that may not be sent.
   * @throws {RangeError} for a reason that is too long.
   */
  close(code?: number, reason?: string): Promise<Reached> {
    closeBody(code, reason)
    return this.#connections.closeConnection(this.id, code, reason)
  }
}

/** Options of `websocketServer.connections`. */
export interface ConnectionsOptions extends ConnectionFilter {
  /** Only connections of this user. */
  readonly user?: string | undefined
  /** Only connections that are subscribed to this topic. They may have other subscriptions, too. */
  readonly topic?: string | undefined
  /** Only connections of this route: its path as it was registered, with its prefix. */
  readonly route?: string | undefined
  /** Only connections from this address. */
  readonly remoteAddress?: string | undefined
  /** The maximum number of connections in the list, 1 to 10,000. Default: 100. */
  readonly limit?: number | undefined
  /**
   * The order: `since`, the oldest connections first; `traffic`, the most bytes in both directions first; `buffered`, the most
   * pending bytes first. Default: `since`.
   */
  readonly sort?: ConnectionSort | undefined
}

const text = checked({
  description: '',
  default: undefined,
  is: (value): value is string => typeof value === 'string',
  must: 'a string'
})

const QUERY = {
  user: text,
  topic: text,
  route: text,
  remoteAddress: text,
  limit: integer({ description: '', default: 100, max: 10_000 }),
  sort: oneOf({ description: '', default: 'since', values: SORTS })
}

/** @throws {TypeError} `FST_UPGRADE_INVALID_OPTION` or `FST_UPGRADE_UNKNOWN_OPTION` */
export function readQuery(options: ConnectionsOptions): ConnectionQuery {
  checkNames(options, Object.keys(QUERY), '')
  return readOptions<ConnectionQuery>(QUERY, options, { prefix: '' })
}
