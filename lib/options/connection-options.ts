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

/** What may be said about connections, whoever opens them. */
export interface ConnectionOptions {
  /**
   * Bytes that a message of the peer may have. It is checked on the frame header, before the message is buffered; a
   * longer one closes the connection with 1009. Default: 1048576. Range: 1 to 2147483647.
   */
  readonly maxPayload?: number | undefined
  /**
   * Compresses messages, RFC 7692, where the client offers it; `true` stands for an object without options. Default:
   * false.
   */
  readonly perMessageDeflate?: boolean | PerMessageDeflateOptions | undefined
  /** Pings, and how long a silent peer lives; `false` turns them off. */
  readonly heartbeat?: HeartbeatOptions | false | undefined
  /** Milliseconds from the request to the end of the handshake, hooks included; then 503. Default: 10000. */
  readonly handshakeTimeout?: number | undefined
  /** Milliseconds from the first Close frame to the cut; a peer that is still reading gets more. Default: 5000. */
  readonly closeTimeout?: number | undefined
  /** Bytes waiting to be sent above which `send` returns false. Default: 65536. */
  readonly highWaterMark?: number | undefined
  /**
   * Bytes waiting to be sent above which `backpressure` applies. It is for a peer that falls behind: a message of any size
   * is accepted while no more than `highWaterMark` bytes are pending, and does not count; the limit applies to what is sent
   * after it. So a connection holds this many bytes and one message at most. `false`: no limit. Default: 16777216.
   */
  readonly maxBufferedAmount?: number | false | undefined
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
}

/** What may be said about all connections of a server together. */
export interface BudgetOptions {
  /**
   * Bytes that all connections together may hold, of what waits to be sent and of messages that are not complete. A
   * connection counts while it holds 64 KiB or more. One that grows beyond is cut, or its message dropped where
   * `backpressure` says so; a peer whose message grows beyond gets 1013. Default: a quarter of the memory of the process.
   */
  readonly maxTotalBufferedAmount?: number | undefined
}
