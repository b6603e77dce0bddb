import type { FastifyInstance } from 'fastify'

/** The name of the constraint that WebSocket routes have. */
export const CONSTRAINT = 'websocket'

/** The constraint of a route: the subprotocols that it registers, or true when it registers none. */
export type RouteSubprotocols = readonly string[] | true

/** Selects routes at a path. A request's constraint is a query. */
abstract class Query {
  abstract matches(routes: Routes): number
}

/** The WebSocket routes at one path. Each is a bit in the router's mask of handlers. */
class Routes {
  all = 0
  /** Those that register no subprotocol. */
  plain = 0
  readonly bySubprotocol = new Map<string, number>()

  /** The router calls this with the constraint of a route while it adds the route, and later with the query of a request. */
  get(value: unknown): number {
    return value instanceof Query ? value.matches(this) : 0
  }

  set(value: unknown, bits: number): void {
    this.all |= bits
    if (!Array.isArray(value)) this.plain |= bits
    else for (const name of value) this.bySubprotocol.set(name, this.bitsOf(name) | bits)
  }

  bitsOf(subprotocol: string): number {
    return this.bySubprotocol.get(subprotocol) ?? 0
  }
}

/** Matches every WebSocket route. */
class Any extends Query {
  matches(routes: Routes): number {
    return routes.all
  }
}

const ANY = new Any()

/** Matches the routes of a path that register a subprotocol, or, for undefined, the routes that register none. */
class Speaks extends Query {
  readonly #name: string | undefined
  readonly #at: Routes | undefined

  constructor(name: string | undefined, at: Routes | undefined) {
    super()
    this.#name = name
    this.#at = at
  }

  matches(routes: Routes): number {
    if (routes !== this.#at) return 0
    return this.#name === undefined ? routes.plain : routes.bitsOf(this.#name)
  }
}

/** Matches every WebSocket route, and keeps the routes of the path that was found. */
class Find extends Query {
  at: Routes | undefined

  matches(routes: Routes): number {
    this.at = routes
    return routes.all
  }
}

/**
 * Looks for the route of a handshake: the first subprotocol in the client's order that some route at the path speaks,
 * then a route that registers none.
 */
export class Offers extends Query {
  /** In the client's order. */
  readonly names: readonly string[]
  /** The subprotocol of the route that was found; undefined when that registers none. */
  selected: string | undefined
  /** The subprotocols that the path has, when none of them was offered. */
  unsupportedBy: readonly string[] | undefined

  readonly #takesPlain: boolean

  /** @param takesPlain whether it matches a route that registers none. */
  constructor(names: readonly string[], takesPlain = true) {
    super()
    this.names = names
    this.#takesPlain = takesPlain
  }

  matches(routes: Routes): number {
    this.unsupportedBy = undefined
    this.selected = this.names.find(name => routes.bitsOf(name) !== 0)
    if (this.selected !== undefined) return routes.bitsOf(this.selected)
    if (this.#takesPlain && routes.plain !== 0) return routes.plain
    // The handshake is refused after the hooks of the path, which any of its routes has.
    this.unsupportedBy = [...routes.bySubprotocol.keys()]
    return routes.all
  }
}

/** The router of an application. */
type Router = Pick<FastifyInstance, 'findRoute'>

/** The parts of a request that the router uses. */
interface Target {
  readonly url?: string | undefined
  readonly headers: {
    readonly host?: string | undefined
    /** In place of `host` over HTTP/2. */
    readonly ':authority'?: string | undefined
    readonly 'accept-version'?: string | undefined
  }
}

function find(router: Router, request: Target, query: Query, custom: object = {}): unknown {
  const constraints: Record<string, unknown> = { ...custom, [CONSTRAINT]: query }
  const { host, ':authority': authority = host, 'accept-version': version } = request.headers
  if (authority !== undefined) constraints.host = authority
  if (version !== undefined) constraints.version = version
  return router.findRoute({ method: 'GET', url: request.url ?? '', constraints })
}

/**
 * Whether the path of a request has any WebSocket route.
 * @param custom the combinations of the application's own constraints that routes have. The values of the request for them
 * are not known here.
 */
export function hasWebSocketRoute(router: Router, request: Target, custom: readonly object[]): boolean {
  return custom.some(constraints => find(router, request, ANY, constraints) !== null)
}

/**
 * The query for a handshake where routes have further constraints, such as `host`. The router applies one constraint after
 * the other, so a subprotocol that only routes of another host register would hide the routes of this host. So this looks
 * for the first subprotocol that leads to a route.
 */
export function offersBeside(router: Router, request: Target, offers: Offers): Offers {
  const path = new Find()
  if (offers.names.length === 0 || find(router, request, path) === null) return offers
  const leads = (name: string | undefined): boolean =>
    find(router, request, new Speaks(name, path.at)) !== null
  const spoken = offers.names.find(leads)
  return spoken === undefined ? new Offers([], leads(undefined)) : new Offers([spoken])
}

/**
 * The router's constraint strategy. A request with a query, which is a handshake, reaches no ordinary route. A request
 * without one reaches no WebSocket route.
 */
export function constraintStrategy<Request>(queryOf: (request: Request) => Offers | undefined): {
  name: string
  mustMatchWhenDerived: boolean
  storage: () => Routes
  deriveConstraint: (request: Request) => Offers | undefined
} {
  return {
    name: CONSTRAINT,
    mustMatchWhenDerived: true,
    storage: () => new Routes(),
    deriveConstraint: request => queryOf(request)
  }
}
