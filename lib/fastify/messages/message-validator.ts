import { isAsyncFunction } from 'node:util/types'
import type { FastifySchemaValidationError } from 'fastify'
import { toError } from '../../socket/error.js'
import { isThenable } from '../../socket/events.js'
import { AsyncValidatorError, InvalidMessageError } from '../error.js'

/** A compiled `receive` schema, with the conventions of Fastify's validators. */
export interface ValidateFunction {
  (...args: unknown[]): unknown
  readonly errors?: FastifySchemaValidationError[] | null
}

/** Makes the error of a message that breaks the schema. */
export type ErrorFormatter = (errors: FastifySchemaValidationError[], dataVar: 'body') => Error

/** RFC 6455 section 7.4.1: data that the endpoint cannot accept, and data that is not consistent with its type. */
const UNSUPPORTED_DATA = 1003
const INVALID_PAYLOAD = 1007

/** The levels of objects and arrays that a message may have. Validators and serializers are recursive functions. */
const MAX_DEPTH = 512

/** Decodes and validates the messages of a route with the schema `receive`. */
export class MessageValidator {
  readonly #url: string
  readonly #parse: (text: string) => unknown
  readonly #validate: ValidateFunction
  readonly #format: ErrorFormatter
  /** Ajv can replace a root value, as coercion and defaults do, only in an object that holds it. */
  readonly #holder: { value: unknown } = { value: undefined }
  readonly #place: object | undefined

  /** @throws {AsyncValidatorError} for a validator that is known to be asynchronous. */
  constructor(
    url: string,
    parse: (text: string) => unknown,
    validate: ValidateFunction,
    format: ErrorFormatter
  ) {
    // Ajv marks the validator of a schema with `$async`.
    if (isAsyncFunction(validate) || Reflect.get(validate, '$async') === true)
      throw new AsyncValidatorError(url)
    this.#url = url
    this.#parse = parse
    this.#validate = validate
    this.#format = format
    this.#place =
      'schemaEnv' in validate ? { parentData: this.#holder, parentDataProperty: 'value' } : undefined
  }

  /**
   * The value of a message.
   * @throws {InvalidMessageError} when it is binary, is not JSON or breaks the schema.
   * @throws {AsyncValidatorError}
   */
  decode(data: Buffer, isBinary: boolean): unknown {
    if (isBinary) throw new InvalidMessageError('body must be JSON, but it is binary', UNSUPPORTED_DATA, data)
    const text = data.toString()
    if (isNestedDeeper(text, MAX_DEPTH))
      throw new InvalidMessageError(
        `body must not have more than ${MAX_DEPTH} levels of objects and arrays`,
        INVALID_PAYLOAD,
        text
      )
    let value: unknown
    try {
      value = this.#parse(text)
    } catch {
      // The error of the parser is about the body of a request.
      throw new InvalidMessageError('body must be valid JSON', INVALID_PAYLOAD, text)
    }
    try {
      return this.#validated(value)
    } catch (thrown) {
      if (!isStackOverflow(thrown)) throw thrown
      // A recursive schema may overflow the stack with less nesting than the limit.
      const error = new InvalidMessageError('body is too complex for its schema', INVALID_PAYLOAD, value)
      error.cause = thrown
      throw error
    }
  }

  #validated(value: unknown): unknown {
    if (this.#place === undefined) return this.#conclude(this.#validate(value), value)
    this.#holder.value = value
    const result = this.#validate(value, this.#place)
    const { value: validated } = this.#holder
    this.#holder.value = undefined
    return result === true ? validated : this.#conclude(result, validated)
  }

  /** The value that a validator lets pass. Like Fastify, this accepts any result that does not report an error. */
  #conclude(result: unknown, value: unknown): unknown {
    if (result === false) throw this.#error(this.#validate.errors ?? [], value)
    if (typeof result !== 'object' || result === null) return value
    if (isThenable(result)) {
      result.then(undefined, () => {})
      throw new AsyncValidatorError(this.#url)
    }
    if ('error' in result && result.error) throw this.#error(result.error, value)
    return 'value' in result ? result.value : value
  }

  #error(reported: unknown, value: unknown): InvalidMessageError {
    const faults: FastifySchemaValidationError[] | undefined = Array.isArray(reported) ? reported : undefined
    const cause = faults === undefined ? toError(reported) : this.#format(faults, 'body')
    const error = new InvalidMessageError(cause.message, INVALID_PAYLOAD, value)
    error.validation = faults ?? []
    error.cause = cause
    return error
  }
}

/** The message of a validation error as Fastify words it. */
export function formatErrors(errors: readonly FastifySchemaValidationError[], dataVar: string): Error {
  if (errors.length === 0) return new Error(`${dataVar} is invalid`)
  return new Error(
    errors.map(({ instancePath = '', message }) => `${dataVar}${instancePath} ${message}`).join(', ')
  )
}

function isStackOverflow(thrown: unknown): boolean {
  return thrown instanceof RangeError && thrown.message.includes('call stack')
}

/** Whether JSON has more levels of objects and arrays than `max`. In other text it counts brackets outside of quotes. */
function isNestedDeeper(json: string, max: number): boolean {
  // Most messages are short or have few brackets, and counting brackets is cheaper.
  if (json.length <= 2 * max || !hasMoreBrackets(json, max)) return false
  let depth = 0
  for (let i = 0; i < json.length; i++) {
    switch (json[i]) {
      case '"':
        i = endOfString(json, i)
        break
      case '[':
      case '{':
        if (++depth > max) return true
        break
      case ']':
      case '}':
        depth--
    }
  }
  return false
}

function hasMoreBrackets(json: string, max: number): boolean {
  let count = 0
  for (const bracket of '[{')
    for (let at = json.indexOf(bracket); at !== -1; at = json.indexOf(bracket, at + 1))
      if (++count > max) return true
  return false
}

/** The position of the quote that ends a string in JSON, or one behind the text. */
function endOfString(json: string, start: number): number {
  let at = start + 1
  while (at < json.length && json[at] !== '"') at += json[at] === '\\' ? 2 : 1
  return at
}
