import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { type AsyncApiDocument, type AsyncApiOptions, asyncapi } from '../../lib/asyncapi/index.js'
import upgrade from '../../lib/index.js'
import { bareApp } from '../helpers/app.js'

export const info = { title: 'Test', version: '1.0.0' }

/** The document of an application with the routes that `declare` declares. */
export async function documentOf(
  t: Test,
  declare: (app: FastifyInstance) => unknown,
  options: Partial<AsyncApiOptions> = {}
): Promise<AsyncApiDocument> {
  const app = await documentedApp(t, declare, options)
  await app.ready()
  return app.asyncapi()
}

/** The same application, before it is ready. */
export async function documentedApp(
  t: Test,
  declare: (app: FastifyInstance) => unknown,
  options: Partial<AsyncApiOptions> = {}
): Promise<FastifyInstance> {
  const { app } = bareApp(t)
  await app.register(upgrade)
  await app.register(asyncapi, { info, ...options })
  await declare(app)
  return app
}
