import fc from 'fast-check'

const KEY = fc.constantFrom('a', 'b', 'c', 'constructor', 'toString')

/** Schemas of JSON Schema, with the keywords that change values too: coercion, defaults and undeclared properties. */
export const SCHEMA: fc.Arbitrary<object> = fc.letrec<{ schema: object; leaf: object }>(tie => ({
  leaf: fc.oneof(
    fc.constantFrom<object>({}, { type: 'null' }, { type: 'boolean' }, { type: 'string', format: 'date' }),
    fc.record(
      { type: fc.constantFrom('integer', 'number'), minimum: fc.integer({ min: -5, max: 5 }) },
      { requiredKeys: ['type'] }
    ),
    fc.record(
      {
        type: fc.constant('string'),
        maxLength: fc.nat(4),
        pattern: fc.constantFrom('^a', '[0-9]+$'),
        default: fc.constantFrom('a', 'abc')
      },
      { requiredKeys: ['type'] }
    ),
    fc.uniqueArray(fc.constantFrom('a', 'b', 1, null), { minLength: 1 }).map(values => ({ enum: values }))
  ),
  schema: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    tie('leaf'),
    fc.record(
      { type: fc.constant('array'), items: tie('schema'), maxItems: fc.nat(3), uniqueItems: fc.boolean() },
      { requiredKeys: ['type', 'items'] }
    ),
    fc
      .record(
        {
          properties: fc.dictionary(KEY, tie('schema'), { maxKeys: 3 }),
          required: fc.uniqueArray(KEY, { maxLength: 2 }),
          additionalProperties: fc.boolean()
        },
        { requiredKeys: ['properties'] }
      )
      .map(object => ({ type: 'object', ...object })),
    fc.record({ anyOf: fc.array(tie('leaf'), { minLength: 1, maxLength: 3 }) })
  )
})).schema

/** Values that often match a schema of {@link SCHEMA}, or almost do. */
export const VALUE: fc.Arbitrary<unknown> = fc.letrec(tie => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom<unknown>(
      null,
      true,
      false,
      0,
      1,
      -1,
      1.5,
      1e300,
      '',
      'a',
      'abc',
      '12',
      '1.5',
      'true',
      '2026-01-01'
    ),
    fc.string({ unit: 'binary', maxLength: 6 }),
    fc.constant('\ud800'),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(KEY, tie('value'), { maxKeys: 4 })
  )
})).value

const deep = (open: string, middle: string, shut: string) =>
  fc.integer({ min: 1, max: 20_000 }).map(depth => open.repeat(depth) + middle + shut.repeat(depth))

/** Messages of a hostile client: text that is no JSON, poisoned, deep, long, or almost JSON. */
export const HOSTILE: fc.Arbitrary<string | Uint8Array> = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.uint8Array({ maxLength: 20 }),
  deep('[', '', ']'),
  deep('[', '1', ''),
  deep('{"a":', '1', '}'),
  deep('"', '', ''),
  fc.constantFrom(
    '{"__proto__":{"admin":true}}',
    '{"\\u005f_proto__":{"admin":true}}',
    '{"a":[{"constructor":{"prototype":{"admin":true}}}]}',
    '{"constructor":1,"toString":1,"valueOf":null,"then":1,"toJSON":1,"length":-1}',
    '"\\ud800"',
    '\ufeff{}',
    '1e999',
    '-0',
    '{"a":1,"a":2}'
  ),
  fc.nat(200_000).map(length => JSON.stringify('x'.repeat(length))),
  fc.tuple(VALUE, fc.nat(), fc.string({ unit: 'binary', maxLength: 2 })).map(([value, at, inserted]) => {
    const json = JSON.stringify(value)
    const place = at % (json.length + 1)
    return json.slice(0, place) + inserted + json.slice(place + 1)
  })
)
