import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Refusal } from '../protocol/handshake/request.js'
import { HandshakeTimeoutError } from '../upgrade/error.js'
import { OpeningHandshake } from '../upgrade/opening-handshake.js'
import { afterResponses } from '../upgrade/ordinary-request.js'
import { refusalResponse } from '../upgrade/refusal.js'

/** An opening handshake on its way from `handleUpgrade` to the 101 or a refusal. */
export class Upgrade extends OpeningHandshake {
  readonly #onEnd: (upgrade: Upgrade) => void
  #isAnswered = false

  /** @param onEnd told when the handshake is over, whichever way. */
  constructor(request: IncomingMessage, socket: Duplex, head: Buffer, onEnd: (upgrade: Upgrade) => void) {
    super(request, socket, head)
    this.#onEnd = onEnd
  }

  /**
   * Calls back when it is the turn of this handshake, if the client is still there then.
   * @param timeout milliseconds that the answer may take from then on.
   */
  begin(timeout: number, callback: () => void): void {
    if (!this.#isPossible) {
      this.onClose()
      this.abort()
      return
    }
    afterResponses(this.request, this.socket, () => {
      callback()
      this.startDeadline(timeout)
    })
    this.watch()
  }

  /** The listeners of somebody else answer, in the time that a refused client has. */
  leaveAnswer(): void {
    this.#isAnswered = true
    this.linger()
  }

  /**
   * Answers with a refusal, unless there is an answer already.
   * @throws {TypeError} when it cannot be sent.
   */
  refuse(refusal: Omit<Refusal, 'code'>): void {
    if (this.#isAnswered) return
    const response = refusalResponse(refusal)
    this.#isAnswered = true
    this.endSocket(response)
  }

  /**
   * Sends the 101, where there is no answer yet, unless the client has left.
   * @returns whether the socket carries frames now.
   */
  accept(response: string): boolean {
    if (!this.#isPossible) {
      this.abort()
      return false
    }
    this.#isAnswered = true
    this.switch(response)
    return true
  }

  get isAnswered(): boolean {
    return this.#isAnswered
  }

  /** Whether the client is still there. */
  get #isPossible(): boolean {
    return this.socket.writable && !this.socket.readableEnded
  }

  onDeadline(): void {
    if (this.#isAnswered) this.abort()
    else {
      const { statusCode = 503, message } = new HandshakeTimeoutError()
      this.refuse({ status: statusCode, message, headers: {} })
    }
  }

  protected override onClose(): void {
    this.#isAnswered = true
    super.onClose()
  }

  protected onOver(): void {
    this.#onEnd(this)
  }
}
