import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { asksForWebSocket } from '../protocol/handshake/request.js'
import type { UpgradeChannel } from './channel.js'
import { ConnectListener, speaksHttp2 } from './connect-listener.js'
import { Http1Channel } from './http1.js'
import { Http2Channel, type Http2Request } from './http2.js'
import { isIgnored, serveOrdinarily } from './ordinary-request.js'
import { NOT_FOUND, UnclaimedUpgrades } from './unclaimed-upgrades.js'
import { claimUpgrades, controlUpgrades, isTaken, TAKEN, takeUpgrade } from './upgrade-events.js'

/** An application on an HTTP server. */
export interface Application {
  /** Milliseconds that a handshake has until its route is known. */
  readonly timeout: number
  /** Whether all its plugins and routes are loaded. */
  readonly isReady: boolean
  readonly isClosing: boolean
  /** Whether the path of a request has a WebSocket route. */
  hasRoute(request: IncomingMessage): boolean
  /**
   * Answers a handshake when its turn comes, or passes it on with {@link Dispatch.next}.
   * @returns whether this application or one after it answers; undefined while the handshake waits for its turn.
   */
  answer(dispatch: Dispatch): boolean | undefined
}

const servers = new WeakMap<Server, UpgradeServer>()

/**
 * The upgrades of an HTTP server. Usually it serves one application. With `serverFactory` several can share it, or use it
 * one after the other: each answers the paths for which it has a WebSocket route.
 */
export class UpgradeServer {
  readonly #server: Server
  /** In the order of their registration. A change replaces the list, as handshakes under way keep theirs. */
  #applications: readonly Application[] = []
  readonly #unclaimed = new UnclaimedUpgrades()
  readonly #releases: readonly (() => void)[]
  /** Where WebSockets over HTTP/2 are on. */
  #connects: ConnectListener | undefined

  private constructor(server: Server) {
    this.#server = server
    server.on('upgrade', this.#onUpgrade)
    this.#releases = [
      controlUpgrades(server),
      claimUpgrades(server, request => this.#hasRoute(request)),
      () => void server.off('upgrade', this.#onUpgrade)
    ]
  }

  /** Adds an application to its server. */
  static add(server: Server, application: Application): UpgradeServer {
    const upgrades = servers.get(server) ?? new UpgradeServer(server)
    servers.set(server, upgrades)
    upgrades.#applications = [...upgrades.#applications, application]
    return upgrades
  }

  /** Removes an application that has closed. After the last one, the server is as it was before. */
  remove(application: Application): void {
    this.#applications = this.#applications.filter(other => other !== application)
    if (this.#applications.length > 0) return
    servers.delete(this.#server)
    for (const release of this.#releases) release()
    this.#connects?.stop()
  }

  /** Takes handshakes over HTTP/2 too, if the server speaks it. */
  takeConnects(): void {
    if (speaksHttp2(this.#server)) this.#connects ??= new ConnectListener(this.#server, this.#onConnect)
  }

  /** Adds a server that an application has for another of its addresses. Its upgrades are emitted on this one. */
  addBinding(binding: Server): void {
    this.#connects?.addBinding(binding)
  }

  readonly #onConnect = (request: Http2Request, response: ServerResponse, isAlone: boolean): boolean => {
    if (!isAlone && !this.#hasRoute(request)) return false
    const dispatch = new Dispatch(new Http2Channel(request, response), this, this.#candidates())
    dispatch.keep()
    dispatch.next()
    return true
  }

  /**
   * Each upgrade starts here: it is served as an ordinary request, offered to the applications, or left to other listeners.
   * @returns {@link TAKEN} when no other listener may see it.
   */
  readonly #onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): unknown => {
    const { isAlone } = this
    if (!asksForWebSocket(request)) {
      // Another listener may speak the protocol that the client asks for.
      if (isAlone || isIgnored(request)) {
        serveOrdinarily(this.#server, request, socket, head)
        return TAKEN
      }
      this.leave(request, socket)
      return undefined
    }
    // A listener before this one has ended or answered it.
    if (socket.destroyed || isTaken(socket)) return undefined
    const dispatch = new Dispatch(new Http1Channel(request, socket, head), this, this.#candidates())
    const isAnswered = dispatch.next()
    if (isAlone || !(isAnswered ?? this.#hasRoute(request))) return undefined
    takeUpgrade(socket)
    dispatch.keep()
    return TAKEN
  }

  /** Whether the server has no other listeners of `upgrade`. */
  get isAlone(): boolean {
    return this.#server.listenerCount('upgrade') === 1
  }

  #hasRoute(request: IncomingMessage): boolean {
    return this.#applications.some(application => application.hasRoute(request))
  }

  /**
   * The applications in the order in which a handshake is offered to them. When there are several, one that has not started
   * is left out, as it may lack routes, and one that is closing answers 503 for paths that no other
   * application handles.
   */
  #candidates(): readonly Application[] {
    const all = this.#applications
    if (all.length === 1) return all
    const started = all.filter(({ isReady }) => isReady)
    const running = started.filter(({ isClosing }) => !isClosing)
    const closing = started.filter(({ isClosing }) => isClosing)
    // When none of them has the path, the newest answers 404.
    const newest = (running.length > 0 ? running : closing).slice(-1)
    return [...running, ...closing, ...newest]
  }

  /** Leaves an upgrade to the other listeners of the server. */
  leave(request: IncomingMessage, socket: Duplex): void {
    const timeouts = this.#applications.map(({ timeout }) => timeout)
    this.#unclaimed.add(socket, request.socket, Math.max(...timeouts))
    // The listeners after this one see it first.
    if (this.#isClosing) setImmediate(() => this.#unclaimed.refuse())
  }

  /** To be called when an application begins to close. After the last one, the server waits for unclaimed upgrades. */
  onClosing(): void {
    if (this.#isClosing) this.#unclaimed.refuse()
  }

  /** To be called when the connections of an application have closed. After the last one, sessions of HTTP/2 end. */
  onClosed(): void {
    if (this.#isClosing) this.#connects?.endSessions()
  }

  get #isClosing(): boolean {
    return this.#applications.every(({ isClosing }) => isClosing)
  }
}

/** A handshake that is offered to one application after the other, until one of them has its path. */
export class Dispatch {
  readonly channel: UpgradeChannel
  readonly #server: UpgradeServer
  readonly #candidates: readonly Application[]
  #offered = 0
  #isKept = false

  constructor(channel: UpgradeChannel, server: UpgradeServer, candidates: readonly Application[]) {
    this.channel = channel
    this.#server = server
    this.#candidates = candidates
  }

  /** Whether an application without the path passes the handshake on. The last application answers 404. */
  get canPass(): boolean {
    return this.#offered < this.#candidates.length || !(this.#server.isAlone || this.#isKept)
  }

  /** Keeps the handshake from the other listeners of the server, as one of the applications has its path. */
  keep(): void {
    this.#isKept = true
  }

  /**
   * Offers the handshake to the next application, or leaves it to other listeners.
   * @returns whether an application answers; undefined while the handshake waits for its turn.
   */
  next(): boolean | undefined {
    const candidate = this.#candidates[this.#offered++]
    if (candidate !== undefined) return candidate.answer(this)
    const { channel } = this
    // Over HTTP/2 it was kept from the other listeners.
    if (channel instanceof Http2Channel) channel.refuse(NOT_FOUND)
    else this.#server.leave(channel.request, channel.stream)
    return false
  }
}
