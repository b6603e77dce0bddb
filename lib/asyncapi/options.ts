import type { FastifySchema, RouteOptions, RouteShorthandOptions } from 'fastify'
import type { Components, Info, Server } from './specification.js'

/** Changes the schema or the path of a route in the document. */
export type Transform = (route: {
  /** The schema of the route. */
  readonly schema: FastifySchema
  readonly url: string
  readonly route: Omit<RouteOptions, 'websocket'>
}) => { readonly schema: FastifySchema; readonly url: string }

/** Options of `fastify-upgrade/asyncapi`. */
export interface AsyncApiOptions {
  /** The title and the version of the application, and more about it. It is required. */
  readonly info: Info
  /** An identifier of the application, a URI. */
  readonly id?: string | undefined
  /** The servers on which the application runs, by name. */
  readonly servers?: Readonly<Record<string, Server>> | undefined
  /** Components of the document, such as the `securitySchemes` that `schema.security` of routes names. */
  readonly components?: Components | undefined
  /**
   * Path of the documentation: the page, and below it `/json` and `/yaml`. Without it there are no routes, and the
   * document is only what `app.asyncapi()` returns.
   */
  readonly routePrefix?: string | undefined
  /** Whether there is a page at `routePrefix`. It needs the package `@asyncapi/react-component`. Default: `true`. */
  readonly page?: boolean | undefined
  /** Hooks of the routes of the documentation, such as one that checks who may read it. */
  readonly onRequest?: RouteShorthandOptions['onRequest'] | undefined
  /** Like `onRequest`, after the request has been parsed. */
  readonly preHandler?: RouteShorthandOptions['preHandler'] | undefined
  /**
   * Changes a route in the document: `({ schema, url, route }) => ({ schema, url })`. Use it for schemas that are neither
   * JSON Schema nor of a library that converts them itself.
   */
  readonly transform?: Transform | undefined
  /** Whether routes without `tags` are left out. Default: `false`. */
  readonly hideUntagged?: boolean | undefined
}
