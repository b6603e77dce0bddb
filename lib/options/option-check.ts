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
    if (known.includes(name)) continue
    const nearest = nearestName(name, known)
    const hint = nearest === undefined ? '' : ` Did you mean "${prefix}${nearest}"?`
    throw new UnknownOptionError(prefix + name, hint, known.join(', '))
  }
}

/** The name that was probably meant by a misspelt one; undefined when none is similar. */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  let nearest: string | undefined
  let limit = Math.max(2, Math.floor(name.length / 3))
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase())
    if (distance > limit) continue
    nearest = candidate
    // The next one has to be closer.
    limit = distance - 1
  }
  return nearest
}

/** How many letters have to be inserted, removed or replaced: the Levenshtein distance. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (const [i, letter] of [...from].entries()) {
    const next = [i + 1]
    for (let j = 0; j < to.length; j++) {
      next.push(Math.min(row[j] + (letter === to[j] ? 0 : 1), row[j + 1] + 1, next[j] + 1))
    }
    row = next
  }
  return row[to.length]
}

/** Options of `ws` that must have the value that always applies here. As in `ws`, any truthy value counts as true. */
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
