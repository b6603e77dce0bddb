import type {
  ContextConfigDefault,
  FastifyBaseLogger,
  FastifyRequest,
  RouteOptions as FastifyRouteOptions,
  FastifySchema,
  FastifyTypeProvider,
  FastifyTypeProviderDefault,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerBase,
  RawServerDefault,
  RouteGenericInterface
} from 'fastify'
import type { WebSocket } from '../lib/fastify/websocket.js'
import type { WebSocketHandler } from './handler.js'
import type { Received, Sent } from './messages.js'
import type { WebSocketRouteOptions } from './options.js'

/** The value of `websocket` that makes the handler of a route a {@link WebSocketHandler}. */
export type WebSocketRoute<
  RawServer extends RawServerBase,
  RawRequest extends RawRequestDefaultExpression<RawServer>,
  RouteGeneric extends RouteGenericInterface,
  ContextConfig,
  SchemaCompiler extends FastifySchema,
  TypeProvider extends FastifyTypeProvider,
  Logger extends FastifyBaseLogger
> =
  | true
  | WebSocketRouteOptions<
      FastifyRequest<
        RouteGeneric,
        RawServer,
        RawRequest,
        SchemaCompiler,
        TypeProvider,
        ContextConfig,
        Logger
      >,
      WebSocket<
        Received<RouteGeneric, SchemaCompiler, TypeProvider>,
        Sent<RouteGeneric, SchemaCompiler, TypeProvider>
      >
    >

/** Options of a route whose `handler` is a {@link WebSocketHandler}. */
export type HandlerRouteOptions<
  RawServer extends RawServerBase,
  RawRequest extends RawRequestDefaultExpression<RawServer>,
  RawReply extends RawReplyDefaultExpression<RawServer>,
  RouteGeneric extends RouteGenericInterface,
  ContextConfig,
  SchemaCompiler extends FastifySchema,
  TypeProvider extends FastifyTypeProvider,
  Logger extends FastifyBaseLogger
> = Omit<
  FastifyRouteOptions<
    RawServer,
    RawRequest,
    RawReply,
    RouteGeneric,
    ContextConfig,
    SchemaCompiler,
    TypeProvider,
    Logger
  >,
  'handler' | 'websocket' | 'wsHandler'
> & {
  readonly websocket: WebSocketRoute<
    RawServer,
    RawRequest,
    RouteGeneric,
    ContextConfig,
    SchemaCompiler,
    TypeProvider,
    Logger
  >
  // Beside a wsHandler, `handler` answers ordinary requests.
  readonly wsHandler?: undefined
  readonly handler: WebSocketHandler<
    RawServer,
    RawRequest,
    RouteGeneric,
    ContextConfig,
    SchemaCompiler,
    TypeProvider,
    Logger
  >
}

/** Options of a route whose `handler` answers ordinary requests, beside a `wsHandler`. */
export type WsHandlerRouteOptions<
  RawServer extends RawServerBase,
  RawRequest extends RawRequestDefaultExpression<RawServer>,
  RawReply extends RawReplyDefaultExpression<RawServer>,
  RouteGeneric extends RouteGenericInterface,
  ContextConfig,
  SchemaCompiler extends FastifySchema,
  TypeProvider extends FastifyTypeProvider,
  Logger extends FastifyBaseLogger
> = Omit<
  FastifyRouteOptions<
    RawServer,
    RawRequest,
    RawReply,
    RouteGeneric,
    ContextConfig,
    SchemaCompiler,
    TypeProvider,
    Logger
  >,
  'websocket' | 'wsHandler'
> & {
  readonly websocket: WebSocketRoute<
    RawServer,
    RawRequest,
    RouteGeneric,
    ContextConfig,
    SchemaCompiler,
    TypeProvider,
    Logger
  >
  readonly wsHandler: WebSocketHandler<
    RawServer,
    RawRequest,
    RouteGeneric,
    ContextConfig,
    SchemaCompiler,
    TypeProvider,
    Logger
  >
}

/**
 * Options of `app.route()`, for ordinary routes and for those with `websocket`. Use it in place of Fastify's type of the
 * same name, whose `handler` can only answer ordinary requests.
 */
export type RouteOptions<
  RawServer extends RawServerBase = RawServerDefault,
  RawRequest extends RawRequestDefaultExpression<RawServer> = RawRequestDefaultExpression<RawServer>,
  RawReply extends RawReplyDefaultExpression<RawServer> = RawReplyDefaultExpression<RawServer>,
  RouteGeneric extends RouteGenericInterface = RouteGenericInterface,
  ContextConfig = ContextConfigDefault,
  SchemaCompiler extends FastifySchema = FastifySchema,
  TypeProvider extends FastifyTypeProvider = FastifyTypeProviderDefault,
  Logger extends FastifyBaseLogger = FastifyBaseLogger
> =
  | FastifyRouteOptions<
      RawServer,
      RawRequest,
      RawReply,
      RouteGeneric,
      ContextConfig,
      SchemaCompiler,
      TypeProvider,
      Logger
    >
  | HandlerRouteOptions<
      RawServer,
      RawRequest,
      RawReply,
      RouteGeneric,
      ContextConfig,
      SchemaCompiler,
      TypeProvider,
      Logger
    >
  | WsHandlerRouteOptions<
      RawServer,
      RawRequest,
      RawReply,
      RouteGeneric,
      ContextConfig,
      SchemaCompiler,
      TypeProvider,
      Logger
    >

/**
 * {@link RouteOptions} for an overload beside that of {@link HandlerRouteOptions}. In an object literal, `handler` gets
 * the parameters of a handler of requests.
 */
export type OtherRouteOptions<
  RawServer extends RawServerBase,
  RawRequest extends RawRequestDefaultExpression<RawServer>,
  RawReply extends RawReplyDefaultExpression<RawServer>,
  RouteGeneric extends RouteGenericInterface,
  ContextConfig,
  SchemaCompiler extends FastifySchema,
  TypeProvider extends FastifyTypeProvider,
  Logger extends FastifyBaseLogger
> =
  | FastifyRouteOptions<
      RawServer,
      RawRequest,
      RawReply,
      RouteGeneric,
      ContextConfig,
      SchemaCompiler,
      TypeProvider,
      Logger
    >
  | WsHandlerRouteOptions<
      RawServer,
      RawRequest,
      RawReply,
      RouteGeneric,
      ContextConfig,
      SchemaCompiler,
      TypeProvider,
      Logger
    >
  | (Omit<
      HandlerRouteOptions<
        RawServer,
        RawRequest,
        RawReply,
        RouteGeneric,
        ContextConfig,
        SchemaCompiler,
        TypeProvider,
        Logger
      >,
      'handler'
    > & {
      readonly handler: NotContextual<
        WebSocketHandler<
          RawServer,
          RawRequest,
          RouteGeneric,
          ContextConfig,
          SchemaCompiler,
          TypeProvider,
          Logger
        >
      >
    })

/**
 * A type to which the same functions are assignable as to `Handler`. As one of its two signatures is generic, TypeScript
 * does not take the types of a literal's parameters from it.
 */
type NotContextual<Handler extends (...args: never) => unknown> = Handler &
  (<_>(...args: Parameters<Handler>) => unknown)
