import type { IncomingMessage, Server } from 'node:http'
import { BufferBudget } from '../limits/buffer-budget.js'
import type { ConnectionLimitOptions } from '../limits/connection-limiter.js'
import type { BudgetOptions, ConnectionOptions } from '../options/connection-options.js'
import {
  type ConnectionSettings,
  readConnectionSettings,
  readTotalBufferedAmount
} from '../options/connection-settings.js'
import { invalidOption } from '../options/error.js'
import { checkOptions } from '../options/option.js'
import { CONNECTION_OPTIONS, WS_OPTIONS } from '../options/table.js'
import { toCloseTimeout, toMaxPayload, withoutNull } from '../options/ws-values.js'
import type { WebSocket } from '../socket/websocket.js'
import type { HandleProtocols } from '../upgrade/protocol-choice.js'
import type { VerifyClient } from '../upgrade/verify-client.js'
import { toDeflate } from './deflate.js'

/**
 * The options of `ws`, and those of a connection. One of `port`, `server` and `noServer` has to be there, and only one.
 * Names that are not listed are ignored: libraries pass on options of their own.
 */
export interface ServerOptions extends ConnectionOptions, BudgetOptions, ConnectionLimitOptions {
  /** Upgrades come through `handleUpgrade` only. */
  readonly noServer?: boolean | undefined
  /** The server whose upgrades are taken. Those for another path are left to its other listeners, if there are any. */
  readonly server?: Server | undefined
  /** Listens there with a server of its own, which answers 426 to ordinary requests. */
  readonly port?: number | undefined
  readonly host?: string | undefined
  /** Connections that the system keeps until they are accepted. Default: 511. */
  readonly backlog?: number | undefined
  /** The only path that is taken, without the query. Default: every path. */
  path?: string | undefined
  /** The largest message, in bytes; 0 and values above 2147483647 mean 2147483647. Default: 104857600, as in `ws`. */
  readonly maxPayload?: number | undefined
  /** Default: false, as in `ws`, whose users send pings of their own. */
  readonly heartbeat?: ConnectionOptions['heartbeat']
  /** Whether there is a set of `clients`. Default: true. */
  readonly clientTracking?: boolean | undefined
  /** Chooses one of the offered subprotocols, or none by returning false. Default: the first. */
  handleProtocols?: HandleProtocols
  /** Lets a client in. Refused ones get 401 unless the callback says otherwise. Default: everybody comes in. */
  verifyClient?: VerifyClient | undefined
  /** The class of the connections: one derived from `WebSocket`. */
  WebSocket?: typeof WebSocket | undefined
  /** Of `ws`: has to be true, as pings are always answered. */
  readonly autoPong?: boolean | undefined
  /** Of `ws`: has to be true, as the messages of one read are told in one tick. */
  readonly allowSynchronousEvents?: boolean | undefined
  /** Of `ws`: has to be false, as text is always checked. */
  readonly skipUTF8Validation?: boolean | undefined
  /** Of `ws`, without effect: fragments are joined as they come, and their number has a limit. */
  readonly maxBufferedChunks?: number | undefined
  /** Of `ws`, without effect: 4096, and one for each 16 bytes of `maxPayload`. */
  readonly maxFragments?: number | undefined
  /** Of `ws`, without effect: while 64 pongs are pending, only the last ping is answered; `ws` cuts the connection. */
  readonly maxPendingAutoPongs?: number | undefined
}

/** As in `ws`, any truthy value of these counts as true. */
const FLAGS: readonly string[] = ['noServer', 'clientTracking']

/** As in `ws`, these are not set when their value is falsy. */
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

/** The settings of a server's connections. */
export interface ServerSettings extends ConnectionSettings {
  /** Shared by all of them. */
  readonly budget: BufferBudget
}

/** The settings of connections, with the defaults of `ws` where code that was written for it relies on them. */
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
