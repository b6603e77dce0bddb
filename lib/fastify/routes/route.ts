import type { FastifyRequest, RouteOptions } from 'fastify'
import type { WebSocketHandler } from '../../../types/handler.js'
import type { TopicChoice } from '../../../types/options.js'
import type { ConnectionLimiter, SlotsByKey } from '../../limits/connection-limiter.js'
import type { MessageSchemas } from '../messages/message-schemas.js'
import type { Settings } from '../options.js'
import type { RefusalLog } from '../refusal-log.js'
import type { IsLogDisabled } from '../request-logging.js'
import type { DeliverPublication } from '../websocket.js'
import type { WebSocketServer } from '../websocket-server.js'

/** The options that an `onRoute` hook gets, for routes of any kind. */
export type RegisteredRoute = Omit<RouteOptions, 'websocket'> & {
  readonly routePath: string
  readonly prefix: string
  readonly websocket?: unknown
}

/** A WebSocket route. */
export interface WebSocketRoute {
  /** Its path with the names of parameters, for log lines and errors. */
  readonly url: string
  readonly settings: Settings
  readonly server: WebSocketServer
  /** Limit the number of its connections; empty without limits. */
  readonly limiters: readonly ConnectionLimiter[]
  /** Limit the number of connections of each user; empty without limits. */
  readonly userLimits: readonly SlotsByKey[]
  readonly refusals: RefusalLog
  /** Chooses the topics to which a new connection is subscribed. */
  readonly topics: TopicChoice | undefined
  /** Returns the message that its connections get from a publication. */
  readonly deliver: DeliverPublication | undefined
  readonly handler: WebSocketHandler
  readonly schemas: MessageSchemas
  readonly isLogDisabled: IsLogDisabled
}

/** The key of the {@link WebSocketRoute} in the `config` of a route. */
export const kRoute = Symbol('fastify-upgrade.route')

/** The WebSocket route that a request was routed to. */
export function routeOf(request: FastifyRequest): WebSocketRoute | undefined {
  return Reflect.get(request.routeOptions.config, kRoute)
}
