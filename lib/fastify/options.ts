import type { FastifyUpgradeOptions, WebSocketOptions, WebSocketRouteOptions } from '../../types/options.js'
import { BufferBudget } from '../limits/buffer-budget.js'
import { CONNECTION_LIMITS } from '../limits/connection-limiter.js'
import type { BudgetOptions } from '../options/connection-options.js'
import {
  CONNECTION_OPTIONS,
  type ConnectionSettings,
  MAX_INT32,
  readConnectionSettings,
  readTotalBufferedAmount
} from '../options/connection-settings.js'
import { invalidOption } from '../options/error.js'
import {
  checkConstants,
  checkFunction,
  checkNames,
  readNumber,
  withoutUndefined
} from '../options/option-check.js'
import { toCloseTimeout, toMaxPayload, withoutNull } from '../options/options-of-ws.js'
import { closeBody, GOING_AWAY } from '../protocol/close-code.js'
import { isToken } from '../protocol/handshake/token.js'
import { type OriginOption, readOrigin } from './origin.js'

/** What `app.close()` does, with every default filled in. */
export interface ShutdownSettings {
  readonly code: number
  readonly reason: string
  readonly timeout: number
  readonly spread: number
}

const WEBSOCKET_OPTIONS = [
  ...CONNECTION_OPTIONS,
  ...CONNECTION_LIMITS,
  'origin',
  'errorHandler',
  'closeLogLevel',
  'selectSubprotocol'
]
export const PLUGIN_OPTIONS: readonly string[] = [
  ...WEBSOCKET_OPTIONS,
  'options',
  'shutdown',
  'preClose',
  'maxTotalBufferedAmount',
  'broker',
  'presence'
]
export const ROUTE_OPTIONS: readonly string[] = [...WEBSOCKET_OPTIONS, 'subprotocol', 'topics']

const LOG_LEVELS: readonly unknown[] = [false, 'fatal', 'error', 'warn', 'info', 'debug', 'trace']

/** Under the names of `ws`: what is honoured, and what says only what is so anyway. */
const SERVER_OPTIONS = ['maxPayload', 'closeTimeout', 'perMessageDeflate', 'handleProtocols', 'verifyClient']
const SERVER_CONSTANTS: Readonly<Record<string, boolean>> = {
  clientTracking: true,
  autoPong: true,
  skipUTF8Validation: false
}

/** The options of a connection with every default filled in. */
export interface Settings
  extends ConnectionSettings,
    Pick<WebSocketOptions, 'errorHandler' | 'closeLogLevel' | 'selectSubprotocol'> {
  /** Shared by all connections of the server. */
  readonly budget: BufferBudget
  readonly origin: OriginOption
}

/** The defaults of the plugin. */
export function readPluginOptions(options: FastifyUpgradeOptions): Settings {
  checkNames(options, [...PLUGIN_OPTIONS, 'prefix', 'logLevel', 'logSerializers'], '')
  checkFunction(options.preClose, 'preClose')
  return readSettings({ ...readServerOptions(options.options), ...withoutUndefined(options) }, '', undefined)
}

/** The settings of a route: its own, else those of the plugin. */
export function readRouteOptions(options: WebSocketRouteOptions, defaults: Settings): Settings {
  checkNames(options, ROUTE_OPTIONS, 'websocket.')
  return readSettings(options, 'websocket.', defaults)
}

/** The subprotocols of a route; undefined when it registers none. */
export function readSubprotocols({ subprotocol }: WebSocketRouteOptions): readonly string[] | undefined {
  if (subprotocol === undefined) return undefined
  const names: readonly unknown[] = Array.isArray(subprotocol) ? subprotocol : [subprotocol]
  const isValid = names.length > 0 && new Set(names).size === names.length
  if (isValid && names.every(isName)) return names
  throw invalidOption('websocket.subprotocol', 'a token or a list of different tokens', subprotocol)
}

export function readShutdown({ shutdown = {} }: FastifyUpgradeOptions): ShutdownSettings {
  if (typeof shutdown !== 'object' || shutdown === null)
    throw invalidOption('shutdown', 'an object', shutdown)
  checkNames(shutdown, ['code', 'reason', 'timeout', 'spread'], 'shutdown.')
  const { code = GOING_AWAY, reason = '' } = shutdown
  const timeout = readNumber(shutdown.timeout, 'shutdown.timeout', { default: 5_000, max: MAX_INT32 })
  // Who is closed last needs time to answer.
  const spread = readNumber(shutdown.spread, 'shutdown.spread', { default: 0, min: 0, max: timeout - 1 })
  try {
    closeBody(code, reason)
  } catch {
    throw invalidOption('shutdown', 'a close code and a reason that may be sent', shutdown)
  }
  return { code, reason, timeout, spread }
}

function readSettings(
  options: WebSocketOptions & BudgetOptions,
  prefix: string,
  defaults: Settings | undefined
): Settings {
  const { errorHandler, closeLogLevel, selectSubprotocol } = options
  checkFunction(errorHandler, `${prefix}errorHandler`)
  checkFunction(selectSubprotocol, `${prefix}selectSubprotocol`)
  if (closeLogLevel !== undefined && !LOG_LEVELS.includes(closeLogLevel))
    throw invalidOption(
      `${prefix}closeLogLevel`,
      `one of ${LOG_LEVELS.slice(1).join(', ')}, or false`,
      closeLogLevel
    )
  return {
    ...readConnectionSettings(options, prefix, defaults),
    budget: defaults?.budget ?? new BufferBudget(readTotalBufferedAmount(options)),
    origin: readOrigin(options.origin, `${prefix}origin`) ?? defaults?.origin ?? 'same-origin',
    errorHandler: errorHandler ?? defaults?.errorHandler,
    closeLogLevel: closeLogLevel ?? defaults?.closeLogLevel,
    selectSubprotocol: selectSubprotocol ?? defaults?.selectSubprotocol
  }
}

/** The part of `ws`'s options that the plugin has under the same names. The other two are read at each handshake. */
function readServerOptions(given: FastifyUpgradeOptions['options'] = {}): WebSocketOptions {
  if (typeof given !== 'object' || given === null) throw invalidOption('options', 'an object', given)
  const options = withoutNull(given)
  checkConstants(options, SERVER_CONSTANTS, 'options.')
  checkNames(options, [...SERVER_OPTIONS, ...Object.keys(SERVER_CONSTANTS)], 'options.')
  checkFunction(options.handleProtocols, 'options.handleProtocols')
  checkFunction(options.verifyClient, 'options.verifyClient')
  const { maxPayload, closeTimeout, perMessageDeflate } = options
  return withoutUndefined({
    maxPayload: toMaxPayload(maxPayload),
    closeTimeout: toCloseTimeout(closeTimeout),
    perMessageDeflate
  })
}

function isName(name: unknown): name is string {
  return typeof name === 'string' && isToken(name)
}
