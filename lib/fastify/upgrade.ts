import { AsyncResource } from 'node:async_hooks'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyReply } from 'fastify'
import type { Headers } from '../protocol/handshake/header-field.js'
import { checkRequest, type Handshake, type Refusal } from '../protocol/handshake/request.js'
import { acceptResponse } from '../protocol/handshake/response.js'
import {
  HandshakeTimeoutError,
  InvalidHeaderError,
  RETRY_AFTER,
  ShuttingDownError
} from '../upgrade/error.js'
import { OpeningHandshake } from '../upgrade/opening-handshake.js'
import { Offers } from './subprotocol.js'
import { UpgradeResponse } from './upgrade-response.js'
import type { Dispatch } from './upgrade-server.js'

const NOTHING: Handshake = { key: '', protocols: [], extensions: [], origin: undefined }

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
export class Upgrade extends OpeningHandshake<Socket> {
  declare readonly request: UpgradingRequest
  readonly response: UpgradeResponse
  /** Why the handshake does not follow RFC 6455, if so. */
  readonly refusal: Refusal | undefined
  /** What the client asked for; nothing, when it is refused. */
  readonly handshake: Handshake
  /** How the handshake came here. */
  readonly dispatch: Dispatch
  /** What the router looks for. */
  offers: Offers
  readonly #onEnd: (upgrade: Upgrade) => void
  readonly #startedAt = performance.now()
  #timeout: number
  #reply: FastifyReply | undefined
  /** Its time was up once; what comes then has to be sent in the time of a refusal. */
  #isLate = false

  /**
   * @param timeout milliseconds until the handshake is refused with 503.
   * @param onEnd told when the handshake is over, whichever way.
   */
  constructor(dispatch: Dispatch, timeout: number, onEnd: (upgrade: Upgrade) => void) {
    const { socket, head } = dispatch
    const request: UpgradingRequest = dispatch.request
    super(request, socket, head)
    this.dispatch = dispatch
    this.response = new UpgradeResponse(request)
    const checked = checkRequest(request)
    this.refusal = 'status' in checked ? checked : undefined
    this.handshake = 'status' in checked ? NOTHING : checked
    this.offers = new Offers(this.handshake.protocols)
    this.#timeout = timeout
    this.#onEnd = onEnd
    request[kUpgrade] = this
  }

  /** The upgrade that a request asks for. */
  static of(request: UpgradingRequest): Upgrade | undefined {
    return request[kUpgrade]
  }

  /** Milliseconds since the request came. */
  get elapsedTime(): number {
    return performance.now() - this.#startedAt
  }

  get isAnswered(): boolean {
    return this.response.isSent
  }

  override watch(): void {
    super.watch()
    if (!this.isOver) this.response.raw.on('finish', this.#onRefused)
  }

  protected override listeners(): Readonly<Record<string, () => void>> {
    // The response waits for it.
    return { ...super.listeners(), drain: () => this.response.raw.emit('drain') }
  }

  /** Connects the response with the socket. */
  begin(): void {
    this.response.raw.assignSocket(this.socket)
  }

  /** Its turn has come, and it waits for hooks. */
  wait(): void {
    this.startDeadline(this.#timeout)
  }

  /** Leaves the socket to somebody else, as if nothing had happened. */
  release(): void {
    this.leave()
    this.response.raw.detachSocket(this.socket)
    this.request[kUpgrade] = undefined
  }

  /**
   * Fastify's hooks have begun, and the route is known.
   * @param timeout milliseconds that the handshake may take, counted from now.
   */
  enter(reply: FastifyReply, timeout: number): void {
    this.#reply = reply
    this.#timeout = timeout
    if (this.hasDeadline) this.setTimeout(timeout)
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
    if (!this.isOver) scope = new AsyncResource('WEBSOCKETHANDSHAKE')
  }

  /** Answers with an error, unless the hooks have not begun, or an answer is under way already. */
  refuse(error: Error, headers: Readonly<Record<string, string>> = {}): void {
    const reply = this.#reply
    if (reply === undefined || reply.sent || this.response.isSent) return
    this.takeBack()
    reply.headers(headers).send(error)
  }

  /** The 101 that waits for the hooks of the reply will not be sent; an error takes its place. */
  takeBack(): void {
    if (!this.response.isAccepting && this.response.raw.statusCode !== 101) return
    this.response.refuse()
    // With 200 Fastify takes the status of the error.
    this.#reply?.code(200)
  }

  onDeadline(): void {
    const reply = this.#reply
    const isAnswered = reply === undefined || this.response.isSent
    // What was hijacked belongs to the application, with all that comes of it.
    if (!isAnswered && reply.sent) return
    if (isAnswered || this.#isLate) {
      this.abort()
      return
    }
    this.#isLate = true
    this.linger()
    this.refuse(new HandshakeTimeoutError())
  }

  #onAccept(acceptance: Acceptance, headers: Headers): void {
    // The client left while the hooks were at work.
    if (this.socket.destroyed) return
    if (acceptance.server.isClosing) {
      this.refuse(new ShuttingDownError(), RETRY_AFTER)
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
    this.response.switch(this.socket)
    this.switch(head)
    acceptance.open(this.socket)
  }

  readonly #onRefused = (): void => this.endSocket()

  protected override onClose(): void {
    super.onClose()
    // As Node does for a request whose client went away: `request.signal` and `onRequestAbort` follow.
    if (!this.response.isSent) this.request.destroy()
  }

  protected onOver(): void {
    this.response.raw.off('finish', this.#onRefused)
    this.#onEnd(this)
  }
}
