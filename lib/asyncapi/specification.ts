// The parts of an AsyncAPI 3.1 document that the plugin writes or reads: https://www.asyncapi.com/docs/reference/specification/v3.1.0

/** Fields that begin with `x-` are extensions of the specification. */
export interface Extensible {
  readonly [extension: `x-${string}`]: unknown
}

/** A reference to another place in the document. */
export interface Reference {
  readonly $ref: string
}

/** A schema, a superset of JSON Schema draft 7. */
export interface Schema {
  readonly [keyword: string]: unknown
}

export interface ExternalDocs extends Extensible {
  readonly url: string
  readonly description?: string | undefined
}

export interface Tag extends Extensible {
  readonly name: string
  readonly description?: string | undefined
  readonly externalDocs?: ExternalDocs | undefined
}

/** General information about the application. */
export interface Info extends Extensible {
  readonly title: string
  /** The version of the application's interface. */
  readonly version: string
  /** In CommonMark. */
  readonly description?: string | undefined
  readonly termsOfService?: string | undefined
  readonly contact?: { readonly name?: string; readonly url?: string; readonly email?: string } | undefined
  readonly license?: { readonly name: string; readonly url?: string } | undefined
  /** Descriptions of the tags that routes have. */
  readonly tags?: readonly Tag[] | undefined
  readonly externalDocs?: ExternalDocs | undefined
}

/** A server on which the application runs. */
export interface Server extends Extensible {
  /** The name of the host, with the port if it has one. */
  readonly host: string
  /** `ws`, or `wss` for WebSocket over TLS. */
  readonly protocol: string
  /** The path before that of each channel. */
  readonly pathname?: string | undefined
  readonly title?: string | undefined
  readonly summary?: string | undefined
  readonly description?: string | undefined
  readonly variables?: Readonly<Record<string, object>> | undefined
  readonly security?: readonly object[] | undefined
  readonly tags?: readonly Tag[] | undefined
}

export interface Components extends Extensible {
  /** By the names that `schema.security` of routes has. */
  readonly securitySchemes?: Readonly<Record<string, object>> | undefined
  readonly schemas?: Readonly<Record<string, Schema>> | undefined
}

/** A parameter of a path. */
export interface Parameter {
  readonly description?: string | undefined
  readonly enum?: readonly string[] | undefined
  readonly default?: string | undefined
  readonly examples?: readonly string[] | undefined
}

export interface Message {
  readonly name: string
  readonly title?: string | undefined
  readonly description?: string | undefined
  readonly payload: Schema
  readonly examples?: readonly { readonly payload: unknown }[] | undefined
}

/** A WebSocket route. */
export interface Channel {
  readonly address: string
  readonly summary?: string | undefined
  readonly description?: string | undefined
  readonly tags?: readonly Tag[] | undefined
  readonly externalDocs?: ExternalDocs | undefined
  readonly parameters?: Readonly<Record<string, Parameter>> | undefined
  readonly messages: Readonly<Record<string, Message>>
  readonly bindings: { readonly ws: WebSocketBinding }
}

/** The request of the handshake. */
export interface WebSocketBinding {
  readonly method: 'GET'
  readonly query?: Schema | undefined
  readonly headers?: Schema | undefined
  readonly bindingVersion: '0.1.0'
}

export interface Operation {
  /** From the point of view of the application: `receive` for messages of clients, `send` for messages to them. */
  readonly action: 'receive' | 'send'
  readonly channel: Reference
  readonly summary?: string | undefined
  readonly tags?: readonly Tag[] | undefined
  readonly security?: readonly object[] | undefined
  readonly messages: readonly Reference[]
}

/** An AsyncAPI document. */
export interface AsyncApiDocument extends Extensible {
  readonly asyncapi: '3.1.0'
  readonly id?: string | undefined
  readonly info: Info
  readonly defaultContentType: 'application/json'
  readonly servers?: Readonly<Record<string, Server>> | undefined
  readonly channels: Readonly<Record<string, Channel>>
  readonly operations: Readonly<Record<string, Operation>>
  readonly components?: Components | undefined
}
