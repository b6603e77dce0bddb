import type { Deflate } from '../compression/per-message-deflate.js'
import type { PeerLimitSettings } from '../limits/peer-limits.js'
import type { HeartbeatSettings } from '../options/table.js'
import type { ConnectionEvents, Role } from '../protocol/connection.js'
import type { WriterEvents } from './writer.js'

/** What many connections have in common. */
export interface TransportSettings extends PeerLimitSettings {
  /** Bytes that a message of the peer may have. */
  readonly maxPayload: number
  /** Milliseconds from the first Close frame to the cut. */
  readonly closeTimeout: number
  readonly heartbeat: HeartbeatSettings | false
  /** Milliseconds without a message in either direction. */
  readonly idleTimeout?: number | false
  /** Milliseconds that a connection lives. */
  readonly maxLifetime?: number | false
}

/** What a connection has for itself. */
export interface TransportOptions {
  readonly role: Role
  readonly settings: TransportSettings
  /** Given where permessage-deflate was negotiated. */
  readonly deflate?: Deflate | undefined
  /** For clients: a fresh, unpredictable 32-bit number a frame (RFC 6455 section 10.3). */
  readonly maskingKey?: () => number
}

/** What a transport tells, always in the async context in which it was made. */
export interface TransportEvents extends ConnectionEvents, WriterEvents {
  /** The stream is gone. Nothing follows. */
  onEnd(): void
}
