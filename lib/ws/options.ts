import type { IncomingMessage, Server } from 'node:http'
import { BufferBudget } from '../limits/buffer-budget.js'
import type {
  BudgetOptions,
  ConnectionLimitOptions,
  ConnectionOptions
} from '../options/connection-options.js'
import {
  type ConnectionSettings,
  readConnectionSettings,
  readTotalBufferedAmount
} from '../options/connection-settings.js'
import { invalidOption } from '../options/error.js'
import { checkOptions } from '../options/option.js'
import { CONNECTION_OPTIONS, WS_OPTIONS } from '../options/table.js'
import { toCloseTimeout, toMaxPayload, withoutNull } from '../options/ws-values.js'
import type { Message, SendData } from '../socket/codec.js'
import type { WebSocket } from '../socket/websocket.js'
import type { HandleProtocols } from '../upgrade/negotiation.js'
import type { VerifyClient } from '../upgrade/verify-client.js'
import { toDeflate } from './deflate.js'

/**
 * The options of `ws`, and those of a connection. Exactly one of `port`, `server` and `noServer` is required. Unknown names are
 * ignored, as libraries pass on options of their own.
 */
export interface ServerOptions extends ConnectionOptions, BudgetOptions, ConnectionLimitOptions {
  /** Takes upgrades through `handleUpgrade` only. Default: `false`. */
  readonly noServer?: boolean | undefined
  /**
   * The HTTP server whose upgrades are taken. Upgrades for another `path` are left to its other listeners, if there are
   * any.
   */
  readonly server?: Server | undefined
  /** Port for an HTTP server of its own, which answers ordinary requests with 426. */
  readonly port?: number | undefined
  /** Address on which that HTTP server listens. */
  readonly host?: string | undefined
  /** Connections that the operating system queues until they are accepted. Default: 511. */
  readonly backlog?: number | undefined
  /** The only path that is taken, without the query. Default: every path. */
  path?: string | undefined
  /**
   * Size in bytes of the largest message that a peer may send. The limit is checked on the frame header, before the
   * message is buffered, and while a compressed message is inflated. A larger message closes the connection with 1009.
   * Default: 104857600.
   */
  readonly maxPayload?: number | undefined
  /**
   * Pings each peer and cuts a peer that does not respond. `false` turns pings off; a peer that has disappeared then
   * stays connected until `idleTimeout` passes or the operating system reports an error. Default: `false`.
   */
  readonly heartbeat?: ConnectionOptions['heartbeat']
  /** Whether the server has the set `clients`. Default: `true`. */
  readonly clientTracking?: boolean | undefined
  /**
   * Chooses one of the offered subprotocols: `(protocols, request) => string`, or `false` for none. Without it, a server
   * of `fastify-upgrade/ws` chooses the first. It is read at each handshake, so it may be assigned later.
   */
  handleProtocols?: HandleProtocols
  /**
   * Accepts a handshake by returning `true`, or through the callback that is its second parameter. Other handshakes are
   * refused with 401, or as the callback says. It is read at each handshake, so it may be assigned later. Default:
   * accepts every client.
   */
  verifyClient?: VerifyClient | undefined
  /** The class of the connections: `WebSocket`, or a class derived from it. Default: `WebSocket`. */
  WebSocket?: typeof WebSocket<Message, SendData> | undefined
  /** Only `true` is supported: pings are always answered. */
  readonly autoPong?: boolean | undefined
  /** Only `true` is supported: the messages of one read are emitted in one tick. */
  readonly allowSynchronousEvents?: boolean | undefined
  /** Only `false` is supported: text is always validated. */
  readonly skipUTF8Validation?: boolean | undefined
  /**
   * Accepted for code written for `ws`, without effect: fragments are joined as they arrive, and their number is limited.
   */
  readonly maxBufferedChunks?: number | undefined
  /**
   * Accepted for code written for `ws`, without effect: the limit is 4096, and one more for each 16 bytes of
   * `maxPayload`.
   */
  readonly maxFragments?: number | undefined
  /** Accepted for code written for `ws`, without effect: while 64 pongs are pending, only the last ping is answered. */
  readonly maxPendingAutoPongs?: number | undefined
}

/** Booleans. As in `ws`, any truthy value counts as true. */
const FLAGS: readonly string[] = ['noServer', 'clientTracking']

/** As in `ws`, a falsy value means that the option is not set. */
const OPTIONAL: readonly string[] = ['server', 'path', 'handleProtocols', 'verifyClient']

/** The given options, with the values that `ws` accepts converted to those that this package expects. */
export function readOptions(given: ServerOptions): ServerOptions {
  const options: ServerOptions = Object.fromEntries(
    Object.entries(withoutNull(given))
      .filter(([name, value]) => Boolean(value) || !OPTIONAL.includes(name))
      .map(([name, value]) => [name, FLAGS.includes(name) ? Boolean(value) : value])
  )
  checkOptions(WS_OPTIONS, options, '')
  const { port, server, noServer } = options
  const ways = [port !== undefined, server !== undefined, noServer === true].filter(Boolean)
  if (ways.length !== 1) {
    throw invalidOption('noServer', 'true, or else one of "port" and "server" set', noServer)
  }
  return options
}

/** The settings of the connections of a server. */
export interface ServerSettings extends ConnectionSettings {
  /** Shared by all connections of the server. */
  readonly budget: BufferBudget
}

/** The settings of the connections of a server, with the defaults of `ws` on which code written for it relies. */
export function readSettings(options: ServerOptions): ServerSettings {
  const {
    maxPayload = CONNECTION_OPTIONS.maxPayload.wsDefault,
    heartbeat = CONNECTION_OPTIONS.heartbeat.wsDefault,
    closeTimeout,
    perMessageDeflate
  } = options
  const settings = readConnectionSettings(
    {
      ...options,
      maxPayload: toMaxPayload(maxPayload),
      closeTimeout: toCloseTimeout(closeTimeout),
      perMessageDeflate: toDeflate(perMessageDeflate),
      heartbeat
    },
    ''
  )
  return { ...settings, budget: new BufferBudget(readTotalBufferedAmount(options)) }
}

/** The path of a request without its query. */
export function pathOf({ url = '' }: IncomingMessage): string {
  const query = url.indexOf('?')
  return query === -1 ? url : url.slice(0, query)
}
