import { totalmem } from 'node:os'
import type { BudgetOptions, ConnectionOptions } from './connection-options.js'
import { type DeflateSettings, readDeflate } from './deflate-option.js'
import { invalidOption } from './error.js'
import { checkNames, type Range, readLimit, readNumber } from './option-check.js'

/** What a peer may send a second. */
export interface RateLimit {
  readonly messages: number | undefined
  readonly bytes: number | undefined
  /** Whether reading stops for a while, or the connection is closed with 1008. */
  readonly policy: 'pause' | 'close'
}

export interface HeartbeatSettings {
  /** Milliseconds between two pings. */
  readonly interval: number
  /**
   * Milliseconds that a peer has after a ping to send any byte; a peer that is still reading the data sent before the ping
   * gets more. At most `interval`.
   */
  readonly timeout: number
}

/** The options of a connection with every default filled in. */
export interface ConnectionSettings
  extends Readonly<Record<NumberOption, number>>,
    Readonly<Record<LimitOption, number | false>> {
  readonly backpressure: 'close' | 'drop'
  readonly rateLimit: RateLimit | false
  readonly heartbeat: HeartbeatSettings | false
  readonly perMessageDeflate: DeflateSettings | false
}

/** The longest delay of a timer, and the longest message: signed 32 bits. */
export const MAX_INT32 = 2 ** 31 - 1

const NUMBERS = {
  maxPayload: { default: 2 ** 20, max: MAX_INT32 },
  handshakeTimeout: { default: 10_000, max: MAX_INT32 },
  closeTimeout: { default: 5_000, max: MAX_INT32 },
  highWaterMark: { default: 2 ** 16, max: Number.MAX_SAFE_INTEGER }
} satisfies Record<string, Range>

type NumberOption = keyof typeof NUMBERS

/** Numbers that `false` turns off. */
const LIMITS = {
  maxBufferedAmount: 2 ** 24,
  messageTimeout: 60_000,
  idleTimeout: false,
  maxLifetime: false,
  maxControlFrames: 1000,
  maxPendingMessages: 256
} satisfies Record<string, number | false>

type LimitOption = keyof typeof LIMITS

/** Their names. */
export const CONNECTION_OPTIONS: readonly string[] = [
  ...Object.keys(NUMBERS),
  ...Object.keys(LIMITS),
  'backpressure',
  'rateLimit',
  'perMessageDeflate',
  'heartbeat'
]

const HEARTBEAT = { interval: { default: 30_000, max: MAX_INT32 }, timeout: 10_000 }

/**
 * @param prefix what stands before the name of an option in an error.
 * @param defaults what holds for options that are not set.
 */
export function readConnectionSettings(
  options: ConnectionOptions,
  prefix: string,
  defaults?: ConnectionSettings
): ConnectionSettings {
  const number = (name: NumberOption): number => {
    const range = NUMBERS[name]
    return readNumber(options[name], prefix + name, { ...range, default: defaults?.[name] ?? range.default })
  }
  const limit = (name: LimitOption, max = MAX_INT32): number | false =>
    readLimit(options[name], prefix + name, max, defaults?.[name] ?? LIMITS[name])
  return {
    maxPayload: number('maxPayload'),
    handshakeTimeout: number('handshakeTimeout'),
    closeTimeout: number('closeTimeout'),
    highWaterMark: number('highWaterMark'),
    maxBufferedAmount: limit('maxBufferedAmount', Number.MAX_SAFE_INTEGER),
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
    heartbeat: readHeartbeat(options.heartbeat, `${prefix}heartbeat`, defaults?.heartbeat),
    perMessageDeflate: readDeflate(
      options.perMessageDeflate,
      `${prefix}perMessageDeflate`,
      defaults?.perMessageDeflate
    )
  }
}

function readHeartbeat(
  option: unknown,
  name: string,
  fallback: ConnectionSettings['heartbeat'] | undefined
): ConnectionSettings['heartbeat'] {
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
export function readTotalBufferedAmount({ maxTotalBufferedAmount }: BudgetOptions): number {
  // Without a constraint it is 0, or a huge number.
  const memory = Math.min(...[process.constrainedMemory(), totalmem()].filter(bytes => bytes > 0))
  return readNumber(maxTotalBufferedAmount, 'maxTotalBufferedAmount', {
    default: Math.floor(memory / 4),
    max: Number.MAX_SAFE_INTEGER
  })
}
