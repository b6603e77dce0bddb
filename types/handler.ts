import type {
  ContextConfigDefault,
  FastifyBaseLogger,
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  FastifySchema,
  FastifyTypeProvider,
  FastifyTypeProviderDefault,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerBase,
  RawServerDefault,
  RouteGenericInterface
} from 'fastify'
import type { InvalidMessageError } from '../lib/fastify/error.js'
import type { WebSocket } from '../lib/fastify/websocket.js'
import type { Received, Sent } from './messages.js'

/**
 * Handles a connection. `this` is the Fastify instance on which the route was registered. Exceptions and rejections go
 * to the `errorHandler` option. The return value is not sent to the peer.
 */
export type WebSocketHandler<
  RawServer extends RawServerBase = RawServerDefault,
  RawRequest extends RawRequestDefaultExpression<RawServer> = RawRequestDefaultExpression<RawServer>,
  RouteGeneric extends RouteGenericInterface = RouteGenericInterface,
  ContextConfig = ContextConfigDefault,
  SchemaCompiler extends FastifySchema = FastifySchema,
  TypeProvider extends FastifyTypeProvider = FastifyTypeProviderDefault,
  Logger extends FastifyBaseLogger = FastifyBaseLogger
> = (
  this: FastifyInstance<RawServer, RawRequest, RawReplyDefaultExpression<RawServer>, Logger, TypeProvider>,
  socket: WebSocket<
    Received<RouteGeneric, SchemaCompiler, TypeProvider>,
    Sent<RouteGeneric, SchemaCompiler, TypeProvider>
  >,
  request: FastifyRequest<
    RouteGeneric,
    RawServer,
    RawRequest,
    SchemaCompiler,
    TypeProvider,
    ContextConfig,
    Logger
  >
) => unknown

/**
 * Takes a message that is binary, is not JSON or breaks the schema `receive`. The connection stays open unless it closes it.
 * Errors that it throws or rejects with go to the option `errorHandler`.
 */
export type InvalidMessageHandler<Request = FastifyRequest, Socket = WebSocket> = (
  this: FastifyInstance,
  error: InvalidMessageError,
  socket: Socket,
  request: Request
) => unknown

/** Called with the value that a handler or a listener of a socket threw or rejected with. */
export type WebSocketErrorHandler<Request = FastifyRequest, Socket = WebSocket> = (
  this: FastifyInstance,
  error: Error,
  socket: Socket,
  request: Request,
  reply: FastifyReply
) => void
