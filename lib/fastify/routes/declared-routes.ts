import { subscribe } from 'node:diagnostics_channel'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { RouteBeforePluginError, RouteOutOfScopeError } from '../error.js'
import { WebSocketServer } from '../websocket-server.js'
import type { RegisteredRoute } from './route.js'
import { isWithin } from './scope.js'
import type { RouteSubprotocols } from './subprotocol.js'

/** A WebSocket route that no scope with the plugin has registered. */
interface Declaration {
  readonly url: string
  /** The instance on which the route was declared. */
  readonly scope: FastifyInstance
}

/** A WebSocket route, for documentation. */
export interface DeclaredRoute {
  /** The instance on which the route was declared. */
  readonly scope: FastifyInstance
  readonly options: RegisteredRoute
  /** Whether its application hides it. In `options.schema` it is hidden from documentation of ordinary requests. */
  readonly isHidden: boolean
  readonly subprotocols: RouteSubprotocols
}

/** The options of a route that matter here. */
interface RouteOptions {
  readonly method: unknown
  readonly url: string
  readonly websocket?: unknown
  readonly wsHandler?: unknown
}

/** The maximum number of paths that are reported, as clients choose the paths. */
const MAX_REPORTS = 10

/** By the root of each application. */
const watched = new WeakMap<FastifyInstance, DeclaredRoutes>()

/**
 * The routes of an application that are declared with `websocket` or `wsHandler`. An `onRoute` hook does not run for routes
 * that were declared before it was added, so the hook is added when the application is created.
 */
export class DeclaredRoutes {
  readonly #root: FastifyInstance
  /** Whether routes may have been declared before the hook was there. */
  readonly #isIncomplete: boolean
  readonly #declarations = new Map<RouteOptions, Declaration>()
  readonly #webSocketRoutes: DeclaredRoute[] = []
  readonly #reported = new Set<string>()
  #isChecked = false

  private constructor(root: FastifyInstance) {
    this.#root = root
    this.#isIncomplete = root.printRoutes().includes('GET')
    const declarations = this.#declarations
    root.addHook('onRoute', function (options: RouteOptions) {
      if (options.method !== 'HEAD' && asksForWebSocket(options))
        declarations.set(options, { url: options.url, scope: this })
    })
  }

  /** The declared routes of the application with this root. */
  static of(root: FastifyInstance): DeclaredRoutes {
    let routes = watched.get(root)
    if (routes === undefined) {
      routes = new DeclaredRoutes(root)
      watched.set(root, routes)
    }
    return routes
  }

  /** A scope with the plugin has taken the route. */
  take(options: RouteOptions): void {
    this.#declarations.delete(options)
  }

  /** Keeps a WebSocket route for documentation. */
  add(route: DeclaredRoute): void {
    this.#webSocketRoutes.push(route)
  }

  /** The WebSocket routes of a scope and of the scopes in it, in the order of their declarations. */
  within(scope: FastifyInstance): readonly DeclaredRoute[] {
    return this.#webSocketRoutes.filter(route => isWithin(route.scope, scope))
  }

  /** Makes the start of the application fail if a route has not been taken by then. */
  checkWhenReady(): void {
    if (this.#isChecked) return
    this.#isChecked = true
    this.#root.addHook('onReady', async () => {
      for (const [options, declaration] of this.#declarations) check(options, declaration)
    })
  }

  /**
   * A handshake has found no WebSocket route. If an ordinary route is at its path, it may have been declared before
   * this module was loaded: Fastify does not expose its options.
   */
  report(url: string, log: FastifyBaseLogger): void {
    if (!this.#isIncomplete || this.#reported.size >= MAX_REPORTS) return
    const [path] = url.split('?', 1)
    if (this.#reported.has(path) || this.#root.findRoute({ method: 'GET', url: path }) === null) return
    this.#reported.add(path)
    log.error(
      { err: new RouteBeforePluginError(path) },
      'a WebSocket handshake matched an ordinary route; if it is meant to be a WebSocket route, see the error'
    )
  }
}

/** @throws if the plugin was registered in the scope of the route but too late, or not in this scope. */
function check(options: RouteOptions, { url, scope }: Declaration): void {
  // A hook of the application may have changed the options since.
  if (!asksForWebSocket(options)) return
  const server: unknown = Reflect.get(scope, 'websocketServer')
  if (server === undefined) throw new RouteOutOfScopeError(url)
  // In a scope with another plugin for WebSocket the route belongs to that.
  if (server instanceof WebSocketServer) throw new RouteBeforePluginError(url)
}

function asksForWebSocket({ websocket, wsHandler }: RouteOptions): boolean {
  return (
    websocket === true || (typeof websocket === 'object' && websocket !== null) || wsHandler !== undefined
  )
}

function isInstance(value: unknown): value is FastifyInstance {
  return ['addHook', 'printRoutes'].every(name => typeof Reflect.get(Object(value), name) === 'function')
}

// Fastify publishes each application that is created, before any route can be declared.
subscribe('fastify.initialization', message => {
  const app: unknown = Reflect.get(Object(message), 'fastify')
  if (isInstance(app)) DeclaredRoutes.of(app)
})
