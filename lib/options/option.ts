import { invalidOption, UnknownOptionError } from './error.js'

/** The longest delay of a timer, and the longest message: signed 32 bits. */
export const MAX_INT32 = 2 ** 31 - 1

/** An option of a table. */
export interface Option<Value = unknown> {
  /** The meaning, in Markdown: the unit, the effect, and the danger if there is one. */
  readonly description: string
  /** The accepted values, in Markdown. */
  readonly values: string
  /** The default, in Markdown. */
  readonly defaultText: string
  /** The default in `fastify-upgrade/ws` where it is another one. */
  readonly wsDefault?: Value | undefined
  /** The options of an object. */
  readonly nested?: OptionTable | undefined
  /** @param siblings the values of the earlier options of the table. */
  getDefault(siblings: object): Value
  /**
   * @param name the full name, for the error.
   * @throws {TypeError} `FST_UPGRADE_INVALID_OPTION`.
   */
  read(value: unknown, name: string, siblings: object): Value
}

export type OptionTable = Readonly<Record<string, Option>>

/** The values that the options of a table have, with defaults filled in. */
export type ValuesOf<Table> = {
  readonly [Name in keyof Table]: Table[Name] extends Option<infer Value> ? Value : never
}

// ---- reading

interface Reading<Values> {
  /** The part of an option's name before its own, in an error. */
  readonly prefix: string
  /** The values of options that are not set. */
  readonly inherited?: Partial<Values> | undefined
}

/**
 * The value of each option of a table.
 * @throws {TypeError} `FST_UPGRADE_INVALID_OPTION`.
 */
export function readOptions<Values extends object>(
  table: { readonly [Name in keyof Values]: Option<Values[Name]> },
  options: object,
  { prefix, inherited }: Reading<Values>
): Values {
  const values: Values = Object.create(Object.prototype)
  for (const name in table) {
    const option = table[name]
    const value: unknown = Reflect.get(options, name)
    values[name] =
      value === undefined
        ? (inherited?.[name] ?? option.getDefault(values))
        : option.read(value, prefix + name, values)
  }
  return values
}

/** Checks options of which the caller has the types, such as callbacks. */
export function checkOptions(table: OptionTable, options: object, prefix: string): void {
  readOptions(table, options, { prefix })
}

/** @throws {TypeError} `FST_UPGRADE_UNKNOWN_OPTION`. */
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

/** The number of letters to insert, remove or replace: the Levenshtein distance. */
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

export function withoutUndefined<Options extends object>(options: Options): Partial<Options> {
  const given: Partial<Options> = {}
  for (const name in options) if (options[name] !== undefined) given[name] = options[name]
  return given
}

// ---- kinds of options

interface Spec {
  readonly description: string
}

/** A number that depends on an option before it in the table, or on the machine. */
interface Computed {
  /** The formula, in Markdown. */
  readonly text: string
  readonly compute: (siblings: object) => number
}

/** A number that depends on an option before it in the table. */
export function computedFrom(sibling: string, text: string, compute: (value: number) => number): Computed {
  return { text, compute: siblings => compute(Number(Reflect.get(siblings, sibling))) }
}

/** An integer. A default outside a computed range moves to the edge of the range. */
export function integer({
  default: fallback,
  min = 1,
  max = MAX_INT32,
  ...spec
}: Spec & {
  readonly default: number | Computed
  readonly wsDefault?: number
  readonly min?: number | Computed
  readonly max?: number | Computed
}): Option<number> {
  return {
    ...spec,
    values: rangeText(min, max),
    defaultText: textOf(fallback),
    getDefault(siblings) {
      const highest = Math.min(resolve(fallback, siblings), resolve(max, siblings))
      return Math.max(highest, resolve(min, siblings))
    },
    read(value, name, siblings) {
      const from = resolve(min, siblings)
      const to = resolve(max, siblings)
      if (isInteger(value, from, to)) return value
      throw invalidOption(name, `an integer from ${from} to ${to}`, value)
    }
  }
}

/** A number that `false` turns off. */
export function limit({
  default: fallback,
  max = MAX_INT32,
  ...spec
}: Spec & { readonly default: number | false; readonly max?: number }): Option<number | false> {
  return {
    ...spec,
    values: `${rangeText(1, max)}, or \`false\``,
    defaultText: fallback === false ? '`false`' : String(fallback),
    getDefault: () => fallback,
    read(value, name) {
      if (value === false || isInteger(value, 1, max)) return value
      throw invalidOption(name, `an integer from 1 to ${max}, or false`, value)
    }
  }
}

export function boolean({
  default: fallback,
  ...spec
}: Spec & { readonly default: boolean }): Option<boolean> {
  return {
    ...spec,
    values: '`true` or `false`',
    defaultText: `\`${fallback}\``,
    getDefault: () => fallback,
    read(value, name) {
      if (typeof value === 'boolean') return value
      throw invalidOption(name, 'a boolean', value)
    }
  }
}

/** One of a few strings. */
export function oneOf<const Values extends readonly string[]>({
  default: fallback,
  values,
  ...spec
}: Spec & { readonly default: Values[number]; readonly values: Values }): Option<Values[number]> {
  const names = values.map(value => `'${value}'`).join(' or ')
  return {
    ...spec,
    values: names.replaceAll(/'\w+'/g, '`$&`'),
    defaultText: `\`'${fallback}'\``,
    getDefault: () => fallback,
    read(value, name) {
      const found = values.find(one => one === value)
      if (found !== undefined) return found
      throw invalidOption(name, names, value)
    }
  }
}

/** A value that a check accepts. */
export function checked<Value, Default>({
  default: fallback,
  is,
  must,
  values = must,
  defaultText = 'none',
  ...spec
}: Spec & {
  readonly default: Default
  readonly is: (value: unknown) => value is Value
  /** The accepted values, in an error. */
  readonly must: string
  readonly values?: string
  readonly defaultText?: string
}): Option<Value | Default> {
  return {
    ...spec,
    values,
    defaultText,
    getDefault: () => fallback,
    read(value, name) {
      if (is(value)) return value
      throw invalidOption(name, must, value)
    }
  }
}

export type Callback = (...args: never) => unknown

export function callback(spec: Spec & { readonly defaultText?: string }): Option<Callback | undefined> {
  return checked({ ...spec, default: undefined, must: 'a function', is: isCallback })
}

/** An option that is checked elsewhere, or that has no effect. */
export function unchecked({
  values,
  defaultText = 'none',
  ...spec
}: Spec & {
  readonly values: string
  readonly defaultText?: string
  readonly nested?: OptionTable
}): Option {
  return { ...spec, values, defaultText, getDefault: () => undefined, read: value => value }
}

/** An option of `ws` that must have the value that always applies here. As in `ws`, any truthy value counts as true. */
export function constant(value: boolean, description: string): Option<boolean> {
  return {
    description,
    values: `\`${value}\``,
    defaultText: `\`${value}\``,
    getDefault: () => value,
    read(given, name) {
      if (Boolean(given) === value) return value
      throw invalidOption(name, String(value), given)
    }
  }
}

/** An option whose value is converted. */
export function converted<From, To>(
  { getDefault, read, wsDefault: _, ...option }: Option<From>,
  convert: (value: From) => To
): Option<To> {
  return {
    ...option,
    getDefault: siblings => convert(getDefault(siblings)),
    read: (...args) => convert(read(...args))
  }
}

interface GroupSpec<Values> extends Spec {
  readonly options: { readonly [Name in keyof Values]: Option<Values[Name]> }
}

/** An object with options of its own. */
export function group<Values extends object>({ description, options }: GroupSpec<Values>): Option<Values> {
  return {
    description,
    values: 'an object',
    defaultText: '`{}`',
    nested: options,
    getDefault: () => readOptions(options, {}, { prefix: '' }),
    read: (value, name) => readGroup(options, value, name, 'an object')
  }
}

/** An object with options of its own, or `false`. */
export function groupOrFalse<Values extends object>({
  description,
  options,
  isOn,
  wsDefault
}: GroupSpec<Values> & {
  /** Whether the object is the default, with the defaults of its options. */
  readonly isOn: boolean
  readonly wsDefault?: false
}): Option<Values | false> {
  return {
    description,
    wsDefault,
    values: 'an object, or `false`',
    defaultText: isOn ? '`{}`' : '`false`',
    nested: options,
    getDefault: () => isOn && readOptions(options, {}, { prefix: '' }),
    read: (value, name) => value !== false && readGroup(options, value, name, 'an object or false')
  }
}

/** An object with options of its own, `true` for their defaults, or `false`. */
export function groupOrBoolean<Values extends object>({
  description,
  options
}: GroupSpec<Values>): Option<Values | false> {
  return {
    description,
    values: 'an object, `true` or `false`',
    defaultText: '`false`',
    nested: options,
    getDefault: () => false,
    read(value, name) {
      if (value === false) return false
      return readGroup(options, value === true ? {} : value, name, 'a boolean or an object')
    }
  }
}

function readGroup<Values extends object>(
  options: GroupSpec<Values>['options'],
  value: unknown,
  name: string,
  must: string
): Values {
  if (typeof value !== 'object' || value === null) throw invalidOption(name, must, value)
  checkNames(value, Object.keys(options), `${name}.`)
  return readOptions(options, value, { prefix: `${name}.` })
}

function isInteger(value: unknown, min: number, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max
}

function isCallback(value: unknown): value is Callback {
  return typeof value === 'function'
}

function resolve(number: number | Computed, siblings: object): number {
  return typeof number === 'number' ? number : number.compute(siblings)
}

function textOf(number: number | Computed): string {
  return typeof number === 'number' ? String(number) : number.text
}

function rangeText(min: number | Computed, max: number | Computed): string {
  return max === Number.MAX_SAFE_INTEGER ? `${textOf(min)} or more` : `${textOf(min)} to ${textOf(max)}`
}
