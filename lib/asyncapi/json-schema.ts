/** The keywords whose value is a schema, or a list of schemas. */
const SCHEMAS = new Set([
  ...['additionalItems', 'additionalProperties', 'allOf', 'anyOf', 'contains', 'contentSchema', 'else', 'if'],
  ...['items', 'not', 'oneOf', 'prefixItems', 'propertyNames', 'then', 'unevaluatedItems'],
  'unevaluatedProperties'
])

/** The keywords whose value has a schema for each name. */
const MAPS = new Set([
  ...['$defs', 'definitions', 'dependencies', 'dependentSchemas', 'patternProperties', 'properties']
])

export type JsonObject = Readonly<Record<string, unknown>>

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

/** Whether a value is a schema. A list may stand in place of one, in `dependencies`. */
function isSchema(value: unknown): value is JsonObject | boolean {
  return isObject(value) || typeof value === 'boolean'
}

/**
 * A copy of the value of a keyword, in which `convert` has replaced each schema directly in it. The value of any other
 * keyword is data, in which `$ref` means nothing.
 * @param pointer the JSON pointer of the value.
 */
export function mapSchemas(
  keyword: string,
  value: unknown,
  pointer: string,
  convert: (schema: JsonObject | boolean, pointer: string) => unknown
): unknown {
  if (MAPS.has(keyword) && isObject(value)) {
    const entries = Object.entries(value)
    return Object.fromEntries(
      entries.map(([name, one]) => [name, isSchema(one) ? convert(one, child(pointer, name)) : toData(one)])
    )
  }
  if (!SCHEMAS.has(keyword)) return toData(value)
  if (Array.isArray(value)) return value.map((one, index) => convert(one, child(pointer, String(index))))
  return isSchema(value) ? convert(value, pointer) : toData(value)
}

/** Calls `visit` with a schema and with every schema in it. */
export function visitSchemas(
  schema: JsonObject | boolean,
  pointer: string,
  visit: (schema: JsonObject, pointer: string) => void
): void {
  if (!isObject(schema)) return
  visit(schema, pointer)
  for (const [keyword, value] of Object.entries(schema)) {
    mapSchemas(keyword, value, child(pointer, keyword), (inner, at) => visitSchemas(inner, at, visit))
  }
}

/** The JSON pointer of a member, as a part of a URI (RFC 6901 section 6). */
export function child(pointer: string, name: string): string {
  const escaped = name.replaceAll('~', '~0').replaceAll('/', '~1')
  return `${pointer}/${encodeURIComponent(escaped)}`
}

/** The value at a JSON pointer; undefined when there is none. */
export function valueAt(root: unknown, pointer: string): unknown {
  let value = root
  for (const part of pointer.split('/').slice(1)) {
    const name = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')
    value = Object.hasOwn(Object(value), name) ? Reflect.get(Object(value), name) : undefined
  }
  return value
}

/** A copy without values that JSON does not have, such as functions. */
export function toData(value: unknown): unknown {
  const text: string | undefined = JSON.stringify(value)
  return text === undefined ? undefined : JSON.parse(text)
}
