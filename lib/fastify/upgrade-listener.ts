import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { asksForH2cOnly, asksForWebSocket } from '../core/request.js'
import { COME_BACK, ShuttingDownError } from '../handshake/error.js'
import { LeftUpgrades } from '../handshake/left-upgrades.js'
import { afterResponses, serveOrdinarily } from '../handshake/ordinary-request.js'
import { claimUpgrades, isTaken, takeUpgrade } from '../handshake/upgrade-owner.js'
import { deadlinesAfter } from '../transport/deadline.js'
import { RouteRegistry } from './route-registry.js'
import type { Shutdown } from './shutdown.js'
import { constraintStrategy, hasWebSocketRoute, type Offers, offersBeside } from './subprotocol.js'
import { Upgrade } from './upgrade.js'

/** Milliseconds between two looks at a server that is about to close. */
const WATCH = 100

/** Milliseconds that a client has which comes when the time of a shutdown is up. */
const LAST_LINGER = 100

/** Thrown out of the router to leave a handshake to another listener. */
const NOT_OURS = Symbol('not ours')

/** Returned by a listener to keep an upgrade from those behind it. */
const TAKEN = Symbol('taken')

const listeners = new WeakMap<Server, UpgradeListener>()

/** The one listener of a server's `upgrade` event, whichever scopes the plugin is registered in. */
export class UpgradeListener {
  readonly routes: RouteRegistry = new RouteRegistry()
  readonly #app: FastifyInstance
  readonly #server: Server
  readonly #timeout: number
  /** The handshakes that have not ended, those that wait for their turn included. */
  readonly #pending = new Set<Upgrade>()
  readonly #left = new LeftUpgrades()
  readonly #shutdowns: Shutdown[] = []
  #isClosing = false
  /** The time of all scopes is up. */
  #isOverdue = false
  #watch: NodeJS.Timeout | undefined
  #closed: Promise<void> | undefined

  private constructor(app: FastifyInstance, timeout: number) {
    this.#app = app
    this.#server = app.server
    this.#timeout = timeout
  }

  /**
   * The listener of the application's server; `onFirst` is called when it is new.
   * @param timeout milliseconds that a handshake has until its route is known.
   */
  static of(
    app: FastifyInstance,
    timeout: number,
    onFirst: (listener: UpgradeListener) => void
  ): UpgradeListener {
    let listener = listeners.get(app.server)
    if (listener === undefined) {
      listener = new UpgradeListener(app, timeout)
      listeners.set(app.server, listener)
      listener.#listen()
      onFirst(listener)
    }
    return listener
  }

  /** Has a scope closed with the server. */
  onClose(shutdown: Shutdown): void {
    this.#shutdowns.push(shutdown)
  }

  /** Refuses the handshakes under way and those to come with 503. */
  refuse(): void {
    if (this.#isClosing) return
    this.#isClosing = true
    for (const shutdown of this.#shutdowns) shutdown.refuse()
    for (const upgrade of this.#pending) upgrade.refuse(new ShuttingDownError(), COME_BACK)
    // A `preClose` hook that fails keeps all that follow from running, and the server would wait for connections for ever.
    this.#watch = setInterval(() => {
      if (!this.#server.listening) void this.close()
    }, WATCH).unref()
  }

  /** Closes all scopes, at the first call and at once, so that none waits for the peers of another. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.refuse()
    clearInterval(this.#watch)
    // Not cleared, as handshakes may come until the server has closed; it holds no process alive.
    setTimeout(() => this.#cut(), Math.max(...this.#shutdowns.map(({ timeout }) => timeout))).unref()
    await Promise.all(this.#shutdowns.map(shutdown => shutdown.run()))
  }

  #cut(): void {
    this.#isOverdue = true
    for (const upgrade of this.#pending) upgrade.abort()
    this.#left.end()
  }

  #listen(): void {
    // Fastify's types know only strategies that store handlers; the router stores masks of them, as find-my-way says.
    const strategy: unknown = constraintStrategy<IncomingMessage>(request => this.#query(request))
    this.#app.addConstraintStrategy(strategy as Parameters<FastifyInstance['addConstraintStrategy']>[0])
    this.#server.on('upgrade', this.#onUpgrade)
    this.#keepFromOthers()
    claimUpgrades(this.#server, request => this.hasRoute(request))
    if ('shouldUpgradeCallback' in this.#server) this.#server.shouldUpgradeCallback = asksForWebSocket
  }

  /**
   * Some listeners take every upgrade that they see. What is answered here they must not see: it would be answered twice,
   * or what they throw would end the process.
   */
  #keepFromOthers(): void {
    const server = this.#server
    const { emit } = server
    const emitUntilTaken = (event: string | symbol, ...args: unknown[]): boolean => {
      if (event !== 'upgrade') return Reflect.apply(emit, server, [event, ...args])
      const listeners = server.rawListeners(event)
      for (const listener of listeners) if (Reflect.apply(listener, server, args) === TAKEN) break
      return listeners.length > 0
    }
    Object.assign(server, { emit: emitUntilTaken })
  }

  /** @returns {@link TAKEN} for what is answered here. */
  readonly #onUpgrade = (request: IncomingMessage, socket: Socket, head: Buffer): unknown => {
    if (!asksForWebSocket(request)) {
      // Another listener may speak what is asked for. Nobody speaks h2c on a server of HTTP/1, and in HTTP/1.0 there is
      // no upgrade (RFC 9110 section 7.8).
      const isNobodys = request.httpVersionMinor === 0 || asksForH2cOnly(request)
      if (this.#isAlone || isNobodys) {
        serveOrdinarily(this.#server, request, socket, head)
        return TAKEN
      }
      this.#leave(socket)
      return undefined
    }
    // A listener before this one has ended or answered it.
    if (socket.destroyed || isTaken(socket)) return undefined
    const upgrade = new Upgrade(request, socket, head, this.#timeout, this.#onEnd)
    this.#pending.add(upgrade)
    if (this.#isOverdue) this.#cutSoon(upgrade)
    let waits = true
    afterResponses(request, socket, () => {
      waits = false
      this.#begin(upgrade)
    })
    // What is over within this tick needs nobody to look after it.
    upgrade.watch()
    if (this.#isAlone || !(waits ? this.hasRoute(request) : upgrade.hasBegun)) return undefined
    takeUpgrade(socket)
    return TAKEN
  }

  /** Time to read a refusal, and no more. */
  #cutSoon(upgrade: Upgrade): void {
    deadlinesAfter(LAST_LINGER).set({
      onDeadline: () => {
        if (this.#pending.has(upgrade)) upgrade.abort()
      }
    })
  }

  #begin(upgrade: Upgrade): void {
    try {
      upgrade.begin()
      this.#dispatch(upgrade)
      upgrade.wait()
    } catch (error) {
      this.#app.log.error({ err: error }, 'a WebSocket handshake failed')
      upgrade.abort()
    }
  }

  readonly #onEnd = (upgrade: Upgrade): void => {
    this.#pending.delete(upgrade)
  }

  #dispatch(upgrade: Upgrade): void {
    const { request, response } = upgrade
    const { url } = request
    // Fastify itself answers 503 while it closes.
    if (this.#isClosing)
      for (const [name, value] of Object.entries(COME_BACK)) response.setHeader(name, value)
    try {
      this.#app.routing(request, response)
    } catch (error) {
      if (error !== NOT_OURS) throw error
      if (url !== undefined) request.url = url
      upgrade.release()
      this.#leave(upgrade.socket)
    }
  }

  #leave(socket: Socket): void {
    this.#left.add(socket, this.#timeout)
  }

  get #isAlone(): boolean {
    return this.#server.listenerCount('upgrade') === 1
  }

  /** Whether the path of a request has a WebSocket route. */
  hasRoute(request: IncomingMessage): boolean {
    return hasWebSocketRoute(this.#app, request, this.routes.customConstraints)
  }

  /** What the router looks for. It asks once a request, after `rewriteUrl`. */
  #query(request: IncomingMessage): Offers | undefined {
    const upgrade = Upgrade.of(request)
    if (upgrade === undefined) return undefined
    if (!this.#isAlone && !this.hasRoute(request)) throw NOT_OURS
    if (this.routes.hasOtherConstraints) upgrade.offers = offersBeside(this.#app, request, upgrade.offers)
    return upgrade.offers
  }
}
