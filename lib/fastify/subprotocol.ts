import type { FastifyInstance } from 'fastify'

/** The name of the constraint that makes a route one for WebSockets. */
export const CONSTRAINT = 'websocket'

/** The constraint of a route: the subprotocols that it speaks, or true when it registers none. */
export type RouteSubprotocols = readonly string[] | true

/** What a request looks for among the routes at a path. */
abstract class Query {
  abstract matches(routes: Routes): number
}

/** The WebSocket routes at one path, each a bit in the router's mask of handlers. */
class Routes {
  all = 0
  /** Those that register no subprotocol. */
  plain = 0
  readonly bySubprotocol = new Map<string, number>()

  /** The router asks with a route's constraint while it is built, and with a request's query later. */
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

/** Matches, at one path, the routes that speak a subprotocol, or with undefined those that register none. */
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

/** Matches every WebSocket route and tells where the last ones were. */
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
  /** What the path speaks, when that is nothing that was offered. */
  unsupportedBy: readonly string[] | undefined

  readonly #takesPlain: boolean

  /** @param takesPlain whether a route that registers none will do. */
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
    // Any route will do to run the hooks of this path and refuse there.
    this.unsupportedBy = [...routes.bySubprotocol.keys()]
    return routes.all
  }
}

/** Where the routes of an application are found. */
type Router = Pick<FastifyInstance, 'findRoute'>

/** The parts of a request that the router goes by. */
interface Target {
  readonly url?: string | undefined
  readonly headers: { readonly host?: string | undefined; readonly 'accept-version'?: string | undefined }
}

function find(router: Router, request: Target, query: Query, custom: object = {}): unknown {
  const constraints: Record<string, unknown> = { ...custom, [CONSTRAINT]: query }
  if (request.headers.host !== undefined) constraints.host = request.headers.host
  const version = request.headers['accept-version']
  if (version !== undefined) constraints.version = version
  return router.findRoute({ method: 'GET', url: request.url ?? '', constraints })
}

/**
 * Whether the path of a request has any WebSocket route.
 * @param custom what routes ask for by strategies of the application. What this request offers to them is not known here.
 */
export function hasWebSocketRoute(router: Router, request: Target, custom: readonly object[]): boolean {
  return custom.some(constraints => find(router, request, ANY, constraints) !== null)
}

/**
 * The query for a handshake when further constraints, such as `host`, decide too. The router applies one constraint
 * after the other, so a subprotocol that only routes of another host speak would hide those of this host: the first
 * that leads to a route is looked for here.
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
 * The router's constraint strategy. Where a handshake is derived it must match, so that none reaches an ordinary route;
 * where none is derived, no WebSocket route matches.
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
