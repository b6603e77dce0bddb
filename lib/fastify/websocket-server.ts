import { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { ServerOptions } from '../../types/options.js'
import type { SendData } from '../transport/payload.js'
import { PreparedMessage, type PrepareOptions, prepare } from '../transport/prepared-message.js'
import { WebSocket } from '../transport/websocket.js'

/** The events of a {@link WebSocketServer} and their arguments. */
export interface WebSocketServerEvents {
  /** A handshake is complete; the route's handler runs next. */
  connection: [socket: WebSocket, request: IncomingMessage]
  /** `close` was called and the last connection has ended. */
  close: []
  error: [error: Error]
}

/** The connections of the scope that the plugin is registered in, as `fastify.websocketServer`. */
export class WebSocketServer extends EventEmitter<WebSocketServerEvents> {
  /** The connections that are open or closing. It changes as they come and go. */
  readonly clients: Set<WebSocket> = new Set()
  /** The plugin's `options`. `handleProtocols` and `verifyClient` are read at each handshake. */
  readonly options: ServerOptions
  readonly #onError: (error: unknown) => void
  readonly #closed = new Set<() => void>()
  #isClosing = false

  /** @internal */
  constructor(options: ServerOptions, onError: (error: unknown) => void) {
    super({ captureRejections: true })
    this.options = options
    this.#onError = onError
  }

  /** Whether new handshakes are refused. */
  get isClosing(): boolean {
    return this.#isClosing
  }

  /**
   * Refuses new handshakes with 503 from now on. Open connections stay; `close` is emitted when the last one has ended.
   * @param callback called then.
   */
  close(callback?: () => void): void {
    const isDone = this.#isClosing && this.clients.size === 0
    if (callback !== undefined && !isDone) this.#closed.add(callback)
    if (callback !== undefined && isDone) process.nextTick(callback)
    if (this.#isClosing) return
    this.#isClosing = true
    if (this.clients.size === 0) process.nextTick(() => this.#tellClosed())
  }

  /**
   * Sends a message to every open connection. It is framed once, and compressed once for each set of compression
   * parameters.
   * @throws {TypeError} `FST_UPGRADE_INVALID_DATA` when `data` is neither text nor bytes.
   */
  broadcast(data: SendData | PreparedMessage, options?: PrepareOptions): void {
    const message = data instanceof PreparedMessage ? data : prepare(data, options)
    for (const client of this.clients) client.send(message)
  }

  /** @internal */
  add(socket: WebSocket): void {
    this.clients.add(socket)
  }

  /** @internal */
  remove(socket: WebSocket): void {
    this.clients.delete(socket)
    if (this.#isClosing && this.clients.size === 0) this.#tellClosed()
  }

  /** A listener that throws keeps nobody else from learning it. */
  #tellClosed(): void {
    for (const tell of [...this.#closed, () => this.emit('close')]) {
      try {
        tell()
      } catch (error) {
        this.#onError(error)
      }
    }
    this.#closed.clear()
  }

  static {
    // What a listener of `connection` rejects with goes the way of what the listeners of its socket reject with.
    Object.defineProperty(WebSocketServer.prototype, EventEmitter.captureRejectionSymbol, {
      value(this: WebSocketServer, error: unknown, _event: string, socket: unknown) {
        if (socket instanceof WebSocket) socket.reportError(error)
        else this.#onError(error)
      }
    })
  }
}
