import type { FastifyInstance, FastifySchema } from 'fastify'
import { toError } from '../../socket/error.js'
import { InvalidSchemaError } from '../error.js'
import { MessageSerializer } from './message-serializer.js'
import { type ErrorFormatter, MessageValidator, type ValidateFunction } from './message-validator.js'
import { schemaErrorFormatterOf, serializerCompilerOf, validatorCompilerOf } from './schema-compilers.js'

/** The options of a route that matter here. Hooks of other plugins may change them until the application is ready. */
interface SchemaOptions {
  readonly url: string
  readonly schema?: FastifySchema
  validatorCompiler?(definition: SchemaDefinition): ValidateFunction
  serializerCompiler?(definition: SchemaDefinition): (value: unknown) => string
  readonly schemaErrorFormatter?: ErrorFormatter
}

/** A schema as compilers get it. */
interface SchemaDefinition {
  readonly schema: unknown
  readonly method: string
  readonly url: string
  readonly httpPart?: string
  readonly httpStatus?: string
}

/**
 * The schemas `receive` and `send` of a WebSocket route. They are compiled when the application is ready, as Fastify compiles
 * the schemas of requests: compilers and shared schemas may be set after the route.
 */
export class MessageSchemas {
  /** The path of the route, with its prefix. Fastify may change that of the options, to register it with a slash too. */
  readonly url: string
  readonly #app: FastifyInstance
  readonly #options: SchemaOptions
  #validator: MessageValidator | undefined
  #serializer: MessageSerializer | undefined

  /** @param app the instance on which the route was registered. */
  constructor(app: FastifyInstance, options: SchemaOptions) {
    this.url = options.url
    this.#app = app
    this.#options = options
  }

  /** Undefined for a route without the schema `receive`. */
  get validator(): MessageValidator | undefined {
    return this.#validator
  }

  /** Undefined for a route without the schema `send`. */
  get serializer(): MessageSerializer | undefined {
    return this.#serializer
  }

  /**
   * @throws {InvalidSchemaError} `FST_UPGRADE_INVALID_SCHEMA`, with the name of the route.
   * @throws {AsyncValidatorError} `FST_UPGRADE_ASYNC_VALIDATOR`
   */
  compile(): void {
    const { receive, send } = this.#options.schema ?? {}
    if (receive !== undefined) this.#validator = this.#compileReceive(plain(receive))
    if (send !== undefined) this.#serializer = this.#compileSend(plain(send))
  }

  #compileReceive(schema: unknown): MessageValidator {
    const { url } = this
    const { validatorCompiler, schemaErrorFormatter } = this.#options
    const validate = this.#compiled('receive', () => {
      const compiler = validatorCompiler ?? validatorCompilerOf(this.#app)
      // For a validator compiler, a message is a JSON body.
      return compiler?.({ schema, method: 'GET', url, httpPart: 'body' })
    })
    const format = schemaErrorFormatter ?? schemaErrorFormatterOf(this.#app)
    return new MessageValidator(url, jsonParserOf(this.#app), validate, format)
  }

  #compileSend(schema: unknown): MessageSerializer {
    const { url } = this
    const { serializerCompiler } = this.#options
    const serialize = this.#compiled('send', () => {
      const compiler = serializerCompiler ?? serializerCompilerOf(this.#app)
      return compiler?.({ schema, method: 'GET', url, httpStatus: '101' })
    })
    return new MessageSerializer(url, schema, serialize)
  }

  #compiled<Compiled>(name: 'receive' | 'send', compile: () => Compiled | undefined): Compiled {
    try {
      const compiled = compile()
      if (typeof compiled !== 'function') throw new TypeError('the compiler returns no function')
      return compiled
    } catch (thrown) {
      const cause = toError(thrown)
      const error = new InvalidSchemaError(name, this.url, cause.message)
      error.cause = cause
      throw error
    }
  }
}

const kFluentSchema = Symbol.for('fluent-schema-object')

/** A schema of `fluent-json-schema` as plain JSON Schema, as in Fastify. */
function plain(schema: unknown): unknown {
  const object: object = Object(schema)
  const isFluent = Reflect.get(object, 'isFluentSchema') || Reflect.get(object, kFluentSchema)
  return isFluent ? object.valueOf() : schema
}

/** Fastify's parser of JSON bodies, with the options of the application for poisoned prototypes. */
function jsonParserOf({ initialConfig, getDefaultJsonParser }: FastifyInstance): (text: string) => unknown {
  const { onProtoPoisoning = 'error', onConstructorPoisoning = 'error' } = initialConfig
  const parser = getDefaultJsonParser(onProtoPoisoning, onConstructorPoisoning)
  let failure: unknown
  let value: unknown
  // The parser is synchronous, so that one callback is enough.
  const done = (error: Error | null, body: unknown): void => {
    failure = error
    value = body
  }
  return text => {
    Reflect.apply(parser, undefined, [undefined, text, done])
    if (failure !== null) throw failure
    const parsed = value
    value = undefined
    return parsed
  }
}
