import type { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Broker } from '../lib/pubsub/broker.js'
import type { WebSocketErrorHandler } from './handler.js'

/** Decides whether a page of `origin` may connect. */
export type OriginCheck = (origin: string, request: FastifyRequest) => boolean | Promise<boolean>

/** An origin as browsers send it, `https://example.com`, or an expression that matches the whole of one. */
export type OriginRule = string | RegExp

/** Chooses one of the subprotocols that a client offers, in its order of preference, or none. */
export type SubprotocolChoice = (
  offers: readonly string[],
  request: FastifyRequest
) => string | undefined | Promise<string | undefined>

/** Chooses the topics of a connection. */
export type TopicChoice = (request: FastifyRequest) => readonly string[] | Promise<readonly string[]>

/** How a peer that went away without a word is noticed. */
export interface HeartbeatOptions {
  /** Milliseconds between two pings. Default: 30000. */
  readonly interval?: number | undefined
  /** Milliseconds that the peer has after a ping to send a byte, whatever it be. Default: 10000. At most `interval`. */
  readonly timeout?: number | undefined
}

/** How messages are compressed, under the names of `ws`. */
export interface PerMessageDeflateOptions {
  /**
   * Whether the server compresses each message on its own. `false` saves bytes where messages resemble each other, and
   * takes about 170 KiB of memory for each connection. Clients that ask for `true` get it. Default: true.
   */
  readonly serverNoContextTakeover?: boolean | undefined
  /**
   * Whether clients have to compress each message on its own. With `false` each connection takes about 25 KiB. Default:
   * true.
   */
  readonly clientNoContextTakeover?: boolean | undefined
  /** How far back a message of the server may refer, as base-2 logarithm of bytes. Range: 9 to 15. Default: 15. */
  readonly serverMaxWindowBits?: number | undefined
  /** The same for clients, where they let the server choose. Range: 9 to 15. Default: 15. */
  readonly clientMaxWindowBits?: number | undefined
  /** Bytes below which a message is sent as it is, unless the server takes its context over. Default: 1024. */
  readonly threshold?: number | undefined
  /** Of zlib: `level` 0 to 9, default 3; `memLevel` 1 to 9, default 8; `strategy` 0 to 4, default 0. */
  readonly zlibDeflateOptions?:
    | {
        readonly level?: number | undefined
        readonly memLevel?: number | undefined
        readonly strategy?: number | undefined
        /** Of `ws`, without effect. */
        readonly chunkSize?: number | undefined
      }
    | undefined
  /** Of `ws`, without effect. */
  readonly zlibInflateOptions?: object | undefined
  /** Of `ws`, without effect: the whole process compresses eight large messages at a time. */
  readonly concurrencyLimit?: number | undefined
}

/** What a peer may send a second. A second's worth may come at once. */
export interface RateLimitOptions {
  readonly messages?: number | undefined
  /** Of the WebSocket, headers and control frames included. */
  readonly bytes?: number | undefined
  /** Whether reading stops until that is made up for, so that TCP holds the peer back, or 1008 ends it. Default: 'pause'. */
  readonly policy?: 'pause' | 'close' | undefined
}

/** Options of a connection: for the plugin the defaults of every route, for a route its own. */
export interface WebSocketOptions {
  /**
   * Bytes that a message of the peer may have. It is checked on the frame header, before the message is buffered; a
   * longer one closes the connection with 1009. Default: 1048576. Range: 1 to 2147483647.
   */
  readonly maxPayload?: number | undefined
  /**
   * Which pages may connect. Browsers send an Origin and do not apply the same-origin policy to WebSockets, so without
   * a check any page could act with the cookies of your users. Requests without an Origin, which do not come from a
   * page, are let in.
   * - `'same-origin'` (default): the page was served by the host that it connects to, after `request.host`.
   * - a rule, or a list of them: these origins only.
   * - a function, which may be async.
   * - `'*'`: every page.
   */
  readonly origin?: 'same-origin' | '*' | OriginRule | readonly OriginRule[] | OriginCheck | undefined
  /**
   * Compresses messages, RFC 7692, where the client offers it; `true` stands for an object without options. Default:
   * false.
   */
  readonly perMessageDeflate?: boolean | PerMessageDeflateOptions | undefined
  /** Pings, and how long a silent peer lives; `false` turns them off. */
  readonly heartbeat?: HeartbeatOptions | false | undefined
  /** Milliseconds from the request to the end of the handshake, hooks included; then 503. Default: 10000. */
  readonly handshakeTimeout?: number | undefined
  /** Milliseconds from the first Close frame to the cut. Default: 5000. */
  readonly closeTimeout?: number | undefined
  /** Bytes waiting to be sent above which `send` returns false. Default: 65536. */
  readonly highWaterMark?: number | undefined
  /** Bytes waiting to be sent above which `backpressure` applies. Default: 16777216. */
  readonly maxBufferedAmount?: number | undefined
  /**
   * What happens when more than `maxBufferedAmount` bytes would wait for a peer: `'close'` (default) cuts the connection,
   * with an error on its `error` and `close` events; `'drop'` does not send the message, counts it in `socket.dropped`,
   * tells it to the callback of `send` and, once a tick, to `drop` listeners.
   */
  readonly backpressure?: 'close' | 'drop' | undefined
  /**
   * Messages that asynchronous `message` listeners may be at work on; while there are as many, no more is read. `false`:
   * any number. Default: 256.
   */
  readonly maxPendingMessages?: number | false | undefined
  /**
   * Milliseconds from the first byte of a message to its last, while it is read; then 1008. `false`: for ever. Default:
   * 60000.
   */
  readonly messageTimeout?: number | false | undefined
  /**
   * Milliseconds without a message in either direction, to which a quarter may be added; then 1001. Pings do not count.
   * Default: false.
   */
  readonly idleTimeout?: number | false | undefined
  /**
   * Milliseconds after which a connection is closed with 1001, whatever it does. Each gets a tenth less at most, at
   * random, so that those which came together do not come back together. Default: false.
   */
  readonly maxLifetime?: number | false | undefined
  /** Control frames that a peer may send a second; then 1008. `false`: any number. Default: 1000. */
  readonly maxControlFrames?: number | false | undefined
  /** What a peer may send a second. Default: false. */
  readonly rateLimit?: RateLimitOptions | false | undefined
  /**
   * Connections and handshakes under way that there may be: given to the plugin, of all its routes together; given to a
   * route, of this route. One more gets 503 with `Retry-After`. Default: false.
   */
  readonly maxConnections?: number | false | undefined
  /**
   * The same for each remote address, after `request.ip`; IPv6 addresses count by their first 64 bits. Default: false.
   */
  readonly maxConnectionsPerAddress?: number | false | undefined
  /** Told what handlers and listeners throw. Default: logs the error and closes with 1011. */
  readonly errorHandler?: WebSocketErrorHandler | undefined
  /**
   * Chooses the subprotocol of a route that registers none. What it returns has to be one of the offers. Default: none
   * is chosen.
   */
  readonly selectSubprotocol?: SubprotocolChoice | undefined
}

/** `websocket` of a route. */
export interface WebSocketRouteOptions extends WebSocketOptions {
  /** The subprotocols that the route speaks. It gets the handshakes that offer one of them, and no others. */
  readonly subprotocol?: string | readonly string[] | undefined
  /** The topics that each connection is subscribed to before its handler runs. What it throws refuses the handshake. */
  readonly topics?: TopicChoice | undefined
}

/** What `verifyClient` is told, as in `ws`. */
export interface VerifyClientInfo {
  readonly origin: string
  readonly secure: boolean
  readonly req: IncomingMessage
}

/** Options under the names of `ws`, for code written for it. */
export interface ServerOptions {
  /** As the plugin's `maxPayload`; 0 stands for its highest value. */
  maxPayload?: number | undefined
  closeTimeout?: number | undefined
  perMessageDeflate?: boolean | PerMessageDeflateOptions | undefined
  /** Chooses the subprotocol of routes that register none; read at each handshake, so it may be assigned later. */
  handleProtocols?: ((protocols: Set<string>, request: IncomingMessage) => string | false) | undefined
  /**
   * Lets a handshake in, before the hooks of its route run, by returning true; with a second parameter, through the
   * callback. Refused ones get 401 unless the callback says otherwise.
   */
  verifyClient?:
    | ((
        info: VerifyClientInfo,
        callback: (
          verified: boolean,
          code?: number,
          message?: string,
          headers?: Record<string, string | number>
        ) => void
      ) => unknown)
    | undefined
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
export interface FastifyUpgradeOptions extends WebSocketOptions {
  readonly options?: ServerOptions | undefined
  readonly shutdown?: ShutdownOptions | undefined
  /**
   * Bytes that all connections together may hold, of what waits to be sent and of messages that are not complete. A
   * connection counts while it holds 64 KiB or more. One that grows beyond is cut, or its message dropped where
   * `backpressure` says so; a peer whose message grows beyond gets 1013. Default: a quarter of the memory of the process.
   */
  readonly maxTotalBufferedAmount?: number | undefined
  /**
   * Carries what is published to a topic to the other processes of the application, each of which has a broker of its own.
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
