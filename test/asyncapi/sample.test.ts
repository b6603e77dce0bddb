import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Ajv } from 'ajv'
import t from 'tap'
import { root } from '../helpers/root.js'

const { sampleOf } = await import(pathToFileURL(join(root, 'lib', 'asyncapi', 'page', 'sample.mjs')).href)

const SCHEMAS: object[] = [
  { const: 'a' },
  { enum: ['a', 'b'] },
  { type: 'string', default: 'a' },
  { type: 'string', examples: ['a'] },
  { type: 'string', minLength: 6 },
  { type: 'string', maxLength: 2 },
  { type: 'integer' },
  { type: 'integer', minimum: 3 },
  { type: 'integer', maximum: -3 },
  { type: 'integer', exclusiveMinimum: 3, multipleOf: 2 },
  { type: 'integer', exclusiveMaximum: 0 },
  { type: 'number', minimum: 0, maximum: 0 },
  { type: 'boolean' },
  { type: 'null' },
  { type: ['null', 'string'] },
  { type: 'array', items: { type: 'string' }, minItems: 2 },
  { type: 'array' },
  { items: { type: 'string' } },
  {},
  { anyOf: [{ type: 'null' }, { type: 'string' }] },
  { anyOf: [{ type: 'null' }] },
  {
    properties: { a: { type: 'string' }, b: { type: 'object', properties: { c: { type: 'integer' } } } },
    required: ['a']
  },
  {
    allOf: [
      { type: 'object', properties: { a: { type: 'string' } }, required: ['a'] },
      { type: 'object', properties: { b: { const: 1 } }, required: ['b'] }
    ]
  },
  {
    type: 'object',
    required: ['user', 'type'],
    properties: { user: { type: 'string' } },
    oneOf: [{ type: 'object', properties: { type: { const: 'a' } }, required: ['type'] }]
  }
]

t.test('the page sends a sample that the schema accepts', async t => {
  const ajv = new Ajv({ strict: false })
  for (const schema of SCHEMAS) {
    const sample: unknown = sampleOf(schema)
    t.ok(ajv.validate(schema, sample), `${JSON.stringify(schema)}: ${JSON.stringify(sample)}`)
  }
})

t.test('a sample of a format has that format', async t => {
  t.match(sampleOf({ type: 'string', format: 'date-time' }), /^\d{4}-\d\d-\d\dT/)
  t.equal(sampleOf({ type: 'string', format: 'unknown' }), 'text')
})

t.test('a sample of a schema that contains itself ends', async t => {
  const tree: { properties: Record<string, unknown>; required?: string[] } = { properties: {} }
  tree.properties.child = tree
  tree.properties.list = { items: tree }
  t.ok(JSON.stringify(sampleOf(tree)).length < 1000)
  tree.required = ['child']
  t.ok(JSON.stringify(sampleOf(tree)).length < 10_000)
})
