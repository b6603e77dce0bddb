import type { DeflateOptions } from '../protocol/permessage-deflate.js'
import { invalidOption } from './error.js'
import { checkNames, readNumber } from './option-check.js'

/** How messages are compressed. */
export interface DeflateSettings extends DeflateOptions {
  /** Bytes below which a message is sent as it is, unless messages may refer to those before. */
  readonly threshold: number
  /** How hard zlib tries, 0 to 9. */
  readonly level: number
  /** How much memory zlib takes for it, 1 to 9. */
  readonly memLevel: number
  /** One of zlib's strategies, 0 to 4. */
  readonly strategy: number
}

const OPTIONS = [
  'serverNoContextTakeover',
  'clientNoContextTakeover',
  'serverMaxWindowBits',
  'clientMaxWindowBits',
  'threshold',
  'zlibDeflateOptions',
  // Of `ws`, without effect: what inflates needs no options, and the thread pool is shared by all connections.
  'zlibInflateOptions',
  'concurrencyLimit'
]

/** Those of zlib that are honoured; `ws` sets the others by itself too. */
const ZLIB_OPTIONS = ['level', 'memLevel', 'strategy', 'chunkSize']

/** zlib calls a raw window of 8 impossible, so 9 is the smallest. */
const WINDOW_BITS = { default: 15, min: 9, max: 15 }

/** What the measurements in docs/performance.md speak for. */
const ZLIB = {
  level: { default: 3, min: 0, max: 9 },
  memLevel: { default: 8, min: 1, max: 9 },
  strategy: { default: 0, min: 0, max: 4 }
}

/** Reads `perMessageDeflate`, which has the names of `ws`. */
export function readDeflate(
  option: unknown,
  name: string,
  fallback: DeflateSettings | false = false
): DeflateSettings | false {
  if (option === undefined) return fallback
  if (option === false) return false
  const options = option === true ? {} : readObject(option, name, 'a boolean or an object')
  checkNames(options, OPTIONS, `${name}.`)
  const zlib = readObject(options.zlibDeflateOptions ?? {}, `${name}.zlibDeflateOptions`, 'an object')
  checkNames(zlib, ZLIB_OPTIONS, `${name}.zlibDeflateOptions.`)
  const number = (of: keyof typeof ZLIB): number =>
    readNumber(zlib[of], `${name}.zlibDeflateOptions.${of}`, ZLIB[of])
  return {
    serverNoContextTakeover: readBoolean(options.serverNoContextTakeover, `${name}.serverNoContextTakeover`),
    clientNoContextTakeover: readBoolean(options.clientNoContextTakeover, `${name}.clientNoContextTakeover`),
    serverMaxWindowBits: readNumber(options.serverMaxWindowBits, `${name}.serverMaxWindowBits`, WINDOW_BITS),
    clientMaxWindowBits: readNumber(options.clientMaxWindowBits, `${name}.clientMaxWindowBits`, WINDOW_BITS),
    threshold: readNumber(options.threshold, `${name}.threshold`, {
      default: 1024,
      min: 0,
      max: Number.MAX_SAFE_INTEGER
    }),
    level: number('level'),
    memLevel: number('memLevel'),
    strategy: number('strategy')
  }
}

/** Whether messages are compressed each on their own; by default they are. */
function readBoolean(value: unknown, name: string): boolean {
  if (value === undefined || typeof value === 'boolean') return value ?? true
  throw invalidOption(name, 'a boolean', value)
}

function readObject(value: unknown, name: string, expected: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw invalidOption(name, expected, value)
  return { ...value }
}
