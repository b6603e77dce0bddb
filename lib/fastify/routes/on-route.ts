import type { FastifyInstance } from 'fastify'
import type { WebSocketHandler } from '../../../types/handler.js'
import type { WebSocketRouteOptions } from '../../../types/options.js'
import { ConnectionLimiter, readConnectionLimits, type SlotsByKey } from '../../limits/connection-limiter.js'
import { nearestName } from '../../options/option.js'
import { toError } from '../../socket/error.js'
import { InvalidRouteError } from '../error.js'
import { handshakeHandler } from '../handshake/handshake-handler.js'
import type { UpgradeListener } from '../handshake/upgrade-listener.js'
import { MessageSchemas } from '../messages/message-schemas.js'
import { readRouteChoices, readRouteOptions, readUserLimit, type Settings } from '../options.js'
import type { RefusalLog } from '../refusal-log.js'
import type { IsLogDisabled } from '../request-logging.js'
import type { WebSocketServer } from '../websocket-server.js'
import type { DeclaredRoutes } from './declared-routes.js'
import { kRoute, type RegisteredRoute, type WebSocketRoute } from './route.js'
import { CONSTRAINT } from './subprotocol.js'

/** Shared by the routes of a scope. */
export interface Scope {
  readonly defaults: Settings
  readonly server: WebSocketServer
  /** Limits the connections of all routes together. */
  readonly limiter: ConnectionLimiter
  /** Limits the connections that each user has on all routes together; empty without a limit. */
  readonly userLimit: readonly SlotsByKey[]
  readonly refusals: RefusalLog
  readonly listener: UpgradeListener
  readonly declared: DeclaredRoutes
  readonly isLogDisabled: IsLogDisabled
}

/** Makes WebSocket routes of the routes that are registered with `websocket` or `wsHandler`. */
export function addWebSocketRoutes(app: FastifyInstance, scope: Scope): void {
  app.addHook('onRoute', function (options: RegisteredRoute) {
    const { websocket = false, wsHandler } = options
    scope.declared.take(options)
    warnOfMisspeltNames(this, options)
    if (!isWebSocketOption(websocket)) {
      throw new InvalidRouteError(
        options.url,
        'has an option "websocket" that is neither a boolean nor an object'
      )
    }
    if (wsHandler !== undefined) addWsHandler(this, options, wsHandler, websocket || true)
    else if (websocket !== false) addWebSocketRoute(this, options, websocket, scope)
  })
}

/** Turns the route that is being registered into a route for handshakes only. */
function addWebSocketRoute(
  app: FastifyInstance,
  options: RegisteredRoute,
  websocket: true | WebSocketRouteOptions,
  { defaults, server, limiter, userLimit, refusals, listener, declared, isLogDisabled }: Scope
): void {
  if (![options.method].flat().every(method => method === 'GET' || method === 'HEAD')) {
    throw new InvalidRouteError(options.url, 'has to have the method GET')
  }
  const handler: unknown = options.handler
  if (!isHandler(handler)) throw new InvalidRouteError(options.url, 'has a handler that is no function')
  const own = websocket === true ? {} : websocket
  const {
    settings,
    limits,
    ownUserLimit,
    topics,
    deliver,
    subprotocols = true as const
  } = namingRoute(options.url, () => ({
    settings: readRouteOptions(own, defaults),
    limits: readConnectionLimits(own, 'websocket.'),
    ownUserLimit: readUserLimit(own, 'websocket.'),
    ...readRouteChoices(own)
  }))
  const limiters = [limiter, new ConnectionLimiter(limits)].filter(({ isLimited }) => isLimited)
  const schemas = new MessageSchemas(app, options)
  const route: WebSocketRoute = {
    url: options.url,
    settings,
    server,
    limiters,
    userLimits: [...userLimit, ...ownUserLimit],
    refusals,
    handler,
    schemas,
    topics,
    deliver,
    isLogDisabled
  }
  // Fastify adds a HEAD route for a GET route. It needs the constraint too, or it would hide an ordinary HEAD route.
  if (options.method !== 'HEAD') {
    listener.routes.add(app, options.url, subprotocols, options.constraints)
    server.addSchemas(schemas, subprotocols)
    declared.add({ scope: app, options, isHidden: options.schema?.hide === true, subprotocols })
  }
  options.constraints = { ...options.constraints, [CONSTRAINT]: subprotocols }
  // API documentation leaves the route out: for an ordinary request it only answers 426.
  options.schema = Object.assign({ hide: true }, options.schema)
  options.config = Object.assign({}, options.config, { [kRoute]: route })
  options.handler = handshakeHandler(route)
}

/** Reads the options of a route, and adds the route to the message of an error. */
function namingRoute<Read>(url: string, read: () => Read): Read {
  try {
    return read()
  } catch (thrown) {
    const error = toError(thrown)
    error.message = `GET ${url}: ${error.message}`
    // The stack begins with the message.
    Error.captureStackTrace(error, namingRoute)
    throw error
  }
}

/** Warns of names that probably mean `websocket` or `wsHandler`: Fastify ignores unknown names. */
function warnOfMisspeltNames(app: FastifyInstance, options: RegisteredRoute): void {
  if (options.method === 'HEAD') return
  for (const name of Object.keys(options)) {
    const meant = nearestName(name, ['handler', 'websocket', 'wsHandler'])
    if (meant === undefined || meant === 'handler' || meant === name) continue
    app.log.warn(
      `the route ${options.url} has the option "${name}", which has no effect; did you mean "${meant}"?`
    )
  }
}

/** Adds a second route at the same URL for `wsHandler`; the first keeps its handler for ordinary requests. */
function addWsHandler(
  app: FastifyInstance,
  options: RegisteredRoute,
  wsHandler: WebSocketHandler,
  websocket: true | WebSocketRouteOptions
): void {
  const methods = [options.method].flat()
  if (options.method === 'HEAD') return
  if (!methods.includes('GET')) throw new InvalidRouteError(options.url, 'with a wsHandler has to have GET')
  const { websocket: _websocket, prefix, routePath, wsHandler: _wsHandler, ...rest } = options
  // Below a prefix, Fastify has replaced the path '/' by ''.
  const path = routePath === '' && prefix !== '' ? '/' : routePath
  app.route({
    ...withOwnLists(rest),
    method: 'GET',
    url: path,
    exposeHeadRoute: false,
    websocket,
    handler: wsHandler
  })
}

/** A copy of the options and of their lists of hooks: `onRoute` hooks of other plugins add to the lists in place. */
function withOwnLists<Options extends object>(options: Options): Options {
  const copy = { ...options }
  for (const [name, value] of Object.entries(copy))
    if (Array.isArray(value)) Reflect.set(copy, name, [...value])
  return copy
}

function isWebSocketOption(option: unknown): option is boolean | WebSocketRouteOptions {
  return typeof option === 'boolean' || (typeof option === 'object' && option !== null)
}

function isHandler(handler: unknown): handler is WebSocketHandler {
  return typeof handler === 'function'
}
