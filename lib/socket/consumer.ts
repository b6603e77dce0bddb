/** Takes messages one by one; reading waits while it wants none. */
export interface Consumer {
  readonly wantsMore: boolean
  onMessage(data: Buffer, isBinary: boolean): void
  /**
   * The connection is closed.
   * @param failure what the event `error` has told, if so: then what was read is not all.
   * @param wasClean whether the closing handshake was finished and this side did not cut the connection.
   */
  onEnd(failure: Error | undefined, wasClean: boolean): void
}

/** What a consumer reads from. */
export interface Source {
  /** `wantsMore` may have changed. */
  wanted(): void
  /** The consumer takes no more. */
  release(): void
}
