// It exports nothing. This form stays in the declarations, so that applications get the augmentation of Fastify.
export type * from '../types/fastify.js'
export type {
  InvalidMessageHandler,
  WebSocketErrorHandler,
  WebSocketHandler
} from '../types/handler.js'
export type { ClientOf } from '../types/messages.js'
export type {
  CloseLogLevel,
  ExpiryChoice,
  FastifyUpgradeOptions,
  OriginCheck,
  OriginRule,
  PresenceOptions,
  ServerOptions,
  ShutdownOptions,
  SubprotocolChoice,
  TopicChoice,
  UserChoice,
  WebSocketOptions,
  WebSocketRouteOptions
} from '../types/options.js'
export type { RouteOptions } from '../types/route.js'
export type {
  AppendOptions,
  Broker,
  BrokerEvents,
  HistoryBroker,
  HistoryLimits,
  HistoryPage,
  Position,
  ReadOptions,
  StoredMessage
} from './brokers/broker.js'
export { MemoryBroker, MemoryHub, type MemoryHubOptions } from './brokers/memory.js'
export type {
  BrokerDiagnosis,
  BrokerPublished,
  ConnectionClosed,
  ConnectionEvent,
  ConnectionOpened,
  DiagnosedSocket,
  DiagnosedTraffic,
  DiagnosticsChannels,
  HandshakeAccepted,
  HandshakeRefused,
  HeartbeatAnswered,
  HistoryGap,
  HistoryRecovery,
  Limit,
  LimitReached,
  ListenerFailed,
  MessageTransferred,
  ShutdownStep
} from './diagnostics.js'
export type { InvalidMessageError } from './fastify/error.js'
export {
  plugin as default,
  plugin as fastifyUpgrade,
  plugin as fastifyWebsocket
} from './fastify/plugin.js'
export type { ConnectionById, ConnectionsOptions, User } from './fastify/users.js'
export {
  type DeliverPublication,
  type SubscribeOptions,
  type TopicPublishOptions,
  WebSocket
} from './fastify/websocket.js'
export {
  type BroadcastOptions,
  type Health,
  type PublishOptions,
  type RoutePrepareOptions,
  WebSocketServer,
  type WebSocketServerEvents
} from './fastify/websocket-server.js'
export type {
  HeartbeatOptions,
  PerMessageDeflateOptions,
  RateLimitOptions
} from './options/connection-options.js'
export type { Message, SendData, SendOptions } from './socket/codec.js'
export type {
  CloseEvent,
  ErrorEvent,
  EventHandler,
  EventListener,
  MessageEvent,
  WebSocketEvent
} from './socket/event-target.js'
export type { WebSocketEvents } from './socket/events.js'
export { type PreparedMessage, type PrepareOptions, prepare } from './socket/prepared-message.js'
export type { SendCallback } from './socket/sender.js'
export type { Traffic } from './socket/stats.js'
export type { BrokerEvent } from './topics/broker-link.js'
export type { ConnectionList, Reached } from './topics/connections/connections.js'
export type { ConnectionInfo, ConnectionSort } from './topics/connections/protocol.js'
export type { HistoryOption, HistoryRange, HistoryResult } from './topics/history.js'
export type { TopicPublication } from './topics/history-entry.js'
export type { Subscription } from './topics/history-topic.js'
export type { Presence, PresenceEvents } from './topics/presence.js'
export type { PresenceMember } from './topics/presence-protocol.js'
export type { VerifyClientInfo } from './upgrade/verify-client.js'
