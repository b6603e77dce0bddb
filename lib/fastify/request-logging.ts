import type { FastifyInstance, FastifyRequest } from 'fastify'

/** Whether an application wants no log lines about a request. */
export type IsLogDisabled = (request: FastifyRequest) => boolean

/** The value of the application's `disableRequestLogging`, or of its `logController`. */
export function readRequestLogging(root: FastifyInstance): IsLogDisabled {
  // Fastify has no public name for the controller, and earlier versions of Fastify 5 have no controller.
  const key = Object.getOwnPropertySymbols(root).find(
    ({ description }) => description === 'fastify.logController'
  )
  const controller: unknown = key && Reflect.get(root, key)
  const isLogDisabled: unknown = Reflect.get(Object(controller), 'isLogDisabled')
  if (typeof isLogDisabled === 'function')
    return request => Boolean(Reflect.apply(isLogDisabled, controller, [request]))
  const { disableRequestLogging = false } = root.initialConfig
  return request =>
    typeof disableRequestLogging === 'function' ? disableRequestLogging(request) : disableRequestLogging
}
