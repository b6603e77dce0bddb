import type { FastifyRequest } from 'fastify'
import type { WebSocketHandler } from '../../types/handler.js'
import type { TopicChoice } from '../../types/options.js'
import type { ConnectionLimiter } from '../limits/connection-limiter.js'
import type { Settings } from './options.js'
import type { IsLogDisabled } from './request-logging.js'
import type { WebSocketServer } from './websocket-server.js'

/** What the plugin knows of a WebSocket route. */
export interface WebSocketRoute {
  /** Its path with the names of parameters, for messages. */
  readonly url: string
  readonly settings: Settings
  readonly server: WebSocketServer
  /** Those of the plugin and of the route that have a limit. */
  readonly limiters: readonly ConnectionLimiter[]
  /** What its connections are subscribed to from the start. */
  readonly topics: TopicChoice | undefined
  readonly handler: WebSocketHandler
  readonly isLogDisabled: IsLogDisabled
}

/** Where the `config` of a route keeps its {@link WebSocketRoute}. */
export const kRoute = Symbol('fastify-upgrade.route')

/** The WebSocket route that a request was routed to. */
export function routeOf(request: FastifyRequest): WebSocketRoute | undefined {
  return Reflect.get(request.routeOptions.config, kRoute)
}
