import createError from '@fastify/error'

const prefix = 'FST_UPGRADE_'

// Mistakes of the application, thrown when the plugin or a route is registered.

export const AlreadyRegisteredError = createError(
  `${prefix}ALREADY_REGISTERED`,
  'fastify-upgrade is registered in this scope already; register it once, in a scope that holds all WebSocket routes.'
)
export const DecoratorTakenError = createError<`${typeof prefix}DECORATOR_TAKEN`, [string]>(
  `${prefix}DECORATOR_TAKEN`,
  'The decorator "websocketServer" was already added by %s; remove that plugin, as fastify-upgrade replaces it.'
)
export const Http2Error = createError(
  `${prefix}HTTP2`,
  'WebSockets over HTTP/2 are not supported yet, and this server does not accept HTTP/1.1; create it with "https: { allowHTTP1: true }", or without "http2".'
)
export const InvalidRouteError = createError<`${typeof prefix}INVALID_ROUTE`, [string, string]>(
  `${prefix}INVALID_ROUTE`,
  'The WebSocket route %s %s.',
  undefined,
  TypeError
)
export const RouteBeforePluginError = createError<`${typeof prefix}ROUTE_BEFORE_PLUGIN`, [string]>(
  `${prefix}ROUTE_BEFORE_PLUGIN`,
  'The WebSocket route GET %s was declared before fastify-upgrade was registered; write "await app.register(upgrade)" before the route, or declare the route in a plugin that is registered after fastify-upgrade.'
)
export const RouteOutOfScopeError = createError<`${typeof prefix}ROUTE_OUT_OF_SCOPE`, [string]>(
  `${prefix}ROUTE_OUT_OF_SCOPE`,
  'The WebSocket route GET %s was declared outside the scope in which fastify-upgrade is registered; register fastify-upgrade in the scope of the route or around it, or wrap the plugin that registers it with fastify-plugin.'
)
export const DuplicatedSubprotocolError = createError<
  `${typeof prefix}DUPLICATED_SUBPROTOCOL`,
  [string, string]
>(
  `${prefix}DUPLICATED_SUBPROTOCOL`,
  'Another WebSocket route at %s speaks the subprotocol "%s" already; register each subprotocol of a path once.'
)
export const TooManyRoutesError = createError<`${typeof prefix}TOO_MANY_ROUTES`, [string]>(
  `${prefix}TOO_MANY_ROUTES`,
  'There are 31 routes at %s already, the most that the router takes; let one route speak a list of subprotocols.'
)

export const InvalidTopicListError = createError<`${typeof prefix}INVALID_TOPIC_LIST`, 500, [string]>(
  `${prefix}INVALID_TOPIC_LIST`,
  'The function "topics" of a route must give a list of topics, but it gave a value of type %s.',
  500,
  TypeError
)

// Refusals of a handshake, besides those of lib/upgrade/error.ts.

export const UpgradeRequiredError = createError(
  `${prefix}UPGRADE_REQUIRED`,
  'This path speaks WebSocket only; open it with a WebSocket client.',
  426,
  Error,
  false
)
export const UnsupportedSubprotocolError = createError<
  `${typeof prefix}UNSUPPORTED_SUBPROTOCOL`,
  400,
  [string, string]
>(`${prefix}UNSUPPORTED_SUBPROTOCOL`, '%s; this path speaks %s.', 400, Error, false)
export const ForbiddenOriginError = createError(
  `${prefix}FORBIDDEN_ORIGIN`,
  'Pages of this origin may not connect.',
  403,
  Error,
  false
)
