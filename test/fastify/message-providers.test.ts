import { once } from 'node:events'
import type { JsonSchemaToTsProvider } from '@fastify/type-provider-json-schema-to-ts'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod'
import t, { type Test } from 'tap'
import { Type } from 'typebox'
import { z } from 'zod'
import { type Client, listen, makeApp, open, withDeadline } from '../helpers/app.js'

// One chat in three schema languages, with their real packages.

/** Applications whose route `/` greets the author of each message. */
const LANGUAGES = {
  'JSON Schema, with json-schema-to-ts': async t => {
    const { app } = await makeApp(t)
    app.withTypeProvider<JsonSchemaToTsProvider>().get(
      '/',
      {
        websocket: { invalidMessage: ({ message }, socket) => socket.send({ hello: message, times: 0 }) },
        schema: {
          receive: {
            type: 'object',
            properties: { name: { type: 'string', minLength: 1 }, times: { type: 'integer', default: 1 } },
            required: ['name'],
            additionalProperties: false
          },
          send: {
            type: 'object',
            properties: { hello: { type: 'string' }, times: { type: 'integer' } },
            required: ['hello', 'times']
          }
        }
      },
      async socket => {
        for await (const { name, times } of socket) {
          if (name === 'invalid') Reflect.apply(socket.send, socket, [{ times }])
          else socket.send({ hello: name, times: times ?? 0 })
        }
      }
    )
    return listen(app)
  },
  TypeBox: async t => {
    const { app } = await makeApp(t)
    app.withTypeProvider<TypeBoxTypeProvider>().get(
      '/',
      {
        websocket: { invalidMessage: ({ message }, socket) => socket.send({ hello: message, times: 0 }) },
        schema: {
          receive: Type.Object({
            name: Type.String({ minLength: 1 }),
            times: Type.Integer({ default: 1 })
          }),
          send: Type.Object({ hello: Type.String(), times: Type.Integer() })
        }
      },
      async socket => {
        for await (const { name, times } of socket) {
          if (name === 'invalid') Reflect.apply(socket.send, socket, [{ times }])
          else socket.send({ hello: name, times })
        }
      }
    )
    return listen(app)
  },
  Zod: async t => {
    const { app } = await makeApp(t)
    app.withTypeProvider<ZodTypeProvider>().get(
      '/',
      {
        websocket: { invalidMessage: ({ message }, socket) => socket.send({ hello: message, times: 0 }) },
        schema: {
          receive: z.object({
            name: z.string().min(1),
            times: z.coerce.number<string | number>().int().default(1)
          }),
          send: z.object({ hello: z.string(), times: z.int() })
        }
      },
      async socket => {
        for await (const { name, times } of socket) {
          if (name === 'invalid') Reflect.apply(socket.send, socket, [{ times }])
          else socket.send({ hello: name, times })
        }
      }
    )
    // After the route, as in Fastify.
    app.setValidatorCompiler(validatorCompiler)
    app.setSerializerCompiler(serializerCompiler)
    return listen(app)
  }
} satisfies Record<string, (t: Test) => Promise<number>>

for (const [name, start] of Object.entries(LANGUAGES)) {
  t.test(`${name}: messages are validated and serialized`, async t => {
    const client: Client = await open(t, await start(t), '/')
    const ask = async (message: unknown): Promise<unknown> => {
      client.socket.send(JSON.stringify(message))
      return JSON.parse(await client.next())
    }
    t.strictSame(await ask({ name: 'Ann' }), { hello: 'Ann', times: 1 })
    t.strictSame(await ask({ name: 'Bob', times: '2' }), { hello: 'Bob', times: 2 })
    t.match(await ask({ name: '' }), { hello: /^body\/name /, times: 0 })
    t.match(await ask({}), { hello: /^body.* /, times: 0 })
    client.socket.send('{"name":"invalid"}')
    const [code] = await withDeadline(once(client.socket, 'close'), 10_000, 'the close')
    t.equal(code, 1011, 'the value does not match the schema, so the handler has failed')
  })
}

t.test('Zod: a schema that only Zod knows, without its compiler, fails the start', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true, schema: { receive: z.object({ a: z.string() }) } }, () => {})
  await t.rejects(async () => app.ready(), { code: 'FST_UPGRADE_INVALID_SCHEMA' })
})
