import { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { ConnectionLimiter, readConnectionLimits } from '../limits/connection-limiter.js'
import { asksForWebSocket, type Handshake, type Refusal } from '../protocol/handshake/request.js'
import { acceptResponse } from '../protocol/handshake/response.js'
import type { Message, SendData } from '../socket/codec.js'
import { toError } from '../socket/error.js'
import { WebSocket } from '../socket/websocket.js'
import { RETRY_AFTER, refusalError, ShuttingDownError, TooManyConnectionsError } from '../upgrade/error.js'
import { Http1Channel } from '../upgrade/http1.js'
import { callHandleProtocols, chooseExtension } from '../upgrade/negotiation.js'
import { OpeningHandshake } from '../upgrade/opening-handshake.js'
import { isTaken, takeUpgrade } from '../upgrade/upgrade-events.js'
import { callVerifyClient } from '../upgrade/verify-client.js'
import { changedResponse } from './changed-response.js'
import { type ConnectionHost, openConnection, type UpgradeCallback } from './connection.js'
import {
  AlreadyHandledError,
  FAILED,
  INVALID_UPGRADE,
  NOT_HANDLED,
  NoAddressError,
  NoServerError,
  NotRunningError
} from './error.js'
import { HttpServer, type UpgradeTaker } from './http-server.js'
import { pathOf, readOptions, readSettings, type ServerOptions, type ServerSettings } from './options.js'

/** The events of a {@link WebSocketServer} and their arguments. */
export interface WebSocketServerEvents {
  connection: [socket: WebSocket, request: IncomingMessage]
  /** The head of a 101, line by line, before it is sent; lines may be added. */
  headers: [lines: string[], request: IncomingMessage]
  /** A handshake that does not follow RFC 6455. With a listener it is the listener that answers and ends the socket. */
  wsClientError: [error: Error, socket: Duplex, request: IncomingMessage]
  listening: []
  /** `close` was called and the last connection has ended. */
  close: []
  /** An error of the HTTP server, or an exception of a listener. */
  error: [error: Error]
}

type Upgrade = OpeningHandshake<Http1Channel>

type State = 'running' | 'closing' | 'closed'

/** The server of `ws`: it answers opening handshakes and holds the connections. */
export class WebSocketServer extends EventEmitter<WebSocketServerEvents> {
  /** `handleProtocols`, `verifyClient` and `path` are read at each handshake, so they may be assigned. */
  readonly options: Omit<ServerOptions, 'WebSocket'>
  /** The connections that are open or closing; undefined without `clientTracking`. */
  declare readonly clients: Set<WebSocket>
  /** Not used here, as in `ws`: some applications keep a path here. */
  path: string
  readonly #WebSocket: typeof WebSocket<Message, SendData>
  readonly #settings: ServerSettings
  readonly #limiter: ConnectionLimiter
  readonly #host: ConnectionHost
  readonly #pending = new Set<Upgrade>()
  #http: HttpServer | undefined
  #state: State = 'running'
  /** `close` waits for the last client. */
  #closesWithClients = false

  /**
   * @param callback called when its own server listens, with the option `port`.
   * @throws {TypeError} `FST_UPGRADE_INVALID_OPTION`.
   */
  constructor(options: ServerOptions = {}, callback?: () => void) {
    super({ captureRejections: true })
    const given = readOptions(options)
    this.options = { clientTracking: true, ...given }
    this.#WebSocket = given.WebSocket ?? WebSocket
    this.path = given.path ?? ''
    this.#settings = readSettings(given)
    this.#limiter = new ConnectionLimiter(readConnectionLimits(given))
    if (this.options.clientTracking === true) this.clients = new Set()
    this.#host = {
      report: error => this.#report(error),
      onOpen: socket => this.clients?.add(socket),
      onClose: socket => this.#onClientClose(socket)
    }
    if (given.noServer !== true)
      this.#http = new HttpServer(given, this.#settings.handshakeTimeout, this.#taker(), callback)
  }

  /**
   * The address that the HTTP server listens on; null while it does not listen.
   * @throws `FST_UPGRADE_NO_SERVER` with the option `noServer`.
   */
  address(): AddressInfo | string | null {
    if (this.options.noServer === true) throw new NoServerError()
    return this.#http?.address() ?? null
  }

  /**
   * Refuses handshakes with 503 from now on, and closes its own HTTP server. Open connections stay: close them too, or
   * wait. `close` is emitted when the last one has ended, or at once without `clientTracking`.
   * @param callback called with that event; with an error when the server is closed already.
   */
  close(callback?: (error?: Error) => void): void {
    if (this.#state === 'closed') {
      if (callback !== undefined) this.once('close', () => callback(new NotRunningError()))
      process.nextTick(() => this.#emitSafely('close'))
      return
    }
    if (callback !== undefined) this.once('close', () => callback())
    if (this.#state === 'closing') return
    this.#state = 'closing'
    for (const upgrade of this.#pending) this.#refuseShuttingDown(upgrade)
    const http = this.#http
    this.#http = undefined
    http?.leave()
    if (http?.isOwn === true) http.close(() => this.#onClosed())
    else if (this.#hasClients) this.#closesWithClients = true
    else process.nextTick(() => this.#onClosed())
  }

  /** Whether a request is for this server: with the option `path`, by its path. May be overridden. */
  shouldHandle(request: IncomingMessage): boolean {
    const { path } = this.options
    return !path || path === pathOf(request)
  }

  /**
   * Answers an opening handshake.
   * @param head the first bytes of the connection, as the event `upgrade` provides them.
   * @param callback called with the connection; `connection` is not emitted, so most callbacks emit it.
   * @throws `FST_UPGRADE_ALREADY_HANDLED` when it was called with this socket before.
   */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, callback: UpgradeCallback): void {
    if (!takeUpgrade(socket)) throw new AlreadyHandledError()
    const channel = new Http1Channel(request, socket, head)
    if (!channel.isOpen) {
      channel.destroy()
      return
    }
    const upgrade: Upgrade = new OpeningHandshake(channel, this.#pending)
    channel.begin(upgrade, () => {
      this.#answer(upgrade, callback)
      upgrade.startDeadline(this.#settings.handshakeTimeout)
    })
  }

  #answer(upgrade: Upgrade, callback: UpgradeCallback): void {
    const { request, stream } = upgrade.channel
    const checked = asksForWebSocket(request) ? upgrade.channel.readHandshake() : INVALID_UPGRADE
    if ('status' in checked) {
      this.#refuse(upgrade, checked)
      return
    }
    const complete = (refusal?: Refusal): void => this.#complete(upgrade, checked, callback, refusal)
    try {
      if (!this.shouldHandle(request)) upgrade.refuse(NOT_HANDLED)
      else if (!this.options.verifyClient) complete()
      else {
        const info = {
          origin: checked.origin ?? '',
          secure: Reflect.get(stream, 'encrypted') === true,
          req: request
        }
        callVerifyClient(this.options.verifyClient, info, complete, error => this.#fail(upgrade, error))
      }
    } catch (error) {
      this.#fail(upgrade, error)
    }
  }

  /** A handshake that does not follow RFC 6455. */
  #refuse(upgrade: Upgrade, refusal: Refusal): void {
    if (this.listenerCount('wsClientError') === 0) {
      upgrade.refuse(refusal)
      return
    }
    const { request } = upgrade.channel
    this.#emitSafely('wsClientError', refusalError(refusal), upgrade.channel.leaveAnswer(), request)
  }

  /** Answers once `verifyClient` has decided. */
  #complete(
    upgrade: Upgrade,
    handshake: Handshake,
    callback: UpgradeCallback,
    refusal: Refusal | undefined
  ): void {
    // The client has left, or the deadline has passed.
    if (upgrade.isAnswered) return
    try {
      if (refusal !== undefined) upgrade.refuse(refusal)
      else if (this.#state !== 'running') this.#refuseShuttingDown(upgrade)
      else if (!this.#takeSlot(upgrade)) this.#refuseForNow(upgrade, new TooManyConnectionsError())
      else this.#accept(upgrade, handshake, callback)
    } catch (error) {
      this.#fail(upgrade, error)
    }
  }

  #takeSlot(upgrade: Upgrade): boolean {
    if (!this.#limiter.isLimited) return true
    // A request of the application's own may have no socket.
    const connection: Socket | undefined = upgrade.channel.request.socket
    const remoteAddress = connection?.remoteAddress
    if (this.#limiter.missesAddress(remoteAddress)) process.emitWarning(new NoAddressError())
    return upgrade.takeSlots([this.#limiter], remoteAddress)
  }

  #accept(upgrade: Upgrade, { key, protocols, extensions }: Handshake, callback: UpgradeCallback): void {
    const { channel } = upgrade
    const { request } = channel
    const { handleProtocols } = this.options
    const { perMessageDeflate, handshakeTimeout } = this.#settings
    const [first] = protocols
    const protocol =
      !handleProtocols || first === undefined
        ? first
        : callHandleProtocols(handleProtocols, protocols, request)
    const { extension, response } = chooseExtension(extensions, perMessageDeflate)
    const acceptance = { key, protocol, extensions: response }
    const hasListeners = this.listenerCount('headers') > 0
    const head = hasListeners
      ? changedResponse(acceptance, lines => this.emit('headers', lines, request))
      : acceptResponse(acceptance)
    if (!channel.isOpen) {
      channel.destroy()
      return
    }
    const stream = channel.switchProtocols(head)
    const options = { protocol: protocol ?? '', settings: this.#settings, extension }
    if (this.#limiter.isLimited) stream.once('close', upgrade.keepSlots())
    const opening = { WebSocket: this.#WebSocket, options, listenTimeout: handshakeTimeout }
    openConnection(stream, opening, this.#host, client => callback(client, request))
  }

  #refuseShuttingDown(upgrade: Upgrade): void {
    this.#refuseForNow(upgrade, new ShuttingDownError())
  }

  #refuseForNow(upgrade: Upgrade, { message }: Error): void {
    upgrade.refuse({ status: 503, message, headers: RETRY_AFTER })
  }

  /** Refuses with 500, as the application has failed. */
  #fail(upgrade: Upgrade, error: unknown): void {
    upgrade.refuse(FAILED)
    this.#report(error)
  }

  get #hasClients(): boolean {
    return this.clients !== undefined && this.clients.size > 0
  }

  #onClientClose(socket: WebSocket): void {
    this.clients?.delete(socket)
    if (this.#closesWithClients && !this.#hasClients) process.nextTick(() => this.#onClosed())
  }

  #onClosed(): void {
    this.#closesWithClients = false
    this.#state = 'closed'
    this.#emitSafely('close')
  }

  /** The callbacks of the HTTP server. */
  #taker(): UpgradeTaker {
    return {
      takes: (request, isClaimed) => this.#takes(request, isClaimed),
      take: (request, socket, head) => {
        // Another listener was called before.
        if (isTaken(socket)) return
        this.handleUpgrade(request, socket, head, client => this.emit('connection', client, request))
      },
      onListening: () => this.#emitSafely('listening'),
      // As in `ws`: without a listener it ends the process, so that a port in use does not go unnoticed.
      onError: error => this.emit('error', error)
    }
  }

  /** Whether a request is for this server, where other listeners may answer it. A failure is reported when it is answered. */
  #takes(request: IncomingMessage, isClaimed: boolean): boolean {
    try {
      return (!isClaimed || Boolean(this.options.path)) && this.shouldHandle(request)
    } catch {
      return true
    }
  }

  /** Emits an event. An exception of a listener is reported, and does not reach the process. */
  #emitSafely<Event extends keyof WebSocketServerEvents>(
    event: Event,
    ...args: WebSocketServerEvents[Event]
  ): void {
    try {
      Reflect.apply(this.emit, this, [event, ...args])
    } catch (error) {
      this.#report(error)
    }
  }

  /** Emits `error` for an exception of the application. Without a listener it is a warning, which does not end the process. */
  #report(thrown: unknown): void {
    const error = toError(thrown)
    if (this.listenerCount('error') === 0) {
      process.emitWarning(error)
      return
    }
    try {
      this.emit('error', error)
    } catch (failure) {
      process.emitWarning(toError(failure))
    }
  }

  static {
    // A rejection of a listener of `connection` is handled like those of the listeners of its socket.
    Object.defineProperty(WebSocketServer.prototype, EventEmitter.captureRejectionSymbol, {
      value(this: WebSocketServer, error: unknown, event: string, socket: unknown) {
        if (event === 'error') process.emitWarning(toError(error))
        else if (socket instanceof WebSocket) socket.reportError(error)
        else this.#report(error)
      }
    })
  }
}
