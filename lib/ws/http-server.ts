import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { asksForWebSocket } from '../protocol/handshake/request.js'
import { isIgnored, serveOrdinarily } from '../upgrade/ordinary-request.js'
import { UnclaimedUpgrades } from '../upgrade/unclaimed-upgrades.js'
import { controlUpgrades, isClaimed, TAKEN } from '../upgrade/upgrade-events.js'
import type { ServerOptions } from './options.js'

/** Milliseconds between two checks of whether a server is about to close. */
const WATCH = 100

/** The callbacks of an {@link HttpServer}. */
export interface UpgradeTaker {
  /**
   * Whether to take a request. Called when another listener may take it instead.
   * @param isClaimed whether its path is a route of the plugin.
   */
  takes(request: IncomingMessage, isClaimed: boolean): boolean
  take(request: IncomingMessage, socket: Socket, head: Buffer): void
  onListening(): void
  onError(error: Error): void
}

/** The HTTP server whose upgrades a WebSocketServer takes: its own, or one of the application. */
export class HttpServer {
  /** Whether the WebSocketServer has created it. */
  readonly isOwn: boolean
  readonly #server: Server
  readonly #unclaimedTimeout: number
  readonly #taker: UpgradeTaker
  readonly #unclaimed = new UnclaimedUpgrades()
  readonly #onListening: () => void
  readonly #onError: (error: Error) => void
  readonly #release: () => void

  /** @param timeout milliseconds that a handshake has. */
  constructor(
    { server, port, host, backlog }: ServerOptions,
    timeout: number,
    taker: UpgradeTaker,
    callback: (() => void) | undefined
  ) {
    this.isOwn = server === undefined
    this.#server = server ?? createServer(answerOrdinary)
    // Another listener may answer when a deadline of its own has passed. Its answer has to come before the 404.
    this.#unclaimedTimeout = 2 * timeout
    this.#taker = taker
    this.#onListening = () => taker.onListening()
    this.#onError = error => taker.onError(error)
    this.#server.on('upgrade', this.#onUpgrade)
    this.#release = controlUpgrades(this.#server)
    this.#server.on('listening', this.#onListening).on('error', this.#onError)
    if (this.isOwn) this.#server.listen({ ...listenOptions(port), host, backlog }, callback)
  }

  address(): AddressInfo | string | null {
    return this.#server.address()
  }

  /** Takes no more upgrades. */
  leave(): void {
    this.#server.off('upgrade', this.#onUpgrade)
    this.#server.off('listening', this.#onListening).off('error', this.#onError)
    this.#release()
    if (this.#unclaimed.size > 0) this.#watch()
  }

  /**
   * Refuses the unclaimed upgrades when the server closes, as it would wait for them. Until then the other listeners may
   * still take them. The timer keeps the process alive: a socket without a reader does not.
   */
  #watch(): void {
    const timer = setInterval(() => {
      if (this.#server.listening && this.#unclaimed.size > 0) return
      clearInterval(timer)
      this.#unclaimed.refuse()
    }, WATCH)
  }

  /** @param callback called when the last connection has ended. */
  close(callback: () => void): void {
    this.#server.close(callback)
  }

  readonly #onUpgrade = (request: IncomingMessage, socket: Socket, head: Buffer): unknown => {
    const isAlone = this.#server.listenerCount('upgrade') === 1
    if (!asksForWebSocket(request)) {
      if (isAlone || isIgnored(request)) {
        serveOrdinarily(this.#server, request, socket, head)
        return TAKEN
      }
      this.#unclaimed.add(socket, request.socket, this.#unclaimedTimeout)
    } else if (isAlone || this.#taker.takes(request, isClaimed(this.#server, request))) {
      this.#taker.take(request, socket, head)
    } else this.#unclaimed.add(socket, request.socket, this.#unclaimedTimeout)
    return undefined
  }
}

/** As in `server.listen(port)`, a string that is not a number is the path of a Unix socket. */
function listenOptions(port: number | string | undefined): { port?: number | undefined; path?: string } {
  if (typeof port !== 'string') return { port }
  return Number.isNaN(Number(port)) ? { path: port } : { port: Number(port) }
}

/** Answers 426 to an ordinary request, RFC 9110 section 15.5.22. */
function answerOrdinary(_request: IncomingMessage, response: ServerResponse): void {
  const body = 'This server speaks WebSocket only; open it with a WebSocket client.'
  response.writeHead(426, {
    connection: 'Upgrade, close',
    upgrade: 'websocket',
    'content-type': 'text/plain; charset=utf-8',
    'content-length': body.length
  })
  response.end(body)
}
