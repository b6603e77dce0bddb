import type { TransportOptions, TransportSettings } from './transport.js'

/** What the WebSockets of a route have in common. */
export interface WebSocketSettings extends TransportSettings {
  /** Bytes waiting to be sent above which `send` returns false. */
  readonly highWaterMark: number
  /** Bytes waiting to be sent above which the connection is cut. */
  readonly maxBufferedAmount: number
}

/** Whoever opened a WebSocket. */
export interface WebSocketOwner<Socket> {
  /** Told what a listener threw or rejected with. */
  onError(socket: Socket, error: unknown): void
  /** Told of what `error` tells, also when nobody listens. */
  onPeerError(error: Error): void
  /** Told of the end before the listeners of `close`; unlike them it does not have the socket read. */
  onClose(socket: Socket, code: number): void
}

export interface WebSocketOptions<Socket> extends TransportOptions {
  readonly settings: WebSocketSettings
  readonly owner: WebSocketOwner<Socket>
  /** The subprotocol in use; empty for none. */
  readonly protocol: string
}

/** The events of a WebSocket and their arguments. */
export interface WebSocketEvents {
  message: [data: Buffer, isBinary: boolean]
  close: [code: number, reason: Buffer]
  /** The peer broke the protocol or did not read; `close` follows. Not thrown when nobody listens. */
  error: [error: Error]
  ping: [data: Buffer]
  pong: [data: Buffer]
  /** After `send` returned false: no more than `highWaterMark` bytes wait. */
  drain: []
  open: []
}
