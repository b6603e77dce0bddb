export type { AsyncApiOptions, Transform } from './options.js'
export { type GetDocument, plugin as asyncapi, plugin as default } from './plugin.js'
export type {
  AsyncApiDocument,
  Channel,
  Components,
  ExternalDocs,
  Info,
  Message,
  Operation,
  Parameter,
  Reference,
  Schema,
  Server,
  Tag,
  WebSocketBinding
} from './specification.js'
