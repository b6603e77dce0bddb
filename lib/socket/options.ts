import type { BufferBudget } from '../limits/buffer-budget.js'
import type { HeartbeatSettings, RateLimit } from '../options/table.js'
import type { Role } from '../protocol/connection.js'
import type { CompressionExtension } from '../protocol/extension.js'

/** The settings that the WebSockets of a route share. An absent limit does not apply. */
export interface WebSocketSettings {
  /** Bytes that a message of the peer may have. */
  readonly maxPayload: number
  /** Milliseconds from the first Close frame to the cut. */
  readonly closeTimeout: number
  readonly heartbeat: HeartbeatSettings | false
  /** Milliseconds without a message in either direction. */
  readonly idleTimeout?: number | false
  /** Milliseconds that a connection lives. */
  readonly maxLifetime?: number | false
  /** The close code when the credentials of a connection expire. Default: 1008. */
  readonly expiredCode?: number
  /** Milliseconds from the first byte of a message to its last. */
  readonly messageTimeout?: number | false
  /** Control frames a second. */
  readonly maxControlFrames?: number | false
  readonly rateLimit?: RateLimit | false
  /** Pending bytes above which `send` returns false. */
  readonly highWaterMark: number
  /**
   * Pending bytes above which the connection is cut, or messages are dropped. A message that is sent while there is room
   * does not count, however large it is. `false`: no limit.
   */
  readonly maxBufferedAmount: number | false
  /** Whether the connection is cut then, or messages are dropped. Default: `close`. */
  readonly backpressure?: 'close' | 'drop'
  /** Messages that asynchronous listeners may be working on while more are read. */
  readonly maxPendingMessages?: number | false
  /** Whether everything is read from the start, and messages without a consumer are kept in memory. Default: false. */
  readonly keepsMessages?: boolean
  /** Shared by the connections of a server. */
  readonly budget?: BufferBudget | undefined
}

/** The part of a server that is responsible for a WebSocket. */
export interface WebSocketOwner<Socket> {
  /** A listener or a callback of the application threw, or rejected. */
  onError(socket: Socket, error: unknown): void
  /** The event `error` is about to be emitted, whether or not it has a listener. */
  onPeerError(error: Error): void
  /** The connection has ended. Called before the listeners of `close`; unlike these it does not cause reading. */
  onClose(socket: Socket, code: number, reason: Error | undefined): void
}

/** Turns the messages of a connection into values of the application. Without one, they stay text and bytes. */
export interface MessageDecoder<Socket> {
  /** @throws for a message that the application does not accept. */
  decode(data: Buffer, isBinary: boolean): unknown
  /**
   * A message was not delivered.
   * @param thrown by `decode`.
   * @returns a promise while it is at work; then it counts as an asynchronous listener.
   */
  onUndecoded(socket: Socket, thrown: unknown): unknown
}

/** Calls the listeners of messages, for example in a span. */
export interface MessageTracer<Socket> {
  /**
   * Calls `deliver` once, at once.
   * @param deliver calls the listeners of a message, and returns the promises of asynchronous ones. It throws what a listener
   * throws.
   */
  traceMessage(socket: Socket, isBinary: boolean, deliver: () => readonly PromiseLike<unknown>[]): void
}

/** A connection that a WebSocket is made for. */
export interface ConnectionSetup<Socket> {
  readonly role: Role
  readonly settings: WebSocketSettings
  readonly owner: WebSocketOwner<Socket>
  /** The selected subprotocol; empty for none. */
  readonly protocol: string
  readonly decoder?: MessageDecoder<Socket> | undefined
  /** Without one, the listeners are called directly. */
  readonly tracer?: MessageTracer<Socket> | undefined
  /** The extension that both sides agreed on. */
  readonly extension?: CompressionExtension | undefined
  /** For clients: returns a fresh, unpredictable 32-bit number for each frame (RFC 6455 section 10.3). */
  readonly maskingKey?: () => number
}
