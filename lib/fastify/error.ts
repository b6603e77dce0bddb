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

export const InvalidSchemaError = defineError(
  'INVALID_SCHEMA',
  'The schema "%s" of the WebSocket route GET %s does not compile: %s; correct the schema, or set the compiler of its language with setValidatorCompiler and setSerializerCompiler.'
)
export const AsyncValidatorError = defineError(
  'ASYNC_VALIDATOR',
  'The validator of the schema "receive" of GET %s is asynchronous, and messages would change their order; use a synchronous schema, and make asynchronous checks in the handler.'
)
export const UnknownRouteError = defineError(
  'UNKNOWN_ROUTE',
  'There is no WebSocket route %s with the schema "send"; pass the path of the route with its prefix, and its subprotocol if it has one.'
)

// A mistake of the handler, thrown by `send`.

export const SerializationError = defineError(
  'SERIALIZATION',
  'The value does not match the schema "send" of GET %s: %s; send a value of the schema.',
  { base: TypeError }
)

const InvalidMessage = defineError('INVALID_MESSAGE', '%s', { status: 400, hasStack: false })

/**
 * A message of a peer that is binary, is not JSON or breaks the schema `receive`. Its `message` and `validation` are those of
 * Fastify for a body, and `cause` is the error of the formatter or of the validator.
 */
export class InvalidMessageError extends InvalidMessage {
  /** The close code of the default reaction: 1003 for a binary message, else 1007. */
  readonly closeCode: number
  /**
   * The message: its value, its text when it was not parsed, and its bytes when it is binary. It is not enumerable, so that
   * it does not get into logs.
   */
  declare readonly value: unknown

  constructor(message: string, closeCode: number, value: unknown) {
    super(message)
    this.closeCode = closeCode
    this.validationContext = 'body'
    Object.defineProperty(this, 'value', { value })
  }
}

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
export const ExpiredError = defineRefusal(
  'EXPIRED',
  401,
  'The credentials of the request have expired; sign in again.'
)
export const ForbiddenOriginError = defineRefusal(
  'FORBIDDEN_ORIGIN',
  403,
  'Pages of this origin may not connect.'
)
