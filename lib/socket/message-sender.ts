import type { Deflater } from '../compression/deflater.js'
import type { PerMessageDeflate } from '../compression/per-message-deflate.js'
import type { Connection } from '../protocol/connection.js'
import { sizeOfHeader } from '../protocol/frame-header.js'
import type { PreparedMessage } from './prepared-message.js'
import type { SendCallback } from './send-callbacks.js'

/** Told of messages that are compressed while others are sent. */
export interface GapOwner {
  /** What is sent from now on waits behind a message that is being compressed. */
  onGap(): void
  onGapFilled(): void
  onGapFailed(error: unknown): void
}

/** A prepared message that has to wait. */
export interface HeldMessage {
  readonly message: PreparedMessage
  readonly callback: SendCallback | undefined
}

const NOTHING: readonly HeldMessage[] = []

/**
 * Sends messages, whole and in fragments, compressed where it pays (RFC 7692 section 7.2.1), and all in the order in which
 * they come.
 */
export class MessageSender {
  readonly #connection: Connection
  readonly #deflater: Deflater | undefined
  /** Bytes from which on a message is worth it. */
  readonly #threshold: number
  /** Whether each frame is masked anew, so that none can be prepared. */
  readonly #masks: boolean
  readonly #owner: GapOwner
  /** Whether the message that is sent in fragments is compressed. */
  #compresses = false
  /** Prepared messages that wait until the message that is sent in fragments is finished. */
  #held: HeldMessage[] | undefined
  /** Bytes of them, as if they were not compressed. */
  heldBytes = 0

  /** @param deflate undefined where nothing is compressed. */
  constructor(
    connection: Connection,
    masks: boolean,
    deflate: PerMessageDeflate | undefined,
    owner: GapOwner
  ) {
    this.#connection = connection
    this.#masks = masks
    this.#deflater = deflate?.deflater
    this.#threshold = deflate?.threshold ?? 0
    this.#owner = owner
  }

  send(data: string | Uint8Array, isBinary: boolean, fin: boolean, compress: boolean): void {
    const deflater = this.#deflater
    if (deflater === undefined) {
      this.#connection.send(data, isBinary, fin)
      return
    }
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
    if (this.#masks || deflater?.takesOver === true)
      this.send(message.payload, message.isBinary, true, message.compress)
    else if (deflater === undefined || !message.compress || message.size < this.#threshold)
      this.#connection.sendFrame(message.frame)
    else {
      const frame = message.compressedFrame(deflater)
      if (frame instanceof Promise) this.#sendLater(frame, message.isBinary, true, message.size)
      else this.#connection.sendFrame(frame)
    }
  }

  /**
   * RFC 6455 section 5.4: nothing comes between the fragments of a message, and whoever sends to many does not know of them.
   * @returns whether the message waits for {@link takeHeld}.
   */
  holds(message: PreparedMessage, callback: SendCallback | undefined): boolean {
    if (!this.#connection.sendsFragments) return false
    this.#held ??= []
    this.#held.push({ message, callback })
    this.heldBytes += sizeOfHeader(message.size, this.#masks) + message.size
    return true
  }

  /** What may be sent now, or never. */
  takeHeld(): readonly HeldMessage[] {
    const held = this.#held ?? NOTHING
    this.#held = undefined
    this.heldBytes = 0
    return held
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
