import type { Connection } from '../core/connection.js'
import type { Deflater } from './deflater.js'
import type { PerMessageDeflate } from './per-message-deflate.js'
import type { PreparedMessage } from './prepared-message.js'

/** Told of messages that are compressed while others are sent. */
export interface GapOwner {
  /** What is sent from now on waits behind a message that is being compressed. */
  onGap(): void
  onGapFilled(): void
  onGapFailed(error: unknown): void
}

/** Sends messages compressed where it pays, RFC 7692 section 7.2.1, and all in the order in which they come. */
export class CompressingSender {
  readonly #connection: Connection
  readonly #deflater: Deflater
  /** Bytes from which on a message is worth it. */
  readonly #threshold: number
  readonly #owner: GapOwner
  /** Whether the message that is sent in fragments is compressed. */
  #compresses = false

  constructor(connection: Connection, { deflater, threshold }: PerMessageDeflate, owner: GapOwner) {
    this.#connection = connection
    this.#deflater = deflater
    this.#threshold = threshold
    this.#owner = owner
  }

  send(data: string | Uint8Array, isBinary: boolean, fin: boolean, compress: boolean): void {
    const deflater = this.#deflater
    const size = Buffer.byteLength(data)
    const isWhole = fin && !this.#connection.sendsFragments
    // How long a message in fragments becomes is not known when its first frame has to say whether it is compressed.
    if (isWhole) this.#compresses = compress && size >= this.#threshold
    else if (!this.#connection.sendsFragments) this.#compresses = compress
    if (!this.#compresses) {
      this.#connection.send(data, isBinary, fin)
      return
    }
    const deflated = deflater.deflate(data, fin)
    if (deflated instanceof Promise) this.#sendLater(deflated, isBinary, fin, size)
    // Nothing gained, and with takeover the peer's window would miss what this side's has.
    else if (isWhole && !deflater.takesOver && deflated.length >= size) this.#connection.send(data, isBinary)
    else this.#connection.send(deflated, isBinary, fin, true)
  }

  sendPrepared(message: PreparedMessage): void {
    const deflater = this.#deflater
    if (deflater.takesOver) this.send(message.payload, message.isBinary, true, message.compress)
    else if (!message.compress || message.size < this.#threshold) this.#connection.sendFrame(message.frame)
    else {
      const frame = message.compressedFrame(deflater)
      if (frame instanceof Promise) this.#sendLater(frame, message.isBinary, true, message.size)
      else this.#connection.sendFrame(frame)
    }
  }

  #sendLater(deflated: Promise<Buffer>, isBinary: boolean, fin: boolean, size: number): void {
    const gap = this.#connection.sendLater(isBinary, fin, size)
    this.#owner.onGap()
    deflated.then(
      data => {
        this.#connection.sendInto(gap, data)
        this.#owner.onGapFilled()
      },
      error => this.#owner.onGapFailed(error)
    )
  }
}
