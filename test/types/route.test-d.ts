// Checked by `tsc`, never run.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { expectTypeOf } from 'expect-type'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import upgrade, { type WebSocket, type WebSocketHandler, type WebSocketServer } from '../../lib/index.js'

const app = Fastify()

// What the plugin adds.
expectTypeOf(app.websocketServer).toEqualTypeOf<WebSocketServer>()
expectTypeOf<FastifyRequest['ws']>().toEqualTypeOf<boolean>()
expectTypeOf<WebSocketServer['clients']>().toEqualTypeOf<Set<WebSocket>>()
// @ts-expect-error the server is not replaced
app.websocketServer = Fastify().websocketServer

await app.register(upgrade)

// ---- shorthand

app.get('/', { websocket: true }, function (socket, request) {
  expectTypeOf(this).toExtend<FastifyInstance>()
  expectTypeOf(socket).toEqualTypeOf<WebSocket>()
  expectTypeOf(request).toExtend<FastifyRequest>()
  expectTypeOf(request.raw).toEqualTypeOf<IncomingMessage>()
  expectTypeOf(request.ws).toEqualTypeOf<boolean>()
})
app.get('/', { websocket: {} }, socket => {
  expectTypeOf(socket).toEqualTypeOf<WebSocket>()
})
app.get('/', { websocket: { subprotocol: ['a', 'b'] as const, maxPayload: 10 } }, async socket => {
  expectTypeOf(socket).toEqualTypeOf<WebSocket>()
  for await (const message of socket) expectTypeOf(message).toEqualTypeOf<string | Buffer>()
})
app.get('/', { websocket: true, onRequest: async () => {}, schema: { params: {} } }, socket => socket.close())
app.get('/', { websocket: true }, () => {})

for (const options of [{}, { websocket: false }, { websocket: undefined }] as const) {
  app.get('/', options, async (request, reply) => {
    expectTypeOf(request).toExtend<FastifyRequest>()
    expectTypeOf(reply).toExtend<FastifyReply>()
    return 'body'
  })
}
app.get('/', async (request, reply) => {
  expectTypeOf(request).toExtend<FastifyRequest>()
  expectTypeOf(reply.raw).toEqualTypeOf<ServerResponse>()
})
app.get('/', { websocket: false }, (request, reply) => {
  expectTypeOf(request.method).toEqualTypeOf<string>()
  expectTypeOf(reply.sent).toEqualTypeOf<boolean>()
})

interface Room {
  Params: { room: string }
  Querystring: { name?: string }
}
app.get<Room>('/:room', { websocket: true }, (socket, request) => {
  expectTypeOf(socket).toEqualTypeOf<WebSocket>()
  expectTypeOf(request.params.room).toEqualTypeOf<string>()
  expectTypeOf(request.query.name).toEqualTypeOf<string | undefined>()
  // @ts-expect-error there is no such parameter
  request.params.other
})
app.get<Room>('/:room', async request => {
  expectTypeOf(request.params.room).toEqualTypeOf<string>()
})

// @ts-expect-error a WebSocket is no reply
app.get('/', { websocket: true }, (_socket, request) => request.send('x'))
// @ts-expect-error an ordinary handler gets no WebSocket
app.get('/', { websocket: true }, (request: FastifyRequest, reply: FastifyReply) => reply.send(request.url))
// @ts-expect-error nor a WebSocket handler a reply
app.get('/', { websocket: false }, (socket: WebSocket) => socket.close())
// @ts-expect-error there is no such option
app.get('/', { websocket: { maxPayloads: 10 } }, socket => socket.close())
// @ts-expect-error a number is no option
app.get('/', { websocket: 1 }, () => {})
// @ts-expect-error bytes are a number
app.get('/', { websocket: { maxPayload: '1mb' } }, () => {})
// @ts-expect-error what belongs to the plugin is no option of a route
app.get('/', { websocket: { shutdown: {} } }, () => {})

// ---- route()

app.route({
  method: 'GET',
  url: '/',
  websocket: true,
  handler(socket, request) {
    expectTypeOf(this).toExtend<FastifyInstance>()
    expectTypeOf(socket).toEqualTypeOf<WebSocket>()
    expectTypeOf(request).toExtend<FastifyRequest>()
  }
})
app.route<Room>({
  method: 'GET',
  url: '/:room',
  websocket: { subprotocol: 'chat' },
  handler: async (socket, request) => {
    expectTypeOf(socket).toEqualTypeOf<WebSocket>()
    expectTypeOf(request.params.room).toEqualTypeOf<string>()
  }
})
app.route({
  method: 'GET',
  url: '/',
  websocket: false,
  handler: async (request, reply) => {
    expectTypeOf(request).toExtend<FastifyRequest>()
    expectTypeOf(reply).toExtend<FastifyReply>()
  }
})
app.route({
  method: 'POST',
  url: '/',
  handler: async (request, reply) => {
    expectTypeOf(request).toExtend<FastifyRequest>()
    expectTypeOf(reply).toExtend<FastifyReply>()
  }
})
app.route<Room>({
  method: 'GET',
  url: '/both/:room',
  handler: async (request, reply) => {
    expectTypeOf(request.params.room).toEqualTypeOf<string>()
    expectTypeOf(reply).toExtend<FastifyReply>()
  },
  wsHandler: (socket, request) => {
    expectTypeOf(socket).toEqualTypeOf<WebSocket>()
    expectTypeOf(request.params.room).toEqualTypeOf<string>()
  }
})
app.route({
  method: 'GET',
  url: '/both',
  websocket: { subprotocol: 'chat' },
  handler: async (request, reply) => {
    expectTypeOf(request).toExtend<FastifyRequest>()
    expectTypeOf(reply).toExtend<FastifyReply>()
  },
  wsHandler: socket => {
    expectTypeOf(socket).toEqualTypeOf<WebSocket>()
  }
})
app.route({
  method: 'GET',
  url: '/',
  websocket: true,
  // @ts-expect-error a reply is sent by no WebSocket route
  handler: (_socket, request) => request.send('x')
})
// @ts-expect-error an ordinary handler beside websocket: true
app.route({
  method: 'GET',
  url: '/',
  websocket: true,
  handler: (request: FastifyRequest, reply: FastifyReply) => reply.send(request.url)
})

// ---- handlers that are declared apart

const handler: WebSocketHandler = (socket, request) => {
  expectTypeOf(socket).toEqualTypeOf<WebSocket>()
  expectTypeOf(request).toExtend<FastifyRequest>()
}
app.get('/', { websocket: true }, handler)
app.route({ method: 'GET', url: '/', websocket: true, handler })
app.route({ method: 'GET', url: '/', handler: async () => 'body', wsHandler: handler })

// ---- a type provider

const typed = Fastify().withTypeProvider<TypeBoxTypeProvider>()
await typed.register(upgrade)
const schema = {
  params: Type.Object({ room: Type.String() }),
  querystring: Type.Object({ limit: Type.Number() })
}
typed.get('/:room', { websocket: true, schema }, (socket, request) => {
  expectTypeOf(socket).toEqualTypeOf<WebSocket>()
  expectTypeOf(request.params).toEqualTypeOf<{ room: string }>()
  expectTypeOf(request.query.limit).toEqualTypeOf<number>()
})
typed.get('/:room', { websocket: false, schema }, async (request, reply) => {
  expectTypeOf(request.query.limit).toEqualTypeOf<number>()
  expectTypeOf(reply.sent).toEqualTypeOf<boolean>()
})
typed.route({
  method: 'GET',
  url: '/:room',
  schema,
  websocket: { subprotocol: 'chat' },
  handler(socket, request) {
    expectTypeOf(socket).toEqualTypeOf<WebSocket>()
    expectTypeOf(request.params).toEqualTypeOf<{ room: string }>()
    expectTypeOf(request.query.limit).toEqualTypeOf<number>()
  }
})
typed.route({
  method: 'GET',
  url: '/:room',
  schema,
  handler: async request => {
    expectTypeOf(request.params.room).toEqualTypeOf<string>()
  },
  wsHandler(socket, request) {
    expectTypeOf(socket).toEqualTypeOf<WebSocket>()
    expectTypeOf(request.query.limit).toEqualTypeOf<number>()
  }
})
typed.get('/:room', { websocket: true, schema }, (_socket, request) => {
  // @ts-expect-error the schema says number
  request.query.limit.toUpperCase()
})
