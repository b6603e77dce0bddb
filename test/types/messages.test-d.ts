// Checked by `tsc`, never run.
import type { JsonSchemaToTsProvider } from '@fastify/type-provider-json-schema-to-ts'
import type { FastifyPluginAsyncTypebox, TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { expectTypeOf } from 'expect-type'
import Fastify from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { type Static, Type } from 'typebox'
import { z } from 'zod'
import upgrade, {
  type ClientOf,
  type InvalidMessageError,
  type Message,
  type Position,
  type PreparedMessage,
  prepare,
  type RouteOptions,
  type SendData,
  type WebSocket,
  type WebSocketHandler
} from '../../lib/index.js'

const params = Type.Object({ room: Type.String() })
const receive = Type.Union([
  Type.Object({ type: Type.Literal('say'), text: Type.String({ maxLength: 500 }) }),
  Type.Object({ type: Type.Literal('typing') })
])
const send = Type.Object({ type: Type.Literal('said'), from: Type.String(), text: Type.String() })
const schema = { params, receive, send }
type Incoming = Static<typeof receive>
type Outgoing = Static<typeof send>
type ChatSocket = WebSocket<Incoming, Outgoing>

const plain = Fastify()
await plain.register(upgrade)
const app = plain.withTypeProvider<TypeBoxTypeProvider>()

// ---- the socket of a route with both schemas

app.get('/chat/:room', { websocket: true, schema }, async (socket, request) => {
  expectTypeOf(socket).toEqualTypeOf<ChatSocket>()
  expectTypeOf(request.params.room).toEqualTypeOf<string>()
  for await (const message of socket) {
    expectTypeOf(message).toEqualTypeOf<Incoming>()
    if (message.type === 'say') {
      expectTypeOf(message.text).toEqualTypeOf<string>()
      socket.send({ type: 'said', from: 'me', text: message.text })
    } else {
      // @ts-expect-error only `say` has a text
      message.text
    }
    // @ts-expect-error there is no such type of message
    if (message.type === 'shout') socket.close()
  }
})
app.get('/chat', { websocket: true, schema }, socket => {
  socket.on('message', (message, isBinary) => {
    expectTypeOf(message).toEqualTypeOf<Incoming>()
    expectTypeOf(isBinary).toEqualTypeOf<boolean>()
  })
  socket.once('message', message => expectTypeOf(message).toEqualTypeOf<Incoming>())
  socket.addEventListener('message', ({ data }) => expectTypeOf(data).toEqualTypeOf<Incoming>())
  socket.on('close', code => expectTypeOf(code).toEqualTypeOf<number>())
  socket.onmessage = ({ data }) => expectTypeOf(data).toEqualTypeOf<Incoming>()
  const said = { type: 'said', from: 'me', text: 'hi' } as const
  expectTypeOf(socket.send(said)).toEqualTypeOf<boolean>()
  socket.send(said, () => {})
  socket.send(said, { compress: false }, () => {})
  expectTypeOf(socket.prepare(said)).toEqualTypeOf<PreparedMessage>()
  expectTypeOf(socket.publish('room', said)).toEqualTypeOf<Promise<Position | undefined>>()
  socket.send(socket.prepare(said, { compress: false }))
  socket.send(prepare(Buffer.alloc(1)))
  socket.publish('room', prepare('text'))
  // @ts-expect-error a string is no value of the schema
  socket.send('text')
  // @ts-expect-error nor are bytes
  socket.send(Buffer.alloc(1))
  // @ts-expect-error a property is missing
  socket.send({ type: 'said', from: 'me' })
  // @ts-expect-error a property is none of the schema
  socket.send({ type: 'said', from: 'me', text: 'hi', secret: 1 })
  // @ts-expect-error a property has another type
  socket.publish('room', { type: 'said', from: 1, text: 'hi' })
  // @ts-expect-error a string is no value of the schema
  socket.publish('room', 'text')
  // @ts-expect-error nor is it here
  socket.prepare('text')
  plain.websocketServer.publish('room', socket.prepare(said), { except: socket })
})

// ---- all ways to declare a route

app.route({
  method: 'GET',
  url: '/',
  schema,
  websocket: {
    subprotocol: 'chat',
    topics: ({ params }) => [params.room],
    invalidMessage(error, socket, request) {
      expectTypeOf(error).toEqualTypeOf<InvalidMessageError>()
      expectTypeOf(error.code).toEqualTypeOf<'FST_UPGRADE_INVALID_MESSAGE'>()
      expectTypeOf(error.closeCode).toEqualTypeOf<number>()
      expectTypeOf(error.value).toEqualTypeOf<unknown>()
      expectTypeOf(socket).toEqualTypeOf<ChatSocket>()
      expectTypeOf(request.params.room).toEqualTypeOf<string>()
      socket.send({ type: 'said', from: 'server', text: error.message })
      // @ts-expect-error a string is no value of the schema
      socket.send(error.message)
    },
    errorHandler: (_error, socket) => expectTypeOf(socket).toEqualTypeOf<ChatSocket>()
  },
  handler(socket, { params }) {
    expectTypeOf(socket).toEqualTypeOf<ChatSocket>()
    expectTypeOf(params.room).toEqualTypeOf<string>()
  }
})
app.route({
  method: 'GET',
  url: '/both',
  schema,
  handler: async request => request.params.room,
  wsHandler: socket => expectTypeOf(socket).toEqualTypeOf<ChatSocket>()
})
app.get('/', {
  websocket: true,
  schema,
  handler: socket => expectTypeOf(socket).toEqualTypeOf<ChatSocket>()
})
const rooms: FastifyPluginAsyncTypebox = async instance => {
  instance.get('/', { websocket: true, schema }, socket => {
    expectTypeOf(socket).toEqualTypeOf<ChatSocket>()
  })
}
await app.register(rooms, { prefix: '/rooms' })
plain.register(async instance => {
  instance.withTypeProvider<TypeBoxTypeProvider>().get('/', { websocket: true, schema }, socket => {
    expectTypeOf(socket).toEqualTypeOf<ChatSocket>()
  })
})

// ---- one schema, and none

app.get('/', { websocket: true, schema: { receive } }, socket => {
  expectTypeOf(socket).toEqualTypeOf<WebSocket<Incoming>>()
  socket.send('text')
  socket.send(Buffer.alloc(1), { binary: true })
  // @ts-expect-error without the schema `send`, an object is no data
  socket.send({ type: 'said', from: 'me', text: 'hi' })
})
app.get('/', { websocket: true, schema: { send } }, async socket => {
  expectTypeOf(socket).toEqualTypeOf<WebSocket<Message, Outgoing>>()
  socket.on('message', data => expectTypeOf(data).toEqualTypeOf<Buffer>())
  for await (const message of socket) expectTypeOf(message).toEqualTypeOf<string | Buffer>()
})
app.get('/', { websocket: true, schema: { params } }, socket => {
  expectTypeOf(socket).toEqualTypeOf<WebSocket>()
  expectTypeOf(socket).toEqualTypeOf<WebSocket<Message, SendData>>()
})
const handler: WebSocketHandler = socket => socket.send('text')
app.get('/', { websocket: true, schema: { params } }, handler)
app.get('/', { websocket: true, schema: { receive: Type.String(), send: Type.Number() } }, async socket => {
  for await (const message of socket) expectTypeOf(message).toEqualTypeOf<string>()
  socket.on('message', message => expectTypeOf(message).toEqualTypeOf<string>())
  socket.send(1)
  // @ts-expect-error a string is no number
  socket.send('1')
})
// @ts-expect-error a handler for text does not take values
app.get('/', { websocket: true, schema }, (socket: WebSocket) => socket.close())

// ---- without a type provider, a value is unknown, and the route may name the types

plain.get('/', { websocket: true, schema: { receive: {}, send: {} } }, async socket => {
  expectTypeOf(socket).toEqualTypeOf<WebSocket<unknown, unknown>>()
  for await (const message of socket) expectTypeOf(message).toEqualTypeOf<unknown>()
  socket.send({ any: 'value' })
})
plain.get<{ Receive: Incoming; Send: Outgoing }>(
  '/',
  { websocket: true, schema: { receive: {}, send: {} } },
  socket => expectTypeOf(socket).toEqualTypeOf<ChatSocket>()
)
plain.route<{ Receive: Incoming }>({
  method: 'GET',
  url: '/',
  websocket: true,
  handler: socket => expectTypeOf(socket).toEqualTypeOf<WebSocket<Incoming>>()
})

// ---- routes in tables

const table: readonly RouteOptions[] = [{ method: 'GET', url: '/', websocket: true, handler }]
for (const route of table) app.route(route)

// ---- json-schema-to-ts

const json = plain.withTypeProvider<JsonSchemaToTsProvider>()
const jsonSchema = {
  receive: {
    anyOf: [
      {
        type: 'object',
        properties: { type: { const: 'say' }, text: { type: 'string' } },
        required: ['type', 'text'],
        additionalProperties: false
      },
      {
        type: 'object',
        properties: { type: { const: 'typing' } },
        required: ['type'],
        additionalProperties: false
      }
    ]
  },
  send: {
    type: 'object',
    properties: { from: { type: 'string' } },
    required: ['from'],
    additionalProperties: false
  }
} as const
json.get('/', { websocket: true, schema: jsonSchema }, async socket => {
  for await (const message of socket) if (message.type === 'say') socket.send({ from: message.text })
  // @ts-expect-error a property is missing
  socket.send({})
})
json.get(
  '/',
  {
    websocket: true,
    schema: { receive: { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] } }
  },
  socket => {
    socket.on('message', ({ a }) => expectTypeOf(a).toEqualTypeOf<number>())
  }
)

// ---- the client

expectTypeOf<ClientOf<typeof schema, TypeBoxTypeProvider>>().toEqualTypeOf<{
  readonly send: Incoming
  readonly receive: Outgoing
}>()
const route = { method: 'GET', url: '/', websocket: true, schema } as const
expectTypeOf<ClientOf<typeof route, TypeBoxTypeProvider>['send']>().toEqualTypeOf<Incoming>()
expectTypeOf<ClientOf<typeof jsonSchema, JsonSchemaToTsProvider>['receive']>().toEqualTypeOf<{
  from: string
}>()
expectTypeOf<ClientOf<{ Receive: Incoming; Send: Outgoing }>>().toEqualTypeOf<{
  readonly send: Incoming
  readonly receive: Outgoing
}>()
expectTypeOf<ClientOf<{ params: typeof params }, TypeBoxTypeProvider>>().toEqualTypeOf<{
  readonly send: string | ArrayBuffer
  readonly receive: string | ArrayBuffer
}>()

// ---- Zod, whose schemas may have another input than output

const zod = plain.withTypeProvider<ZodTypeProvider>()
const zodSchema = {
  receive: z.object({ at: z.string().transform(text => new Date(text)) }),
  send: z.discriminatedUnion('type', [
    z.object({
      type: z.literal('count'),
      at: z.codec(z.string(), z.date(), {
        decode: text => new Date(text),
        encode: date => date.toISOString()
      })
    }),
    z.object({ type: z.literal('bye') })
  ])
}
zod.get('/', { websocket: true, schema: zodSchema }, socket => {
  socket.on('message', ({ at }) => expectTypeOf(at).toEqualTypeOf<Date>())
  socket.send({ type: 'count', at: new Date() })
  socket.send({ type: 'bye' })
  // @ts-expect-error there is no such type
  socket.send({ type: 'hello' })
})
expectTypeOf<ClientOf<typeof zodSchema, ZodTypeProvider>>().toEqualTypeOf<{
  readonly send: { at: string }
  readonly receive: { type: 'count'; at: string } | { type: 'bye' }
}>()
