import type { IncomingMessage, Server } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { deadlinesAfter } from '../../limits/deadline.js'
import { RETRY_AFTER, ShuttingDownError } from '../../upgrade/error.js'
import { type Application, type Dispatch, UpgradeServer } from '../../upgrade/upgrade-server.js'
import { RouteRegistry } from '../routes/route-registry.js'
import { constraintStrategy, hasWebSocketRoute, type Offers, offersBeside } from '../routes/subprotocol.js'
import type { Shutdown } from '../shutdown.js'
import { Upgrade } from './upgrade.js'

/** Milliseconds between two checks of whether the server has stopped listening. */
const WATCH = 100

/** The time in milliseconds for a client that connects after the deadline of the shutdown to read its refusal. */
const LAST_LINGER = 100

/** Thrown through the router to pass a handshake on to another application or listener. */
const NOT_OURS = Symbol('not ours')

/** By the root of the application. */
const listeners = new WeakMap<FastifyInstance, UpgradeListener>()

/** Takes the handshakes of an application, for all scopes in which the plugin is registered. */
export class UpgradeListener implements Application {
  readonly routes: RouteRegistry = new RouteRegistry()
  readonly timeout: number
  readonly #app: FastifyInstance
  readonly #server: UpgradeServer
  /** The unfinished handshakes, including those that wait for earlier requests. */
  readonly #pending = new Set<Upgrade>()
  readonly #shutdowns: Shutdown[] = []
  #isReady = false
  #isClosing = false
  /** The deadline of the shutdown has passed. */
  #isOverdue = false
  #watch: NodeJS.Timeout | undefined
  #closed: Promise<void> | undefined

  private constructor(app: FastifyInstance, timeout: number) {
    this.#app = app
    this.timeout = timeout
    // Fastify's types only include strategies that store handlers; the router stores masks of them, as find-my-way documents.
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

  /** Takes handshakes over HTTP/2 too, if the server speaks it. */
  takeConnects(): void {
    this.#server.takeConnects()
  }

  /** The application listens. For `localhost` Fastify has made a server for each further address. */
  onListen(): void {
    for (const binding of bindingsOf(this.#app)) this.#server.addBinding(binding)
  }

  /** Adds a scope that closes with the application. */
  onClose(shutdown: Shutdown): void {
    this.#shutdowns.push(shutdown)
  }

  /** All plugins and routes of the application are loaded. */
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
    for (const upgrade of this.#pending) upgrade.sendError(new ShuttingDownError(), RETRY_AFTER)
    this.#server.onClosing()
    // When a `preClose` hook fails, Fastify does not run those after it, and the server would wait for connections for ever.
    this.#watch = setInterval(() => {
      if (!this.#app.server.listening) void this.close()
    }, WATCH).unref()
  }

  /** Closes all scopes at the same time, so that none waits for the peers of another. Later calls return the same promise. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  /** The application has closed. Other applications may still use its server. */
  leave(): void {
    this.#server.remove(this)
  }

  async #close(): Promise<void> {
    this.refuse()
    clearInterval(this.#watch)
    // Not cleared, as handshakes may arrive until the server has closed. It does not keep the process alive.
    setTimeout(() => this.#cut(), Math.max(...this.#shutdowns.map(({ timeout }) => timeout))).unref()
    await Promise.all(this.#shutdowns.map(shutdown => shutdown.run()))
    this.#server.onClosed()
  }

  #cut(): void {
    this.#isOverdue = true
    for (const upgrade of this.#pending) upgrade.channel.destroy()
  }

  /** Gives a client time to read its refusal, and no more. */
  #cutSoon(upgrade: Upgrade): void {
    deadlinesAfter(LAST_LINGER).set({
      onDeadline: () => {
        if (this.#pending.has(upgrade)) upgrade.channel.destroy()
      }
    })
  }

  // The handshakes

  answer(dispatch: Dispatch): boolean | undefined {
    const upgrade = new Upgrade(dispatch, this.#pending, this.timeout)
    if (this.#isOverdue) this.#cutSoon(upgrade)
    let isAnswered: boolean | undefined
    dispatch.channel.begin(upgrade, () => {
      isAnswered = this.#route(upgrade)
    })
    return isAnswered
  }

  /**
   * Lets Fastify answer a handshake whose turn has come.
   * @returns whether it is answered here or by an application after this one; undefined while that waits for its turn.
   */
  #route(upgrade: Upgrade): boolean | undefined {
    const { request } = upgrade.channel
    const { url } = request
    try {
      const response = upgrade.respond()
      // Fastify itself answers 503 while it closes.
      if (this.#isClosing)
        for (const [name, value] of Object.entries(RETRY_AFTER)) response.setHeader(name, value)
      this.#app.routing(request, response)
      upgrade.wait()
    } catch (error) {
      if (error === NOT_OURS) {
        // Fastify's option `rewriteUrl` may have changed it.
        if (url !== undefined) request.url = url
        upgrade.release()
        return upgrade.dispatch.next()
      }
      this.#app.log.error({ err: error }, 'a WebSocket handshake failed')
      upgrade.channel.destroy()
    }
    return true
  }

  /** Whether the path of a request has a WebSocket route. */
  hasRoute(request: IncomingMessage): boolean {
    return hasWebSocketRoute(this.#app, request, this.routes.customConstraints)
  }

  /** The query of a request. The router calls this once for each request, after `rewriteUrl`. */
  #query(request: IncomingMessage): Offers | undefined {
    const upgrade = Upgrade.of(request)
    if (upgrade === undefined) return undefined
    if (upgrade.dispatch.canPass && !this.hasRoute(request)) throw NOT_OURS
    if (this.routes.hasOtherConstraints) upgrade.offers = offersBeside(this.#app, request, upgrade.offers)
    return upgrade.offers
  }
}

/** The servers of an application for further addresses. Fastify has no public name for them. */
function bindingsOf(app: FastifyInstance): readonly Server[] {
  const key = Object.getOwnPropertySymbols(app).find(
    ({ description }) => description === 'fastify.serverBindings'
  )
  return Object.values(Object(key && Reflect.get(app, key)))
}
