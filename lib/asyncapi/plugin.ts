import type { FastifyInstance, FastifyPluginAsync, RouteShorthandOptions } from 'fastify'
import fp from 'fastify-plugin'
import { FASTIFY_OPTIONS } from '../fastify/options.js'
import { DeclaredRoutes } from '../fastify/routes/declared-routes.js'
import { rootOf } from '../fastify/routes/scope.js'
import { invalidOption } from '../options/error.js'
import { checkNames, checkOptions } from '../options/option.js'
import { ASYNCAPI_OPTIONS, namesIn } from '../options/table.js'
import { documentOf } from './document.js'
import { DocumentNotReadyError } from './error.js'
import type { AsyncApiOptions } from './options.js'
import { addPage, findComponent } from './page.js'
import type { AsyncApiDocument } from './specification.js'
import { toYaml } from './yaml.js'

/** The document of an application, in the form that is asked for. */
export interface GetDocument {
  /** @throws `FST_UPGRADE_ASYNCAPI_NOT_READY` before `app.ready()`. */
  (options?: { readonly yaml?: false | undefined }): AsyncApiDocument
  (options: { readonly yaml: true }): string
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The AsyncAPI document of the WebSocket routes, as an object or as YAML. */
    readonly asyncapi: GetDocument
  }

  // As @fastify/swagger declares them, so that both can be used together.
  interface FastifySchema {
    hide?: boolean
    tags?: readonly string[]
    description?: string
    summary?: string
    security?: ReadonlyArray<{ [securityLabel: string]: readonly string[] }>
    operationId?: string
  }
}

// Async, so that what it throws is an error of `register`.
const register: FastifyPluginAsync<AsyncApiOptions> = async (app, options) => {
  checkNames(options, [...namesIn('asyncapi'), ...FASTIFY_OPTIONS], '')
  checkOptions(ASYNCAPI_OPTIONS, options, '')
  if (options.info === undefined) {
    throw invalidOption('info', 'an object with a title and a version', options.info)
  }
  let document: AsyncApiDocument | undefined
  let yaml: string | undefined
  const ready = (): AsyncApiDocument => {
    if (document === undefined) throw new DocumentNotReadyError()
    return document
  }
  function getDocument(options?: { readonly yaml?: false | undefined }): AsyncApiDocument
  function getDocument(options: { readonly yaml: true }): string
  function getDocument(options: { readonly yaml?: boolean | undefined } = {}): AsyncApiDocument | string {
    if (options.yaml !== true) return ready()
    yaml ??= toYaml(ready())
    return yaml
  }
  app.decorate('asyncapi', getDocument)
  // By now every route is declared. A schema that cannot be described makes the start of the application fail.
  app.addHook('onReady', async () => {
    document = documentOf(DeclaredRoutes.of(rootOf(app)).within(app), options)
    if (Object.keys(document.channels).length === 0)
      app.log.warn('the AsyncAPI document has no channels: there is no WebSocket route in its scope')
  })
  const { routePrefix, page = true } = options
  if (routePrefix !== undefined) await app.register(documentation, { prefix: routePrefix, options, page })
}

/** The routes of the documentation. All of them run the hooks that the application gives. */
async function documentation(
  app: FastifyInstance,
  { options, page }: { readonly options: AsyncApiOptions; readonly page: boolean }
): Promise<void> {
  const { onRequest, preHandler, info } = options
  const route: RouteShorthandOptions = {
    schema: { hide: true },
    ...(onRequest !== undefined && { onRequest }),
    ...(preHandler !== undefined && { preHandler })
  }
  app.get('/json', route, async () => app.asyncapi())
  app.get('/yaml', route, async (_request, reply) => {
    reply.type('application/yaml')
    return app.asyncapi({ yaml: true })
  })
  if (page) addPage(app, route, { title: info.title, component: findComponent() })
}

/**
 * Describes the WebSocket routes of the scope that registers it in an AsyncAPI document, and serves the document and a page
 * of documentation. The order in which it, `fastify-upgrade` and the routes are registered does not matter.
 */
export const plugin: FastifyPluginAsync<AsyncApiOptions> = fp(register, {
  fastify: '5.x',
  name: 'fastify-upgrade/asyncapi'
})
