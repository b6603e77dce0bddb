/** Options of `heartbeat`. */
export interface HeartbeatOptions {
  /** Milliseconds between two pings. Default: 30000. */
  readonly interval?: number | undefined
  /**
   * Milliseconds after a ping within which the peer must send any byte. A peer that is still reading the data sent before
   * the ping gets more time. The default is at most `interval`. Default: 10000.
   */
  readonly timeout?: number | undefined
}

/** Options of `perMessageDeflate`, under their names in `ws`. */
export interface PerMessageDeflateOptions {
  /**
   * Whether the server compresses each message on its own. `false` saves bytes where messages resemble each other, and
   * costs about 170 KiB of memory for each connection. A client that asks for `true` gets it. Default: `true`.
   */
  readonly serverNoContextTakeover?: boolean | undefined
  /**
   * Whether clients must compress each message on its own. `false` costs about 25 KiB of memory for each connection.
   * Default: `true`.
   */
  readonly clientNoContextTakeover?: boolean | undefined
  /**
   * Size of the window with which the server compresses, as the base-2 logarithm of bytes. A smaller window saves memory
   * and compresses less. Default: 15.
   */
  readonly serverMaxWindowBits?: number | undefined
  /**
   * Size of the window with which clients compress, as the base-2 logarithm of bytes. It applies to clients that let the
   * server choose. Default: 15.
   */
  readonly clientMaxWindowBits?: number | undefined
  /**
   * Bytes below which a message is sent uncompressed. It has no effect while the server uses context takeover. Default:
   * 1024.
   */
  readonly threshold?: number | undefined
  /** Options of the zlib compressor. */
  readonly zlibDeflateOptions?:
    | {
        /** Compression level. A higher level costs more CPU time and saves bytes. Default: 3. */
        readonly level?: number | undefined
        /** Memory that zlib uses for its state. A lower level saves memory and compresses less. Default: 8. */
        readonly memLevel?: number | undefined
        /** Compression strategy, one of the `Z_*` strategy constants of `node:zlib`. Default: 0. */
        readonly strategy?: number | undefined
        /** Accepted for code written for `ws`, without effect. */
        readonly chunkSize?: number | undefined
      }
    | undefined
  /** Accepted for code written for `ws`, without effect. */
  readonly zlibInflateOptions?: object | undefined
  /** Accepted for code written for `ws`, without effect: the process compresses eight large messages at a time. */
  readonly concurrencyLimit?: number | undefined
}

/** Options of `rateLimit`. */
export interface RateLimitOptions {
  /** Messages per second. Default: `false`. */
  readonly messages?: number | undefined
  /**
   * Bytes per second on the WebSocket, frame headers and control frames included. One read of up to 64 KiB may exceed the
   * rate. Default: `false`.
   */
  readonly bytes?: number | undefined
  /**
   * `'pause'` stops reading until the rate is met again, so that TCP slows the peer down. `'close'` closes the connection
   * with 1008. Default: `'pause'`.
   */
  readonly policy?: 'pause' | 'close' | undefined
}

/** Options of a connection. */
export interface ConnectionOptions {
  /**
   * Size in bytes of the largest message that a peer may send. The limit is checked on the frame header, before the
   * message is buffered, and while a compressed message is inflated. A larger message closes the connection with 1009.
   * Default: 1048576.
   */
  readonly maxPayload?: number | undefined
  /**
   * Compresses messages with permessage-deflate (RFC 7692) for clients that offer it. `true` stands for an object without
   * options. Compression costs CPU time, and without the two no-context-takeover options also memory for each connection.
   * Default: `false`.
   */
  readonly perMessageDeflate?: boolean | PerMessageDeflateOptions | undefined
  /**
   * Pings each peer and cuts a peer that does not respond. `false` turns pings off; a peer that has disappeared then
   * stays connected until `idleTimeout` passes or the operating system reports an error.
   */
  readonly heartbeat?: HeartbeatOptions | false | undefined
  /**
   * Time limit in milliseconds for a handshake, hooks included, from the moment its route is known. A handshake that
   * takes longer is refused with 503. Default: 10000.
   */
  readonly handshakeTimeout?: number | undefined
  /**
   * Milliseconds from the first Close frame until the connection is cut. A peer that is still reading gets more time.
   * Default: 5000.
   */
  readonly closeTimeout?: number | undefined
  /** Buffered bytes above which `send` returns `false`. Default: 65536. */
  readonly highWaterMark?: number | undefined
  /**
   * Buffered bytes above which `backpressure` applies. A message of any size is accepted while at most `highWaterMark`
   * bytes are buffered, so a connection holds at most this many bytes and one message. `false` removes the limit; a peer
   * that does not read can then fill the memory of the process. Default: 16777216.
   */
  readonly maxBufferedAmount?: number | false | undefined
  /**
   * The reaction to a message that would exceed `maxBufferedAmount`. `'close'` cuts the connection, with an error on its
   * `error` and `close` events. `'drop'` drops the message, counts it in `socket.dropped`, passes an error to the
   * callback of `send` and emits `drop` once per tick. Default: `'close'`.
   */
  readonly backpressure?: 'close' | 'drop' | undefined
  /**
   * Messages that asynchronous `message` listeners may process at the same time. Reading pauses while there are that
   * many. `false` removes the limit. Default: 256.
   */
  readonly maxPendingMessages?: number | false | undefined
  /**
   * Milliseconds from the first byte of a message to its last, counted while the connection is read. A slower message
   * closes the connection with 1008. `false` removes the limit. Default: 60000.
   */
  readonly messageTimeout?: number | false | undefined
  /**
   * Milliseconds without a message in either direction after which a connection is closed with 1001. The close can
   * come up to 25 % later. Pings and pongs do not count. Default: `false`.
   */
  readonly idleTimeout?: number | false | undefined
  /**
   * Milliseconds after which a connection is closed with 1001, even while it is in use. Each connection lives up to a
   * tenth less, at random, so that clients do not all reconnect at once. Default: `false`.
   */
  readonly maxLifetime?: number | false | undefined
  /**
   * Control frames (ping, pong) per second that a peer may send. Exceeding this closes the connection with 1008. `false`
   * removes the limit. Default: 1000.
   */
  readonly maxControlFrames?: number | false | undefined
  /** Limits what a peer may send per second. One second's allowance may arrive at once. Default: `false`. */
  readonly rateLimit?: RateLimitOptions | false | undefined
}

/** Limits on the number of connections. */
export interface ConnectionLimitOptions {
  /**
   * Connections at the same time, handshakes in progress included. The plugin's limit applies to all its routes together,
   * the limit of a route to that route. Further handshakes are refused with 503 and `Retry-After`. Default: `false`.
   */
  readonly maxConnections?: number | false | undefined
  /**
   * The same limit for each remote address, which is `request.ip`, and in `fastify-upgrade/ws` the address of the socket.
   * IPv6 addresses count by their first 64 bits. Connections without an IP address, such as those over a Unix socket, are
   * not limited; the first of them causes a warning. Default: `false`.
   */
  readonly maxConnectionsPerAddress?: number | false | undefined
}

/** Options of all connections of a server together. */
export interface BudgetOptions {
  /**
   * Bytes that all connections together may hold, in data to be sent and in incomplete messages. A connection counts
   * while it holds 64 KiB or more. A connection that grows beyond the limit is cut, or its message is dropped, as
   * `backpressure` says; a peer whose incoming message grows beyond it is closed with 1013. Default: a quarter of the
   * memory that the process may use.
   */
  readonly maxTotalBufferedAmount?: number | undefined
}
