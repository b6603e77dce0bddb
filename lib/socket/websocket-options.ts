import type { BufferBudget } from '../limits/buffer-budget.js'
import type { BackpressureSettings } from './backpressure.js'
import type { TransportOptions, TransportSettings } from './transport-options.js'

/** What the WebSockets of a route have in common. */
export interface WebSocketSettings extends TransportSettings, BackpressureSettings {
  /** Messages that asynchronous listeners may be at work on while more are read. */
  readonly maxPendingMessages?: number | false
  /** Whether all is read from the start, and what nobody takes yet is kept in memory. Default: false. */
  readonly keepsMessages?: boolean
  readonly budget?: BufferBudget | undefined
}

/** What a connection has carried. */
export interface Traffic {
  readonly messagesReceived: number
  readonly messagesSent: number
  readonly bytesReceived: number
  readonly bytesSent: number
}

/** Whoever opened a WebSocket. */
export interface WebSocketOwner<Socket> {
  /** Told what a listener threw or rejected with. */
  onError(socket: Socket, error: unknown): void
  /** Told of what `error` tells, also when nobody listens. */
  onPeerError(error: Error): void
  /** Told of the end before the listeners of `close`; unlike them it does not have the socket read. */
  onClose(socket: Socket, code: number, reason: Error | undefined): void
}

/** What the constructor of a WebSocket takes. */
export interface WebSocketInit<Socket> extends TransportOptions {
  readonly settings: WebSocketSettings
  readonly owner: WebSocketOwner<Socket>
  /** The subprotocol in use; empty for none. */
  readonly protocol: string
}

/** The events of a WebSocket and their arguments. */
export interface WebSocketEvents {
  message: [data: Buffer, isBinary: boolean]
  /** `error` says why this side has ended the connection, where that was not the application's wish. */
  close: [code: number, reason: Buffer, error?: Error | undefined]
  /** The peer broke the protocol or did not read; `close` follows. Not thrown when nobody listens. */
  error: [error: Error]
  ping: [data: Buffer]
  pong: [data: Buffer]
  /** After `send` returned false: no more than `highWaterMark` bytes wait. */
  drain: []
  /** With `backpressure: 'drop'`: so many messages were dropped in this tick. */
  drop: [count: number]
  open: []
}
