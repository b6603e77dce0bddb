import type {
  ContextConfigDefault,
  FastifyBaseLogger,
  FastifyTypeProvider,
  FastifyTypeProviderDefault,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerBase,
  RawServerDefault,
  // Renamed, because inside `declare module` the name FastifySchema means the augmentation of a plugin, if there is one.
  FastifySchema as Schema
} from 'fastify'
import type { WebSocketServer } from '../lib/fastify/websocket-server.js'
import type { WebSocket } from '../lib/socket/websocket.js'
import type { InjectContext, InjectOptions } from '../lib/testing/inject.js'
import type { WebSocketHandler } from './handler.js'
import type { HandlerRouteOptions, OtherRouteOptions, WebSocketRoute } from './route.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** Whether the request is a WebSocket handshake. */
    readonly ws: boolean
  }

  interface FastifySchema {
    /** The messages that a WebSocket route receives. Listeners and iterators get their parsed and validated values. */
    receive?: unknown
    /** The messages that a WebSocket route sends. `socket.send(value)` serializes a value. */
    send?: unknown
  }

  interface RouteGenericInterface {
    /** The type of the messages that a WebSocket route with the schema `receive` receives. Default: that of the schema. */
    Receive?: unknown
    /** The type of the messages that a WebSocket route with the schema `send` sends. Default: that of the schema. */
    Send?: unknown
  }

  interface FastifyInstance<RawServer, RawRequest, RawReply, Logger, TypeProvider> {
    /** The WebSocket connections of this scope. */
    readonly websocketServer: WebSocketServer

    /**
     * Opens a WebSocket to the application in memory, for tests. The application need not listen.
     * @param path path and query. Default: `/`.
     * @returns the client's side, open. Data of the server is buffered until it is read.
     * @throws `FST_UPGRADE_INJECT_REFUSED` with `statusCode`, `headers` and `body`, when the server refuses.
     */
    readonly injectWS: (path?: string, context?: InjectContext, options?: InjectOptions) => Promise<WebSocket>

    route<
      RouteGeneric extends RouteGenericInterface = RouteGenericInterface,
      ContextConfig = ContextConfigDefault,
      const SchemaCompiler extends Schema = Schema
    >(
      options: HandlerRouteOptions<
        RawServer,
        RawRequest,
        RawReply,
        RouteGeneric,
        ContextConfig,
        SchemaCompiler,
        TypeProvider,
        Logger
      >
    ): FastifyInstance<RawServer, RawRequest, RawReply, Logger, TypeProvider>

    // The two other kinds, and routes from a table, whose type is only known as the union. One overload covers them all: with
    // more than three overloads, TypeScript reports only the errors of the last.
    route<
      RouteGeneric extends RouteGenericInterface = RouteGenericInterface,
      ContextConfig = ContextConfigDefault,
      const SchemaCompiler extends Schema = Schema
    >(
      options: OtherRouteOptions<
        RawServer,
        RawRequest,
        RawReply,
        RouteGeneric,
        ContextConfig,
        SchemaCompiler,
        TypeProvider,
        Logger
      >
    ): FastifyInstance<RawServer, RawRequest, RawReply, Logger, TypeProvider>
  }

  interface RouteShorthandOptions<
    RawServer extends RawServerBase = RawServerDefault,
    RawRequest extends RawRequestDefaultExpression<RawServer> = RawRequestDefaultExpression<RawServer>,
    RawReply extends RawReplyDefaultExpression<RawServer> = RawReplyDefaultExpression<RawServer>,
    RouteGeneric extends RouteGenericInterface = RouteGenericInterface,
    ContextConfig = ContextConfigDefault,
    SchemaCompiler extends Schema = Schema,
    TypeProvider extends FastifyTypeProvider = FastifyTypeProviderDefault,
    Logger extends FastifyBaseLogger = FastifyBaseLogger
  > {
    /**
     * `true`, or an object of options, makes the route one for WebSockets, with a {@link WebSocketHandler}. Here, where the
     * handler is one of requests, it can only be false. Default: false.
     */
    websocket?: false | undefined
  }

  interface RouteShorthandMethod<
    RawServer extends RawServerBase = RawServerDefault,
    RawRequest extends RawRequestDefaultExpression<RawServer> = RawRequestDefaultExpression<RawServer>,
    RawReply extends RawReplyDefaultExpression<RawServer> = RawReplyDefaultExpression<RawServer>,
    TypeProvider extends FastifyTypeProvider = FastifyTypeProviderDefault,
    Logger extends FastifyBaseLogger = FastifyBaseLogger
  > {
    <
      RouteGeneric extends RouteGenericInterface = RouteGenericInterface,
      ContextConfig = ContextConfigDefault,
      const SchemaCompiler extends Schema = Schema,
      InnerLogger extends Logger = Logger
    >(
      path: string,
      options: Omit<
        RouteShorthandOptions<
          RawServer,
          RawRequest,
          RawReply,
          RouteGeneric,
          ContextConfig,
          SchemaCompiler,
          TypeProvider,
          InnerLogger
        >,
        'websocket'
      > & {
        readonly websocket: WebSocketRoute<
          RawServer,
          RawRequest,
          RouteGeneric,
          ContextConfig,
          SchemaCompiler,
          TypeProvider,
          InnerLogger
        >
      },
      handler: WebSocketHandler<
        RawServer,
        RawRequest,
        RouteGeneric,
        ContextConfig,
        SchemaCompiler,
        TypeProvider,
        InnerLogger
      >
    ): FastifyInstance<RawServer, RawRequest, RawReply, InnerLogger, TypeProvider>

    <
      RouteGeneric extends RouteGenericInterface = RouteGenericInterface,
      ContextConfig = ContextConfigDefault,
      const SchemaCompiler extends Schema = Schema,
      InnerLogger extends Logger = Logger
    >(
      path: string,
      options: Omit<
        RouteShorthandOptions<
          RawServer,
          RawRequest,
          RawReply,
          RouteGeneric,
          ContextConfig,
          SchemaCompiler,
          TypeProvider,
          InnerLogger
        >,
        'websocket'
      > & {
        readonly websocket: WebSocketRoute<
          RawServer,
          RawRequest,
          RouteGeneric,
          ContextConfig,
          SchemaCompiler,
          TypeProvider,
          InnerLogger
        >
        readonly handler: WebSocketHandler<
          RawServer,
          RawRequest,
          RouteGeneric,
          ContextConfig,
          SchemaCompiler,
          TypeProvider,
          InnerLogger
        >
      }
    ): FastifyInstance<RawServer, RawRequest, RawReply, InnerLogger, TypeProvider>
  }

  interface RouteOptions<
    RawServer extends RawServerBase = RawServerDefault,
    RawRequest extends RawRequestDefaultExpression<RawServer> = RawRequestDefaultExpression<RawServer>,
    RawReply extends RawReplyDefaultExpression<RawServer> = RawReplyDefaultExpression<RawServer>,
    RouteGeneric extends RouteGenericInterface = RouteGenericInterface,
    ContextConfig = ContextConfigDefault,
    SchemaCompiler extends Schema = Schema,
    TypeProvider extends FastifyTypeProvider = FastifyTypeProviderDefault,
    Logger extends FastifyBaseLogger = FastifyBaseLogger
  > {
    /** Handles WebSockets on the URL whose ordinary requests `handler` answers. */
    wsHandler?:
      | WebSocketHandler<
          RawServer,
          RawRequest,
          RouteGeneric,
          ContextConfig,
          SchemaCompiler,
          TypeProvider,
          Logger
        >
      | undefined
  }
}
