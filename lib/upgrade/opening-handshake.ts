import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { ConnectionLimiter, Release } from '../limits/connection-limiter.js'
import { type Deadlines, deadlinesAfter, type Waiting } from '../limits/deadline.js'
import { ignoreErrors } from '../socket/byte-stream.js'
import { switchProtocols } from './switch-protocols.js'

/** Milliseconds that a refused client has to read its answer and to close. */
const LINGER = 5_000

/** Shared, as most handshakes take no slot. */
const NO_SLOTS: readonly Release[] = []
const releaseNothing: Release = () => {}

/**
 * An opening handshake on its way from the event `upgrade` to the 101 or a refusal, whoever answers it. Node's HTTP server
 * has let go of the socket by then: the socket is looked after here.
 */
export abstract class OpeningHandshake<Stream extends Duplex = Duplex> implements Waiting {
  readonly request: IncomingMessage
  readonly socket: Stream
  #head: Buffer | undefined
  #listeners: Readonly<Record<string, () => void>> | undefined
  #deadline: Deadlines | undefined
  #isOver = false
  /** Gives back the slots that the handshake takes. */
  #slots = NO_SLOTS

  /** @param head the first bytes of the connection, which came with the request. */
  constructor(request: IncomingMessage, socket: Stream, head: Buffer) {
    // Before anything else: a reset must not be an uncaught exception.
    ignoreErrors(socket)
    this.request = request
    this.socket = socket
    this.#head = head.length > 0 ? head : undefined
  }

  /** Whether an answer is under way, or there is nobody to answer to. */
  abstract get isAnswered(): boolean

  abstract onDeadline(): void

  /** Told when the handshake is over, whichever way. */
  protected abstract onOver(): void

  /** Whether the socket belongs to somebody else now, or is closed. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** Looks after the socket while the handshake waits for something. What is over by now needs nobody for that. */
  watch(): void {
    if (this.#isOver) return
    this.#listeners = this.listeners()
    for (const [event, listener] of Object.entries(this.#listeners)) this.socket.on(event, listener)
  }

  /**
   * What Node's HTTP server does for the sockets that it has: to it a client that ends its side before the answer has left,
   * and a socket without traffic for `connectionTimeout` is cut.
   */
  protected listeners(): Readonly<Record<string, () => void>> {
    return {
      close: () => this.onClose(),
      end: () => {
        if (!this.isAnswered) this.abort()
      },
      timeout: () => this.abort()
    }
  }

  /** @returns whether every limiter had a free slot; if not, none is taken. */
  takeSlots(limiters: readonly ConnectionLimiter[], address: string | undefined): boolean {
    const slots: Release[] = []
    this.#slots = slots
    for (const limiter of limiters) {
      const release = limiter.take(address)
      if (release === undefined) {
        this.#releaseSlots()
        return false
      }
      slots.push(release)
    }
    return true
  }

  /** @returns releases the slots of the handshake, which the connection keeps from here on. */
  keepSlots(): Release {
    const slots = this.#slots
    if (slots === NO_SLOTS) return releaseNothing
    this.#slots = NO_SLOTS
    return () => {
      for (const release of slots) release()
    }
  }

  #releaseSlots(): void {
    this.keepSlots()()
  }

  /** No handshake may last for ever. While it waits for its turn, the time is that of the responses before it. */
  startDeadline(timeout: number): void {
    if (!this.#isOver && this.#deadline === undefined) this.setTimeout(timeout)
  }

  /** Whether the time is running. */
  protected get hasDeadline(): boolean {
    return this.#deadline !== undefined
  }

  /** @param timeout milliseconds until {@link onDeadline}, counted from now. */
  protected setTimeout(timeout: number): void {
    this.#deadline?.clear(this)
    this.#deadline = deadlinesAfter(timeout)
    this.#deadline.set(this)
  }

  /** There is an answer or soon will be: what is left of the handshake has the time of a refused client. */
  protected linger(): void {
    this.setTimeout(LINGER)
  }

  /**
   * The refusal is sent. The client gets time to read it, then it is cut.
   * @param response the refusal, unless it is written already.
   */
  protected endSocket(response?: Buffer): void {
    this.#releaseSlots()
    this.linger()
    if (response === undefined) this.socket.end()
    else this.socket.end(response)
    this.socket.resume()
  }

  /**
   * RFC 6455 section 4.2.2: the 101 goes out, and from here on the socket carries frames.
   * @param response the head of the 101.
   */
  protected switch(response: string): void {
    this.leave()
    switchProtocols(this.socket, response, this.#head)
    this.#head = undefined
  }

  /** Cuts the connection. */
  abort(): void {
    this.socket.destroy()
  }

  /** The connection is gone. */
  protected onClose(): void {
    this.leave()
    this.#releaseSlots()
  }

  /** The socket is somebody else's now. */
  protected leave(): void {
    this.#isOver = true
    this.#deadline?.clear(this)
    this.#deadline = undefined
    for (const [event, listener] of Object.entries(this.#listeners ?? {})) this.socket.off(event, listener)
    this.#listeners = undefined
    this.onOver()
  }
}
