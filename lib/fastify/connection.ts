import type { Duplex } from 'node:stream'
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { CloseLogLevel } from '../../types/options.js'
import type { Deflate } from '../compression/per-message-deflate.js'
import { INTERNAL_ERROR } from '../protocol/close-code.js'
import { NotOpenError, toError } from '../socket/error.js'
import { isThenable } from '../socket/thenable.js'
import type { WebSocketOwner } from '../socket/websocket-options.js'
import type { WebSocketRoute } from './route.js'
import { WebSocket } from './websocket.js'

/** What remains of a handshake. */
export interface Opened {
  /** Behind the 101. */
  readonly stream: Duplex
  readonly protocol: string | undefined
  /** What was agreed on, where messages may be compressed. */
  readonly deflate: Deflate | undefined
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  /** What it is subscribed to from the start. */
  readonly topics: readonly string[]
  /** Milliseconds from the request to the 101. */
  readonly handshakeTime: number
  /** Releases the slots of the connection. */
  readonly release: () => void
}

/** Begins the connection: runs the handler of its route, and lets Fastify know when it has ended. */
export function openConnection(app: FastifyInstance, route: WebSocketRoute, opened: Opened): void {
  const { stream, protocol = '', deflate, request, topics } = opened
  const owner = new Owner(app, route, opened)
  const socket = new WebSocket(
    stream,
    { role: 'server', protocol, settings: route.settings, deflate, owner },
    route.server
  )
  route.server.add(socket)
  // Nobody waits for the broker: it tells by events what goes wrong.
  for (const topic of topics) void socket.subscribe(topic)
  try {
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

/** The routes whose handlers have returned a value. */
const warned = new WeakSet<WebSocketRoute>()

/**
 * What a connection keeps of its route and its handshake. The request and the reply take more memory than the connection
 * itself. Once the handler has settled they are let go, unless somebody waits for their end.
 */
class Owner implements WebSocketOwner<WebSocket> {
  readonly #app: FastifyInstance
  readonly #route: WebSocketRoute
  readonly #log: FastifyBaseLogger
  readonly #release: () => void
  /** Whole milliseconds, which take no memory of their own. */
  readonly #openedAt = Math.round(performance.now())
  readonly #handshakeTime: number
  #closeLogLevel: CloseLogLevel | false = false
  #reply: FastifyReply | undefined
  /** The connection was closed for an error of the application. */
  #failed = false

  constructor(
    app: FastifyInstance,
    route: WebSocketRoute,
    { request, reply, handshakeTime, release }: Opened
  ) {
    this.#app = app
    this.#route = route
    this.#log = request.log
    this.#handshakeTime = Math.round(handshakeTime)
    this.#reply = reply
    this.#release = release
  }

  /** A function of the application may decide; the request is there only now. */
  readLogLevel(request: FastifyRequest): void {
    const { settings, isLogDisabled } = this.#route
    this.#closeLogLevel = settings.closeLogLevel ?? (isLogDisabled(request) ? false : 'info')
  }

  /** The handler has done its work. */
  settle(socket: WebSocket): void {
    socket.readAlways()
    const reply = this.#reply
    if (reply === undefined || this.#route.settings.errorHandler !== undefined || isAwaited(reply)) return
    this.#reply = undefined
    // Whoever still has the request may yet listen to it.
    const keep = (): void => {
      this.#reply = reply
    }
    reply.request.raw.once('newListener', keep)
    reply.raw.once('newListener', keep)
  }

  /** The handler has returned, or what it returned has resolved. */
  finish(socket: WebSocket, value: unknown): void {
    // A short arrow function returns what `socket.send` or `socket.on` returns.
    const isOfSocket = typeof value === 'boolean' || value === socket
    if (value !== undefined && !isOfSocket && !warned.has(this.#route)) {
      warned.add(this.#route)
      this.#log.warn(
        `the WebSocket handler of GET ${this.#route.url} returned a value of type ${typeof value}, which is not sent; call socket.send()`
      )
    }
    this.settle(socket)
  }

  /** The handler has thrown, or what it returned has rejected. */
  fail(socket: WebSocket, error: unknown): void {
    this.#onError(socket, error, `the WebSocket handler of GET ${this.#route.url} failed`)
    this.settle(socket)
  }

  onClose(socket: WebSocket, code: number, reason: Error | undefined): void {
    this.#release()
    this.#route.server.remove(socket)
    if (this.#closeLogLevel !== false) this.#logClose(this.#closeLogLevel, socket, code, reason)
    if (this.#reply !== undefined) endRequest(this.#reply)
  }

  #logClose(level: CloseLogLevel, socket: WebSocket, code: number, reason: Error | undefined): void {
    const duration = Math.round(performance.now() - this.#openedAt)
    const cause = reason !== undefined && 'code' in reason ? { reason: reason.code } : {}
    const fields = { code, duration, handshakeTime: this.#handshakeTime, ...socket.traffic, ...cause }
    this.#log[level](fields, 'WebSocket closed')
  }

  onPeerError(error: Error): void {
    this.#log.debug({ err: error }, 'the WebSocket failed')
  }

  onError(socket: WebSocket, thrown: unknown): void {
    this.#onError(socket, thrown, `a listener or callback of the WebSocket at GET ${this.#route.url} failed`)
  }

  /** Hands an error of the application to its error handler. No failure here reaches the process. */
  #onError(socket: WebSocket, thrown: unknown, message: string): void {
    // With another socket's error this connection may well be open.
    if (thrown instanceof NotOpenError && socket.readyState !== WebSocket.OPEN) {
      this.#log.debug({ err: thrown }, 'the peer went away while a handler was at work')
      return
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
    // What comes after the first, while the connection closes, could fill the log at the will of the peer.
    this.#log[this.#failed ? 'debug' : 'error']({ err: error }, message)
    this.#failed = true
    socket.close(INTERNAL_ERROR)
  }
}

/** Whether somebody is to be told when the request or the response ends: Fastify itself for `onResponse` and its log. */
function isAwaited({ raw: response, request: { raw: request } }: FastifyReply): boolean {
  return (
    response.listenerCount('finish') > 0 ||
    response.listenerCount('close') > 0 ||
    request.listenerCount('close') > 0 ||
    request.listenerCount('end') > 0
  )
}

/** The request ends here, so that `request.signal` is aborted, and then the response with its `onResponse` hooks. */
function endRequest(reply: FastifyReply): void {
  if (!isAwaited(reply)) return
  const { raw: request } = reply.request
  const end = (): void => {
    reply.raw.emit('finish')
    reply.raw.emit('close')
  }
  if (request.destroyed) end()
  else request.once('close', end).resume()
}
