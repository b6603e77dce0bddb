import { MAX_INT32 } from './option.js'

/** The options that are set. In `ws`, null means that an option is not set. */
export function withoutNull<Options extends object>(options: Options): Options {
  const given = { ...options }
  for (const name in given) if (given[name] === undefined || given[name] === null) delete given[name]
  return given
}

/**
 * A number as `ws` accepts it: also as text, with a fraction, and above the highest value, `Infinity` included. Any other
 * value is returned unchanged, and validation refuses it.
 */
export function toNumber(value: number | undefined, max: number): number | undefined {
  const given: unknown = value
  const number = typeof given === 'string' && given.trim() !== '' ? Number(given) : given
  if (typeof number !== 'number' || Number.isNaN(number)) return value
  return Math.min(Math.trunc(number), max)
}

/** `maxPayload`. In `ws`, 0 means no limit. */
export function toMaxPayload(value: number | undefined): number | undefined {
  const bytes = toNumber(value, MAX_INT32)
  return bytes === 0 ? MAX_INT32 : bytes
}

/** `closeTimeout`. 0 becomes the shortest timeout. */
export function toCloseTimeout(value: number | undefined): number | undefined {
  const time = toNumber(value, MAX_INT32)
  return time === 0 ? 1 : time
}
