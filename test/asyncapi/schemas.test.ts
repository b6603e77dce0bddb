import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { Type } from 'typebox'
import { z } from 'zod'
import type { AsyncApiDocument, Message } from '../../lib/asyncapi/index.js'
import { documentedApp, documentOf } from './documented-app.js'
import { checkDocument } from './parser.js'

const handler = () => {}

/** Accepts everything, so that schemas of any library can be given. */
function withoutCompilers(app: FastifyInstance): void {
  app.setValidatorCompiler(() => () => true)
  app.setSerializerCompiler(() => JSON.stringify)
}

/** The document of a route `/a` that receives what a schema describes. */
async function describe(
  t: Test,
  receive: unknown,
  declare: (app: FastifyInstance) => void = () => {}
): Promise<AsyncApiDocument> {
  const document = await documentOf(t, app => {
    declare(app)
    app.get('/a', { websocket: true, schema: { receive } }, handler)
  })
  await checkDocument(t, document)
  return document
}

const messagesOf = (document: AsyncApiDocument): Readonly<Record<string, Message>> =>
  document.channels.a?.messages ?? {}

/** The schema of the only message. */
async function payloadOf(
  t: Test,
  receive: unknown,
  declare?: (app: FastifyInstance) => void
): Promise<unknown> {
  const [message] = Object.values(messagesOf(await describe(t, receive, declare)))
  return message?.payload
}

t.test('a shared schema is a component, where a route refers to it', async t => {
  const document = await describe(t, {
    type: 'object',
    properties: {
      user: { $ref: 'User#' },
      name: { $ref: 'http://example.com/common.json#/definitions/name' }
    }
  }, app => {
    app.addSchema({
      $id: 'User',
      type: 'object',
      properties: { friends: { type: 'array', items: { $ref: '#' } } }
    })
    app.addSchema({
      $id: 'http://example.com/common.json#',
      definitions: { name: { type: 'string' }, user: { $ref: 'User#/properties/friends' } }
    })
    app.addSchema({ $id: 'Unused', type: 'object' })
  })
  const schemas = '#/components/schemas'
  t.strictSame(messagesOf(document).receive?.payload, {
    type: 'object',
    properties: {
      user: { $ref: `${schemas}/User` },
      name: { $ref: `${schemas}/http-example.com-common.json/definitions/name` }
    }
  })
  t.strictSame(document.components?.schemas, {
    User: { type: 'object', properties: { friends: { type: 'array', items: { $ref: `${schemas}/User` } } } },
    'http-example.com-common.json': {
      definitions: { name: { type: 'string' }, user: { $ref: `${schemas}/User/properties/friends` } }
    }
  })
})

t.test('scopes may share different schemas under one $id', async t => {
  const document = await documentOf(t, async app => {
    for (const type of ['string', 'number']) {
      await app.register(async scope => {
        scope.addSchema({ $id: 'Value', type })
        scope.get(`/${type}`, { websocket: true, schema: { receive: { $ref: 'Value' } } }, handler)
      })
    }
  })
  await checkDocument(t, document)
  t.strictSame(document.components?.schemas, { Value: { type: 'string' }, 'Value-2': { type: 'number' } })
  t.strictSame(document.channels.number?.messages, {
    'Value-2': { name: 'Value-2', payload: { $ref: '#/components/schemas/Value-2' } }
  })
})

t.test('a schema that refers to a part of itself is a component', async t => {
  const tree = '#/components/schemas/a.receive'
  const document = await describe(
    t,
    {
      $id: 'tree',
      type: 'object',
      properties: {
        left: { $ref: '#' },
        right: { $ref: 'tree#' },
        label: { $ref: '#/definitions/a~1b' },
        id: { $ref: '#number' },
        node: {
          $id: 'node',
          properties: { inner: { $ref: '#/definitions/inner' }, outer: { $ref: 'tree#/definitions/a~1b' } },
          definitions: { inner: { type: 'boolean' } }
        },
        other: { $ref: 'node#/definitions/inner' },
        any: true
      },
      definitions: { 'a/b': { type: 'string' }, number: { $id: '#number', type: 'integer' } }
    },
    withoutCompilers
  )
  t.strictSame(messagesOf(document), { 'a.receive': { name: 'a.receive', payload: { $ref: tree } } })
  t.strictSame(document.components?.schemas?.['a.receive'], {
    type: 'object',
    properties: {
      left: { $ref: tree },
      right: { $ref: tree },
      label: { $ref: `${tree}/definitions/a~1b` },
      id: { $ref: `${tree}/definitions/number` },
      node: {
        properties: {
          inner: { $ref: `${tree}/properties/node/definitions/inner` },
          outer: { $ref: `${tree}/definitions/a~1b` }
        },
        definitions: { inner: { type: 'boolean' } }
      },
      other: { $ref: `${tree}/properties/node/definitions/inner` },
      any: true
    },
    definitions: { 'a/b': { type: 'string' }, number: { type: 'integer' } }
  })
})

t.test('a reference that leads nowhere makes the start fail, with the name of the route', async t => {
  for (const [$ref, place] of [
    ['Unknown#', 'The schema "receive" of GET /a'],
    ['#/definitions/unknown', 'The schema "receive" of GET /a'],
    ['#unknown', 'The schema "receive" of GET /a'],
    ['Shared#/definitions/unknown', 'the shared schema Shared'],
    ['#/constructor', 'The schema "receive" of GET /a']
  ]) {
    const app = await documentedApp(t, app => {
      withoutCompilers(app)
      app.addSchema({ $id: 'Shared', type: 'object' })
      app.get('/a', { websocket: true, schema: { receive: { $ref } } }, handler)
    })
    await t.rejects(async () => app.ready(), {
      code: 'FST_UPGRADE_UNRESOLVED_REFERENCE',
      message: `${place} refers to "${$ref}"`
    })
  }
})

t.test('a reference that leads to itself accepts anything', async t => {
  const document = await describe(t, { $ref: '#' }, withoutCompilers)
  t.strictSame(document.components?.schemas, { 'a.receive': { $ref: '#/components/schemas/a.receive' } })
})

t.test('what stands beside a reference is kept', async t => {
  const document = await describe(t, {
    $ref: '#/definitions/user',
    allOf: [{ required: ['name'] }],
    definitions: { user: { type: 'object' } }
  })
  t.strictSame(document.components?.schemas?.['a.receive'], {
    allOf: [{ $ref: '#/components/schemas/a.receive/definitions/user' }, { required: ['name'] }],
    definitions: { user: { type: 'object' } }
  })
})

t.test('a schema that is a reference to one of its definitions is that definition', async t => {
  const said = { type: 'object', properties: { type: { const: 'said' }, any: { $ref: '#/definitions/any' } } }
  const document = await describe(t, { $ref: '#/definitions/said', definitions: { said, any: true } })
  t.equal(messagesOf(document).said?.payload.$ref, '#/components/schemas/a.receive')
  const any = await describe(t, { $ref: '#/definitions/any', definitions: { any: true } })
  t.strictSame(Object.keys(messagesOf(any)), ['receive'])
})

t.test('a schema of one part is that part', async t => {
  const properties = { type: { const: 'said' } }
  const [message] = Object.values(messagesOf(await describe(t, { allOf: [{ type: 'object', properties }] })))
  t.equal(message?.name, 'receive')
})

t.test('keywords of OpenAPI and Ajv become those of AsyncAPI', async t => {
  const payload = await payloadOf(
    t,
    {
      $schema: 'http://json-schema.org/draft-07/schema#',
      type: 'object',
      discriminator: { propertyName: 'type' },
      properties: {
        a: { type: 'string', nullable: true, enum: ['a', 'b'] },
        b: { nullable: true },
        c: { discriminator: 'type', nullable: false },
        d: { type: ['string', 'null'], nullable: true }
      }
    },
    withoutCompilers
  )
  t.strictSame(payload, {
    type: 'object',
    discriminator: 'type',
    properties: {
      a: { type: ['string', 'null'], enum: ['a', 'b', null] },
      b: {},
      c: { discriminator: 'type' },
      d: { type: ['string', 'null'] }
    }
  })
})

t.test('data in a schema is not taken for schemas, and functions are left out', async t => {
  const data = { $ref: 'no reference', $id: 'no id' }
  const schema = {
    type: 'object',
    default: data,
    const: data,
    enum: [data],
    properties: { $ref: { type: 'string' }, const: { items: [{}, true], minItems: 1 }, odd: 1 },
    dependencies: { a: ['b'], c: { required: ['d'] } },
    additionalProperties: false,
    not: 1
  }
  // The parser of AsyncAPI takes every `$ref` for a reference, and refuses schemas that Ajv refuses.
  const document = await documentOf(t, app => {
    withoutCompilers(app)
    const receive = { ...schema, 'x-check': () => true, title: undefined }
    app.get('/a', { websocket: true, schema: { receive } }, handler)
  })
  t.strictSame(JSON.parse(JSON.stringify(messagesOf(document).receive?.payload)), schema)
})

t.test('the schemas true and false', async t => {
  t.strictSame(await payloadOf(t, true), {})
  t.strictSame(await payloadOf(t, false), { not: {} })
})

t.test('schemas of TypeBox are JSON Schema', async t => {
  t.strictSame(await payloadOf(t, Type.Object({ text: Type.Optional(Type.String()) })), {
    type: 'object',
    properties: { text: { type: 'string' } }
  })
})

t.test('schemas of libraries that convert them to JSON Schema, as Standard JSON Schema says', async t => {
  const jsonSchema = {
    input: ({ target }: { target: string }) => ({ type: 'string', description: target }),
    output: () => ({ type: 'number' })
  }
  for (const schema of [
    { '~standard': { version: 1, jsonSchema } },
    Object.assign(() => {}, { '~standard': { jsonSchema } })
  ]) {
    const document = await documentOf(t, app => {
      withoutCompilers(app)
      app.get('/a', { websocket: true, schema: { receive: schema, send: schema } }, handler)
    })
    const payload = { type: 'string', description: 'draft-07' }
    t.strictSame(document.channels.a?.messages, {
      receive: { name: 'receive', description: 'draft-07', payload },
      send: { name: 'send', description: 'draft-07', payload }
    })
  }
})

t.test('a schema of Zod that JSON Schema cannot express makes the start fail', async t => {
  const app = await documentedApp(t, app => {
    withoutCompilers(app)
    app.get('/a', { websocket: true, schema: { receive: z.object({ at: z.date() }) } }, handler)
  })
  await t.rejects(async () => app.ready(), {
    code: 'FST_UPGRADE_UNSUPPORTED_SCHEMA',
    message:
      'The schema "receive" of GET /a is not a JSON Schema and cannot be converted to one (Date cannot be'
  })
})

t.test('what a library throws that is no Error is in the message', async t => {
  const input = () => {
    throw 'no'
  }
  const app = await documentedApp(t, app => {
    withoutCompilers(app)
    app.get('/a', { websocket: true, schema: { send: { '~standard': { jsonSchema: { input } } } } }, handler)
  })
  await t.rejects(async () => app.ready(), {
    message: 'The schema "send" of GET /a is not a JSON Schema and cannot be converted to one (no);'
  })
})

t.test('a schema of fluent-json-schema is its value', async t => {
  const fluent = { isFluentSchema: true, valueOf: () => ({ type: 'string' }) }
  t.strictSame(await payloadOf(t, fluent), { type: 'string' })
})

t.test('a schema of another kind makes the start fail', async t => {
  for (const receive of [
    new Map(),
    'string',
    { '~standard': { version: 1 } },
    () => {},
    { valueOf: () => 1 }
  ]) {
    const app = await documentedApp(t, app => {
      withoutCompilers(app)
      app.get('/a', { websocket: true, schema: { receive } }, handler)
    })
    await t.rejects(async () => app.ready(), {
      code: 'FST_UPGRADE_UNSUPPORTED_SCHEMA',
      message: 'The schema "receive" of GET /a is not a JSON Schema'
    })
  }
})
