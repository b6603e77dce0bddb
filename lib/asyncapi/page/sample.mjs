/** Levels of objects in a sample, below which only required properties are filled in. A schema may contain itself. */
const DEPTH = 3
const MAX_DEPTH = 8

const FORMATS = {
  'date-time': '2030-01-01T12:00:00Z',
  date: '2030-01-01',
  email: 'name@example.com',
  hostname: 'example.com',
  ipv4: '192.0.2.1',
  ipv6: '2001:db8::1',
  time: '12:00:00Z',
  uri: 'https://example.com/',
  uuid: '00000000-0000-4000-8000-000000000000'
}

/**
 * A value that a schema accepts, if its keywords are common ones.
 * @param schema a JSON Schema whose references are resolved.
 */
export function sampleOf(schema, depth = 0) {
  if (typeof schema !== 'object' || schema === null || depth > MAX_DEPTH) return null
  if ('const' in schema) return schema.const
  if ('default' in schema) return schema.default
  for (const list of [schema.examples, schema.enum]) if (list?.length > 0) return list[0]
  const { allOf, oneOf, anyOf, ...own } = schema
  if (allOf) return merged([...allOf, { ...own, ...(oneOf && { oneOf }), ...(anyOf && { anyOf }) }], depth)
  const members = oneOf ?? anyOf
  if (members) return merged([members.find(one => one.type !== 'null') ?? members[0], own], depth)
  return SAMPLES[typeOf(schema)]?.(schema, depth) ?? null
}

function merged(schemas, depth) {
  const samples = schemas.map(schema => sampleOf(schema, depth)).filter(sample => sample !== null)
  if (samples.length > 0 && samples.every(sample => typeof sample === 'object'))
    return Object.assign({}, ...samples)
  return samples[0] ?? null
}

function typeOf({ type, properties, items }) {
  if (Array.isArray(type)) return type.find(one => one !== 'null')
  return type ?? (properties ? 'object' : items ? 'array' : undefined)
}

const SAMPLES = {
  object({ properties = {}, required = [] }, depth) {
    const entries = Object.entries(properties).filter(([name]) => depth < DEPTH || required.includes(name))
    return Object.fromEntries(entries.map(([name, schema]) => [name, sampleOf(schema, depth + 1)]))
  },
  array({ items = {}, minItems = 0 }, depth) {
    if (Array.isArray(items)) return items.map(schema => sampleOf(schema, depth + 1))
    const count = depth < DEPTH ? Math.max(1, minItems) : minItems
    return Array.from({ length: count }, () => sampleOf(items, depth + 1))
  },
  string({ format, minLength = 0, maxLength = Number.POSITIVE_INFINITY }) {
    return FORMATS[format] ?? 'text'.padEnd(minLength, '.').slice(0, maxLength)
  },
  number: numberIn,
  integer: numberIn,
  boolean: () => true
}

function numberIn({ minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf = 1 }) {
  const least = minimum ?? (exclusiveMinimum === undefined ? undefined : exclusiveMinimum + multipleOf)
  const most = maximum ?? (exclusiveMaximum === undefined ? undefined : exclusiveMaximum - multipleOf)
  const value = Math.max(least ?? Math.min(0, most ?? 0), Math.min(1, most ?? 1))
  return Math.ceil(value / multipleOf) * multipleOf
}
