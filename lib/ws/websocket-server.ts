import { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { ConnectionLimiter, readConnectionLimits } from '../limits/connection-limiter.js'
import {
  asksForWebSocket,
  checkRequest,
  type Handshake,
  type Refusal
} from '../protocol/handshake/request.js'
import { acceptResponse } from '../protocol/handshake/response.js'
import { toError } from '../socket/error.js'
import { WebSocket } from '../socket/websocket.js'
import { chooseDeflate } from '../upgrade/deflate-choice.js'
import { RETRY_AFTER, refusalError, ShuttingDownError, TooManyConnectionsError } from '../upgrade/error.js'
import { askHandleProtocols } from '../upgrade/protocol-choice.js'
import { isTaken, takeUpgrade } from '../upgrade/upgrade-owner.js'
import { askVerifyClient } from '../upgrade/verify-client.js'
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
import { Upgrade } from './upgrade.js'

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
  /** Of the HTTP server, and what listeners throw. */
  error: [error: Error]
}

type State = 'running' | 'closing' | 'closed'

/** The server of `ws`: it answers opening handshakes and holds the connections. */
export class WebSocketServer extends EventEmitter<WebSocketServerEvents> {
  /** `handleProtocols`, `verifyClient` and `path` are read at each handshake, so they may be assigned. */
  readonly options: Omit<ServerOptions, 'WebSocket'>
  /** The connections that are open or closing; undefined without `clientTracking`. */
  declare readonly clients: Set<WebSocket>
  /** Not looked at, as in `ws`: some users keep a path here. */
  path: string
  readonly #WebSocket: typeof WebSocket
  readonly #settings: ServerSettings
  readonly #limiter: ConnectionLimiter
  readonly #host: ConnectionHost
  readonly #pending = new Set<Upgrade>()
  #http: HttpServer | undefined
  #state: State = 'running'
  /** The last client that leaves ends the closing. */
  #closesWithClients = false

  /**
   * @param callback told when the server of its own listens, with the option `port`.
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
   * The address that the HTTP server listens on; null when it does not, or no more.
   * @throws `FST_UPGRADE_NO_SERVER` with the option `noServer`.
   */
  address(): AddressInfo | string | null {
    if (this.options.noServer === true) throw new NoServerError()
    return this.#http?.address() ?? null
  }

  /**
   * Refuses handshakes with 503 from now on, and closes the server of its own. Open connections stay: close them too, or
   * wait. `close` is emitted when the last one has ended, without `clientTracking` at once.
   * @param callback called with that event; with an error when the server is closed already.
   */
  close(callback?: (error?: Error) => void): void {
    if (this.#state === 'closed') {
      if (callback !== undefined) this.once('close', () => callback(new NotRunningError()))
      process.nextTick(() => this.#tell('close'))
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

  /** Whether a request is for this server: by its path, where there is the option `path`. Made to be overridden. */
  shouldHandle(request: IncomingMessage): boolean {
    const { path } = this.options
    return !path || path === pathOf(request)
  }

  /**
   * Answers an opening handshake.
   * @param head the first bytes of the connection, as the event `upgrade` gives them.
   * @param callback called with the connection; `connection` is not emitted, so most callbacks do that.
   * @throws `FST_UPGRADE_ALREADY_HANDLED` when it was called with this socket before.
   */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, callback: UpgradeCallback): void {
    if (!takeUpgrade(socket)) throw new AlreadyHandledError()
    const upgrade = new Upgrade(request, socket, head, ended => this.#pending.delete(ended))
    this.#pending.add(upgrade)
    upgrade.begin(this.#settings.handshakeTimeout, () => this.#answer(upgrade, callback))
  }

  #answer(upgrade: Upgrade, callback: UpgradeCallback): void {
    const { request, socket } = upgrade
    const checked = asksForWebSocket(request) ? checkRequest(request) : INVALID_UPGRADE
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
          secure: Reflect.get(socket, 'encrypted') === true,
          req: request
        }
        askVerifyClient(this.options.verifyClient, info, complete, error => this.#fail(upgrade, error))
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
    upgrade.leaveAnswer()
    this.#tell('wsClientError', refusalError(refusal), upgrade.socket, upgrade.request)
  }

  /** The client was verified, or refused. */
  #complete(
    upgrade: Upgrade,
    handshake: Handshake,
    callback: UpgradeCallback,
    refusal: Refusal | undefined
  ): void {
    // The client has left, or its time was up.
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
    const carrier: Socket | undefined = upgrade.request.socket
    const remoteAddress = carrier?.remoteAddress
    if (this.#limiter.missesAddress(remoteAddress)) process.emitWarning(new NoAddressError())
    return upgrade.takeSlots([this.#limiter], remoteAddress)
  }

  #accept(upgrade: Upgrade, { key, protocols, extensions }: Handshake, callback: UpgradeCallback): void {
    const { request, socket } = upgrade
    const { handleProtocols } = this.options
    const { perMessageDeflate, handshakeTimeout } = this.#settings
    const [first] = protocols
    const protocol =
      !handleProtocols || first === undefined
        ? first
        : askHandleProtocols(handleProtocols, protocols, request)
    const { deflate, response } = chooseDeflate(extensions, perMessageDeflate)
    const acceptance = { key, protocol, extensions: response }
    const hasListeners = this.listenerCount('headers') > 0
    const head = hasListeners
      ? changedResponse(acceptance, lines => this.emit('headers', lines, request))
      : acceptResponse(acceptance)
    if (!upgrade.accept(head)) return
    const options = { protocol: protocol ?? '', settings: this.#settings, deflate }
    if (this.#limiter.isLimited) socket.once('close', upgrade.keepSlots())
    const opening = { WebSocket: this.#WebSocket, options, patience: handshakeTimeout }
    openConnection(socket, opening, this.#host, client => callback(client, request))
  }

  #refuseShuttingDown(upgrade: Upgrade): void {
    this.#refuseForNow(upgrade, new ShuttingDownError())
  }

  #refuseForNow(upgrade: Upgrade, { message }: Error): void {
    upgrade.refuse({ status: 503, message, headers: RETRY_AFTER })
  }

  /** The application could not answer a handshake. */
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
    this.#tell('close')
  }

  /** What the HTTP server tells. */
  #taker(): UpgradeTaker {
    return {
      takes: (request, isClaimed) => this.#takes(request, isClaimed),
      take: (request, socket, head) => {
        // Another listener was first.
        if (isTaken(socket)) return
        this.handleUpgrade(request, socket, head, client => this.emit('connection', client, request))
      },
      onListening: () => this.#tell('listening'),
      // As in `ws`: nobody should miss that a port is in use.
      onError: error => this.emit('error', error)
    }
  }

  /** Whether a request should be left to other listeners of the HTTP server. Who fails learns it when it is answered. */
  #takes(request: IncomingMessage, isClaimed: boolean): boolean {
    try {
      return (!isClaimed || Boolean(this.options.path)) && this.shouldHandle(request)
    } catch {
      return true
    }
  }

  /** Emits; what a listener throws does not reach the process. */
  #tell<Event extends keyof WebSocketServerEvents>(
    event: Event,
    ...args: WebSocketServerEvents[Event]
  ): void {
    try {
      Reflect.apply(this.emit, this, [event, ...args])
    } catch (error) {
      this.#report(error)
    }
  }

  /** Tells listeners of `error` what others threw. Without any it is a warning of the process, which nothing stops. */
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
    // What a listener of `connection` rejects with goes the way of what the listeners of its socket reject with.
    Object.defineProperty(WebSocketServer.prototype, EventEmitter.captureRejectionSymbol, {
      value(this: WebSocketServer, error: unknown, event: string, socket: unknown) {
        if (event === 'error') process.emitWarning(toError(error))
        else if (socket instanceof WebSocket) socket.reportError(error)
        else this.#report(error)
      }
    })
  }
}
