import type { FastifySchema } from 'fastify'
import type { DeclaredRoute } from '../fastify/routes/declared-routes.js'
import { invalidOption } from '../options/error.js'
import { type Address, addressesOf } from './address.js'
import { UnknownSecuritySchemeError } from './error.js'
import { isObject, listOf } from './json-schema.js'
import { messagesOf } from './messages.js'
import { toName, uniqueName } from './names.js'
import type { AsyncApiOptions, Transform } from './options.js'
import { Schemas } from './schemas.js'
import type {
  AsyncApiDocument,
  Channel,
  ExternalDocs,
  Message,
  Operation,
  Parameter,
  Reference,
  Schema,
  Tag,
  WebSocketBinding
} from './specification.js'

const SUBPROTOCOL_HEADER = 'Sec-WebSocket-Protocol'

/** The part of a route's schema that the document describes. */
interface RouteSchema {
  readonly receive?: unknown
  readonly send?: unknown
  readonly params?: unknown
  readonly query?: unknown
  readonly headers?: unknown
  readonly summary: string | undefined
  readonly description: string | undefined
  readonly operationId: string | undefined
  readonly externalDocs: ExternalDocs | undefined
  readonly tags: readonly string[]
  readonly security: readonly object[]
  readonly isHidden: boolean
}

/**
 * Describes WebSocket routes.
 * @throws `FST_UPGRADE_UNRESOLVED_REFERENCE`, `FST_UPGRADE_UNSUPPORTED_SCHEMA` or `FST_UPGRADE_UNKNOWN_SECURITY_SCHEME`, and
 * what `transform` throws.
 * @throws {TypeError} `FST_UPGRADE_INVALID_OPTION` when `transform` returns something else.
 */
export function documentOf(routes: readonly DeclaredRoute[], options: AsyncApiOptions): AsyncApiDocument {
  const { id, info, servers, components, hideUntagged = false, transform } = options
  const builder = new Builder(options)
  for (const route of routes) {
    const { schema, url } = transformed(route, transform)
    const read = readSchema(schema)
    if (read.isHidden || (hideUntagged && read.tags.length === 0)) continue
    for (const address of addressesOf(url)) builder.add(route, read, address)
  }
  const schemas = { ...components?.schemas, ...builder.schemas.components }
  return {
    asyncapi: '3.1.0',
    ...(id !== undefined && { id }),
    info,
    defaultContentType: 'application/json',
    ...(servers !== undefined && { servers }),
    channels: builder.channels,
    operations: builder.operations,
    ...((components !== undefined || Object.keys(schemas).length > 0) && {
      components: { ...components, ...(Object.keys(schemas).length > 0 && { schemas }) }
    })
  }
}

/** The schema and the path of a route, as `transform` changes them. */
function transformed(
  { options, isHidden }: DeclaredRoute,
  transform: Transform | undefined
): { readonly schema: FastifySchema; readonly url: string } {
  const { url } = options
  const schema = { ...options.schema, hide: isHidden }
  if (transform === undefined) return { schema, url }
  const changed = transform({ schema, url, route: options })
  if (isObject(changed) && isObject(changed.schema) && typeof changed.url === 'string') return changed
  throw invalidOption('transform', 'a function that returns { schema, url }', transform)
}

/** The values of the keys that @fastify/swagger and others use. Values of other types have no meaning there, either. */
function readSchema(schema: FastifySchema): RouteSchema {
  const get = (name: string): unknown => Reflect.get(schema, name)
  const text = (name: string): string | undefined => {
    const value = get(name)
    return typeof value === 'string' ? value : undefined
  }
  const externalDocs = get('externalDocs')
  return {
    receive: get('receive'),
    send: get('send'),
    params: schema.params,
    query: schema.querystring ?? get('query'),
    headers: schema.headers,
    summary: text('summary'),
    description: text('description'),
    operationId: text('operationId'),
    externalDocs: isExternalDocs(externalDocs) ? externalDocs : undefined,
    tags: listOf(get('tags')).map(String),
    security: listOf(get('security')).map(Object),
    isHidden: get('hide') === true
  }
}

/** Collects the channels and the operations of a document. */
class Builder {
  readonly channels: Record<string, Channel> = {}
  readonly operations: Record<string, Operation> = {}
  readonly schemas: Schemas
  readonly #names = new Set<string>()
  readonly #securitySchemes: Readonly<Record<string, object>>

  constructor({ components = {} }: AsyncApiOptions) {
    this.schemas = new Schemas(components.schemas ?? {})
    this.#securitySchemes = components.securitySchemes ?? {}
  }

  add(
    { scope, subprotocols, options }: DeclaredRoute,
    schema: RouteSchema,
    { address, parameters }: Address
  ): void {
    const names = subprotocols === true ? [] : subprotocols
    const id = uniqueName(
      schema.operationId ?? [toName(address) || 'root', ...names.slice(0, 1)].join('.'),
      this.#names
    )
    const { summary, description, externalDocs } = schema
    const tags = schema.tags.map((name): Tag => ({ name }))
    const security = this.#security(schema.security, options.url)
    const convert = (given: unknown, key: string): Schema =>
      this.schemas.convert(given, {
        place: `The schema "${key}" of GET ${options.url}`,
        name: `${id}.${key}`,
        shared: scope.getSchemas()
      })

    const messages: Record<string, Message> = {}
    const keys = new Set<string>()
    const describe = (action: 'receive' | 'send', list: readonly Message[]): void => {
      const references = list.map((message): Reference => {
        const key = uniqueName(message.name, keys)
        messages[key] = message
        return { $ref: `#/channels/${id}/messages/${key}` }
      })
      this.operations[`${id}.${action}`] = {
        action,
        channel: { $ref: `#/channels/${id}` },
        ...(summary !== undefined && { summary }),
        ...(tags.length > 0 && { tags }),
        ...(security.length > 0 && { security }),
        messages: references
      }
    }
    const { receive, send } = schema
    if (receive !== undefined) {
      describe('receive', messagesOf(convert(receive, 'receive'), this.schemas, 'receive'))
    }
    if (send !== undefined) {
      describe('send', messagesOf(convert(send, 'send'), this.schemas, 'send'))
    }
    // Without schemas, messages in both directions may be anything, also bytes.
    if (receive === undefined && send === undefined) {
      for (const action of ['receive', 'send'] as const) describe(action, [{ name: action, payload: {} }])
    }

    const params = schema.params === undefined ? {} : convert(schema.params, 'params')
    const query = schema.query === undefined ? undefined : convert(schema.query, 'querystring')
    const headers = schema.headers === undefined ? undefined : convert(schema.headers, 'headers')
    this.channels[id] = {
      address,
      ...(summary !== undefined && { summary }),
      ...(description !== undefined && { description }),
      ...(tags.length > 0 && { tags }),
      ...(externalDocs !== undefined && { externalDocs }),
      ...(parameters.length > 0 && {
        parameters: Object.fromEntries(
          parameters.map(({ name, key }) => [key, parameterOf(params, name, this.schemas)])
        )
      }),
      messages,
      bindings: { ws: bindingOf(query, withSubprotocols(headers, names)) }
    }
  }

  /** The security schemes that a route names as in OpenAPI: `[{ name: scopes }]`. */
  #security(requirements: readonly object[], url: string): readonly object[] {
    return requirements.flatMap(requirement =>
      Object.entries(requirement).map(([name, scopes]: [string, unknown]) => {
        const scheme = this.#securitySchemes[name]
        if (scheme === undefined || !Object.hasOwn(this.#securitySchemes, name))
          throw new UnknownSecuritySchemeError(url, name)
        const list = listOf(scopes)
        return list.length > 0
          ? { ...scheme, scopes: list }
          : { $ref: `#/components/securitySchemes/${name}` }
      })
    )
  }
}

/** A parameter of a channel. AsyncAPI describes its values as strings. */
function parameterOf(params: Schema, name: string, schemas: Schemas): Parameter {
  const { properties } = schemas.resolve(params).schema
  const property = isObject(properties) ? properties[name] : undefined
  const {
    description,
    enum: values,
    default: fallback,
    examples
  } = isObject(property) ? schemas.resolve(property).schema : {}
  return {
    ...(typeof description === 'string' && { description }),
    ...(Array.isArray(values) && { enum: values.map(String) }),
    ...(fallback !== undefined && { default: String(fallback) }),
    ...(Array.isArray(examples) && { examples: examples.map(String) })
  }
}

function bindingOf(query: Schema | undefined, headers: Schema | undefined): WebSocketBinding {
  return {
    method: 'GET',
    ...(query !== undefined && { query }),
    ...(headers !== undefined && { headers }),
    bindingVersion: '0.1.0'
  }
}

/** The schema of the headers of a handshake, with the subprotocols among which a client chooses. */
function withSubprotocols(headers: Schema | undefined, names: readonly string[]): Schema | undefined {
  if (names.length === 0) return headers
  const own = {
    type: 'object',
    properties: {
      [SUBPROTOCOL_HEADER]: { type: 'string', enum: names, description: 'The subprotocol of the connection.' }
    },
    required: [SUBPROTOCOL_HEADER]
  }
  return headers === undefined ? own : { allOf: [headers, own], type: 'object', properties: own.properties }
}

function isExternalDocs(value: unknown): value is ExternalDocs {
  return isObject(value) && typeof value.url === 'string'
}
