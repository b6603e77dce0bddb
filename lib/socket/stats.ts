/** The traffic of a connection. */
export interface Traffic {
  readonly messagesReceived: number
  readonly messagesSent: number
  readonly bytesReceived: number
  readonly bytesSent: number
}

/** Everything that is counted on a connection, in one place. */
export class Stats {
  #messagesReceived = 0
  #messagesSent = 0
  #bytesReceived = 0
  #bytesSent = 0
  #dropped = 0

  onBytesReceived(count: number): void {
    this.#bytesReceived += count
  }

  onMessageReceived(): void {
    this.#messagesReceived++
  }

  /** @param count bytes that were handed to the byte stream. */
  onBytesSent(count: number): void {
    this.#bytesSent += count
  }

  onMessageSent(): void {
    this.#messagesSent++
  }

  onMessageDropped(): void {
    this.#dropped++
  }

  get messagesReceived(): number {
    return this.#messagesReceived
  }

  /** Messages of both directions. */
  get messages(): number {
    return this.#messagesReceived + this.#messagesSent
  }

  get bytesSent(): number {
    return this.#bytesSent
  }

  /** Messages that were not sent because of backpressure. */
  get dropped(): number {
    return this.#dropped
  }

  get traffic(): Traffic {
    return {
      messagesReceived: this.#messagesReceived,
      messagesSent: this.#messagesSent,
      bytesReceived: this.#bytesReceived,
      bytesSent: this.#bytesSent
    }
  }
}
