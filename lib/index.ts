// It exports nothing. This form stays in the declarations, so that applications get the augmentation of Fastify.
export type * from '../types/fastify.js'
export type {
  WebSocketErrorHandler,
  WebSocketHandler
} from '../types/handler.js'
export type {
  CloseLogLevel,
  FastifyUpgradeOptions,
  OriginCheck,
  OriginRule,
  PresenceOptions,
  ServerOptions,
  ShutdownOptions,
  SubprotocolChoice,
  TopicChoice,
  WebSocketOptions,
  WebSocketRouteOptions
} from '../types/options.js'
export type { RouteOptions } from '../types/route.js'
export {
  plugin as default,
  plugin as fastifyUpgrade,
  plugin as fastifyWebsocket
} from './fastify/plugin.js'
export { type SubscribeOptions, WebSocket } from './fastify/websocket.js'
export {
  type BroadcastOptions,
  type PublishOptions,
  WebSocketServer,
  type WebSocketServerEvents
} from './fastify/websocket-server.js'
export type { VerifyClientInfo } from './handshake/verify-client.js'
export type { Broker, BrokerEvents } from './pubsub/broker.js'
export type { BrokerEvent } from './pubsub/bus.js'
export { MemoryBroker, MemoryHub } from './pubsub/memory-broker.js'
export type { Presence, PresenceEvents } from './pubsub/presence.js'
export type { PresenceMember } from './pubsub/presence-message.js'
export type {
  HeartbeatOptions,
  PerMessageDeflateOptions,
  RateLimitOptions
} from './transport/connection-options.js'
export type {
  CloseEvent,
  ErrorEvent,
  EventHandler,
  EventListener,
  MessageEvent,
  WebSocketEvent
} from './transport/event-target.js'
export type { Message } from './transport/iterator.js'
export type { SendData, SendOptions } from './transport/payload.js'
export { type PreparedMessage, type PrepareOptions, prepare } from './transport/prepared-message.js'
export type { SendCallback } from './transport/send-callbacks.js'
export type { Traffic, WebSocketEvents } from './transport/websocket-options.js'
