/** Notifications from a broker to the server that uses it. The server's methods never throw. */
export interface BrokerEvents {
  /** A message arrived in a subscribed channel. The bytes must not change afterwards. */
  onMessage(channel: string, message: Uint8Array): void
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
