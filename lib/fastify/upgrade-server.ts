import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import { asksForWebSocket } from '../protocol/handshake/request.js'
import { isIgnored, serveOrdinarily } from '../upgrade/ordinary-request.js'
import { LeftUpgrades } from '../upgrade/unclaimed-upgrades.js'
import { controlUpgrades, TAKEN } from '../upgrade/upgrade-events.js'
import { claimUpgrades, isTaken, takeUpgrade } from '../upgrade/upgrade-owner.js'

/** An application on an HTTP server. */
export interface Application {
  /** Milliseconds that a handshake has until its route is known. */
  readonly timeout: number
  /** All plugins and routes are there. */
  readonly isReady: boolean
  readonly isClosing: boolean
  /** Whether the path of a request has a WebSocket route. */
  hasRoute(request: IncomingMessage): boolean
  /**
   * Answers a handshake when its turn comes.
   * @returns whether it is answered, here or by an application behind this one; undefined while it waits for its turn.
   */
  answer(dispatch: Dispatch): boolean | undefined
}

const servers = new WeakMap<Server, UpgradeServer>()

/**
 * The upgrades of an HTTP server. Usually it serves one application. With `serverFactory` several can share it, or follow
 * each other on it: each answers the paths that have a WebSocket route in it.
 */
export class UpgradeServer {
  readonly #server: Server
  /** In the order in which they came. Replaced when one comes or goes, as handshakes under way keep the list. */
  #applications: readonly Application[] = []
  readonly #left = new LeftUpgrades()
  readonly #releases: readonly (() => void)[]

  private constructor(server: Server) {
    this.#server = server
    server.on('upgrade', this.#onUpgrade)
    this.#releases = [
      controlUpgrades(server),
      claimUpgrades(server, request => this.#hasRoute(request)),
      () => void server.off('upgrade', this.#onUpgrade)
    ]
  }

  /** The upgrades of the application's server. */
  static add(server: Server, application: Application): UpgradeServer {
    const upgrades = servers.get(server) ?? new UpgradeServer(server)
    servers.set(server, upgrades)
    upgrades.#applications = [...upgrades.#applications, application]
    return upgrades
  }

  /** The application is closed. The last one leaves the server as it was. */
  remove(application: Application): void {
    this.#applications = this.#applications.filter(other => other !== application)
    if (this.#applications.length > 0) return
    servers.delete(this.#server)
    for (const release of this.#releases) release()
  }

  /** Whether nothing else takes upgrades of this server. */
  get isAlone(): boolean {
    return this.#server.listenerCount('upgrade') === 1
  }

  /** An application begins to close. With the last one, unclaimed upgrades end: the server would wait for them. */
  onClosing(): void {
    if (this.#isClosing) this.#left.end()
  }

  /** Leaves an upgrade to the other listeners of the server. */
  leave(request: IncomingMessage, socket: Socket): void {
    const timeouts = this.#applications.map(({ timeout }) => timeout)
    this.#left.add(socket, Math.max(...timeouts), request.socket)
    // The listeners behind this one see it first.
    if (this.#isClosing) setImmediate(() => this.#left.end())
  }

  get #isClosing(): boolean {
    return this.#applications.every(({ isClosing }) => isClosing)
  }

  #hasRoute(request: IncomingMessage): boolean {
    return this.#applications.some(application => application.hasRoute(request))
  }

  /** @returns {@link TAKEN} for what is answered here. */
  readonly #onUpgrade = (request: IncomingMessage, socket: Socket, head: Buffer): unknown => {
    const { isAlone } = this
    if (!asksForWebSocket(request)) {
      // Another listener may speak what is asked for.
      if (isAlone || isIgnored(request)) {
        serveOrdinarily(this.#server, request, socket, head)
        return TAKEN
      }
      this.leave(request, socket)
      return undefined
    }
    // A listener before this one has ended or answered it.
    if (socket.destroyed || isTaken(socket)) return undefined
    const dispatch = new Dispatch(request, socket, head, this, this.#candidates())
    const isAnswered = dispatch.next()
    if (isAlone || !(isAnswered ?? this.#hasRoute(request))) return undefined
    takeUpgrade(socket)
    dispatch.keep()
    return TAKEN
  }

  /**
   * The applications in the order in which they are asked. Of several, one that has not started yet may lack routes and is
   * not asked. One that closes answers 503 for the paths that no other has.
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
}

/** A handshake that is offered to one application after the other, until one has its path. */
export class Dispatch {
  readonly request: IncomingMessage
  readonly socket: Socket
  readonly head: Buffer
  readonly #server: UpgradeServer
  readonly #candidates: readonly Application[]
  #asked = 0
  #isKept = false

  constructor(
    request: IncomingMessage,
    socket: Socket,
    head: Buffer,
    server: UpgradeServer,
    candidates: readonly Application[]
  ) {
    this.request = request
    this.socket = socket
    this.head = head
    this.#server = server
    this.#candidates = candidates
  }

  /** Whether an application without the path passes the handshake on; the last one answers 404. */
  get canPass(): boolean {
    return this.#asked < this.#candidates.length || !(this.#server.isAlone || this.#isKept)
  }

  /** The other listeners of the server do not see it, as one of the applications has its path. */
  keep(): void {
    this.#isKept = true
  }

  /**
   * Offers it to the next application, or leaves it to other listeners.
   * @returns whether an application answers; undefined while the handshake waits for its turn.
   */
  next(): boolean | undefined {
    const candidate = this.#candidates[this.#asked++]
    if (candidate !== undefined) return candidate.answer(this)
    this.#server.leave(this.request, this.socket)
    return false
  }
}
