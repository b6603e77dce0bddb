import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Broker } from '../lib/brokers/broker.js'
import type { DeliverPublication, WebSocket } from '../lib/fastify/websocket.js'
import type {
  BudgetOptions,
  ConnectionLimitOptions,
  ConnectionOptions,
  PerMessageDeflateOptions
} from '../lib/options/connection-options.js'
import type { HistoryOption } from '../lib/topics/history.js'
import type { HandleProtocols } from '../lib/upgrade/negotiation.js'
import type { VerifyClient } from '../lib/upgrade/verify-client.js'
import type { InvalidMessageHandler, WebSocketErrorHandler } from './handler.js'

/** Returns whether a page of `origin` may connect. */
export type OriginCheck<Request = FastifyRequest> = (
  origin: string,
  request: Request
) => boolean | Promise<boolean>

/** An origin as clients send it, such as `https://example.com` or `file://`, or an expression that matches all of it. */
export type OriginRule = string | RegExp

/** Chooses one of the subprotocols that a client offers, or none. The offers are in the client's order of preference. */
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

/** Returns the id of the user of a connection, or undefined for none. */
export type UserChoice<Request = FastifyRequest> = (request: Request) => string | undefined

/** Returns when the credentials of a connection expire, as a Date or in milliseconds since 1970, or undefined for never. */
export type ExpiryChoice<Request = FastifyRequest> = (request: Request) => Date | number | undefined

/**
 * Options of the plugin, where they are the defaults of its routes, and of a route. `Request` and `Socket` are the callbacks'
 * request and socket.
 */
export interface WebSocketOptions<Request = FastifyRequest, Socket = WebSocket>
  extends ConnectionOptions,
    ConnectionLimitOptions {
  /**
   * Pages that may connect. Browsers do not apply the same-origin policy to WebSockets, so without this check any page
   * could act with the cookies of your users. `'same-origin'` allows pages that were served by the host to which they
   * connect (`request.host`), a rule or a list of rules allows these origins, a function may be async, and `'*'` allows
   * every page. Requests without an `Origin` header do not come from a page and are allowed. Other handshakes are refused
   * with 403. Default: `'same-origin'`.
   */
  readonly origin?:
    | 'same-origin'
    | '*'
    | OriginRule
    | readonly OriginRule[]
    | OriginCheck<Request>
    | undefined
  /**
   * Called with `(error, socket, request, reply)` when a handler or a listener throws or rejects. It must close the
   * socket if the connection should not continue. Default: logs the error and closes with 1011.
   */
  readonly errorHandler?: WebSocketErrorHandler<Request, Socket> | undefined
  /**
   * The reaction to a message that is binary, is not JSON or breaks the schema `receive` of its route. `'close'` closes the
   * connection with 1003 for a binary message and 1007 for any other. A function gets `(error, socket, request)`, may be
   * async, may answer, and keeps the connection; the message is not delivered. Default: `'close'`.
   */
  readonly invalidMessage?: 'close' | InvalidMessageHandler<Request, Socket> | undefined
  /**
   * Level of the log line `WebSocket closed`, or `false` to disable the log line. Where the application sets
   * `disableRequestLogging`, the default is `false`. Default: `'info'`.
   */
  readonly closeLogLevel?: CloseLogLevel | false | undefined
  /**
   * Chooses the subprotocol on a route that registers none: `(offers, request) => string`, which may be async. The result
   * must be one of the offers, or `undefined` for none.
   */
  readonly selectSubprotocol?: SubprotocolChoice<Request> | undefined
  /**
   * Returns the id of the user of a connection, a string of 1 to 256 bytes: `(request) => string`, or `undefined` for
   * none. The function is called after the hooks of the application, right before the handshake is accepted. An error
   * that it throws refuses the handshake. `websocketServer.user(id)` finds the connections of a user by this id.
   */
  readonly user?: UserChoice<Request> | undefined
  /**
   * Returns when the credentials of a connection expire: `(request) => Date`, or a number of milliseconds since 1970,
   * or `undefined` for never. The connection is closed at that time, unless `socket.renew` has moved it. The function
   * is called after the hooks of the application, right before the handshake is accepted. A time that has passed
   * refuses the handshake with 401. An error that the function throws refuses it, too.
   */
  readonly expires?: ExpiryChoice<Request> | undefined
  /** The close code of a connection that has expired. Default: 1008. */
  readonly expiredCode?: number | undefined
  /**
   * Connections of a user at the same time, in one process: each process counts its own connections. The plugin's limit
   * applies to all its routes together, the limit of a route to that route. Further handshakes are refused with 503 and
   * `Retry-After`. Connections without a user are not limited. Default: `false`.
   */
  readonly maxConnectionsPerUser?: number | false | undefined
}

/** Options of a route, in `websocket`. `Request` and `Socket` are the types of the route's requests and sockets. */
export interface WebSocketRouteOptions<Request = FastifyRequest, Socket = WebSocket>
  extends WebSocketOptions<Request, Socket> {
  /**
   * The subprotocols that the route speaks. The route handles handshakes whose first subprotocol supported at its path is
   * one of these.
   */
  readonly subprotocol?: string | readonly string[] | undefined
  /**
   * Returns the topics to which a connection is subscribed before its handler runs: `(request) => string[]`, which may be
   * async. An error that it throws refuses the handshake.
   */
  readonly topics?: TopicChoice<Request> | undefined
  /**
   * Returns the message that the connections get from a publication of a topic with history, for example with its
   * offset: `(publication) => data`. It is called once for each publication and all connections of the route.
   * Default: the message as it was published.
   */
  readonly deliver?: DeliverPublication | undefined
}

/** The options of the plugin under their names in `ws`, for code written for it. */
export interface ServerOptions {
  /** As `maxPayload` of the plugin, which takes precedence. 0 stands for the highest value. */
  maxPayload?: number | undefined
  /** As `closeTimeout` of the plugin, which takes precedence. */
  closeTimeout?: number | undefined
  /** As `perMessageDeflate` of the plugin, which takes precedence. */
  perMessageDeflate?: boolean | PerMessageDeflateOptions | undefined
  /**
   * Chooses one of the offered subprotocols: `(protocols, request) => string`, or `false` for none. Without it, a server
   * of `fastify-upgrade/ws` chooses the first. It is read at each handshake, so it may be assigned later.
   */
  handleProtocols?: HandleProtocols | undefined
  /**
   * Accepts a handshake by returning `true`, or through the callback that is its second parameter. Other handshakes are
   * refused with 401, or as the callback says. It is read at each handshake, so it may be assigned later. Default:
   * accepts every client.
   */
  verifyClient?: VerifyClient | undefined
}

/** Options of `shutdown`. */
export interface ShutdownOptions {
  /** The close code. Default: 1001. */
  readonly code?: number | undefined
  /** The close reason. Default: `''`. */
  readonly reason?: string | undefined
  /**
   * Milliseconds for the whole shutdown, the `preClose` of the plugin included. Connections that are still open by then
   * are cut. Default: 5000.
   */
  readonly timeout?: number | undefined
  /**
   * Milliseconds over which the closes are spread, each at a random moment, so that reconnecting clients do not arrive
   * all at once. A connection works until its turn. The last connections have `timeout` less `spread` to close. Default:
   * 0.
   */
  readonly spread?: number | undefined
}

/** Options of `presence`. */
export interface PresenceOptions {
  /** Interval in milliseconds between reports to other processes. Default: 5000. */
  readonly interval?: number | undefined
  /**
   * Milliseconds of silence after which a process counts as ended, and its members are removed. Default: three times
   * `interval`.
   */
  readonly timeout?: number | undefined
}

/** Options of the plugin. */
export interface FastifyUpgradeOptions extends WebSocketOptions, BudgetOptions {
  /** Options under their names in `ws`, for code written for it. */
  readonly options?: ServerOptions | undefined
  /** How `app.close()` closes open connections. */
  readonly shutdown?: ShutdownOptions | undefined
  /**
   * WebSockets over HTTP/2 (RFC 8441), where the server speaks it. `false` does not announce them: browsers then open a
   * connection of HTTP/1.1 for each WebSocket, which the server has to accept. A server has them when one of the scopes
   * with the plugin does. Default: `true`.
   */
  readonly http2?: boolean | undefined
  /**
   * Carries messages published to topics, and broadcasts, to the other processes of the application. Each process has a
   * broker of its own, which is closed with the application. Default: none, for a single process.
   */
  readonly broker?: Broker | undefined
  /**
   * Keeps the last publications of topics, so that subscribers receive them in one order and can recover those that
   * they have missed: the limits for all topics, or `(topic) => limits`, which returns `undefined` for a topic
   * without history. `size` is the number of publications, `ttl` the milliseconds after the last one during which
   * they are kept. All processes need the same limits. See the guide on recovery. Default: none.
   */
  readonly history?: HistoryOption | undefined
  /**
   * Publications that a subscriber recovers at most. One that has missed more is not recovered. Default: 300.
   */
  readonly maxRecoveredPublications?: number | undefined
  /** The timing of the reports in which processes announce that they run, and their members of topics. */
  readonly presence?: PresenceOptions | undefined
  /**
   * Runs when `app.close()` is called, before the connections are closed: `(done) => void`, or an async function without
   * parameters. The connections wait for it, but at most half of `shutdown.timeout`.
   */
  readonly preClose?: ((this: FastifyInstance, done: () => void) => unknown) | undefined
}
