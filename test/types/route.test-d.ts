// Checked by `tsc`, never run.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { JsonSchemaToTsProvider } from '@fastify/type-provider-json-schema-to-ts'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { expectTypeOf } from 'expect-type'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import upgrade, {
  type ConnectionInfo,
  type Reached,
  type RouteOptions,
  type TopicChoice,
  type WebSocket,
  type WebSocketHandler,
  type WebSocketRouteOptions,
  type WebSocketServer
} from '../../lib/index.js'

const app = Fastify()

// The members that the plugin adds.
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

// @ts-expect-error a WebSocket is not a reply
app.get('/', { websocket: true }, (_socket, request) => request.send('x'))
// @ts-expect-error an ordinary handler receives no WebSocket
app.get('/', { websocket: true }, (request: FastifyRequest, reply: FastifyReply) => reply.send(request.url))
// @ts-expect-error a WebSocket handler receives no reply
app.get('/', { websocket: false }, (socket: WebSocket) => socket.close())
// @ts-expect-error there is no such option
app.get('/', { websocket: { maxPayloads: 10 } }, socket => socket.close())
// @ts-expect-error a number is not an option
app.get('/', { websocket: 1 }, () => {})
// @ts-expect-error bytes are a number
app.get('/', { websocket: { maxPayload: '1mb' } }, () => {})
// @ts-expect-error options of the plugin are not options of a route
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
  // @ts-expect-error a WebSocket route sends no reply
  handler: (_socket, request) => request.send('x')
})
const ordinary = (request: FastifyRequest, reply: FastifyReply) => reply.send(request.url)
// @ts-expect-error an ordinary handler beside websocket: true
app.route({ method: 'GET', url: '/', websocket: true, handler: ordinary })

// ---- the handler among the options of a shorthand

app.get('/', {
  websocket: true,
  handler(socket, request) {
    expectTypeOf(this).toExtend<FastifyInstance>()
    expectTypeOf(socket).toEqualTypeOf<WebSocket>()
    expectTypeOf(request).toExtend<FastifyRequest>()
  }
})
app.get<Room>('/:room', {
  websocket: { topics: ({ params }) => [params.room] },
  handler(socket, request) {
    expectTypeOf(socket).toEqualTypeOf<WebSocket>()
    expectTypeOf(request.params.room).toEqualTypeOf<string>()
  }
})
app.get('/', {
  handler(request, reply) {
    expectTypeOf(request).toExtend<FastifyRequest>()
    reply.send('body')
  }
})
app.get('/', {
  websocket: false,
  handler(request, reply) {
    expectTypeOf(request).toExtend<FastifyRequest>()
    reply.send('body')
  }
})
// @ts-expect-error an ordinary handler beside websocket: true
app.get('/', { websocket: true, handler: ordinary })
app.get('/', {
  websocket: true,
  // @ts-expect-error a WebSocket handler receives no reply
  handler: (_socket, request) => request.send('x')
})
// @ts-expect-error a WebSocket handler without websocket
app.get('/', { handler: (socket: WebSocket) => socket.close() })
// @ts-expect-error two handlers
app.get('/', { websocket: true, handler: () => {} }, () => {})

// ---- routes in tables

const socketRoute: RouteOptions = {
  method: 'GET',
  url: '/',
  websocket: true,
  handler(socket, request) {
    expectTypeOf(socket).toEqualTypeOf<WebSocket>()
    expectTypeOf(request).toExtend<FastifyRequest>()
  }
}
const subprotocolRoute: RouteOptions = {
  method: 'GET',
  url: '/',
  websocket: { subprotocol: 'chat' },
  handler: (socket: WebSocket, request: FastifyRequest) => socket.send(request.url)
}
const ordinaryRoute: RouteOptions = {
  method: 'GET',
  url: '/',
  handler(request, reply) {
    expectTypeOf(request).toExtend<FastifyRequest>()
    reply.send('body')
  }
}
const bothRoute: RouteOptions = {
  method: 'GET',
  url: '/',
  websocket: true,
  handler: async (request: FastifyRequest) => request.url,
  wsHandler: socket => socket.close()
}
for (const route of [socketRoute, subprotocolRoute, ordinaryRoute, bothRoute]) app.route(route)
declare const table: readonly RouteOptions[]
for (const route of table) app.route(route)
// @ts-expect-error an ordinary handler beside websocket: true
const _wrongRoute: RouteOptions = {
  method: 'GET',
  url: '/',
  websocket: true,
  handler: (request: FastifyRequest, reply: FastifyReply) => reply.send(request.url)
}
// @ts-expect-error a WebSocket handler without websocket
const _otherWrongRoute: RouteOptions = {
  method: 'GET',
  url: '/',
  handler: (socket: WebSocket) => socket.close()
}
// @ts-expect-error a WebSocket handler without websocket
app.route({ method: 'GET', url: '/', handler: (socket: WebSocket) => socket.close() })

// ---- callbacks in `websocket`

app.get<Room>(
  '/:room',
  {
    websocket: {
      topics: ({ params, query }) => {
        expectTypeOf(params.room).toEqualTypeOf<string>()
        expectTypeOf(query.name).toEqualTypeOf<string | undefined>()
        // @ts-expect-error there is no such parameter
        params.other
        return [params.room]
      },
      origin: (origin, { params }) => origin.endsWith(params.room),
      selectSubprotocol: async (offers, { params }) => offers.find(offer => offer === params.room),
      errorHandler(error, socket, request, reply) {
        expectTypeOf(this).toEqualTypeOf<FastifyInstance>()
        expectTypeOf(error).toEqualTypeOf<Error>()
        expectTypeOf(socket).toEqualTypeOf<WebSocket>()
        expectTypeOf(request.params.room).toEqualTypeOf<string>()
        expectTypeOf(reply).toEqualTypeOf<FastifyReply>()
      }
    }
  },
  (_socket, request) => expectTypeOf(request.params.room).toEqualTypeOf<string>()
)
app.route<Room>({
  method: 'GET',
  url: '/:room',
  websocket: { topics: ({ params }) => [params.room] },
  handler: (_socket, { params }) => expectTypeOf(params.room).toEqualTypeOf<string>()
})
app.route<Room>({
  method: 'GET',
  url: '/:room',
  websocket: { topics: ({ params }) => [params.room] },
  handler: async ({ params }) => params.room,
  wsHandler: (_socket, { params }) => expectTypeOf(params.room).toEqualTypeOf<string>()
})
// The annotation of a callback types the whole route, as that of a handler does.
app.get(
  '/:room',
  { websocket: { topics: ({ params }: FastifyRequest<Room>) => [params.room] } },
  (_socket, { params }) => expectTypeOf(params.room).toEqualTypeOf<string>()
)
// Without a type, params are unknown, as in Fastify.
app.get<Room>(
  '/:room',
  { websocket: { user: ({ params }) => params.room, expires: ({ params }) => Number(params.room) } },
  async socket => {
    expectTypeOf(socket.id).toEqualTypeOf<string>()
    expectTypeOf(socket.user).toEqualTypeOf<string | undefined>()
    expectTypeOf(socket.expiresAt).toEqualTypeOf<number | undefined>()
    expectTypeOf(socket.renew(new Date())).toEqualTypeOf<boolean>()
    expectTypeOf(await app.websocketServer.user('ada').send('hello')).toEqualTypeOf<Reached>()
    expectTypeOf(await app.websocketServer.connection(socket.id).close()).toEqualTypeOf<Reached>()
    const { connections } = await app.websocketServer.connections({ sort: 'traffic', limit: 5 })
    expectTypeOf(connections).toEqualTypeOf<readonly ConnectionInfo[]>()
  }
)
// @ts-expect-error the user is found before the handshake is accepted
app.get('/:room', { websocket: { user: async () => 'ada' } }, () => {})
// @ts-expect-error there is no such order
void app.websocketServer.connections({ sort: 'id' })
// @ts-expect-error
app.get('/:room', { websocket: { topics: ({ params }) => [params.room] } }, () => {})
const anyTopics: TopicChoice = request => [request.url]
const anyOptions: WebSocketRouteOptions = {
  topics: anyTopics,
  errorHandler: (_error, socket) => socket.close()
}
app.get('/', { websocket: anyOptions }, () => {})
app.get<Room>('/:room', { websocket: anyOptions }, () => {})
const roomTopics: TopicChoice<FastifyRequest<Room>> = ({ params }) => [params.room]
app.get<Room>('/:room', { websocket: { topics: roomTopics } }, () => {})

// ---- handlers that are declared separately

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
  // @ts-expect-error the schema declares a number
  request.query.limit.toUpperCase()
})
typed.get('/:room', { websocket: { topics: anyTopics }, schema }, () => {})
typed.get(
  '/:room',
  {
    websocket: {
      topics: ({ params }) => [params.room],
      origin: (_origin, { query }) => query.limit > 0,
      selectSubprotocol: (offers, { params }) => offers.find(offer => offer === params.room),
      errorHandler: (_error, socket, { query }) => socket.close(query.limit)
    },
    schema
  },
  (_socket, request) => expectTypeOf(request.params).toEqualTypeOf<{ room: string }>()
)
typed.get('/:room', {
  schema,
  websocket: { topics: ({ params }) => [params.room] },
  handler: (_socket, request) => expectTypeOf(request.query.limit).toEqualTypeOf<number>()
})
typed.route({
  method: 'GET',
  url: '/:room',
  schema,
  websocket: { topics: ({ query }) => [query.limit.toFixed()] },
  handler: (_socket, request) => expectTypeOf(request.params).toEqualTypeOf<{ room: string }>()
})
typed.get(
  '/:room',
  {
    schema,
    websocket: {
      topics: ({ params }) => {
        // @ts-expect-error the schema has no such parameter
        params.other
        return []
      }
    }
  },
  () => {}
)

// ---- json-schema-to-ts

const json = Fastify().withTypeProvider<JsonSchemaToTsProvider>()
await json.register(upgrade)
json.get(
  '/:room',
  {
    schema: {
      params: {
        type: 'object',
        properties: { room: { type: 'string' } },
        required: ['room'],
        additionalProperties: false
      }
    },
    websocket: { topics: ({ params }) => [params.room] }
  },
  (_socket, request) => expectTypeOf(request.params).toEqualTypeOf<{ room: string }>()
)
