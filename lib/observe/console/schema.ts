// The part of JSON Schema that the console uses, and a check of it. The console has its own, as the compilers of an
// application may speak another language, such as Zod.

export interface TextSchema<Value extends string = string> {
  readonly type: 'string'
  readonly enum?: readonly Value[]
  readonly maxLength?: number
}
export interface NumberSchema {
  readonly type: 'integer' | 'number'
  readonly minimum: number
}
export interface BooleanSchema {
  readonly type: 'boolean'
}
export interface ArraySchema<Items extends Schema = Schema> {
  readonly type: 'array'
  readonly items: Items
}
export interface ObjectSchema<Properties extends Record<string, Schema> = Record<string, Schema>> {
  readonly type: 'object'
  readonly properties?: Properties
  readonly required?: readonly string[]
  readonly additionalProperties?: false | Schema
}
export interface UnionSchema<Member extends Schema = Schema> {
  readonly anyOf: readonly Member[]
}

export type Schema = TextSchema | NumberSchema | BooleanSchema | ArraySchema | ObjectSchema | UnionSchema

/** Marks a property that may be absent. */
export declare const OPTIONAL: unique symbol
export type Optional<Of> = Of & { readonly [OPTIONAL]?: true }
type OptionalNames<Properties> = {
  [Name in keyof Properties]: typeof OPTIONAL extends keyof Properties[Name] ? Name : never
}[keyof Properties]

/** The type of the values that a schema describes. */
export type Infer<Of> =
  Of extends TextSchema<infer Value>
    ? Value
    : Of extends NumberSchema
      ? number
      : Of extends BooleanSchema
        ? boolean
        : Of extends ArraySchema<infer Items>
          ? readonly Infer<Items>[]
          : Of extends { readonly additionalProperties: infer Values extends Schema }
            ? Readonly<Record<string, Infer<Values>>>
            : Of extends { readonly properties: infer Properties }
              ? {
                  readonly [Name in Exclude<keyof Properties, OptionalNames<Properties>>]: Infer<
                    Properties[Name]
                  >
                } & { readonly [Name in OptionalNames<Properties>]?: Infer<Properties[Name]> | undefined }
              : Of extends UnionSchema<infer Member>
                ? Infer<Member>
                : object

export const number = { type: 'number', minimum: 0 } as const
export const count = { type: 'integer', minimum: 0 } as const

export const boolean = { type: 'boolean' } as const

/** @param maxLength in UTF-16 code units. */
export function text(maxLength: number): TextSchema {
  return { type: 'string', maxLength }
}

export function oneOf<const Value extends string>(...values: readonly Value[]): TextSchema<Value> {
  return { type: 'string', enum: values }
}

export function array<const Items extends Schema>(items: Items): ArraySchema<Items> {
  return { type: 'array', items }
}

export function record<const Values extends Schema>(values: Values) {
  return { type: 'object', additionalProperties: values } as const
}

const optionals = new WeakSet<object>()

export function optional<const Of extends Schema>(schema: Of): Optional<Of> {
  const copy = { ...schema }
  optionals.add(copy)
  return copy
}

/** An object with these properties and no others. */
export function object<const Properties extends Record<string, Schema>>(properties: Properties) {
  const required = Object.keys(properties).filter(name => !optionals.has(properties[name]))
  return { type: 'object', properties, required, additionalProperties: false } as const
}

export function union<const Members extends readonly Schema[]>(
  ...members: Members
): UnionSchema<Members[number]> {
  return { anyOf: members }
}

/** Whether a value is one that the schema describes. */
export function matches<Of extends Schema>(schema: Of, value: unknown): value is Infer<Of> {
  return fits(schema, value)
}

function fits(schema: Schema, value: unknown): boolean {
  if ('anyOf' in schema) return schema.anyOf.some(one => fits(one, value))
  switch (schema.type) {
    case 'string':
      if (typeof value !== 'string' || value.length > (schema.maxLength ?? value.length)) return false
      return schema.enum === undefined || schema.enum.includes(value)
    case 'boolean':
      return typeof value === 'boolean'
    case 'array':
      return Array.isArray(value) && value.every(item => fits(schema.items, item))
    case 'object':
      return (
        typeof value === 'object' && value !== null && !Array.isArray(value) && hasProperties(schema, value)
      )
    default: {
      const isRight = schema.type === 'integer' ? Number.isSafeInteger(value) : Number.isFinite(value)
      return isRight && Number(value) >= schema.minimum
    }
  }
}

function hasProperties(
  { properties = {}, required = [], additionalProperties }: ObjectSchema,
  value: object
): boolean {
  return (
    required.every(name => Object.hasOwn(value, name)) &&
    Object.entries(value).every(([name, one]) => {
      const own = Object.hasOwn(properties, name) ? properties[name] : additionalProperties
      return own === undefined || (own !== false && fits(own, one))
    })
  )
}
