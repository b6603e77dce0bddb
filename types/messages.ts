import type { FastifyTypeProvider, FastifyTypeProviderDefault } from 'fastify'
import type { Message, SendData } from '../lib/socket/codec.js'

/** The type that a type provider gives a validated value of a schema: its output, where the schema transforms. */
type Validated<TypeProvider extends FastifyTypeProvider, Schema> = (TypeProvider & {
  readonly schema: Schema
})['validator']

/** The type that a type provider gives a value that is to be serialized. */
type Serialized<TypeProvider extends FastifyTypeProvider, Schema> = (TypeProvider & {
  readonly schema: Schema
})['serializer']

/** The type of a value as JSON: the input of a schema that transforms, by the interface Standard Schema. */
type Transmitted<TypeProvider extends FastifyTypeProvider, Schema> = Schema extends {
  readonly '~standard': { readonly types?: { readonly input: infer Input } | undefined }
}
  ? Input
  : Serialized<TypeProvider, Schema>

// The socket of a route is a `WebSocket` of the following two types. There is no alias for it: editors would show the alias
// instead of the types of the messages.

/** The messages that a handler receives: those of `Receive` in the route's type argument, else of the schema `receive`. */
export type Received<Generic, Schema, TypeProvider extends FastifyTypeProvider> = Generic extends {
  readonly Receive: infer Receive
}
  ? Receive
  : Schema extends { readonly receive: infer Receive }
    ? Validated<TypeProvider, Receive>
    : Message

/** The messages that a handler sends: those of `Send` in the route's type argument, else of the schema `send`. */
export type Sent<Generic, Schema, TypeProvider extends FastifyTypeProvider> = Generic extends {
  readonly Send: infer Send
}
  ? Send
  : Schema extends { readonly send: infer Send }
    ? Serialized<TypeProvider, Send>
    : SendData

/** A message as a browser without the contract of a route sends and gets it. */
type RawMessage = string | ArrayBuffer

type SentByClient<Route, TypeProvider extends FastifyTypeProvider> = Route extends {
  readonly Receive: infer Receive
}
  ? Receive
  : Route extends { readonly receive: infer Receive }
    ? Transmitted<TypeProvider, Receive>
    : RawMessage

type ReceivedByClient<Route, TypeProvider extends FastifyTypeProvider> = Route extends {
  readonly Send: infer Send
}
  ? Send
  : Route extends { readonly send: infer Send }
    ? Transmitted<TypeProvider, Send>
    : RawMessage

/**
 * The messages of a client of a route: `send` is the type of the messages that it sends, before `JSON.stringify`, and
 * `receive` that of the messages that it gets, after `JSON.parse`.
 * @template Route the type of the route's `schema`, of an object of options with `schema`, or its type argument with `Receive`
 * and `Send`.
 * @template TypeProvider the type provider of the route, such as `TypeBoxTypeProvider`.
 */
export type ClientOf<
  Route,
  TypeProvider extends FastifyTypeProvider = FastifyTypeProviderDefault
> = Route extends { readonly schema: infer Schema }
  ? ClientOf<Schema, TypeProvider>
  : {
      readonly send: SentByClient<Route, TypeProvider>
      readonly receive: ReceivedByClient<Route, TypeProvider>
    }
