import { defineError, defineRefusal } from '../error.js'

// Mistakes of the application, thrown when the plugin or a route is registered.

export const AlreadyRegisteredError = defineError(
  'ALREADY_REGISTERED',
  'fastify-upgrade is registered in this scope already; register it once, in a scope that holds all WebSocket routes.'
)
export const DecoratorTakenError = defineError(
  'DECORATOR_TAKEN',
  'The decorator "websocketServer" was already added by %s; remove that plugin, as fastify-upgrade replaces it.'
)
export const Http2Error = defineError(
  'HTTP2',
  'WebSockets over HTTP/2 are not supported yet, and this server does not accept HTTP/1.1; create it with "https: { allowHTTP1: true }", or without "http2".'
)
export const InvalidRouteError = defineError('INVALID_ROUTE', 'The WebSocket route %s %s.', {
  base: TypeError
})
export const RouteBeforePluginError = defineError(
  'ROUTE_BEFORE_PLUGIN',
  'The WebSocket route GET %s was declared before fastify-upgrade was registered; write "await app.register(upgrade)" before the route, or declare the route in a plugin that is registered after fastify-upgrade.'
)
export const RouteOutOfScopeError = defineError(
  'ROUTE_OUT_OF_SCOPE',
  'The WebSocket route GET %s was declared outside the scope in which fastify-upgrade is registered; register fastify-upgrade in the scope of the route or around it, or wrap the plugin that registers it with fastify-plugin.'
)
export const DuplicatedSubprotocolError = defineError(
  'DUPLICATED_SUBPROTOCOL',
  'Another WebSocket route at %s speaks the subprotocol "%s" already; register each subprotocol of a path once.'
)
export const TooManyRoutesError = defineError(
  'TOO_MANY_ROUTES',
  'There are 31 routes at %s already, the most that the router takes; let one route speak a list of subprotocols.'
)

export const InvalidTopicListError = defineError(
  'INVALID_TOPIC_LIST',
  'The function "topics" of a route must give a list of topics, but it gave a value of type %s.',
  { base: TypeError, status: 500 }
)

// Refusals of a handshake, besides those of lib/upgrade/error.ts.

export const UpgradeRequiredError = defineRefusal(
  'UPGRADE_REQUIRED',
  426,
  'This path speaks WebSocket only; open it with a WebSocket client.'
)
export const UnsupportedSubprotocolError = defineRefusal(
  'UNSUPPORTED_SUBPROTOCOL',
  400,
  '%s; this path speaks %s.'
)
export const ForbiddenOriginError = defineRefusal(
  'FORBIDDEN_ORIGIN',
  403,
  'Pages of this origin may not connect.'
)
