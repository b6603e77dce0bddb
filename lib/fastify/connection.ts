import type { Duplex } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { WebSocketErrorHandler } from '../../types/handler.js'
import { INTERNAL_ERROR } from '../core/close-code.js'
import { NotOpenError } from '../transport/error.js'
import { isThenable } from '../transport/thenable.js'
import { WebSocket } from '../transport/websocket.js'
import { toError } from './error.js'
import type { WebSocketRoute } from './route.js'

/** What remains of a handshake. */
export interface Opened {
  /** Behind the 101. */
  readonly stream: Duplex
  readonly protocol: string | undefined
  readonly request: FastifyRequest
  readonly reply: FastifyReply
}

/** Begins the connection: runs the handler of its route, and lets Fastify know when it has ended. */
export function openConnection(app: FastifyInstance, route: WebSocketRoute, opened: Opened): void {
  const { settings, server, handler } = route
  const { stream, protocol = '', request, reply } = opened
  const onError = (error: unknown): void => reportError(app, settings.errorHandler, error, socket, opened)
  const onClose = (code: number): void => {
    server.remove(socket)
    request.log.debug({ code }, 'the WebSocket closed')
    // The request ends here, so that `request.signal` is aborted, and then the response with its `onResponse` hooks.
    const end = (): void => {
      reply.raw.emit('finish')
      reply.raw.emit('close')
    }
    if (request.raw.destroyed) end()
    else request.raw.once('close', end).resume()
  }
  const socket = new WebSocket(stream, { ...settings, role: 'server', protocol, onError, onClose })
  server.add(socket)
  socket.on('error', error => request.log.debug({ err: error }, 'the WebSocket failed'))
  const settled = (): void => socket.readAlways()
  try {
    server.emit('connection', socket, request.raw)
    const result = Reflect.apply(handler, app, [socket, request])
    if (isThenable(result)) {
      result.then(settled, error => {
        onError(error)
        settled()
      })
    } else settled()
  } catch (error) {
    onError(error)
    settled()
  }
}

/** Hands an error of the application to its error handler. Nothing that goes wrong here reaches the process. */
function reportError(
  app: FastifyInstance,
  errorHandler: WebSocketErrorHandler = closeWithError,
  thrown: unknown,
  socket: WebSocket,
  { request, reply }: Opened
): void {
  // With another socket's error this connection may well be open.
  if (thrown instanceof NotOpenError && socket.readyState !== WebSocket.OPEN) {
    request.log.debug({ err: thrown }, 'the peer went away while a handler was at work')
    return
  }
  const onFailure = (failure: unknown): void => {
    request.log.error({ err: failure }, 'the WebSocket error handler failed')
    socket.terminate()
  }
  try {
    const result: unknown = Reflect.apply(errorHandler, app, [toError(thrown), socket, request, reply])
    if (isThenable(result)) result.then(undefined, onFailure)
  } catch (failure) {
    onFailure(failure)
  }
}

/** The connections that were closed for an error of the application. */
const failed = new WeakSet<WebSocket>()

function closeWithError(error: Error, socket: WebSocket, request: FastifyRequest): void {
  // What comes after the first, while the connection closes, could fill the log at the will of the peer.
  request.log[failed.has(socket) ? 'debug' : 'error']({ err: error }, error.message)
  failed.add(socket)
  socket.close(INTERNAL_ERROR)
}
