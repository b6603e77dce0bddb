import type { FastifyInstance } from 'fastify'

/** The root of an application. Fastify makes a scope by deriving an object from the scope that it is in. */
export function rootOf(app: FastifyInstance): FastifyInstance {
  const parent: FastifyInstance = Object.getPrototypeOf(app)
  return 'server' in parent ? rootOf(parent) : app
}

/** Whether `inner` is `outer`, or a scope in it. */
export function isWithin(inner: FastifyInstance, outer: FastifyInstance): boolean {
  return inner === outer || Object.prototype.isPrototypeOf.call(outer, inner)
}
