import { isDeepStrictEqual } from 'node:util'
import type { FastifyInstance, RouteOptions } from 'fastify'
import { DuplicatedSubprotocolError, TooManyRoutesError } from '../error.js'
import { CONSTRAINT, type RouteSubprotocols } from './subprotocol.js'

type Constraints = NonNullable<RouteOptions['constraints']>

interface Entry {
  readonly subprotocols: RouteSubprotocols
  /** The route's own constraints, without its subprotocols. */
  readonly constraints: Constraints
}

/** The router keeps the handlers of a path in the bits of an integer. */
const MAX_HANDLERS = 31

/** The WebSocket routes of a server. It finds conflicts between routes before they are added to the router. */
export class RouteRegistry {
  /** Whether a route has constraints besides its subprotocols. */
  hasOtherConstraints = false
  /** The constraints of routes for the application's own strategies. Each combination is listed once, the empty one first. */
  readonly customConstraints: Constraints[] = [{}]
  readonly #entries = new Map<string, Entry[]>()

  /** @throws when another route at the same path speaks one of the subprotocols, or there are too many routes at it. */
  add(
    app: FastifyInstance,
    url: string,
    subprotocols: RouteSubprotocols,
    constraints: Constraints = {}
  ): void {
    const key = patternOf(url)
    const candidates = this.#entries.get(key) ?? []
    const others = candidates.filter(entry => isAt(app, url, entry))
    const names = subprotocols === true ? [] : subprotocols
    for (const other of others) {
      if (other.subprotocols === true || !isDeepStrictEqual(other.constraints, constraints)) continue
      const shared = other.subprotocols.find(name => names.includes(name))
      if (shared !== undefined) throw new DuplicatedSubprotocolError(url, shared)
    }
    const ordinary = app.hasRoute({ method: 'GET', url }) ? 1 : 0
    if (others.length + ordinary >= MAX_HANDLERS) throw new TooManyRoutesError(url)
    if (Object.keys(constraints).length > 0) this.hasOtherConstraints = true
    const { host: _host, version: _version, ...custom } = constraints
    if (!this.customConstraints.some(one => isDeepStrictEqual(one, custom)))
      this.customConstraints.push(custom)
    this.#entries.set(key, [...candidates, { subprotocols, constraints }])
  }
}

/** Whether the router has a route at exactly this path, whatever its parameters are called. */
function isAt(app: FastifyInstance, url: string, { subprotocols, constraints }: Entry): boolean {
  return app.hasRoute({ method: 'GET', url, constraints: { ...constraints, [CONSTRAINT]: subprotocols } })
}

/** A key that is equal for all URLs that may be the same path. It narrows the candidates, so that the router is asked less often. */
function patternOf(url: string): string {
  return url.replaceAll(/:\w+/g, ':').replaceAll(/\/+/g, '/').replace(/\/$/, '').toLowerCase()
}
