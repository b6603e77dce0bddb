import type { FastifyInstance, RouteHandlerMethod, RouteOptions } from 'fastify'
import type { WebSocketHandler } from '../../types/handler.js'
import type { WebSocketRouteOptions } from '../../types/options.js'
import { ConnectionLimiter, readConnectionLimits } from '../limits/connection-limiter.js'
import { nearestName } from '../options/option.js'
import { toError } from '../socket/error.js'
import { chooseDeflate } from '../upgrade/deflate-choice.js'
import { openConnection } from './connection.js'
import type { DeclaredRoutes } from './declared-routes.js'
import { InvalidRouteError } from './error.js'
import { readRouteChoices, readRouteOptions, type Settings } from './options.js'
import type { IsLogDisabled } from './request-logging.js'
import { kRoute, type WebSocketRoute } from './route.js'
import { CONSTRAINT } from './subprotocol.js'
import { chooseSubprotocol } from './subprotocol-choice.js'
import { chooseTopics } from './topic-choice.js'
import { Upgrade } from './upgrade.js'
import type { UpgradeListener } from './upgrade-listener.js'
import type { WebSocketServer } from './websocket-server.js'

/** Where the routes of a scope belong. */
export interface Scope {
  readonly defaults: Settings
  readonly server: WebSocketServer
  /** The connections of all routes. */
  readonly limiter: ConnectionLimiter
  readonly listener: UpgradeListener
  readonly declared: DeclaredRoutes
  readonly isLogDisabled: IsLogDisabled
}

/** What an `onRoute` hook gets, of whichever kind the route is. */
type RegisteredRoute = Omit<RouteOptions, 'websocket'> & {
  readonly routePath: string
  readonly prefix: string
  readonly websocket?: unknown
}

/** Makes the routes of a scope that ask for it WebSocket routes, as they are registered. */
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

/** Turns the route that is about to be registered into one that only handshakes reach. */
function addWebSocketRoute(
  app: FastifyInstance,
  options: RegisteredRoute,
  websocket: true | WebSocketRouteOptions,
  { defaults, server, limiter, listener, isLogDisabled }: Scope
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
    topics,
    subprotocols = true as const
  } = namingRoute(options.url, () => ({
    settings: readRouteOptions(own, defaults),
    limits: readConnectionLimits(own, 'websocket.'),
    ...readRouteChoices(own)
  }))
  const limiters = [limiter, new ConnectionLimiter(limits)].filter(({ isLimited }) => isLimited)
  const route: WebSocketRoute = {
    url: options.url,
    settings,
    server,
    limiters,
    handler,
    topics,
    isLogDisabled
  }
  // HEAD routes that Fastify adds for a GET route come here too; they keep out of the way of ordinary ones.
  if (options.method !== 'HEAD') listener.routes.add(app, options.url, subprotocols, options.constraints)
  options.constraints = { ...options.constraints, [CONSTRAINT]: subprotocols }
  // For API documentation, as an operation that answers 426 is none.
  options.schema = Object.assign({ hide: true }, options.schema)
  options.config = Object.assign({}, options.config, { [kRoute]: route })
  options.handler = handshakeHandler(route)
}

/** Reads the options of a route. The error for a wrong one names the route, as an application may have many of them. */
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

/** Warns of names that are probably meant to be `websocket` or `wsHandler`, as Fastify ignores names that it does not know. */
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
  // For the path '/' below a prefix, Fastify has made '' of it by now.
  const path = routePath === '' && prefix !== '' ? '/' : routePath
  app.route({
    ...withOwnLists(rest),
    schema: Object.assign({}, rest.schema, { hide: true }),
    method: 'GET',
    url: path,
    exposeHeadRoute: false,
    websocket,
    handler: wsHandler
  })
}

/** A copy of the options whose lists of hooks are copies too: the hooks `onRoute` of other plugins add to them in place. */
function withOwnLists<Options extends object>(options: Options): Options {
  const copy = { ...options }
  for (const [name, value] of Object.entries(copy))
    if (Array.isArray(value)) Reflect.set(copy, name, [...value])
  return copy
}

/** What Fastify runs after the hooks of the route: the end of the handshake. */
function handshakeHandler(route: WebSocketRoute): RouteHandlerMethod {
  return function (request, reply) {
    const upgrade = Upgrade.of(request.raw)
    const accept = (protocol: string | undefined, topics: readonly string[] = []): void => {
      if (upgrade === undefined || reply.sent) return
      const { perMessageDeflate } = route.settings
      const { deflate, response } = chooseDeflate(upgrade.handshake.extensions, perMessageDeflate)
      upgrade.accept({
        protocol,
        extensions: response,
        server: route.server,
        open: stream =>
          openConnection(this, route, {
            stream,
            protocol,
            deflate,
            request,
            reply,
            topics,
            handshakeTime: upgrade.elapsedTime,
            release: upgrade.keepSlots()
          })
      })
    }
    const settle = (
      choices: Promise<[protocol: string | undefined, topics: readonly string[] | undefined]>
    ) => {
      choices.then(
        choice => accept(...choice),
        error => upgrade?.refuse(toError(error))
      )
    }
    // One after the other: what the first rejects with always has somebody who hears of it.
    const protocol = upgrade && chooseSubprotocol(route, upgrade, request)
    if (protocol instanceof Promise) {
      settle(protocol.then(name => Promise.all([name, chooseTopics(route, request)])))
      return
    }
    const topics = chooseTopics(route, request)
    if (topics instanceof Promise) settle(topics.then(list => [protocol, list]))
    else accept(protocol, topics)
  }
}

function isWebSocketOption(option: unknown): option is boolean | WebSocketRouteOptions {
  return typeof option === 'boolean' || (typeof option === 'object' && option !== null)
}

function isHandler(handler: unknown): handler is WebSocketHandler {
  return typeof handler === 'function'
}
