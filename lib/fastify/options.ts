import { totalmem } from 'node:os'
import type {
  FastifyUpgradeOptions,
  TopicChoice,
  WebSocketOptions,
  WebSocketRouteOptions
} from '../../types/options.js'
import { closeBody, GOING_AWAY } from '../core/close-code.js'
import { isToken } from '../core/token.js'
import type { Broker } from '../pubsub/broker.js'
import type { PresenceSettings } from '../pubsub/presences.js'
import { BufferBudget } from '../transport/buffer-budget.js'
import type { HeartbeatOptions } from '../transport/heartbeat.js'
import type { DeflateSettings } from '../transport/per-message-deflate.js'
import type { RateLimit } from '../transport/rate-limiter.js'
import type { ConnectionLimits } from './connection-count.js'
import { readDeflate } from './deflate-option.js'
import { invalidOption } from './error.js'
import {
  checkFunction,
  checkNames,
  type Range,
  readLimit,
  readNumber,
  withoutUndefined
} from './option-check.js'
import { type OriginOption, readOrigin } from './origin.js'

/** The options of a connection with every default filled in. */
export interface Settings
  extends Readonly<Record<NumberOption, number>>,
    Readonly<Record<LimitOption, number | false>>,
    Pick<WebSocketOptions, 'errorHandler' | 'selectSubprotocol'> {
  readonly backpressure: 'close' | 'drop'
  readonly rateLimit: RateLimit | false
  /** Shared by all connections of the plugin. */
  readonly budget: BufferBudget
  readonly origin: OriginOption
  readonly heartbeat: Required<HeartbeatOptions> | false
  readonly perMessageDeflate: DeflateSettings | false
}

/** What `app.close()` does, with every default filled in. */
export interface ShutdownSettings {
  readonly code: number
  readonly reason: string
  readonly timeout: number
  readonly spread: number
}

/** The longest delay of a timer, and the longest message: signed 32 bits. */
export const MAX_INT32 = 2 ** 31 - 1

const NUMBERS = {
  maxPayload: { default: 2 ** 20, max: MAX_INT32 },
  handshakeTimeout: { default: 10_000, max: MAX_INT32 },
  closeTimeout: { default: 5_000, max: MAX_INT32 },
  highWaterMark: { default: 2 ** 16, max: Number.MAX_SAFE_INTEGER },
  maxBufferedAmount: { default: 2 ** 24, max: Number.MAX_SAFE_INTEGER }
} satisfies Record<string, Range>

type NumberOption = keyof typeof NUMBERS

/** Numbers that `false` turns off. */
const LIMITS = {
  messageTimeout: 60_000,
  idleTimeout: false,
  maxLifetime: false,
  maxControlFrames: 1000,
  maxPendingMessages: 256
} satisfies Record<string, number | false>

type LimitOption = keyof typeof LIMITS

const CONNECTION_LIMITS = ['maxConnections', 'maxConnectionsPerAddress']

const WEBSOCKET_OPTIONS = [
  ...Object.keys(NUMBERS),
  ...Object.keys(LIMITS),
  ...CONNECTION_LIMITS,
  'backpressure',
  'rateLimit',
  'origin',
  'perMessageDeflate',
  'heartbeat',
  'errorHandler',
  'selectSubprotocol'
]
const PLUGIN_OPTIONS = [
  ...WEBSOCKET_OPTIONS,
  'options',
  'shutdown',
  'preClose',
  'maxTotalBufferedAmount',
  'broker',
  'presence'
]
const ROUTE_OPTIONS = [...WEBSOCKET_OPTIONS, 'subprotocol', 'topics']

/** Under the names of `ws`: what is honoured, and what says only what is so anyway. */
const SERVER_OPTIONS = ['maxPayload', 'closeTimeout', 'perMessageDeflate', 'handleProtocols', 'verifyClient']
const SERVER_CONSTANTS: Readonly<Record<string, unknown>> = {
  clientTracking: true,
  autoPong: true,
  skipUTF8Validation: false
}

const HEARTBEAT = { interval: { default: 30_000, max: MAX_INT32 }, timeout: 10_000 }

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

/** How many connections there may be: of the plugin all together, of a route its own. */
export function readConnectionLimits(options: WebSocketOptions, prefix = ''): ConnectionLimits {
  const { maxConnections, maxConnectionsPerAddress } = options
  return {
    total: readLimit(maxConnections, `${prefix}maxConnections`, MAX_INT32, false),
    perAddress: readLimit(maxConnectionsPerAddress, `${prefix}maxConnectionsPerAddress`, MAX_INT32, false)
  }
}

const BROKER_METHODS = ['start', 'publish', 'subscribe', 'unsubscribe', 'close']

export function readBroker({ broker }: FastifyUpgradeOptions): Broker | undefined {
  if (broker === undefined) return undefined
  const isBroker = BROKER_METHODS.every(name => typeof Reflect.get(Object(broker), name) === 'function')
  if (isBroker) return broker
  throw invalidOption('broker', `an object with the methods ${BROKER_METHODS.join(', ')}`, broker)
}

export function readPresence({ presence = {} }: FastifyUpgradeOptions): PresenceSettings {
  if (typeof presence !== 'object' || presence === null)
    throw invalidOption('presence', 'an object', presence)
  checkNames(presence, ['interval', 'timeout'], 'presence.')
  const interval = readNumber(presence.interval, 'presence.interval', { default: 5_000, max: MAX_INT32 - 1 })
  // One that is late by a moment is not gone.
  const patience = { default: Math.min(3 * interval, MAX_INT32), min: interval + 1, max: MAX_INT32 }
  return { interval, timeout: readNumber(presence.timeout, 'presence.timeout', patience) }
}

/** The topics of a route; undefined when it has none. */
export function readTopics({ topics }: WebSocketRouteOptions): TopicChoice | undefined {
  checkFunction(topics, 'websocket.topics')
  return topics
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

function readSettings(options: WebSocketOptions, prefix: string, defaults: Settings | undefined): Settings {
  const number = (name: NumberOption): number => {
    const range = NUMBERS[name]
    return readNumber(options[name], prefix + name, { ...range, default: defaults?.[name] ?? range.default })
  }
  const limit = (name: LimitOption): number | false =>
    readLimit(options[name], prefix + name, MAX_INT32, defaults?.[name] ?? LIMITS[name])
  const { errorHandler, selectSubprotocol } = options
  checkFunction(errorHandler, `${prefix}errorHandler`)
  checkFunction(selectSubprotocol, `${prefix}selectSubprotocol`)
  return {
    maxPayload: number('maxPayload'),
    handshakeTimeout: number('handshakeTimeout'),
    closeTimeout: number('closeTimeout'),
    highWaterMark: number('highWaterMark'),
    maxBufferedAmount: number('maxBufferedAmount'),
    messageTimeout: limit('messageTimeout'),
    idleTimeout: limit('idleTimeout'),
    maxLifetime: limit('maxLifetime'),
    maxControlFrames: limit('maxControlFrames'),
    maxPendingMessages: limit('maxPendingMessages'),
    backpressure: readBackpressure(
      options.backpressure,
      `${prefix}backpressure`,
      defaults?.backpressure ?? 'close'
    ),
    rateLimit: readRateLimit(options.rateLimit, `${prefix}rateLimit`, defaults?.rateLimit ?? false),
    budget: defaults?.budget ?? new BufferBudget(readTotal(options)),
    origin: readOrigin(options.origin, `${prefix}origin`) ?? defaults?.origin ?? 'same-origin',
    heartbeat: readHeartbeat(options.heartbeat, `${prefix}heartbeat`, defaults?.heartbeat),
    perMessageDeflate: readDeflate(
      options.perMessageDeflate,
      `${prefix}perMessageDeflate`,
      defaults?.perMessageDeflate
    ),
    errorHandler: errorHandler ?? defaults?.errorHandler,
    selectSubprotocol: selectSubprotocol ?? defaults?.selectSubprotocol
  }
}

/** The part of `ws`'s options that the plugin has under the same names. The other two are read at each handshake. */
function readServerOptions(options: FastifyUpgradeOptions['options'] = {}): WebSocketOptions {
  if (typeof options !== 'object' || options === null) throw invalidOption('options', 'an object', options)
  for (const [name, value] of Object.entries(options)) {
    if (name in SERVER_CONSTANTS && value !== undefined && value !== SERVER_CONSTANTS[name]) {
      throw invalidOption(`options.${name}`, String(SERVER_CONSTANTS[name]), value)
    }
  }
  checkNames(options, [...SERVER_OPTIONS, ...Object.keys(SERVER_CONSTANTS)], 'options.')
  checkFunction(options.handleProtocols, 'options.handleProtocols')
  checkFunction(options.verifyClient, 'options.verifyClient')
  const { maxPayload, closeTimeout, perMessageDeflate } = options
  return withoutUndefined({
    maxPayload: maxPayload === 0 ? MAX_INT32 : maxPayload,
    closeTimeout,
    perMessageDeflate
  })
}

function readHeartbeat(
  option: unknown,
  name: string,
  fallback: Settings['heartbeat'] | undefined
): Settings['heartbeat'] {
  if (option === false) return false
  if (option === undefined && fallback !== undefined) return fallback
  const options = option === undefined ? {} : option
  if (typeof options !== 'object' || options === null) throw invalidOption(name, 'an object or false', option)
  checkNames(options, ['interval', 'timeout'], `${name}.`)
  const { interval, timeout }: { interval?: unknown; timeout?: unknown } = options
  const pause = readNumber(interval, `${name}.interval`, HEARTBEAT.interval)
  const patience = { default: Math.min(HEARTBEAT.timeout, pause), max: pause }
  return { interval: pause, timeout: readNumber(timeout, `${name}.timeout`, patience) }
}

function readBackpressure(option: unknown, name: string, fallback: 'close' | 'drop'): 'close' | 'drop' {
  if (option === undefined) return fallback
  if (option === 'close' || option === 'drop') return option
  throw invalidOption(name, "'close' or 'drop'", option)
}

function readRateLimit(option: unknown, name: string, fallback: RateLimit | false): RateLimit | false {
  if (option === undefined) return fallback
  if (option === false) return false
  if (typeof option !== 'object' || option === null) throw invalidOption(name, 'an object or false', option)
  checkNames(option, ['messages', 'bytes', 'policy'], `${name}.`)
  const {
    messages,
    bytes,
    policy = 'pause'
  }: { messages?: unknown; bytes?: unknown; policy?: unknown } = option
  if (policy !== 'pause' && policy !== 'close')
    throw invalidOption(`${name}.policy`, "'pause' or 'close'", policy)
  return {
    messages: readLimit(messages, `${name}.messages`, MAX_INT32, false) || undefined,
    bytes: readLimit(bytes, `${name}.bytes`, Number.MAX_SAFE_INTEGER, false) || undefined,
    policy
  }
}

/** A quarter of the memory that the process may use, unless the option says otherwise. */
function readTotal({ maxTotalBufferedAmount }: FastifyUpgradeOptions): number {
  // Without a constraint it is 0, or a huge number.
  const memory = Math.min(...[process.constrainedMemory(), totalmem()].filter(bytes => bytes > 0))
  return readNumber(maxTotalBufferedAmount, 'maxTotalBufferedAmount', {
    default: Math.floor(memory / 4),
    max: Number.MAX_SAFE_INTEGER
  })
}

function isName(name: unknown): name is string {
  return typeof name === 'string' && isToken(name)
}
