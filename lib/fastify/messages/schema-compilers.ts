import type { FastifyInstance, FastifySchemaCompiler, FastifySerializerCompiler } from 'fastify'
import { toError } from '../../socket/error.js'
import { type ErrorFormatter, formatErrors } from './message-validator.js'

// The compilers of a scope as Fastify chooses them for its own routes. Fastify creates a compiler when the first route of
// a scope has a schema for requests or replies, and it has no public way to ask for one, or for the error formatter. Both are
// found by the descriptions of Fastify's symbols. A test fails when Fastify renames them.

export function validatorCompilerOf(app: FastifyInstance): FastifySchemaCompiler<unknown> | undefined {
  setUp(app, 'setupValidator')
  return app.validatorCompiler
}

export function serializerCompilerOf(app: FastifyInstance): FastifySerializerCompiler<unknown> | undefined {
  setUp(app, 'setupSerializer')
  return app.serializerCompiler
}

/** The error formatter of a scope; by default it words errors as Fastify does. */
export function schemaErrorFormatterOf(app: FastifyInstance): ErrorFormatter {
  const formatter = internalOf(app, 'fastify.schemaErrorFormatter')
  if (!isFunction(formatter)) return formatErrors
  return (...args) => toError(Reflect.apply(formatter, undefined, args))
}

/** Creates the compiler of a scope, with the schemas of the scope, unless it has one already. */
function setUp(app: FastifyInstance, method: 'setupValidator' | 'setupSerializer'): void {
  const controller = internalOf(app, 'fastify.schemaController')
  const create: unknown = Reflect.get(Object(controller), method)
  if (isFunction(create)) Reflect.apply(create, controller, [internalOf(app, 'fastify.options')])
}

function internalOf(app: FastifyInstance, description: string): unknown {
  for (let scope: unknown = app; typeof scope === 'object' && scope !== null; ) {
    for (const symbol of Object.getOwnPropertySymbols(scope))
      if (symbol.description === description) return Reflect.get(app, symbol)
    scope = Object.getPrototypeOf(scope)
  }
  return undefined
}

type AnyFunction = (...args: unknown[]) => unknown

function isFunction(value: unknown): value is AnyFunction {
  return typeof value === 'function'
}
