import { isObject, listOf, toData } from './json-schema.js'
import type { Schemas } from './schemas.js'
import type { Message, Schema } from './specification.js'

/** Keywords that constrain no value. */
const ANNOTATIONS = new Set([
  ...['$comment', '$defs', 'default', 'definitions', 'description', 'discriminator', 'examples', 'title']
])

/** A schema that one message may have, and the schema to read it from. */
interface Member {
  /** In the document, perhaps a reference. */
  readonly payload: Schema
  /** The same without references. */
  readonly schema: Schema
  /** The name of the component, if it is one. */
  readonly component: string | undefined
}

/**
 * The messages of a schema: one for each member of a union, named by the property that differs between the members.
 * @param fallback the name of a message that has none.
 */
export function messagesOf(schema: Schema, schemas: Schemas, fallback: string): readonly Message[] {
  const members = membersOf(schema, schemas, new Set())
  const property = discriminatorOf(members, schemas)
  const union = schemas.resolve(schema).schema
  return members.map(({ payload, schema, component }) => {
    const tag = tagOf(schema, property, schemas)
    const { title, description } = schema
    const examples = [...listOf(schema.examples), ...(members.length > 1 ? listOf(union.examples) : [])]
    const own = examples.filter(one => tag === undefined || propertyOf(one, property) === tag)
    return {
      name: String(tag ?? title ?? component ?? fallback),
      ...(typeof title === 'string' && { title }),
      ...(typeof description === 'string' && { description }),
      payload,
      ...(own.length > 0 && { examples: own.map(example => ({ payload: toData(example) })) })
    }
  })
}

/** The members of a union, and of the unions in it; else the schema itself. */
function membersOf(given: Schema, schemas: Schemas, passed: Set<unknown>): readonly Member[] {
  const { schema, $ref } = schemas.resolve(given)
  const self = [{ payload: given, schema, component: componentOf($ref) }]
  const keyword = ['oneOf', 'anyOf'].find(name => Array.isArray(schema[name]))
  if (keyword === undefined) return self
  // A union that contains itself has no further members there.
  if (passed.has(schema)) return []
  passed.add(schema)
  const list: unknown = schema[keyword]
  // A member that is `true` or `false` says nothing about its messages.
  if (!Array.isArray(list) || !list.every(isObject)) return self
  const beside = Object.fromEntries(
    Object.entries(schema).filter(([name]) => name !== keyword && !isAnnotation(name))
  )
  return list.flatMap((one, index) => {
    const member =
      $ref === undefined || typeof one.$ref === 'string' ? one : { $ref: `${$ref}/${keyword}/${index}` }
    return membersOf(member, schemas, passed).map(found => ({
      ...found,
      payload: isImplied(beside, found.schema) ? found.payload : { allOf: [beside, found.payload] }
    }))
  })
}

/** Whether a member has everything that stands beside it in a union. */
function isImplied(beside: Schema, member: Schema): boolean {
  return Object.entries(beside).every(([keyword, value]) => {
    if (keyword === 'type') return value === member.type
    const required = listOf(member.required)
    return keyword === 'required' && listOf(value).every(name => required.includes(name))
  })
}

/** Whether a keyword constrains no value. */
function isAnnotation(keyword: string): boolean {
  return ANNOTATIONS.has(keyword) || keyword.startsWith('x-')
}

/** The property for which every member has a constant of its own. A member may have several: the first one counts. */
function discriminatorOf(members: readonly Member[], schemas: Schemas): string | undefined {
  const names = Object.keys(Object(members[0]?.schema.properties))
  return names.find(name => {
    const tags = members.map(({ schema }) => tagOf(schema, name, schemas))
    return !tags.includes(undefined) && new Set(tags).size === members.length
  })
}

/** The only value that a property can have, if it is a string, a number or a boolean. */
function tagOf(
  { properties }: Schema,
  name: string | undefined,
  schemas: Schemas
): string | number | boolean | undefined {
  const property = propertyOf(properties, name)
  if (!isObject(property)) return undefined
  const { schema } = schemas.resolve(property)
  const list = listOf(schema.enum)
  const value = schema.const ?? (list.length === 1 ? list[0] : undefined)
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? value
    : undefined
}

/** A property of a value that may be no object. */
function propertyOf(value: unknown, name: string | undefined): unknown {
  return name !== undefined && Object.hasOwn(Object(value), name) ? Object(value)[name] : undefined
}

function componentOf($ref: string | undefined): string | undefined {
  return $ref === undefined ? undefined : /^#\/components\/schemas\/([^/]+)$/.exec($ref)?.[1]
}
