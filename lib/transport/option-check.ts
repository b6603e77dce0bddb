import { invalidOption, UnknownOptionError } from './error.js'

export interface Range {
  readonly default: number
  /** 1 by default. */
  readonly min?: number
  readonly max: number
}

export function readNumber(value: unknown, name: string, { default: fallback, min = 1, max }: Range): number {
  if (value === undefined) return fallback
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
  throw invalidOption(name, `an integer from ${min} to ${max}`, value)
}

/** Numbers that `false` turns off. */
export function readLimit(
  value: unknown,
  name: string,
  max: number,
  fallback: number | false
): number | false {
  if (value === undefined) return fallback
  if (
    value === false ||
    (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max)
  ) {
    return value
  }
  throw invalidOption(name, `an integer from 1 to ${max}, or false`, value)
}

export function checkFunction(value: unknown, name: string): void {
  if (value !== undefined && typeof value !== 'function') throw invalidOption(name, 'a function', value)
}

export function checkNames(options: object, known: readonly string[], prefix: string): void {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) throw new UnknownOptionError(prefix + name, known.join(', '))
  }
}

/** Options of `ws` that say only what is so anyway. Like `ws` it goes by what stands for true. */
export function checkConstants(
  options: object,
  constants: Readonly<Record<string, boolean>>,
  prefix: string
): void {
  for (const [name, value] of Object.entries(options)) {
    if (name in constants && value !== undefined && Boolean(value) !== constants[name]) {
      throw invalidOption(prefix + name, String(constants[name]), value)
    }
  }
}

export function withoutUndefined<Options extends object>(options: Options): Partial<Options> {
  const given: Partial<Options> = {}
  for (const name in options) if (options[name] !== undefined) given[name] = options[name]
  return given
}
