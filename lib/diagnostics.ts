import { channel } from 'node:diagnostics_channel'
import type { IncomingMessage } from 'node:http'

// The diagnostics channels: their names, their payloads, and one check each where they are published. A payload is made
// only while its channel has subscribers. docs/reference/diagnostics.md lists them.

/** The WebSocket of a connection. It is the object that the handler of the route got. */
export interface DiagnosedSocket {
  /** The selected subprotocol; empty for none. */
  readonly protocol: string
  readonly bufferedAmount: number
  readonly dropped: number
  readonly latency: number | undefined
  readonly traffic: DiagnosedTraffic
}

/** The traffic of a connection: messages of the application, and all bytes after the handshake. */
export interface DiagnosedTraffic {
  readonly messagesReceived: number
  readonly messagesSent: number
  readonly bytesReceived: number
  readonly bytesSent: number
}

/** A request for a WebSocket, and what is known about its route. */
interface Handshake {
  /** The `websocketServer` of the route; undefined when no route was found. */
  readonly server: object | undefined
  /** The request as Node has it. It may contain personal data. */
  readonly request: IncomingMessage
  /** The path of the route with the names of its parameters, such as `/rooms/:room`; undefined when no route was found. */
  readonly route: string | undefined
}

/** The payload of `fastify-upgrade:handshake:accepted`. */
export interface HandshakeAccepted extends Handshake {
  /** 101 on HTTP/1.1, 200 on HTTP/2. */
  readonly status: number
  /** Milliseconds from the request to the answer. */
  readonly duration: number
}

/** The payload of `fastify-upgrade:handshake:refused`. */
export interface HandshakeRefused extends Handshake {
  /** The status of the answer; undefined when the connection closed before there was one. */
  readonly status: number | undefined
  /** The code of the error, if an error refused the handshake. */
  readonly code: string | undefined
  /** Milliseconds from the request to the answer. */
  readonly duration: number
}

/** The route of a connection. */
interface RoutedConnection {
  readonly socket: DiagnosedSocket
  /** The `websocketServer` of the route. */
  readonly server: object
  /** The path of the route with the names of its parameters. */
  readonly route: string
}

/** The payload of `fastify-upgrade:connection:opened`. */
export interface ConnectionOpened extends RoutedConnection {
  /** The request as Node has it. It may contain personal data. */
  readonly request: IncomingMessage
  /**
   * The selected subprotocol if the route registered it, else empty. The choice of `selectSubprotocol`, which may contain data
   * of the client, is `socket.protocol`.
   */
  readonly subprotocol: string
}

/** The payload of `fastify-upgrade:connection:closed`. */
export interface ConnectionClosed extends RoutedConnection, DiagnosedTraffic {
  /** The close code, as the event `close` has it. */
  readonly code: number
  /** The code of the error for which this side closed the connection, if there was one. */
  readonly cause: string | undefined
  /** Milliseconds that the connection was open. */
  readonly duration: number
  /** Milliseconds from the request to its acceptance. */
  readonly handshakeTime: number
  /** The highest `bufferedAmount` after a message was sent. */
  readonly peakBufferedAmount: number
  /** Messages that were dropped because of backpressure. */
  readonly dropped: number
  /** The last round trip of the heartbeat in milliseconds. */
  readonly latency: number | undefined
}

/** The payload of `fastify-upgrade:listener:failed`. */
export interface ListenerFailed extends RoutedConnection {
  /** The value that the handler, a listener or a callback threw, or its promise rejected with. */
  readonly error: unknown
}

/** The payload of `fastify-upgrade:message:received` and `fastify-upgrade:message:sent`. */
export interface MessageTransferred {
  readonly socket: DiagnosedSocket
  /** Bytes of the message before compression. */
  readonly size: number
  readonly isBinary: boolean
  /** Whether the message was compressed on the wire. */
  readonly isCompressed: boolean
}

/** The payload of `fastify-upgrade:message:dropped` and of the channels `fastify-upgrade:backpressure:…`. */
export interface ConnectionEvent {
  readonly socket: DiagnosedSocket
}

/** The option whose limit was reached. */
export type Limit =
  | 'closeTimeout'
  | 'expires'
  | 'handshakeTimeout'
  | 'heartbeat'
  | 'idleTimeout'
  | 'maxBufferedAmount'
  | 'maxConnections'
  | 'maxConnectionsPerUser'
  | 'maxControlFrames'
  | 'maxLifetime'
  | 'maxPayload'
  | 'maxPendingMessages'
  | 'maxTotalBufferedAmount'
  | 'messageTimeout'
  | 'rateLimit'

/** The payload of `fastify-upgrade:limit:reached`. */
export interface LimitReached {
  readonly limit: Limit
  /** Undefined for `maxConnections`, `maxConnectionsPerUser` and `handshakeTimeout`, which refuse handshakes. */
  readonly socket: DiagnosedSocket | undefined
  /** Set for a handshake whose route is known. */
  readonly server?: object | undefined
  /** Set for a handshake whose route is known. */
  readonly route?: string | undefined
}

/** The payload of `fastify-upgrade:heartbeat:answered`. */
export interface HeartbeatAnswered {
  readonly socket: DiagnosedSocket
  /** Milliseconds from the ping to the pong. */
  readonly latency: number
}

/** The payload of `fastify-upgrade:broker:event`: the event `broker` of the server. */
export interface BrokerDiagnosis {
  readonly server: object
  readonly event: { readonly type: string; readonly topic?: string; readonly error?: Error | undefined }
}

/** The payload of `fastify-upgrade:broker:published`. */
export interface BrokerPublished {
  readonly server: object
  /**
   * The kind of the publication. `history` is a message to a topic with history. `request` and `reply` are calls between
   * processes, about users and connections.
   */
  readonly kind: 'message' | 'presence' | 'broadcast' | 'history' | 'request' | 'reply'
  /** The topic, which may contain personal data; empty for broadcasts and requests, and the id of a process for replies. */
  readonly topic: string
  /** Milliseconds until the engine of the broker accepted or refused the publication. */
  readonly duration: number
  /** The reason for which the engine did not accept the publication; undefined if it did. */
  readonly error: Error | undefined
}

/** The payload of `fastify-upgrade:history:recovery`. */
export interface HistoryRecovery {
  readonly server: object
  /** The topic, which may contain personal data. */
  readonly topic: string
  /** Whether all missed publications were delivered. */
  readonly recovered: boolean
  /** The number of publications that were delivered. */
  readonly publications: number
}

/** The payload of `fastify-upgrade:history:gap`. */
export interface HistoryGap {
  readonly server: object
  /** The topic, which may contain personal data. */
  readonly topic: string
  /** Whether the history had all missing publications. Otherwise subscribers have missed some. */
  readonly filled: boolean
  /** The number of publications that were read from the history. */
  readonly publications: number
}

/** The payload of the channels `fastify-upgrade:shutdown:…`. */
export interface ShutdownStep {
  readonly server: object
  /** The connections that are still there. */
  readonly connections: number
}

/** The payload of each channel, by its name. */
export interface DiagnosticsChannels {
  'fastify-upgrade:handshake:accepted': HandshakeAccepted
  'fastify-upgrade:handshake:refused': HandshakeRefused
  'fastify-upgrade:connection:opened': ConnectionOpened
  'fastify-upgrade:connection:closed': ConnectionClosed
  'fastify-upgrade:listener:failed': ListenerFailed
  'fastify-upgrade:message:received': MessageTransferred
  'fastify-upgrade:message:sent': MessageTransferred
  'fastify-upgrade:message:dropped': ConnectionEvent
  'fastify-upgrade:backpressure:started': ConnectionEvent
  'fastify-upgrade:backpressure:ended': ConnectionEvent
  'fastify-upgrade:limit:reached': LimitReached
  'fastify-upgrade:heartbeat:answered': HeartbeatAnswered
  'fastify-upgrade:broker:event': BrokerDiagnosis
  'fastify-upgrade:broker:published': BrokerPublished
  'fastify-upgrade:history:recovery': HistoryRecovery
  'fastify-upgrade:history:gap': HistoryGap
  'fastify-upgrade:shutdown:started': ShutdownStep
  'fastify-upgrade:shutdown:closing': ShutdownStep
  'fastify-upgrade:shutdown:cut': ShutdownStep
  'fastify-upgrade:shutdown:ended': ShutdownStep
}

/** A channel of `node:diagnostics_channel` with the type of its payload. */
interface PayloadChannel<Payload> {
  readonly hasSubscribers: boolean
  publish(payload: Payload): void
  subscribe(listener: (payload: Payload) => void): void
  unsubscribe(listener: (payload: Payload) => void): void
}

// Held by this module, as Node keeps only weak references to channels without subscribers.
function channelOf<Name extends keyof DiagnosticsChannels>(
  name: Name
): PayloadChannel<DiagnosticsChannels[Name]> {
  // Node's types know nothing of payloads.
  return channel(name) as PayloadChannel<DiagnosticsChannels[Name]>
}

export const handshakeAccepted = channelOf('fastify-upgrade:handshake:accepted')
export const handshakeRefused = channelOf('fastify-upgrade:handshake:refused')
export const connectionOpened = channelOf('fastify-upgrade:connection:opened')
export const connectionClosed = channelOf('fastify-upgrade:connection:closed')
export const listenerFailed = channelOf('fastify-upgrade:listener:failed')
export const messageReceived = channelOf('fastify-upgrade:message:received')
export const messageSent = channelOf('fastify-upgrade:message:sent')
export const messageDropped = channelOf('fastify-upgrade:message:dropped')
export const backpressureStarted = channelOf('fastify-upgrade:backpressure:started')
export const backpressureEnded = channelOf('fastify-upgrade:backpressure:ended')
export const limitReached = channelOf('fastify-upgrade:limit:reached')
export const heartbeatAnswered = channelOf('fastify-upgrade:heartbeat:answered')
export const brokerEvent = channelOf('fastify-upgrade:broker:event')
export const brokerPublished = channelOf('fastify-upgrade:broker:published')
export const historyRecovery = channelOf('fastify-upgrade:history:recovery')
export const historyGap = channelOf('fastify-upgrade:history:gap')
export const shutdownStarted = channelOf('fastify-upgrade:shutdown:started')
export const shutdownClosing = channelOf('fastify-upgrade:shutdown:closing')
export const shutdownCut = channelOf('fastify-upgrade:shutdown:cut')
export const shutdownEnded = channelOf('fastify-upgrade:shutdown:ended')
