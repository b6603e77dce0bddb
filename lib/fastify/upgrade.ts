import { AsyncResource } from 'node:async_hooks'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyReply } from 'fastify'
import type { Headers } from '../core/header-field.js'
import { checkRequest, type Handshake, type Refusal } from '../core/request.js'
import { acceptResponse } from '../core/response.js'
import { ignoreErrors } from '../transport/byte-stream.js'
import type { ConnectionCount, Release } from '../transport/connection-count.js'
import { type Deadlines, deadlinesAfter, type Waiting } from '../transport/deadline.js'
import {
  COME_BACK,
  HandshakeTimeoutError,
  InvalidHeaderError,
  ShuttingDownError
} from '../transport/handshake-error.js'
import { switchProtocols } from '../transport/switch-protocols.js'
import { Offers } from './subprotocol.js'
import { UpgradeResponse } from './upgrade-response.js'

/** Milliseconds that a refused client has to read its answer and to close. */
const LINGER = 5_000

const NOTHING: Handshake = { key: '', protocols: [], extensions: [], origin: undefined }

const NO_PLACES: readonly Release[] = []
const keepNothing = (): void => {}

const kUpgrade = Symbol('fastify-upgrade.upgrade')

/** A property costs less than a WeakMap, which the garbage collector has to look through each time. */
interface UpgradingRequest extends IncomingMessage {
  [kUpgrade]?: Upgrade | undefined
}

/** What was accepted: see {@link Upgrade.accept}. */
interface Acceptance {
  readonly protocol: string | undefined
  readonly extensions: string | undefined
  /** A server that closes meanwhile refuses. */
  readonly server: { readonly isClosing: boolean }
  /** Told of the stream behind the 101. */
  readonly open: (stream: Socket) => void
}

/** An opening handshake on its way from the `upgrade` event through Fastify to the 101 or a refusal. */
export class Upgrade implements Waiting {
  readonly request: UpgradingRequest
  readonly response: UpgradeResponse
  /** Why the handshake does not follow RFC 6455, if so. */
  readonly refusal: Refusal | undefined
  /** What the client asked for; nothing, when it is refused. */
  readonly handshake: Handshake
  /** What the router looks for. */
  offers: Offers
  readonly socket: Socket
  #head: Buffer | undefined
  readonly #onEnd: (upgrade: Upgrade) => void
  #listeners: Readonly<Record<'close' | 'end' | 'timeout' | 'drain', () => void>> | undefined
  #timeout: number
  #deadline: Deadlines | undefined
  #reply: FastifyReply | undefined
  #hasBegun = false
  #isOver = false
  /** Gives back the places that the handshake takes. */
  #places: readonly Release[] = NO_PLACES

  /**
   * @param timeout milliseconds until the handshake is refused with 503.
   * @param onEnd told when the handshake is over, whichever way.
   */
  constructor(
    request: UpgradingRequest,
    socket: Socket,
    head: Buffer,
    timeout: number,
    onEnd: (upgrade: Upgrade) => void
  ) {
    // Before anything else: a reset must not be an uncaught exception.
    ignoreErrors(socket)
    this.request = request
    this.response = new UpgradeResponse(request)
    const checked = checkRequest(request)
    this.refusal = 'status' in checked ? checked : undefined
    this.handshake = 'status' in checked ? NOTHING : checked
    this.offers = new Offers(this.handshake.protocols)
    this.socket = socket
    this.#head = head.length > 0 ? head : undefined
    this.#timeout = timeout
    this.#onEnd = onEnd
    request[kUpgrade] = this
  }

  /** The upgrade that a request asks for. */
  static of(request: UpgradingRequest): Upgrade | undefined {
    return request[kUpgrade]
  }

  /** Looks after the socket while the handshake waits for something. */
  watch(): void {
    if (this.#listeners !== undefined || this.#isOver) return
    this.#listeners = {
      close: () => this.#onClose(),
      // Node's HTTP server has let go of the socket, and with it of these: to it a client that ends its side before the
      // answer has left, a socket without traffic for `connectionTimeout` is cut, and a response waits for `drain`.
      end: () => this.#onClientEnd(),
      timeout: () => this.abort(),
      drain: () => this.response.emit('drain')
    }
    for (const [event, listener] of Object.entries(this.#listeners)) this.socket.on(event, listener)
    this.response.on('finish', this.#onRefused)
  }

  /** Connects the response with the socket. */
  begin(): void {
    this.response.assignSocket(this.socket)
    this.#hasBegun = true
  }

  /** Whether it has had its turn and is answered here. */
  get hasBegun(): boolean {
    return this.#hasBegun
  }

  /** No handshake may last for ever. While it waits for its turn, the time is that of the responses before it. */
  startDeadline(): void {
    if (!this.#isOver && this.#deadline === undefined) this.setTimeout(this.#timeout)
  }

  /** Leaves the socket to somebody else, as if nothing had happened. */
  release(): void {
    this.#leave()
    this.response.detachSocket(this.socket)
    this.#hasBegun = false
    this.request[kUpgrade] = undefined
  }

  /**
   * Fastify's hooks have begun, and the route is known.
   * @param timeout milliseconds that the handshake may take, counted from now.
   */
  enter(reply: FastifyReply, timeout: number): void {
    this.#reply = reply
    this.#timeout = timeout
    if (this.#deadline !== undefined) this.setTimeout(timeout)
  }

  /** @returns whether there was one more place, by each of the counts. */
  takePlaces(counts: readonly ConnectionCount[], address: string): boolean {
    const places: Release[] = []
    this.#places = places
    for (const count of counts) {
      const release = count.take(address)
      if (release === undefined) {
        this.#leavePlaces()
        return false
      }
      places.push(release)
    }
    return true
  }

  /** The connection keeps the places of the handshake until it gives them back. */
  keepPlaces(): Release {
    const places = this.#places
    if (places === NO_PLACES) return keepNothing
    this.#places = NO_PLACES
    return () => {
      for (const release of places) release()
    }
  }

  #leavePlaces(): void {
    this.keepPlaces()()
  }

  /** @param timeout milliseconds until {@link onDeadline}, counted from now. */
  setTimeout(timeout: number): void {
    this.#deadline?.clear(this)
    this.#deadline = deadlinesAfter(timeout)
    this.#deadline.set(this)
  }

  /**
   * Has the reply sent as a 101, through the hooks of a reply, and the protocol switched then. `open` is called in the
   * async context of this call.
   */
  accept(acceptance: Acceptance): void {
    let scope: AsyncResource | undefined
    this.response.accept(headers => {
      if (scope === undefined) this.#onAccept(acceptance, headers)
      else scope.runInAsyncScope(this.#onAccept, this, acceptance, headers)
    })
    this.#reply?.code(101).send()
    // Hooks of the reply that take their time may end in another context.
    if (!this.#isOver) scope = new AsyncResource('WEBSOCKETHANDSHAKE')
  }

  /** Answers with an error, unless the hooks have not begun, or an answer is under way already. */
  refuse(error: Error, headers: Readonly<Record<string, string>> = {}): void {
    const reply = this.#reply
    if (reply === undefined || reply.sent || this.response.headersSent) return
    this.takeBack()
    reply.headers(headers).send(error)
  }

  /** The 101 that waits for the hooks of the reply will not be sent; an error takes its place. */
  takeBack(): void {
    if (!this.response.isAccepting && this.response.statusCode !== 101) return
    this.response.refuse()
    // With 200 Fastify takes the status of the error.
    this.#reply?.code(200)
  }

  /** Cuts the connection. */
  abort(): void {
    this.socket.destroy()
  }

  onDeadline(): void {
    const reply = this.#reply
    if (reply === undefined || this.response.headersSent) this.abort()
    // What was hijacked belongs to the application, with all that comes of it.
    else if (!reply.sent) {
      this.setTimeout(LINGER)
      this.refuse(new HandshakeTimeoutError())
    }
  }

  #onAccept(acceptance: Acceptance, headers: Headers): void {
    // The client left while the hooks were at work.
    if (this.socket.destroyed) return
    if (acceptance.server.isClosing) {
      this.refuse(new ShuttingDownError(), COME_BACK)
      return
    }
    const { protocol, extensions } = acceptance
    let head: string
    try {
      head = acceptResponse({ key: this.handshake.key, protocol, extensions, headers })
    } catch (error) {
      this.response.dropInvalidHeaders()
      this.refuse(new InvalidHeaderError(String(error)))
      return
    }
    this.#switch(head)
    acceptance.open(this.socket)
  }

  /** RFC 6455 section 4.2.2: the 101 goes out, and from here on the socket carries frames. */
  #switch(head: string): void {
    const socket = this.socket
    this.#leave()
    this.response.switch(socket)
    switchProtocols(socket, head, this.#head)
    this.#head = undefined
  }

  /** The refusal is sent. The client gets time to read it, then it is cut. */
  readonly #onRefused = (): void => {
    this.#leavePlaces()
    this.setTimeout(LINGER)
    this.socket.end()
    this.socket.resume()
  }

  #onClientEnd(): void {
    if (!this.response.headersSent) this.abort()
  }

  #onClose(): void {
    this.#leave()
    this.#leavePlaces()
    // As Node does for a request whose client went away: `request.signal` and `onRequestAbort` follow.
    if (!this.response.headersSent) this.request.destroy()
  }

  #leave(): void {
    this.#isOver = true
    this.#deadline?.clear(this)
    this.#deadline = undefined
    if (this.#listeners !== undefined) {
      for (const [event, listener] of Object.entries(this.#listeners)) this.socket.off(event, listener)
      this.response.off('finish', this.#onRefused)
    }
    this.#onEnd(this)
  }
}
