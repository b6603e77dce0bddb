import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { Message } from '../../lib/asyncapi/index.js'
import { documentOf } from './documented-app.js'
import { checkDocument } from './parser.js'

const handler = () => {}

/** The messages that a route sends, as a schema describes them. */
async function messagesOf(
  t: Test,
  send: unknown,
  declare: (app: FastifyInstance) => void = () => {}
): Promise<Readonly<Record<string, Message>>> {
  const document = await documentOf(t, app => {
    // Also schemas that Fastify's own serializer does not compile.
    app.setSerializerCompiler(() => JSON.stringify)
    declare(app)
    app.get('/a', { websocket: true, schema: { send } }, handler)
  })
  await checkDocument(t, document)
  return document.channels.a?.messages ?? {}
}

const namesOf = async (...args: Parameters<typeof messagesOf>) =>
  Object.values(await messagesOf(...args)).map(({ name }) => name)

const member = (type: string, more: object = {}) => ({
  type: 'object',
  properties: { type: { const: type }, n: { type: 'integer' } },
  required: ['type'],
  ...more
})

t.test('a union is a message for each member, named by the property that tells them apart', async t => {
  const said = member('said', { title: 'Said', description: 'A message', examples: [{ type: 'said', n: 1 }] })
  const left = member('left')
  for (const keyword of ['anyOf', 'oneOf']) {
    t.strictSame(await messagesOf(t, { [keyword]: [said, left] }), {
      said: {
        name: 'said',
        title: 'Said',
        description: 'A message',
        payload: said,
        examples: [{ payload: { type: 'said', n: 1 } }]
      },
      left: { name: 'left', payload: left }
    })
  }
})

t.test('the discriminator may be an enum of one value, a number, or a shared schema', async t => {
  const of = (property: object) => ({ type: 'object', properties: { n: {}, kind: property } })
  t.strictSame(await namesOf(t, { anyOf: [of({ enum: ['a'] }), of({ const: 2 }), of({ const: true })] }), [
    '2',
    'a',
    'true'
  ])
  t.strictSame(
    await namesOf(t, { anyOf: [of({ $ref: 'Kind#' }), of({ const: 'b' })] }, app =>
      app.addSchema({ $id: 'Kind', const: 'a' })
    ),
    ['a', 'b']
  )
})

t.test('members without a discriminator are named by title or component', async t => {
  t.strictSame(
    await namesOf(
      t,
      {
        anyOf: [
          { type: 'object', title: 'Some text' },
          { $ref: 'User#' },
          { type: 'string' },
          { type: 'object', properties: { type: { enum: ['a', 'b'] } } },
          { type: 'object', properties: { type: true } },
          { type: 'null' }
        ]
      },
      app => app.addSchema({ $id: 'User', type: 'object' })
    ),
    ['Some text', 'User', 'send', 'send', 'send', 'send']
  )
  t.strictSame(
    Object.keys(await messagesOf(t, { anyOf: [{ type: 'string' }, { type: 'number' }, { title: '✓' }] })),
    ['send', 'send-2', 'schema']
  )
  // Two members with one value.
  t.strictSame(await namesOf(t, { anyOf: [member('a'), member('a')] }), ['send', 'send'])
})

t.test('a single object with a constant is named by it', async t => {
  t.strictSame(await namesOf(t, member('said')), ['said'])
})

t.test('unions may be shared, nested, and refer to their own parts', async t => {
  const messages = await messagesOf(
    t,
    {
      anyOf: [{ $ref: 'Events#' }, { oneOf: [member('a'), { $ref: '#/definitions/b' }] }],
      definitions: { b: member('b') }
    },
    app => {
      app.addSchema({ $id: 'Left', ...member('left') })
      app.addSchema({ $id: 'Events', oneOf: [member('joined'), { $ref: 'Left#' }, { $ref: 'Events#' }] })
    }
  )
  t.strictSame(
    Object.values(messages).map(({ name, payload }) => [name, payload.$ref]),
    [
      ['joined', '#/components/schemas/Events/oneOf/0'],
      ['left', '#/components/schemas/Left'],
      ['a', '#/components/schemas/a.send/anyOf/1/oneOf/0'],
      ['b', '#/components/schemas/a.send/definitions/b']
    ]
  )
})

t.test('what stands beside a union applies to each member', async t => {
  const beside = { type: 'object', required: ['type'], discriminator: { propertyName: 'type' }, 'x-a': 1 }
  const implied = await messagesOf(t, { ...beside, oneOf: [member('a'), member('b')] })
  t.strictSame(implied.a?.payload, member('a'))
  const properties = { user: { type: 'string' } }
  const joined = await messagesOf(t, { properties, oneOf: [member('a'), member('b')] })
  t.strictSame(joined.a?.payload, { allOf: [{ properties }, member('a')] })
  const required = await messagesOf(t, { required: ['user'], oneOf: [member('a'), { properties: {} }] })
  t.strictSame(required.send?.payload, { allOf: [{ required: ['user'] }, member('a')] })
  const typed = await messagesOf(t, { type: 'object', oneOf: [member('a'), { required: ['b'] }] })
  t.strictSame(typed['send-2']?.payload, { allOf: [{ type: 'object' }, { required: ['b'] }] })
})

t.test('a union with true or false is one message', async t => {
  const union = { anyOf: [member('a'), true] }
  t.strictSame(await messagesOf(t, union), { send: { name: 'send', payload: union } })
})

t.test('the examples of a union belong to the member with their value', async t => {
  const examples = [{ type: 'b', n: 1 }, { type: 'a', n: 2 }, 'odd']
  const messages = await messagesOf(t, { anyOf: [member('a'), member('b')], examples })
  t.strictSame(messages.a?.examples, [{ payload: { type: 'a', n: 2 } }])
  t.strictSame(messages.b?.examples, [{ payload: { type: 'b', n: 1 } }])
  const untagged = await messagesOf(t, { anyOf: [{ type: 'string' }, { type: 'number' }], examples: ['a'] })
  t.strictSame(untagged.send?.examples, [{ payload: 'a' }])
})
