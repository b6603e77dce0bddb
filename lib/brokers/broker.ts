/**
 * A place in the history of a channel. Offsets count from 1 without gaps, under an epoch. The epoch changes when messages
 * may be missing from the history or may get an offset that another message had, for example because the engine has lost
 * its data. Offsets of different epochs cannot be compared.
 */
export interface Position {
  /** The offset of the last message, an integer from 0 to 2^53 - 1. 0 stands for none. */
  readonly offset: number
  /** An opaque string. */
  readonly epoch: string
}

/** Notifications from a broker to the server that uses it. The server's methods never throw. */
export interface BrokerEvents {
  /**
   * A message arrived in a subscribed channel. The bytes must not change afterwards. A message that was appended has its
   * position.
   */
  onMessage(channel: string, message: Uint8Array, position?: Position): void
  /** The engine is connected, for the first time or again, and all earlier subscriptions are active again. */
  onUp(): void
  /** The engine ended a subscription, so messages of the channel are missed. The server subscribes again. */
  onUnsubscribed(channel: string, error: Error): void
  /** The engine is disconnected. Messages are missed until `onUp`. */
  onDown(error?: Error): void
}

/**
 * Carries messages between the processes of an application. A channel name may contain any characters and a message any
 * bytes. Each message arrives at most once in each subscribed process; whether it also arrives in the publishing process
 * is up to the broker. Messages of one publisher in one channel arrive in order.
 */
export interface Broker {
  /** Called once, before all other methods. */
  start(events: BrokerEvents): void
  /**
   * Resolves when the engine has accepted the message. Rejects otherwise, and at once while the engine is disconnected. The
   * server does not wait for earlier calls before the next one.
   */
  publish(channel: string, message: Uint8Array): Promise<void>
  /**
   * Resolves when messages of the channel arrive. The broker restores the subscription after an outage. It is called again
   * only after a rejection, after `unsubscribe` or after `onUnsubscribed`, and never twice at a time for one channel.
   */
  subscribe(channel: string): Promise<void>
  /** Resolves when no more messages of the channel arrive. */
  unsubscribe(channel: string): Promise<void>
  /**
   * Releases what the broker has opened and leaves a client that it was given open. Called once; the broker reports nothing
   * afterwards.
   */
  close(): Promise<void>
}

/** The limits of a history. */
export interface HistoryLimits {
  /** The number of messages that are kept, at least 1. */
  readonly size: number
  /** Milliseconds after the last message during which they are kept, at least 1. */
  readonly ttl: number
}

/** Options of {@link HistoryBroker.append}. */
export interface AppendOptions extends HistoryLimits {
  /** Appends the message unless one with the same id was appended to the channel in the last five minutes. */
  readonly id?: string | undefined
}

/** Options of {@link HistoryBroker.read}. */
export interface ReadOptions {
  /** Reads the messages after this offset; with `reverse` those before it. Default: the first, or the last. */
  readonly since?: number | undefined
  /** The maximum number of messages. 0 reads the position only. */
  readonly limit: number
  /** Whether to read from the newest message to the oldest. Default: false. */
  readonly reverse?: boolean | undefined
}

/** A message in the history of a channel. */
export interface StoredMessage {
  readonly offset: number
  readonly message: Uint8Array
}

/** A part of the history of a channel. */
export interface HistoryPage {
  readonly messages: readonly StoredMessage[]
  /** The position of the last message that was appended, whether or not it is still kept. */
  readonly position: Position
}

/**
 * A broker that keeps the history of channels. A channel is either published to or appended to, never both. Each subscribed
 * process receives appended messages in the order of their offsets, the appending process included.
 */
export interface HistoryBroker extends Broker {
  /**
   * Adds a message to the history and publishes it, in one atomic step. Resolves with its position, or for a known `id` with
   * the position of the first message. The offset is 0 when the engine still knows the id, but no longer has the message. When
   * the promise rejects because the connection was lost, the message may have been added.
   * The bytes must not change afterwards.
   */
  append(channel: string, message: Uint8Array, options: AppendOptions): Promise<Position>
  /** Reads a part of the history, and the current position, in one atomic step. */
  read(channel: string, options: ReadOptions): Promise<HistoryPage>
  /** Removes all messages from the history. The position stays. */
  remove(channel: string): Promise<void>
}

/** Milliseconds for which the id of an appended message is known. */
export const ID_LIFETIME = 300_000
