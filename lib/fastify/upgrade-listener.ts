import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { deadlinesAfter } from '../limits/deadline.js'
import { RETRY_AFTER, ShuttingDownError } from '../upgrade/error.js'
import { afterResponses } from '../upgrade/ordinary-request.js'
import { RouteRegistry } from './route-registry.js'
import type { Shutdown } from './shutdown.js'
import { constraintStrategy, hasWebSocketRoute, type Offers, offersBeside } from './subprotocol.js'
import { Upgrade } from './upgrade.js'
import { type Application, type Dispatch, UpgradeServer } from './upgrade-server.js'

/** Milliseconds between two looks at a server that is about to close. */
const WATCH = 100

/** Milliseconds that a client has which comes when the time of a shutdown is up. */
const LAST_LINGER = 100

/** Thrown out of the router to leave a handshake to another application or listener. */
const NOT_OURS = Symbol('not ours')

/** By the root of the application. */
const listeners = new WeakMap<FastifyInstance, UpgradeListener>()

/** Takes the handshakes of an application, whichever scopes the plugin is registered in. */
export class UpgradeListener implements Application {
  readonly routes: RouteRegistry = new RouteRegistry()
  /** Milliseconds that a handshake has until its route is known. */
  readonly timeout: number
  readonly #app: FastifyInstance
  readonly #server: UpgradeServer
  /** The handshakes that have not ended, those that wait for their turn included. */
  readonly #pending = new Set<Upgrade>()
  readonly #shutdowns: Shutdown[] = []
  #isReady = false
  #isClosing = false
  /** The time of all scopes is up. */
  #isOverdue = false
  #watch: NodeJS.Timeout | undefined
  #closed: Promise<void> | undefined

  private constructor(app: FastifyInstance, timeout: number) {
    this.#app = app
    this.timeout = timeout
    // Fastify's types know only strategies that store handlers; the router stores masks of them, as find-my-way says.
    const strategy: unknown = constraintStrategy<IncomingMessage>(request => this.#query(request))
    app.addConstraintStrategy(strategy as Parameters<FastifyInstance['addConstraintStrategy']>[0])
    this.#server = UpgradeServer.add(app.server, this)
  }

  /**
   * The listener of an application; `onFirst` is called when it is new.
   * @param root the application.
   * @param timeout milliseconds that a handshake has until its route is known.
   */
  static of(
    root: FastifyInstance,
    timeout: number,
    onFirst: (listener: UpgradeListener) => void
  ): UpgradeListener {
    let listener = listeners.get(root)
    if (listener === undefined) {
      listener = new UpgradeListener(root, timeout)
      listeners.set(root, listener)
      onFirst(listener)
    }
    return listener
  }

  /** Has a scope closed with the application. */
  onClose(shutdown: Shutdown): void {
    this.#shutdowns.push(shutdown)
  }

  /** All plugins and routes of the application are there. */
  onReady(): void {
    this.#isReady = true
  }

  get isReady(): boolean {
    return this.#isReady
  }

  get isClosing(): boolean {
    return this.#isClosing
  }

  /** Refuses the handshakes under way and those to come with 503. */
  refuse(): void {
    if (this.#isClosing) return
    this.#isClosing = true
    for (const shutdown of this.#shutdowns) shutdown.refuse()
    for (const upgrade of this.#pending) upgrade.refuse(new ShuttingDownError(), RETRY_AFTER)
    this.#server.onClosing()
    // A `preClose` hook that fails keeps all that follow from running, and the server would wait for connections for ever.
    this.#watch = setInterval(() => {
      if (!this.#app.server.listening) void this.close()
    }, WATCH).unref()
  }

  /** Closes all scopes, at the first call and at once, so that none waits for the peers of another. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  /** The application is closed. Other applications may still use its server. */
  leave(): void {
    this.#server.remove(this)
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
  }

  /**
   * Answers a handshake when its turn comes.
   * @returns whether it is answered here, or by an application behind this one; undefined while it waits for its turn.
   */
  answer(dispatch: Dispatch): boolean | undefined {
    const upgrade = new Upgrade(dispatch, this.timeout, this.#onEnd)
    this.#pending.add(upgrade)
    if (this.#isOverdue) this.#cutSoon(upgrade)
    let isAnswered: boolean | undefined
    afterResponses(dispatch.request, dispatch.socket, () => {
      isAnswered = this.#begin(upgrade)
    })
    // What is over within this tick needs nobody to look after it.
    upgrade.watch()
    return isAnswered
  }

  /** Time to read a refusal, and no more. */
  #cutSoon(upgrade: Upgrade): void {
    deadlinesAfter(LAST_LINGER).set({
      onDeadline: () => {
        if (this.#pending.has(upgrade)) upgrade.abort()
      }
    })
  }

  #begin(upgrade: Upgrade): boolean | undefined {
    try {
      upgrade.begin()
      if (!this.#route(upgrade)) return upgrade.dispatch.next()
      upgrade.wait()
    } catch (error) {
      this.#app.log.error({ err: error }, 'a WebSocket handshake failed')
      upgrade.abort()
    }
    return true
  }

  readonly #onEnd = (upgrade: Upgrade): void => {
    this.#pending.delete(upgrade)
  }

  /** @returns false when the path has no WebSocket route here, and another application or listener may have it. */
  #route(upgrade: Upgrade): boolean {
    const { request } = upgrade
    const { raw: response } = upgrade.response
    const { url } = request
    // Fastify itself answers 503 while it closes.
    if (this.#isClosing)
      for (const [name, value] of Object.entries(RETRY_AFTER)) response.setHeader(name, value)
    try {
      this.#app.routing(request, response)
    } catch (error) {
      if (error !== NOT_OURS) throw error
      if (url !== undefined) request.url = url
      upgrade.release()
      return false
    }
    return true
  }

  /** Whether the path of a request has a WebSocket route. */
  hasRoute(request: IncomingMessage): boolean {
    return hasWebSocketRoute(this.#app, request, this.routes.customConstraints)
  }

  /** What the router looks for. It asks once a request, after `rewriteUrl`. */
  #query(request: IncomingMessage): Offers | undefined {
    const upgrade = Upgrade.of(request)
    if (upgrade === undefined) return undefined
    if (upgrade.dispatch.canPass && !this.hasRoute(request)) throw NOT_OURS
    if (this.routes.hasOtherConstraints) upgrade.offers = offersBeside(this.#app, request, upgrade.offers)
    return upgrade.offers
  }
}
