import { totalmem } from 'node:os'
import {
  GOING_AWAY,
  isValidCloseCode,
  MAX_CONTROL_PAYLOAD,
  POLICY_VIOLATION
} from '../protocol/close-code.js'
import { isToken } from '../protocol/handshake/token.js'
import {
  boolean,
  type Callback,
  callback,
  checked,
  computedFrom,
  constant,
  converted,
  group,
  groupOrBoolean,
  groupOrFalse,
  integer,
  limit,
  MAX_INT32,
  type Option,
  type OptionTable,
  oneOf,
  unchecked,
  type ValuesOf
} from './option.js'

// Every option, once: validation, defaults, the types of the settings and docs/reference/options.md come from here. After a change, give
// the public type the same description, and run `npm run docs:options`.

const MAX_BYTES = Number.MAX_SAFE_INTEGER

// ---- objects among the options of a connection

const HEARTBEAT = {
  interval: integer({ description: 'Milliseconds between two pings.', default: 30_000 }),
  timeout: integer({
    description:
      'Milliseconds after a ping within which the peer must send any byte. A peer that is still reading the data sent before the ping gets more time. The default is at most `interval`.',
    default: 10_000,
    max: computedFrom('interval', '`interval`', interval => interval)
  })
}

export type HeartbeatSettings = ValuesOf<typeof HEARTBEAT>

const RATE_LIMIT = {
  messages: rate('Messages per second.', MAX_INT32),
  bytes: rate(
    'Bytes per second on the WebSocket, frame headers and control frames included. One read of up to 64 KiB may exceed the rate.',
    MAX_BYTES
  ),
  policy: oneOf({
    description:
      "`'pause'` stops reading until the rate is met again, so that TCP slows the peer down. `'close'` closes the connection with 1008.",
    default: 'pause',
    values: ['pause', 'close']
  })
}

/** Limits on what a peer may send per second. */
export type RateLimit = ValuesOf<typeof RATE_LIMIT>

/** A limit that is off by default. */
function rate(description: string, max: number): Option<number | undefined> {
  return converted(limit({ description, default: false, max }), value => value || undefined)
}

/** The default level is the one of the measurements in docs/background/performance.md. */
const ZLIB = {
  level: integer({
    description: 'Compression level. A higher level costs more CPU time and saves bytes.',
    default: 3,
    min: 0,
    max: 9
  }),
  memLevel: integer({
    description: 'Memory that zlib uses for its state. A lower level saves memory and compresses less.',
    default: 8,
    max: 9
  }),
  strategy: integer({
    description: 'Compression strategy, one of the `Z_*` strategy constants of `node:zlib`.',
    default: 0,
    min: 0,
    max: 4
  }),
  chunkSize: unchecked({ description: 'Accepted for code written for `ws`, without effect.', values: 'any' })
}

const ZLIB_OPTIONS = group({ description: 'Options of the zlib compressor.', options: ZLIB })

/** zlib has no raw window of 8 bits. */
const windowBits = (description: string): Option<number> =>
  integer({ description, default: 15, min: 9, max: 15 })

const DEFLATE = {
  serverNoContextTakeover: boolean({
    description:
      'Whether the server compresses each message on its own. `false` saves bytes where messages resemble each other, and costs about 170 KiB of memory for each connection. A client that asks for `true` gets it.',
    default: true
  }),
  clientNoContextTakeover: boolean({
    description:
      'Whether clients must compress each message on its own. `false` costs about 25 KiB of memory for each connection.',
    default: true
  }),
  serverMaxWindowBits: windowBits(
    'Size of the window with which the server compresses, as the base-2 logarithm of bytes. A smaller window saves memory and compresses less.'
  ),
  clientMaxWindowBits: windowBits(
    'Size of the window with which clients compress, as the base-2 logarithm of bytes. It applies to clients that let the server choose.'
  ),
  threshold: integer({
    description:
      'Bytes below which a message is sent uncompressed. It has no effect while the server uses context takeover.',
    default: 1024,
    min: 0,
    max: MAX_BYTES
  }),
  zlibDeflateOptions: {
    ...ZLIB_OPTIONS,
    // As in `ws`, null stands for none.
    read: (value, name, siblings) => ZLIB_OPTIONS.read(value ?? {}, name, siblings)
  } satisfies typeof ZLIB_OPTIONS,
  zlibInflateOptions: unchecked({
    description: 'Accepted for code written for `ws`, without effect.',
    values: 'any'
  }),
  concurrencyLimit: unchecked({
    description:
      'Accepted for code written for `ws`, without effect: the process compresses eight large messages at a time.',
    values: 'any'
  })
}

/** How messages are compressed. */
export interface DeflateSettings
  extends Omit<ValuesOf<typeof DEFLATE>, 'zlibDeflateOptions' | 'zlibInflateOptions' | 'concurrencyLimit'>,
    Omit<ValuesOf<typeof ZLIB>, 'chunkSize'> {}

const perMessageDeflate = converted(
  groupOrBoolean({
    description:
      'Compresses messages with permessage-deflate (RFC 7692) for clients that offer it. `true` stands for an object without options. Compression costs CPU time, and without the two no-context-takeover options also memory for each connection.',
    options: DEFLATE
  }),
  (settings): DeflateSettings | false => {
    if (settings === false) return false
    const { serverNoContextTakeover, clientNoContextTakeover, threshold } = settings
    const { serverMaxWindowBits, clientMaxWindowBits } = settings
    const { level, memLevel, strategy } = settings.zlibDeflateOptions
    return {
      serverNoContextTakeover,
      clientNoContextTakeover,
      serverMaxWindowBits,
      clientMaxWindowBits,
      threshold,
      level,
      memLevel,
      strategy
    }
  }
)

// ---- the sections

/** Of each connection. */
export const CONNECTION_OPTIONS = {
  maxPayload: integer({
    description:
      'Size in bytes of the largest message that a peer may send. The limit is checked on the frame header, before the message is buffered, and while a compressed message is inflated. A larger message closes the connection with 1009.',
    default: 2 ** 20,
    wsDefault: 100 * 2 ** 20
  }),
  perMessageDeflate,
  heartbeat: groupOrFalse({
    description:
      'Pings each peer and cuts a peer that does not respond. `false` turns pings off; a peer that has disappeared then stays connected until `idleTimeout` passes or the operating system reports an error.',
    options: HEARTBEAT,
    isOn: true,
    wsDefault: false
  }),
  handshakeTimeout: integer({
    description:
      'Time limit in milliseconds for a handshake, hooks included, from the moment its route is known. A handshake that takes longer is refused with 503.',
    default: 10_000
  }),
  closeTimeout: integer({
    description:
      'Milliseconds from the first Close frame until the connection is cut. A peer that is still reading gets more time.',
    default: 5_000
  }),
  highWaterMark: integer({
    description: 'Buffered bytes above which `send` returns `false`.',
    default: 2 ** 16,
    max: MAX_BYTES
  }),
  maxBufferedAmount: limit({
    description:
      'Buffered bytes above which `backpressure` applies. A message of any size is accepted while at most `highWaterMark` bytes are buffered, so a connection holds at most this many bytes and one message. `false` removes the limit; a peer that does not read can then fill the memory of the process.',
    default: 2 ** 24,
    max: MAX_BYTES
  }),
  backpressure: oneOf({
    description:
      "The reaction to a message that would exceed `maxBufferedAmount`. `'close'` cuts the connection, with an error on its `error` and `close` events. `'drop'` drops the message, counts it in `socket.dropped`, passes an error to the callback of `send` and emits `drop` once per tick.",
    default: 'close',
    values: ['close', 'drop']
  }),
  maxPendingMessages: limit({
    description:
      'Messages that asynchronous `message` listeners may process at the same time. Reading pauses while there are that many. `false` removes the limit.',
    default: 256
  }),
  messageTimeout: limit({
    description:
      'Milliseconds from the first byte of a message to its last, counted while the connection is read. A slower message closes the connection with 1008. `false` removes the limit.',
    default: 60_000
  }),
  maxControlFrames: limit({
    description:
      'Control frames (ping, pong) per second that a peer may send. Exceeding this closes the connection with 1008. `false` removes the limit.',
    default: 1000
  }),
  rateLimit: groupOrFalse({
    description: "Limits what a peer may send per second. One second's allowance may arrive at once.",
    options: RATE_LIMIT,
    isOn: false
  }),
  idleTimeout: limit({
    description:
      'Milliseconds without a message in either direction after which a connection is closed with 1001. The close can come up to 25 % later. Pings and pongs do not count.',
    default: false
  }),
  maxLifetime: limit({
    description:
      'Milliseconds after which a connection is closed with 1001, even while it is in use. Each connection lives up to a tenth less, at random, so that clients do not all reconnect at once.',
    default: false
  })
}

/** Of the number of connections. A route does not inherit them: each has a limiter of its own. */
export const CONNECTION_LIMITS = {
  maxConnections: limit({
    description:
      "Connections at the same time, handshakes in progress included. The plugin's limit applies to all its routes together, the limit of a route to that route. Further handshakes are refused with 503 and `Retry-After`.",
    default: false
  }),
  maxConnectionsPerAddress: limit({
    description:
      'The same limit for each remote address, which is `request.ip`, and in `fastify-upgrade/ws` the address of the socket. IPv6 addresses count by their first 64 bits. Connections without an IP address, such as those over a Unix socket, are not limited; the first of them causes a warning.',
    default: false
  })
}

const CLOSE_CODE = {
  is: (value: unknown): value is number => Number.isInteger(value) && isValidCloseCode(Number(value)),
  must: 'a close code that may be sent',
  values: '1000 to 1003, 1007 to 1014, or 3000 to 4999'
}

/** Of the users of connections, and of their credentials. */
export const USER_OPTIONS = {
  user: callback({
    description:
      'Returns the id of the user of a connection, a string of 1 to 256 bytes: `(request) => string`, or `undefined` for none. The function is called after the hooks of the application, right before the handshake is accepted. An error that it throws refuses the handshake. `websocketServer.user(id)` finds the connections of a user by this id.'
  }),
  expires: callback({
    description:
      'Returns when the credentials of a connection expire: `(request) => Date`, or a number of milliseconds since 1970, or `undefined` for never. The connection is closed at that time, unless `socket.renew` has moved it. The function is called after the hooks of the application, right before the handshake is accepted. A time that has passed refuses the handshake with 401. An error that the function throws refuses it, too.'
  }),
  expiredCode: checked({
    description: 'The close code of a connection that has expired.',
    default: POLICY_VIOLATION,
    ...CLOSE_CODE,
    defaultText: String(POLICY_VIOLATION)
  })
}

/** Of the number of connections of a user. A route does not inherit it. */
export const USER_LIMITS = {
  maxConnectionsPerUser: limit({
    description:
      "Connections of a user at the same time, in one process: each process counts its own connections. The plugin's limit applies to all its routes together, the limit of a route to that route. Further handshakes are refused with 503 and `Retry-After`. Connections without a user are not limited.",
    default: false
  })
}

/** Of all connections together. */
export const BUDGET_OPTIONS = {
  maxTotalBufferedAmount: integer({
    description:
      'Bytes that all connections together may hold, in data to be sent and in incomplete messages. A connection counts while it holds 64 KiB or more. A connection that grows beyond the limit is cut, or its message is dropped, as `backpressure` says; a peer whose incoming message grows beyond it is closed with 1013.',
    default: {
      text: 'a quarter of the memory that the process may use',
      compute: () => Math.floor(memory() / 4)
    },
    max: MAX_BYTES
  })
}

/** Without a constraint on the process, `constrainedMemory` is 0 or a huge number. */
function memory(): number {
  return Math.min(...[process.constrainedMemory(), totalmem()].filter(bytes => bytes > 0))
}

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const

type LogLevel = (typeof LOG_LEVELS)[number]

/** Of the routes of the plugin. */
export const HANDSHAKE_OPTIONS = {
  origin: unchecked({
    description:
      "Pages that may connect. Browsers do not apply the same-origin policy to WebSockets, so without this check any page could act with the cookies of your users. `'same-origin'` allows pages that were served by the host to which they connect (`request.host`), a rule or a list of rules allows these origins, a function may be async, and `'*'` allows every page. Requests without an `Origin` header do not come from a page and are allowed. Other handshakes are refused with 403.",
    values:
      "`'same-origin'`, `'*'`, an origin or a RegExp, a list of these, or `(origin, request) => boolean`",
    defaultText: "`'same-origin'`"
  }),
  selectSubprotocol: callback({
    description:
      'Chooses the subprotocol on a route that registers none: `(offers, request) => string`, which may be async. The result must be one of the offers, or `undefined` for none.'
  }),
  errorHandler: callback({
    description:
      'Called with `(error, socket, request, reply)` when a handler or a listener throws or rejects. It must close the socket if the connection should not continue.',
    defaultText: 'logs the error and closes with 1011'
  }),
  invalidMessage: checked({
    description:
      "The reaction to a message that is binary, is not JSON or breaks the schema `receive` of its route. `'close'` closes the connection with 1003 for a binary message and 1007 for any other. A function gets `(error, socket, request)`, may be async, may answer, and keeps the connection; the message is not delivered.",
    default: 'close',
    is: (value): value is 'close' | Callback => value === 'close' || typeof value === 'function',
    must: "'close' or a function",
    values: "`'close'`, or `(error, socket, request) => void`",
    defaultText: "`'close'`"
  }),
  closeLogLevel: checked({
    description:
      'Level of the log line `WebSocket closed`, or `false` to disable the log line. Where the application sets `disableRequestLogging`, the default is `false`.',
    default: undefined,
    is: (value): value is LogLevel | false => value === false || LOG_LEVELS.some(level => level === value),
    must: `one of ${LOG_LEVELS.join(', ')}, or false`,
    values: `${LOG_LEVELS.map(level => `\`'${level}'\``).join(', ')}, or \`false\``,
    defaultText: "`'info'`"
  })
}

const SHUTDOWN = {
  code: checked({
    description: 'The close code.',
    default: GOING_AWAY,
    ...CLOSE_CODE,
    defaultText: String(GOING_AWAY)
  }),
  reason: checked({
    description: 'The close reason.',
    default: '',
    is: (value): value is string =>
      typeof value === 'string' && Buffer.byteLength(value) <= MAX_CONTROL_PAYLOAD - 2,
    must: `a string of at most ${MAX_CONTROL_PAYLOAD - 2} bytes`,
    defaultText: "`''`"
  }),
  timeout: integer({
    description:
      'Milliseconds for the whole shutdown, the `preClose` of the plugin included. Connections that are still open by then are cut.',
    default: 5_000
  }),
  spread: integer({
    description:
      'Milliseconds over which the closes are spread, each at a random moment, so that reconnecting clients do not arrive all at once. A connection works until its turn. The last connections have `timeout` less `spread` to close.',
    default: 0,
    min: 0,
    max: computedFrom('timeout', '`timeout` - 1', timeout => timeout - 1)
  })
}

/** The options of `app.close()`. */
export type ShutdownSettings = ValuesOf<typeof SHUTDOWN>

const PRESENCE = {
  interval: integer({
    description: 'Interval in milliseconds between reports to other processes.',
    default: 5_000,
    max: MAX_INT32 - 1
  }),
  // A message that is late by a moment does not remove members.
  timeout: integer({
    description:
      'Milliseconds of silence after which a process counts as ended, and its members are removed.',
    default: computedFrom('interval', 'three times `interval`', interval => 3 * interval),
    min: computedFrom('interval', '`interval` + 1', interval => interval + 1)
  })
}

const handleProtocols = callback({
  description:
    'Chooses one of the offered subprotocols: `(protocols, request) => string`, or `false` for none. Without it, a server of `fastify-upgrade/ws` chooses the first. It is read at each handshake, so it may be assigned later.'
})

const verifyClient = callback({
  description:
    'Accepts a handshake by returning `true`, or through the callback that is its second parameter. Other handshakes are refused with 401, or as the callback says. It is read at each handshake, so it may be assigned later.',
  defaultText: 'accepts every client'
})

const autoPong = constant(true, 'Only `true` is supported: pings are always answered.')
const skipUTF8Validation = constant(false, 'Only `false` is supported: text is always validated.')

/** The object `options` of the plugin. */
export const SERVER_OPTIONS = {
  maxPayload: unchecked({
    description: 'As `maxPayload` of the plugin, which takes precedence. 0 stands for the highest value.',
    values: 'a number'
  }),
  closeTimeout: unchecked({
    description: 'As `closeTimeout` of the plugin, which takes precedence.',
    values: 'a number'
  }),
  perMessageDeflate: unchecked({
    description: 'As `perMessageDeflate` of the plugin, which takes precedence.',
    values: 'an object, `true` or `false`'
  }),
  handleProtocols,
  verifyClient,
  clientTracking: constant(true, 'Only `true` is supported: the set `clients` always exists.'),
  autoPong,
  skipUTF8Validation
}

export const HISTORY_LIMITS = `an object with the integers "size" and "ttl", from 1 to ${MAX_INT32}`

export function isHistoryLimits(value: unknown): value is { readonly size: number; readonly ttl: number } {
  const limits = [Reflect.get(Object(value), 'size'), Reflect.get(Object(value), 'ttl')]
  return limits.every(limit => Number.isInteger(limit) && limit >= 1 && limit <= MAX_INT32)
}

const BROKER_METHODS = ['start', 'publish', 'subscribe', 'unsubscribe', 'close']

/** Of the plugin as a whole. */
export const PLUGIN_OPTIONS = {
  options: unchecked({
    description: 'Options under their names in `ws`, for code written for it.',
    values: 'an object',
    defaultText: '`{}`',
    nested: SERVER_OPTIONS
  }),
  shutdown: group({ description: 'How `app.close()` closes open connections.', options: SHUTDOWN }),
  preClose: callback({
    description:
      'Runs when `app.close()` is called, before the connections are closed: `(done) => void`, or an async function without parameters. The connections wait for it, but at most half of `shutdown.timeout`.'
  }),
  http2: boolean({
    description:
      'WebSockets over HTTP/2 (RFC 8441), where the server speaks it. `false` does not announce them: browsers then open a connection of HTTP/1.1 for each WebSocket, which the server has to accept. A server has them when one of the scopes with the plugin does.',
    default: true
  }),
  broker: checked({
    description:
      'Carries messages published to topics, and broadcasts, to the other processes of the application. Each process has a broker of its own, which is closed with the application.',
    default: undefined,
    is: (value): value is object => hasMethods(value, BROKER_METHODS),
    must: `an object with the methods ${BROKER_METHODS.join(', ')}`,
    values: 'a broker',
    defaultText: 'none, for a single process'
  }),
  history: checked({
    description:
      'Keeps the last publications of topics, so that subscribers receive them in one order and can recover those that they have missed: the limits for all topics, or `(topic) => limits`, which returns `undefined` for a topic without history. `size` is the number of publications, `ttl` the milliseconds after the last one during which they are kept. All processes need the same limits. See the guide on recovery.',
    default: undefined,
    is: (value): value is object => typeof value === 'function' || isHistoryLimits(value),
    must: `a function, or ${HISTORY_LIMITS}`,
    values: '`{ size, ttl }`, both from 1 to 2147483647, or a function'
  }),
  maxRecoveredPublications: integer({
    description:
      'Publications that a subscriber recovers at most. One that has missed more is not recovered.',
    default: 300,
    max: 10_000
  }),
  presence: group({
    description:
      'The timing of the reports in which processes announce that they run, and their members of topics.',
    options: PRESENCE
  })
}

/** Of a route only. */
export const ROUTE_OPTIONS = {
  deliver: callback({
    description:
      'Returns the message that the connections get from a publication of a topic with history, for example with its offset: `(publication) => data`. It is called once for each publication and all connections of the route.',
    defaultText: 'the message as it was published'
  }),
  subprotocol: checked({
    description:
      'The subprotocols that the route speaks. The route handles handshakes whose first subprotocol supported at its path is one of these.',
    default: undefined,
    is: isSubprotocol,
    must: 'a token or a list of different tokens'
  }),
  topics: callback({
    description:
      'Returns the topics to which a connection is subscribed before its handler runs: `(request) => string[]`, which may be async. An error that it throws refuses the handshake.'
  })
}

/** Of the server of `fastify-upgrade/ws` only. */
export const WS_OPTIONS = {
  noServer: boolean({ description: 'Takes upgrades through `handleUpgrade` only.', default: false }),
  server: checked({
    description:
      'The HTTP server whose upgrades are taken. Upgrades for another `path` are left to its other listeners, if there are any.',
    default: undefined,
    is: (value): value is object => hasMethods(value, ['on']),
    must: 'an HTTP server, such as "app.server" of Fastify',
    values: 'an HTTP server'
  }),
  port: unchecked({
    description: 'Port for an HTTP server of its own, which answers ordinary requests with 426.',
    values: '0 to 65535'
  }),
  host: unchecked({ description: 'Address on which that HTTP server listens.', values: 'a string' }),
  backlog: unchecked({
    description: 'Connections that the operating system queues until they are accepted.',
    values: 'an integer',
    defaultText: '511'
  }),
  path: unchecked({
    description: 'The only path that is taken, without the query.',
    values: 'a string',
    defaultText: 'every path'
  }),
  clientTracking: boolean({ description: 'Whether the server has the set `clients`.', default: true }),
  handleProtocols,
  verifyClient,
  WebSocket: callback({
    description: 'The class of the connections: `WebSocket`, or a class derived from it.',
    defaultText: '`WebSocket`'
  }),
  autoPong,
  allowSynchronousEvents: constant(
    true,
    'Only `true` is supported: the messages of one read are emitted in one tick.'
  ),
  skipUTF8Validation,
  maxBufferedChunks: unchecked({
    description:
      'Accepted for code written for `ws`, without effect: fragments are joined as they arrive, and their number is limited.',
    values: 'any'
  }),
  maxFragments: unchecked({
    description:
      'Accepted for code written for `ws`, without effect: the limit is 4096, and one more for each 16 bytes of `maxPayload`.',
    values: 'any'
  }),
  maxPendingAutoPongs: unchecked({
    description:
      'Accepted for code written for `ws`, without effect: while 64 pongs are pending, only the last ping is answered.',
    values: 'any'
  })
}

/** Of `fastify-upgrade/asyncapi`. */
export const ASYNCAPI_OPTIONS = {
  info: checked({
    description: 'The title and the version of the application, and more about it. It is required.',
    default: undefined,
    is: (value): value is object =>
      ['title', 'version'].every(name => isText(Reflect.get(Object(value), name))),
    must: 'an object with a title and a version'
  }),
  id: checked({
    description: 'An identifier of the application, a URI.',
    default: undefined,
    is: isText,
    must: 'a string'
  }),
  servers: checked({
    description: 'The servers on which the application runs, by name.',
    default: undefined,
    is: (value): value is object =>
      isObject(value) &&
      Object.values(value).every(server =>
        ['host', 'protocol'].every(name => isText(Reflect.get(Object(server), name)))
      ),
    must: 'an object of servers, each with a host and a protocol'
  }),
  components: checked({
    description:
      'Components of the document, such as the `securitySchemes` that `schema.security` of routes names.',
    default: undefined,
    is: isObject,
    must: 'an object'
  }),
  routePrefix: checked({
    description:
      'Path of the documentation: the page, and below it `/json` and `/yaml`. Without it there are no routes, and the document is only what `app.asyncapi()` returns.',
    default: undefined,
    is: (value): value is string => typeof value === 'string' && /^\/[^/]/.test(value),
    must: 'a path that begins with "/", such as "/asyncapi"',
    values: "a path such as `'/asyncapi'`"
  }),
  page: boolean({
    description:
      'Whether there is a page at `routePrefix`. It needs the package `@asyncapi/react-component`.',
    default: true
  }),
  onRequest: unchecked({
    description: 'Hooks of the routes of the documentation, such as one that checks who may read it.',
    values: 'a hook, or a list of hooks'
  }),
  preHandler: unchecked({
    description: 'Like `onRequest`, after the request has been parsed.',
    values: 'a hook, or a list of hooks'
  }),
  transform: callback({
    description:
      'Changes a route in the document: `({ schema, url, route }) => ({ schema, url })`. Use it for schemas that are neither JSON Schema nor of a library that converts them itself.'
  }),
  hideUntagged: boolean({ description: 'Whether routes without `tags` are left out.', default: false })
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

function isSubprotocol(value: unknown): value is string | readonly string[] {
  const names: readonly unknown[] = Array.isArray(value) ? value : [value]
  return (
    names.length > 0 &&
    new Set(names).size === names.length &&
    names.every(name => typeof name === 'string' && isToken(name))
  )
}

function hasMethods(value: unknown, names: readonly string[]): boolean {
  return names.every(name => typeof Reflect.get(Object(value), name) === 'function')
}

// ---- where options may be set

/** `register` of a plugin, `websocket` of a route, or `WebSocketServer` of `fastify-upgrade/ws`. */
export type Scope = 'plugin' | 'route' | 'ws' | 'asyncapi'

interface Section<Scopes extends Scope = Scope, Table extends OptionTable = OptionTable> {
  readonly title: string
  readonly scopes: readonly Scopes[]
  readonly options: Table
}

function section<const Scopes extends Scope, const Table extends OptionTable>(
  title: string,
  scopes: readonly Scopes[],
  options: Table
): Section<Scopes, Table> {
  return { title, scopes, options }
}

/** The options by topic. */
export const SECTIONS = {
  connection: section('Connections', ['plugin', 'route', 'ws'], CONNECTION_OPTIONS),
  limits: section('Number of connections', ['plugin', 'route', 'ws'], CONNECTION_LIMITS),
  users: section('Users and credentials', ['plugin', 'route'], { ...USER_OPTIONS, ...USER_LIMITS }),
  budget: section('Memory of all connections', ['plugin', 'ws'], BUDGET_OPTIONS),
  handshake: section('Handshakes, errors and logging', ['plugin', 'route'], HANDSHAKE_OPTIONS),
  route: section('A route', ['route'], ROUTE_OPTIONS),
  plugin: section('The plugin', ['plugin'], PLUGIN_OPTIONS),
  ws: section('`fastify-upgrade/ws`', ['ws'], WS_OPTIONS),
  asyncapi: section('`fastify-upgrade/asyncapi`', ['asyncapi'], ASYNCAPI_OPTIONS)
}

/** The options that may be set in a scope. */
export type NameIn<In extends Scope> = {
  [Key in keyof typeof SECTIONS]: In extends (typeof SECTIONS)[Key]['scopes'][number]
    ? keyof (typeof SECTIONS)[Key]['options']
    : never
}[keyof typeof SECTIONS]

/** The names of the options that may be set in a scope. */
export function namesIn(scope: Scope): readonly string[] {
  const sections: readonly Section[] = Object.values(SECTIONS)
  return sections
    .filter(({ scopes }) => scopes.includes(scope))
    .flatMap(({ options }) => Object.keys(options))
}
