import { UnresolvedReferenceError, UnsupportedSchemaError } from './error.js'
import { isObject, type JsonObject, listOf, mapSchemas, valueAt, visitSchemas } from './json-schema.js'
import { uniqueName } from './names.js'
import type { Schema } from './specification.js'

/** The schemas that a scope shares with `addSchema`, by their `$id`. */
export type SharedSchemas = Readonly<Record<string, unknown>>

export interface SchemaContext {
  /** The place of the schema, such as `receive of GET /chat`, in errors. */
  readonly place: string
  /** The name of the component that the schema becomes, when it refers to a part of itself. */
  readonly name: string
  readonly shared: SharedSchemas
}

/** A schema with an `$id` of its own or none, and the place of its copy in the document. */
interface Root {
  readonly schema: JsonObject
  readonly context: SchemaContext
  /** The name of the component; undefined while the schema can stand where it is used. */
  component: string | undefined
}

const COMPONENTS = '#/components/schemas/'

/**
 * Converts the schemas of routes to those of AsyncAPI, and collects the schemas that become components: shared ones, and
 * those that refer to a part of themselves. `$id` is removed, so that every reference is a path in the document.
 */
export class Schemas {
  readonly components: Record<string, Schema> = {}
  readonly #names = new Set<string>()
  /** The component of each shared schema. Scopes may share different schemas under one `$id`. */
  readonly #shared = new Map<unknown, Root>()

  constructor(taken: Readonly<Record<string, unknown>>) {
    for (const name of Object.keys(taken)) this.#names.add(name)
  }

  /**
   * @throws {TypeError} `FST_UPGRADE_UNSUPPORTED_SCHEMA` for a value that is no JSON Schema.
   * @throws `FST_UPGRADE_UNRESOLVED_REFERENCE`.
   */
  convert(given: unknown, context: SchemaContext): Schema {
    const schema = toJsonSchema(given, context.place)
    if (typeof schema === 'boolean') return fromBoolean(schema)
    const root: Root = { schema, context, component: undefined }
    const converted = this.#convert(root, schema, '')
    if (root.component === undefined) return converted
    this.components[root.component] = converted
    return { $ref: COMPONENTS + root.component }
  }

  /** The schema that a reference leads to, and the last reference; `schema` itself when it is none. */
  resolve(schema: Schema): { readonly schema: Schema; readonly $ref: string | undefined } {
    let found = schema
    let $ref: string | undefined
    const passed = new Set<unknown>()
    for (;;) {
      const next = referenceOf(found)
      // A schema that refers to itself accepts anything.
      if (next === undefined || passed.has(next)) return { schema: found, $ref }
      passed.add(next)
      $ref = next
      const target = valueAt(this.components, `/${next.slice(COMPONENTS.length)}`)
      found = isObject(target) ? target : {}
    }
  }

  #convert(root: Root, schema: JsonObject, base: string, pointer = base): Schema {
    const converted: Record<string, unknown> = {}
    for (const [keyword, value] of Object.entries(schema)) {
      if (keyword === '$id' || keyword === '$schema' || keyword === '$anchor' || value === undefined) continue
      if (keyword === '$ref' && typeof value === 'string') {
        converted.$ref = this.#reference(root, value, base)
        continue
      }
      converted[keyword] = mapSchemas(keyword, value, `${pointer}/${keyword}`, (inner, at) => {
        if (typeof inner === 'boolean') return inner
        // References in a schema with an `$id` start there.
        return this.#convert(root, inner, isIdentifier(inner.$id) ? at : base, at)
      })
    }
    return toAsyncApi(converted)
  }

  /** The place in the document to which a reference leads. */
  #reference(root: Root, $ref: string, base: string): string {
    const [id = '', fragment = ''] = $ref.split('#')
    const { context } = root
    if (id === '' || id === withoutHash(root.schema.$id)) {
      return this.#place(root, fragment, id === '' ? base : '', $ref)
    }
    const shared = context.shared[id] ?? context.shared[`${id}#`]
    if (isObject(shared)) return this.#place(this.#sharedRoot(shared, id, context), fragment, '', $ref)
    const inner = find(root.schema, ({ $id }) => withoutHash($id) === id)
    if (inner !== undefined) return this.#place(root, fragment, inner, $ref)
    throw new UnresolvedReferenceError(context.place, $ref)
  }

  #place(root: Root, fragment: string, base: string, $ref: string): string {
    const pointer = fragment === '' || fragment.startsWith('/') ? base + fragment : anchor(root, fragment)
    if (pointer === undefined || valueAt(root.schema, pointer) === undefined)
      throw new UnresolvedReferenceError(root.context.place, $ref)
    root.component ??= this.#reserve(root.context.name)
    return COMPONENTS + root.component + pointer
  }

  #sharedRoot(given: JsonObject, id: string, context: SchemaContext): Root {
    const known = this.#shared.get(given)
    if (known !== undefined) return known
    const place = `the shared schema ${id}`
    const component = this.#reserve(id)
    const root: Root = { schema: given, context: { ...context, place, name: component }, component }
    // Known before it is converted, as it may refer to itself.
    this.#shared.set(given, root)
    this.components[component] = this.#convert(root, given, '')
    return root
  }

  #reserve(name: string): string {
    return uniqueName(name, this.#names)
  }
}

/** The JSON Schema of a schema in whatever language. */
function toJsonSchema(given: unknown, place: string): JsonObject | boolean {
  if (typeof given === 'boolean') return given
  // Zod, ArkType, Valibot and others: https://standardschema.dev/json-schema
  const standard: unknown = Reflect.get(Object(given), '~standard')
  // A schema of fluent-json-schema has its JSON Schema as its value.
  const schema: unknown = standard === undefined ? Object(given).valueOf() : fromStandard(standard, place)
  if (!isPlain(schema)) throw new UnsupportedSchemaError(place, '')
  return schema
}

/**
 * The JSON Schema of a value as JSON, in both directions. Where a schema transforms values, that is its input: a validator
 * transforms what arrived, and a serializer encodes what is to be sent.
 */
function fromStandard(standard: unknown, place: string): unknown {
  const { jsonSchema } = Object(standard)
  try {
    return jsonSchema?.input({ target: 'draft-07' })
  } catch (thrown) {
    const cause = thrown instanceof Error ? thrown.message : thrown
    throw new UnsupportedSchemaError(place, ` (${cause})`)
  }
}

/** Whether a value is an object that is no instance of a class. */
function isPlain(value: unknown): value is JsonObject {
  return isObject(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value))
}

/** Converts the keywords that AsyncAPI writes differently from OpenAPI and Ajv. */
function toAsyncApi(schema: Record<string, unknown>): Schema {
  const { discriminator, nullable, $ref, ...rest } = schema
  if (isObject(discriminator)) rest.discriminator = discriminator.propertyName
  else if (discriminator !== undefined) rest.discriminator = discriminator
  if (nullable === true) {
    if (rest.type !== undefined) rest.type = [...new Set([rest.type, 'null'].flat())]
    if (Array.isArray(rest.enum)) rest.enum = [...new Set([...rest.enum, null])]
  }
  if ($ref === undefined) return rest
  if (Object.keys(rest).length === 0) return { $ref }
  // Tools ignore what stands beside a reference.
  const { allOf, ...others } = rest
  return { allOf: [{ $ref }, ...listOf(allOf)], ...others }
}

function fromBoolean(schema: boolean): Schema {
  return schema ? {} : { not: {} }
}

/** The reference that a schema consists of, besides definitions and annotations. */
function referenceOf({
  $ref,
  allOf,
  definitions,
  $defs,
  title,
  description,
  ...rest
}: Schema): string | undefined {
  if (typeof $ref === 'string') return $ref
  if (!Array.isArray(allOf) || allOf.length !== 1 || Object.keys(rest).length > 0) return undefined
  const [{ $ref: inner }] = allOf
  return typeof inner === 'string' ? inner : undefined
}

function isIdentifier($id: unknown): boolean {
  return typeof $id === 'string' && !$id.startsWith('#')
}

function withoutHash($id: unknown): unknown {
  return typeof $id === 'string' ? $id.replace(/#$/, '') : undefined
}

/** The pointer of the first schema that matches. */
function find(root: JsonObject, matches: (schema: JsonObject) => boolean): string | undefined {
  let found: string | undefined
  visitSchemas(root, '', (schema, pointer) => {
    if (found === undefined && matches(schema)) found = pointer
  })
  return found
}

/** The pointer of a schema with a name: `$id: '#name'` in draft 7, later `$anchor`. */
function anchor({ schema }: Root, name: string): string | undefined {
  return find(schema, ({ $id, $anchor }) => $id === `#${name}` || $anchor === name)
}
