import { MAX_INT32 } from './option.js'

/** The options that were given: `ws` has null for none. */
export function withoutNull<Options extends object>(options: Options): Options {
  const given = { ...options }
  for (const name in given) if (given[name] === undefined || given[name] === null) delete given[name]
  return given
}

/**
 * A number as `ws` takes it: also as text, in fractions, and above the highest value, `Infinity` included. Any other value
 * stays as it is, for a check to refuse.
 */
export function toNumber(value: number | undefined, max: number): number | undefined {
  const given: unknown = value
  const number = typeof given === 'string' && given.trim() !== '' ? Number(given) : given
  if (typeof number !== 'number' || Number.isNaN(number)) return value
  return Math.min(Math.trunc(number), max)
}

/** `maxPayload`, where 0 stands for no limit. */
export function toMaxPayload(value: number | undefined): number | undefined {
  const bytes = toNumber(value, MAX_INT32)
  return bytes === 0 ? MAX_INT32 : bytes
}

/** `closeTimeout`, where 0 stands for the shortest time. */
export function toCloseTimeout(value: number | undefined): number | undefined {
  const time = toNumber(value, MAX_INT32)
  return time === 0 ? 1 : time
}
