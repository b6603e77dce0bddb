import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Refusal } from '../core/request.js'
import { ignoreErrors } from '../transport/byte-stream.js'
import type { ConnectionCount, Release } from '../transport/connection-count.js'
import { type Deadlines, deadlinesAfter, type Waiting } from '../transport/deadline.js'
import { HandshakeTimeoutError } from '../transport/handshake-error.js'
import { afterResponses } from '../transport/ordinary-request.js'
import { refusalResponse } from '../transport/refusal.js'
import { switchProtocols } from '../transport/switch-protocols.js'

/** Milliseconds that a refused client has to read its answer and to close. */
const LINGER = 5_000

const keepNothing: Release = () => {}

/** An opening handshake on its way from `handleUpgrade` to the 101 or a refusal. */
export class Upgrade implements Waiting {
  readonly request: IncomingMessage
  readonly socket: Duplex
  readonly #head: Buffer
  readonly #onEnd: (upgrade: Upgrade) => void
  #deadline: Deadlines | undefined
  /** Gives back the place that the handshake takes. */
  #release = keepNothing
  #isAnswered = false
  #isOver = false

  /** @param onEnd told when the handshake is over, whichever way. */
  constructor(request: IncomingMessage, socket: Duplex, head: Buffer, onEnd: (upgrade: Upgrade) => void) {
    // Before anything else: a reset must not be an uncaught exception.
    ignoreErrors(socket)
    this.request = request
    this.socket = socket
    this.#head = head
    this.#onEnd = onEnd
  }

  /**
   * Calls back when it is the turn of this handshake, if the client is still there then.
   * @param timeout milliseconds that the answer may take from then on.
   */
  begin(timeout: number, callback: () => void): void {
    if (!this.#isPossible) {
      this.#onClose()
      this.#abort()
      return
    }
    afterResponses(this.socket, () => {
      callback()
      if (!this.#isOver && this.#deadline === undefined) this.#setTimeout(timeout)
    })
    // What is over within this tick needs nobody to look after it.
    if (this.#isOver) return
    // Node's HTTP server has let go of the socket, and with it of these: to it a client that ends its side before the
    // answer has left, and a socket without traffic for `connectionTimeout` is cut.
    this.socket.on('close', this.#onClose).on('end', this.#onClientEnd).on('timeout', this.#abort)
  }

  /** The listeners of somebody else answer, in the time that a refused client has. */
  leaveAnswer(): void {
    this.#isAnswered = true
    this.#setTimeout(LINGER)
  }

  /**
   * Answers with a refusal, unless there is an answer already.
   * @throws {TypeError} when it cannot be sent.
   */
  refuse(refusal: Omit<Refusal, 'code'>): void {
    if (this.#isAnswered) return
    const response = refusalResponse(refusal)
    this.keepPlace()()
    this.leaveAnswer()
    this.socket.end(response)
    this.socket.resume()
  }

  /**
   * Sends the 101, where there is no answer yet, unless the client has left.
   * @returns whether the socket carries frames now.
   */
  accept(response: string): boolean {
    if (!this.#isPossible) {
      this.#abort()
      return false
    }
    this.#isAnswered = true
    this.#leave()
    switchProtocols(this.socket, response, this.#head)
    return true
  }

  /** Whether there is an answer, or nobody to answer to. */
  get isAnswered(): boolean {
    return this.#isAnswered
  }

  /** @returns whether there was one more place. */
  takePlace(count: ConnectionCount): boolean {
    const { remoteAddress = '' } = this.request.socket
    const release = count.isLimited ? count.take(remoteAddress) : keepNothing
    this.#release = release ?? keepNothing
    return release !== undefined
  }

  /** The connection keeps the place of the handshake until it gives it back. */
  keepPlace(): Release {
    const release = this.#release
    this.#release = keepNothing
    return release
  }

  /** Whether the client is still there. */
  get #isPossible(): boolean {
    return this.socket.writable && !this.socket.readableEnded
  }

  onDeadline(): void {
    if (this.#isAnswered) this.#abort()
    else {
      const { statusCode = 503, message } = new HandshakeTimeoutError()
      this.refuse({ status: statusCode, message, headers: {} })
    }
  }

  readonly #abort = (): void => {
    this.socket.destroy()
  }

  readonly #onClientEnd = (): void => {
    if (!this.#isAnswered) this.#abort()
  }

  readonly #onClose = (): void => {
    this.#isAnswered = true
    this.#leave()
    this.keepPlace()()
  }

  #setTimeout(timeout: number): void {
    this.#deadline?.clear(this)
    this.#deadline = deadlinesAfter(timeout)
    this.#deadline.set(this)
  }

  #leave(): void {
    this.#isOver = true
    this.#deadline?.clear(this)
    this.socket.off('close', this.#onClose).off('end', this.#onClientEnd).off('timeout', this.#abort)
    this.#onEnd(this)
  }
}
