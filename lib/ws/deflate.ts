import type { ConnectionOptions, PerMessageDeflateOptions } from '../options/connection-options.js'
import { toNumber, withoutNull } from '../options/ws-values.js'

type ZlibOptions = NonNullable<PerMessageDeflateOptions['zlibDeflateOptions']>

/** Options of zlib that `ws` sets itself, or that have no effect because each message is flushed. */
const WITHOUT_EFFECT: readonly string[] = ['windowBits', 'flush', 'finishFlush', 'info', 'maxOutputLength']

/** Converts the values of `perMessageDeflate` that `ws` accepts to those that this package expects. */
export function toDeflate(
  option: ConnectionOptions['perMessageDeflate']
): ConnectionOptions['perMessageDeflate'] {
  if (typeof option !== 'object' || option === null) return Boolean(option)
  const options = withoutNull(option)
  const { serverNoContextTakeover, clientNoContextTakeover, serverMaxWindowBits, clientMaxWindowBits } =
    options
  const { threshold, zlibDeflateOptions } = options
  return {
    ...options,
    serverNoContextTakeover: toBoolean(serverNoContextTakeover),
    clientNoContextTakeover: toBoolean(clientNoContextTakeover),
    serverMaxWindowBits: toWindowBits(serverMaxWindowBits),
    clientMaxWindowBits: toWindowBits(clientMaxWindowBits),
    threshold: toNumber(threshold, Number.MAX_SAFE_INTEGER),
    zlibDeflateOptions:
      typeof zlibDeflateOptions === 'object' ? toZlib(zlibDeflateOptions) : zlibDeflateOptions
  }
}

function toBoolean(value: boolean | undefined): boolean | undefined {
  return value === undefined ? undefined : Boolean(value)
}

/** A boolean does not set the size. zlib has no raw window of 8 bits, and Node takes 9 for it. */
function toWindowBits(value: number | undefined): number | undefined {
  if (typeof value === 'boolean') return undefined
  const bits = toNumber(value, Number.MAX_SAFE_INTEGER)
  return bits === 8 ? 9 : bits
}

/** -1 means the default level of zlib itself, 6. */
function toZlib(zlib: ZlibOptions): ZlibOptions {
  const given = Object.entries(withoutNull(zlib)).filter(([name]) => !WITHOUT_EFFECT.includes(name))
  const options: ZlibOptions = Object.fromEntries(given)
  return options.level === -1 ? { ...options, level: 6 } : options
}
