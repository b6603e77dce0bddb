import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { asksForWebSocket } from '../core/request.js'
import { hasToken } from '../core/token.js'
import { COME_BACK, ShuttingDownError } from './error.js'
import { afterResponses, serveOrdinarily } from './ordinary-request.js'
import { RouteRegistry } from './route-registry.js'
import { constraintStrategy, hasWebSocketRoute, type Offers, offersBeside } from './subprotocol.js'
import { Upgrade } from './upgrade.js'

/** Thrown out of the router to leave a handshake to another listener. */
const NOT_OURS = Symbol('not ours')

const listeners = new WeakMap<Server, UpgradeListener>()

/** The one listener of a server's `upgrade` event, whichever scopes the plugin is registered in. */
export class UpgradeListener {
  readonly routes: RouteRegistry = new RouteRegistry()
  readonly #app: FastifyInstance
  readonly #server: Server
  readonly #timeout: number
  /** The handshakes that have begun and not ended. */
  readonly #pending = new Set<Upgrade>()
  readonly #scopes: { readonly timeout: number; readonly close: () => Promise<void> }[] = []
  #closed: Promise<void> | undefined
  #onIdle: (() => void) | undefined

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

  /**
   * Has a scope closed with the server.
   * @param timeout milliseconds that it gives peers.
   */
  onClose(timeout: number, close: () => Promise<void>): void {
    this.#scopes.push({ timeout, close })
  }

  /**
   * Refuses the handshakes under way and those to come with 503 and closes all scopes, at the first call and at once, so
   * that none waits for the peers of another.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    await Promise.all([this.#refusePending(), ...this.#scopes.map(({ close }) => close())])
  }

  async #refusePending(): Promise<void> {
    if (this.#pending.size === 0) return
    const over = new Promise<void>(resolve => {
      this.#onIdle = resolve
    })
    const timer = setTimeout(
      () => {
        for (const upgrade of this.#pending) upgrade.abort()
      },
      Math.max(...this.#scopes.map(({ timeout }) => timeout))
    )
    for (const upgrade of this.#pending) upgrade.refuse(new ShuttingDownError(), COME_BACK)
    await over
    clearTimeout(timer)
  }

  #listen(): void {
    // Fastify's types know only strategies that store handlers; the router stores masks of them, as find-my-way says.
    const strategy: unknown = constraintStrategy<IncomingMessage>(request => this.#query(request))
    this.#app.addConstraintStrategy(strategy as Parameters<FastifyInstance['addConstraintStrategy']>[0])
    this.#server.on('upgrade', this.#onUpgrade)
    if ('shouldUpgradeCallback' in this.#server) this.#server.shouldUpgradeCallback = asksForWebSocket
  }

  readonly #onUpgrade = (request: IncomingMessage, socket: Socket, head: Buffer): void => {
    if (!asksForWebSocket(request)) {
      // Another listener may speak what is asked for. Nobody speaks h2c on a server of HTTP/1.
      if (this.#isAlone || hasToken(request.headers.upgrade, 'h2c')) {
        serveOrdinarily(this.#server, request, socket, head)
      }
      return
    }
    if (socket.destroyed) return
    const upgrade = new Upgrade(request, socket, head, this.#timeout, this.#onEnd)
    afterResponses(socket, () => this.#begin(upgrade))
    // What is over within this tick needs nobody to look after it.
    upgrade.watch()
  }

  #begin(upgrade: Upgrade): void {
    this.#pending.add(upgrade)
    try {
      upgrade.begin()
      this.#dispatch(upgrade)
      upgrade.startDeadline()
    } catch (error) {
      this.#app.log.error({ err: error }, 'a WebSocket handshake failed')
      upgrade.abort()
    }
  }

  readonly #onEnd = (upgrade: Upgrade): void => {
    this.#pending.delete(upgrade)
    if (this.#pending.size === 0) this.#onIdle?.()
  }

  #dispatch(upgrade: Upgrade): void {
    const { request, response } = upgrade
    const { url } = request
    // Fastify itself answers 503 while it closes.
    if (this.#closed !== undefined)
      for (const [name, value] of Object.entries(COME_BACK)) response.setHeader(name, value)
    try {
      this.#app.routing(request, response)
    } catch (error) {
      if (error !== NOT_OURS) throw error
      if (url !== undefined) request.url = url
      upgrade.release()
    }
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
