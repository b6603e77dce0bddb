import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Broker } from '../lib/brokers/broker.js'
import type {
  BudgetOptions,
  ConnectionOptions,
  PerMessageDeflateOptions
} from '../lib/options/connection-options.js'
import type { HandleProtocols } from '../lib/upgrade/negotiation.js'
import type { VerifyClient } from '../lib/upgrade/verify-client.js'
import type { WebSocketErrorHandler } from './handler.js'

/** Decides whether a page of `origin` may connect. */
export type OriginCheck<Request = FastifyRequest> = (
  origin: string,
  request: Request
) => boolean | Promise<boolean>

/** An origin as clients send it, `https://example.com` or `file://`, or an expression that matches the whole of one. */
export type OriginRule = string | RegExp

/** Chooses one of the subprotocols that a client offers, in its order of preference, or none. */
export type SubprotocolChoice<Request = FastifyRequest> = (
  offers: readonly string[],
  request: Request
) => string | undefined | Promise<string | undefined>

/** The levels of Fastify's logger. */
export type CloseLogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace'

/** Chooses the topics of a connection. */
export type TopicChoice<Request = FastifyRequest> = (
  request: Request
) => readonly string[] | Promise<readonly string[]>

/**
 * Options of a connection: for the plugin the defaults of every route, for a route its own. `Request` is the type of the
 * request that the callbacks get.
 */
export interface WebSocketOptions<Request = FastifyRequest> extends ConnectionOptions {
  /**
   * Which pages may connect. Browsers send an Origin and do not apply the same-origin policy to WebSockets, so without
   * a check any page could act with the cookies of your users. Requests without an Origin, which do not come from a
   * page, are let in.
   * - `'same-origin'` (default): the page was served by the host that it connects to, after `request.host`.
   * - a rule, or a list of them: these origins only.
   * - a function, which may be async.
   * - `'*'`: every page.
   */
  readonly origin?:
    | 'same-origin'
    | '*'
    | OriginRule
    | readonly OriginRule[]
    | OriginCheck<Request>
    | undefined
  /**
   * Connections and handshakes under way that there may be: given to the plugin, of all its routes together; given to a
   * route, of this route. One more gets 503 with `Retry-After`. Default: false.
   */
  readonly maxConnections?: number | false | undefined
  /**
   * The same for each remote address, after `request.ip`; IPv6 addresses count by their first 64 bits. Connections
   * without an IP address, such as those over a Unix socket, are not counted; the first logs a warning. Default: false.
   */
  readonly maxConnectionsPerAddress?: number | false | undefined
  /** Told what handlers and listeners throw. Default: logs the error and closes with 1011. */
  readonly errorHandler?: WebSocketErrorHandler<Request> | undefined
  /**
   * The level of the log line `WebSocket closed`, or false for no such line. Default: `'info'`; false where the application
   * sets `disableRequestLogging`.
   */
  readonly closeLogLevel?: CloseLogLevel | false | undefined
  /**
   * Chooses the subprotocol of a route that registers none. What it returns has to be one of the offers. Default: none
   * is chosen.
   */
  readonly selectSubprotocol?: SubprotocolChoice<Request> | undefined
}

/** `websocket` of a route. `Request` is the type of the route's requests. */
export interface WebSocketRouteOptions<Request = FastifyRequest> extends WebSocketOptions<Request> {
  /** The subprotocols that the route speaks. It gets the handshakes that offer one of them, and no others. */
  readonly subprotocol?: string | readonly string[] | undefined
  /** The topics that each connection is subscribed to before its handler runs. What it throws refuses the handshake. */
  readonly topics?: TopicChoice<Request> | undefined
}

/** Options under the names of `ws`, for code written for it. */
export interface ServerOptions {
  /** As the plugin's `maxPayload`; 0 stands for its highest value. */
  maxPayload?: number | undefined
  closeTimeout?: number | undefined
  perMessageDeflate?: boolean | PerMessageDeflateOptions | undefined
  /** Chooses the subprotocol of routes that register none; read at each handshake, so it may be assigned later. */
  handleProtocols?: HandleProtocols | undefined
  /**
   * Lets a handshake in, before the hooks of its route run, by returning true; with a second parameter, through the
   * callback. Refused ones get 401 unless the callback says otherwise.
   */
  verifyClient?: VerifyClient | undefined
}

/** What `app.close()` does to open connections. */
export interface ShutdownOptions {
  /** The close code. Default: 1001. */
  readonly code?: number | undefined
  /** The close reason, at most 123 bytes. Default: empty. */
  readonly reason?: string | undefined
  /**
   * Milliseconds that all of it may take, the plugin's `preClose` included. What is not closed by then is cut. Default:
   * 5000.
   */
  readonly timeout?: number | undefined
  /**
   * Milliseconds over which the closes are spread, each at a random moment, so that clients which connect again do not all
   * come at once. Connections work until it is their turn. Who is closed last has `timeout` less `spread` to answer.
   * Default: 0, all at once. Less than `timeout`.
   */
  readonly spread?: number | undefined
}

/** When the processes of an application tell each other who is in a topic. */
export interface PresenceOptions {
  /** Milliseconds between two tellings. Default: 5000. */
  readonly interval?: number | undefined
  /** Milliseconds after which the members of a silent process have left. Default: three times `interval`. */
  readonly timeout?: number | undefined
}

/** Options of the plugin. */
export interface FastifyUpgradeOptions extends WebSocketOptions, BudgetOptions {
  readonly options?: ServerOptions | undefined
  readonly shutdown?: ShutdownOptions | undefined
  /**
   * Carries what is published to a topic, and broadcasts, to the other processes of the application, each of which has a
   * broker of its own.
   * It is closed with the application. Default: none, for one process alone.
   */
  readonly broker?: Broker | undefined
  /** How soon a process that has crashed is noticed by those that watch who is in a topic. */
  readonly presence?: PresenceOptions | undefined
  /**
   * Runs when `app.close()` is called, before the connections are closed. They wait until it calls `done`, or until what
   * it returns has settled if it takes no parameter, but no longer than half of `shutdown.timeout`.
   */
  readonly preClose?: ((this: FastifyInstance, done: () => void) => unknown) | undefined
}
