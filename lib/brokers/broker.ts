/** What a broker tells the server that uses it. None of these throws. */
export interface BrokerEvents {
  /** A message came in a channel that is subscribed to. The bytes must not change afterwards. */
  onMessage(channel: string, message: Uint8Array): void
  /** The engine can be reached, for the first time or again, and what was subscribed to before is so again. */
  onUp(): void
  /** The engine has ended a subscription, and messages of the channel are missed; it is asked for again. */
  onUnsubscribed(channel: string, error: Error): void
  /** The engine cannot be reached; messages are missed from now on. */
  onDown(error?: Error): void
}

/**
 * Carries messages between the processes of an application. Channels are names of any characters, messages any bytes.
 * What is published arrives at most once in each process that is subscribed, the publisher's own included or not, and the
 * messages of one publisher in a channel arrive in their order.
 */
export interface Broker {
  /** Called once, before anything else. */
  start(events: BrokerEvents): void
  /**
   * Resolves when the engine was given the message; rejects when it was not, at once where the engine cannot be reached.
   * Called without waiting for the calls before.
   */
  publish(channel: string, message: Uint8Array): Promise<void>
  /**
   * Resolves when messages of the channel arrive from now on, also after the engine was away for a time. Called again only
   * after a rejection, an `unsubscribe` or `onUnsubscribed`, one call a channel at a time.
   */
  subscribe(channel: string): Promise<void>
  /** Resolves when no more messages of the channel come. */
  unsubscribe(channel: string): Promise<void>
  /** Ends what the broker has opened, and nothing that it was given. Called once; nothing is told afterwards. */
  close(): Promise<void>
}
