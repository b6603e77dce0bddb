import type { Duplex } from 'node:stream'
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { CloseLogLevel } from '../../types/options.js'
import { connectionClosed, connectionOpened, handshakeAccepted, listenerFailed } from '../diagnostics.js'
import type { CompressionExtension } from '../protocol/extension.js'
import { toError } from '../socket/error.js'
import { isThenable } from '../socket/events.js'
import type { MessageDecoder, WebSocketOwner } from '../socket/options.js'
import type { ConnectionDetails } from '../topics/connections/connections.js'
import { InvalidMessageError } from './error.js'
import { SerializingWebSocket } from './messages/serializing-websocket.js'
import type { Credentials } from './routes/credentials.js'
import type { WebSocketRoute } from './routes/route.js'
import { WebSocket } from './websocket.js'

/** The result of a handshake. */
export interface Opened {
  /** Carries the frames. */
  readonly stream: Duplex
  readonly protocol: string | undefined
  /** The subprotocol, if the route registered it. */
  readonly subprotocol: string | undefined
  readonly extension: CompressionExtension | undefined
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  /** The topics to which the connection is subscribed before its handler runs. */
  readonly topics: readonly string[]
  readonly credentials: Credentials
  /** The status of the acceptance. */
  readonly status: number
  /** Milliseconds from the request to the 101. */
  readonly handshakeTime: number
  /** Releases the connection's slots. */
  readonly release: () => void
}

/** Opens a connection: runs the handler of its route, and ends the request in Fastify when the connection ends. */
export function openConnection(app: FastifyInstance, route: WebSocketRoute, opened: Opened): void {
  const { tracer } = route.server
  if (tracer === undefined) {
    open(app, route, opened)
    return
  }
  const { request, subprotocol } = opened
  tracer.traceConnection({ request: request.raw, route: route.url, subprotocol }, () =>
    open(app, route, opened)
  )
}

function open(app: FastifyInstance, route: WebSocketRoute, opened: Opened): void {
  const { stream, protocol = '', extension, request, topics, credentials } = opened
  const owner = new Owner(app, route, opened)
  const { settings, server, schemas } = route
  const tracer = server.tracer?.messageTracer
  const decoder = schemas.validator === undefined ? undefined : owner
  const setup = { role: 'server', protocol, settings, extension, owner, decoder, tracer } as const
  const socket =
    schemas.serializer === undefined
      ? new WebSocket(stream, setup, server, owner)
      : new SerializingWebSocket(stream, setup, server, owner, schemas.serializer)
  server.add(socket, route.deliver)
  // It may have passed while the hooks of the reply were at work.
  if (credentials.expiresAt !== undefined) socket.renew(credentials.expiresAt)
  publishOpening(route, socket, opened)
  try {
    // Not awaited: the broker reports its failures as events.
    for (const topic of topics) void socket.subscribe(topic)
    owner.readLogLevel(request)
    route.server.emit('connection', socket, request.raw)
  } catch (error) {
    owner.onError(socket, error)
    owner.settle(socket)
    return
  }
  try {
    const result: unknown = Reflect.apply(route.handler, app, [socket, request])
    if (isThenable(result)) result.then(owner.finish.bind(owner, socket), owner.fail.bind(owner, socket))
    else owner.finish(socket, result)
  } catch (error) {
    owner.fail(socket, error)
  }
}

/** Whether a value may come from a method of the socket, whose result a short arrow function returns. */
function isResultOf(socket: WebSocket, value: unknown): boolean {
  if (typeof value === 'boolean' || value === socket) return true
  // The results of `subscribe` and `publish`.
  return typeof value === 'object' && value !== null && ('recovered' in value || 'epoch' in value)
}

function publishOpening(route: WebSocketRoute, socket: WebSocket, opened: Opened): void {
  const { handshakeTime: duration, status, subprotocol = '' } = opened
  const { server, url } = route
  const { raw: request } = opened.request
  if (handshakeAccepted.hasSubscribers)
    handshakeAccepted.publish({ server, request, route: url, status, duration })
  if (connectionOpened.hasSubscribers)
    connectionOpened.publish({ server, socket, request, route: url, subprotocol })
}

/** The routes whose handlers have returned a value, each of which is warned of once. */
const warned = new WeakSet<WebSocketRoute>()

/**
 * Connects a WebSocket with its route. The request and the reply take more memory than the connection itself, so they are
 * released once the handler has settled, unless a listener or a hook waits for their end.
 */
class Owner implements WebSocketOwner<WebSocket>, MessageDecoder<WebSocket>, ConnectionDetails {
  readonly user: string | undefined
  /** The address, or the stream that knows it. */
  readonly #peer: string | Duplex
  readonly #isHttp2: boolean
  readonly #app: FastifyInstance
  readonly #route: WebSocketRoute
  readonly #log: FastifyBaseLogger
  readonly #release: () => void
  /** Whole milliseconds, which take no memory of their own. */
  readonly #openedAt = Math.round(performance.now())
  readonly #handshakeTime: number
  #closeLogLevel: CloseLogLevel | false = false
  #reply: FastifyReply | undefined

  constructor(
    app: FastifyInstance,
    route: WebSocketRoute,
    { request, reply, handshakeTime, release, credentials, stream, status }: Opened
  ) {
    this.user = credentials.user
    // Node makes the address of a stream when it is read: most connections do without.
    this.#peer = 'ips' in request ? (copyOf(request.ip) ?? stream) : stream
    this.#isHttp2 = status !== 101
    this.#app = app
    this.#route = route
    this.#log = request.log
    this.#handshakeTime = Math.round(handshakeTime)
    this.#reply = reply
    this.#release = release
  }

  get since(): number {
    return Math.round(performance.timeOrigin) + this.#openedAt
  }

  get remoteAddress(): string | undefined {
    return typeof this.#peer === 'string' ? this.#peer : addressOf(this.#peer)
  }

  get route(): string {
    return this.#route.url
  }

  get httpVersion(): string {
    return this.#isHttp2 ? '2.0' : '1.1'
  }

  /** `disableRequestLogging` may be a function of the request, which is released later. */
  readLogLevel(request: FastifyRequest): void {
    const { settings, isLogDisabled } = this.#route
    this.#closeLogLevel = settings.closeLogLevel ?? (isLogDisabled(request) ? false : 'info')
  }

  /** The handler has returned, or its promise has settled. */
  settle(socket: WebSocket): void {
    socket.readAlways()
    const reply = this.#reply
    const { errorHandler, invalidMessage } = this.#route.settings
    const isKept = errorHandler !== undefined || typeof invalidMessage === 'function'
    if (reply === undefined || isKept || isAwaited(reply)) return
    this.#reply = undefined
    // The application may still hold the request, and listen to it later.
    const keep = (): void => {
      this.#reply = reply
    }
    reply.request.raw.once('newListener', keep)
    reply.raw.once('newListener', keep)
  }

  /** The handler has returned a value, or its promise has resolved. */
  finish(socket: WebSocket, value: unknown): void {
    if (value !== undefined && !isResultOf(socket, value) && !warned.has(this.#route)) {
      warned.add(this.#route)
      this.#log.warn(
        `the WebSocket handler of GET ${this.#route.url} returned a value of type ${typeof value}, which is not sent; call socket.send()`
      )
    }
    this.settle(socket)
  }

  /** The handler has thrown, or its promise has rejected. */
  fail(socket: WebSocket, error: unknown): void {
    this.#onError(socket, error, `the WebSocket handler of GET ${this.#route.url} failed`)
    this.settle(socket)
  }

  onClose(socket: WebSocket, code: number, reason: Error | undefined): void {
    this.#release()
    this.#route.server.remove(socket)
    const duration = Math.round(performance.now() - this.#openedAt)
    if (this.#closeLogLevel !== false) this.#logClose(this.#closeLogLevel, socket, code, duration, reason)
    if (connectionClosed.hasSubscribers) this.#publishClose(socket, code, duration, causeOf(reason))
    if (this.#reply !== undefined) endRequest(this.#reply)
  }

  #logClose(
    level: CloseLogLevel,
    socket: WebSocket,
    code: number,
    duration: number,
    error: Error | undefined
  ): void {
    // The log leaves out fields that are undefined.
    const { latency, traffic } = socket
    const reason = causeOf(error)
    const fields = { code, duration, handshakeTime: this.#handshakeTime, latency, ...traffic, reason }
    this.#log[level](fields, 'WebSocket closed')
  }

  #publishClose(socket: WebSocket, code: number, duration: number, cause: string | undefined): void {
    const { peakBufferedAmount, dropped, latency, traffic } = socket
    connectionClosed.publish({
      socket,
      server: this.#route.server,
      route: this.#route.url,
      code,
      cause,
      duration,
      handshakeTime: this.#handshakeTime,
      ...traffic,
      peakBufferedAmount,
      dropped,
      latency
    })
  }

  onPeerError(error: Error): void {
    this.#log.debug({ err: error }, 'the WebSocket failed')
  }

  onError(socket: WebSocket, thrown: unknown): void {
    this.#onError(socket, thrown, `a listener or callback of the WebSocket at GET ${this.#route.url} failed`)
  }

  /** Called for each message of a route with the schema `receive`. */
  decode(data: Buffer, isBinary: boolean): unknown {
    return this.#route.schemas.validator?.decode(data, isBinary)
  }

  onUndecoded(socket: WebSocket, thrown: unknown): unknown {
    if (!(thrown instanceof InvalidMessageError)) {
      this.#onError(socket, thrown, `a message of the WebSocket at GET ${this.#route.url} was not validated`)
      return undefined
    }
    const { invalidMessage } = this.#route.settings
    const reply = this.#reply
    if (typeof invalidMessage !== 'function' || reply === undefined) {
      socket.refuse(
        thrown.closeCode,
        thrown.closeCode === 1003 ? 'binary message' : 'invalid message',
        thrown
      )
      return undefined
    }
    this.#log.debug({ err: thrown }, 'a message of the peer is invalid')
    return Reflect.apply(invalidMessage, this.#app, [thrown, socket, reply.request])
  }

  /** Calls the `errorHandler` with an error of the application. An exception in it does not reach the process. */
  #onError(socket: WebSocket, thrown: unknown, message: string): void {
    if (socket.isLateSend(thrown)) {
      this.#log.debug({ err: thrown }, 'the peer went away while a handler was at work')
      return
    }
    if (listenerFailed.hasSubscribers) {
      const { server, url: route } = this.#route
      listenerFailed.publish({ socket, server, route, error: thrown })
    }
    const { errorHandler } = this.#route.settings
    const reply = this.#reply
    if (errorHandler === undefined || reply === undefined) {
      this.#closeWithError(socket, toError(thrown), message)
      return
    }
    const onFailure = (failure: unknown): void => {
      this.#log.error({ err: failure }, 'the WebSocket error handler failed')
      socket.terminate()
    }
    try {
      const args = [toError(thrown), socket, reply.request, reply]
      const result: unknown = Reflect.apply(errorHandler, this.#app, args)
      if (isThenable(result)) result.then(undefined, onFailure)
    } catch (failure) {
      onFailure(failure)
    }
  }

  #closeWithError(socket: WebSocket, error: Error, message: string): void {
    // Further errors must not fill the log.
    this.#log[socket.closeOnError() ? 'error' : 'debug']({ err: error }, message)
  }
}

/** Proxies forward any text as an address. */
const MAX_ADDRESS_LENGTH = 256

/** A copy that does not keep the header in memory of which an address is a part. */
function copyOf(address: string | undefined): string | undefined {
  return address === undefined ? undefined : Buffer.from(address.slice(0, MAX_ADDRESS_LENGTH)).toString()
}

/** The remote address of a connection, or of the HTTP/2 connection that its stream belongs to. */
function addressOf(stream: Duplex): string | undefined {
  const session: unknown = Reflect.get(stream, 'session')
  const socket: unknown = session === undefined ? stream : Reflect.get(Object(session), 'socket')
  const address: unknown = Reflect.get(Object(socket), 'remoteAddress')
  return typeof address === 'string' ? address : undefined
}

/** The code of the error for which this side has ended a connection. */
function causeOf(reason: Error | undefined): string | undefined {
  return reason !== undefined && 'code' in reason ? String(reason.code) : undefined
}

/** Whether there are listeners for the end of the request or the response. Fastify has one for `onResponse` and its log. */
function isAwaited({ raw: response, request: { raw: request } }: FastifyReply): boolean {
  return (
    response.listenerCount('finish') > 0 ||
    response.listenerCount('close') > 0 ||
    request.listenerCount('close') > 0 ||
    request.listenerCount('end') > 0
  )
}

/** Ends the request, which aborts `request.signal`, and then the response, which runs the `onResponse` hooks. */
function endRequest(reply: FastifyReply): void {
  if (!isAwaited(reply)) return
  const { raw: request } = reply.request
  const end = (): void => {
    reply.raw.emit('finish')
    reply.raw.emit('close')
  }
  if (request.destroyed) end()
  // A request over HTTP/2 does not close by itself.
  else request.once('close', end).once('end', request.destroy).resume()
}
