import { AsyncResource } from 'node:async_hooks'
import { type IncomingMessage, type ServerResponse, validateHeaderName, validateHeaderValue } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { handshakeRefused, limitReached } from '../../diagnostics.js'
import type { Headers } from '../../protocol/handshake/header-field.js'
import type { Handshake, Refusal } from '../../protocol/handshake/request.js'
import type { ResponseOwner } from '../../upgrade/channel.js'
import {
  HandshakeTimeoutError,
  InvalidHeaderError,
  RETRY_AFTER,
  ShuttingDownError
} from '../../upgrade/error.js'
import { OpeningHandshake } from '../../upgrade/opening-handshake.js'
import type { Dispatch } from '../../upgrade/upgrade-server.js'
import { routeOf } from '../routes/route.js'
import { Offers } from '../routes/subprotocol.js'

/** Stands for a handshake that is refused. */
const NOTHING: Handshake = { key: '', protocols: [], extensions: [], origin: undefined }

const kUpgrade = Symbol('fastify-upgrade.upgrade')

/** A property costs less than a WeakMap, which each garbage collection has to scan. */
interface UpgradingRequest extends IncomingMessage {
  [kUpgrade]?: Upgrade | undefined
}

/** The way in which a handshake is accepted. */
export interface Acceptance {
  readonly protocol: string | undefined
  readonly extensions: string | undefined
  /** A server that has begun to close meanwhile refuses. */
  readonly server: { readonly isClosing: boolean }
  /** Called with the stream that carries the frames. */
  readonly open: (stream: Duplex) => void
}

/**
 * An opening handshake on its way through Fastify. Fastify answers it like any other request: with an error, or with the status
 * that accepts it, 101 or over HTTP/2 200. A refusal is sent as Fastify writes it. The other reply becomes the acceptance, with
 * its headers.
 */
export class Upgrade extends OpeningHandshake implements ResponseOwner {
  readonly dispatch: Dispatch
  /** Why the request is no valid handshake, if so. */
  readonly refusal: Refusal | undefined
  /** The offers of the client; none when there is a refusal. */
  readonly handshake: Handshake
  /** The query for the router. */
  offers: Offers
  readonly #request: UpgradingRequest
  readonly #startedAt = performance.now()
  #timeout: number
  #reply: FastifyReply | undefined
  /** Set while a reply with the status of an acceptance accepts the handshake. */
  #acceptance: Acceptance | undefined
  /** The headers of the acceptance. */
  #headers: Headers | undefined
  /** The async context of {@link accept}, for hooks of the reply that end in another one. */
  #scope: AsyncResource | undefined
  #dropsInvalidHeaders = false
  #isLate = false
  /** The code of the error that refuses the handshake. */
  #errorCode: string | undefined

  /**
   * @param pending the handshakes of the application that are not over.
   * @param timeout milliseconds until the handshake is refused with 503.
   */
  constructor(dispatch: Dispatch, pending: Set<Upgrade>, timeout: number) {
    const { channel } = dispatch
    super(channel, pending)
    this.dispatch = dispatch
    const checked = channel.readHandshake()
    this.refusal = 'status' in checked ? checked : undefined
    this.handshake = 'status' in checked ? NOTHING : checked
    this.offers = new Offers(this.handshake.protocols)
    this.#timeout = timeout
    this.#request = channel.request
    this.#request[kUpgrade] = this
  }

  /** The upgrade of a request. */
  static of(request: UpgradingRequest): Upgrade | undefined {
    return request[kUpgrade]
  }

  /** Milliseconds since the request came. */
  get elapsedTime(): number {
    return performance.now() - this.#startedAt
  }

  /**
   * The turn of the handshake has come.
   * @returns the response for Fastify.
   */
  respond(): ServerResponse {
    return this.channel.respond(this)
  }

  /** The handshake has been routed, and may wait for hooks. */
  wait(): void {
    this.startDeadline(this.#timeout)
  }

  override release(): void {
    super.release()
    this.#request[kUpgrade] = undefined
  }

  /**
   * Fastify's hooks have begun, and the route is known.
   * @param timeout milliseconds that the handshake may take from now on.
   */
  enter(reply: FastifyReply, timeout: number): void {
    this.#reply = reply
    this.#timeout = timeout
    this.restartDeadline(timeout)
  }

  /** Sends the reply that accepts the handshake through its hooks. `open` is called in the async context of this call. */
  accept(acceptance: Acceptance): void {
    this.#acceptance = acceptance
    this.#reply?.code(this.channel.acceptStatus).send()
    if (!this.isOver) this.#scope = new AsyncResource('WEBSOCKETHANDSHAKE')
  }

  /** Replies with an error, unless the hooks have not begun or an answer is on its way. */
  sendError(error: Error, headers: Readonly<Record<string, string>> = {}): void {
    const reply = this.#reply
    if (reply === undefined || reply.sent || this.channel.isAnswered) return
    this.#withdraw()
    reply.headers(headers).send(error)
  }

  /** An error refuses the handshake. */
  onError(code: string): void {
    this.#errorCode = code
    this.#withdraw()
  }

  /** An error takes the place of an acceptance that waits for the hooks of the reply. */
  #withdraw(): void {
    const reply = this.#reply
    if (this.#acceptance === undefined && reply?.raw.statusCode !== this.channel.acceptStatus) return
    this.#refuseFromNowOn()
    // With 200 Fastify takes the status of the error.
    reply?.code(200)
  }

  #refuseFromNowOn(): void {
    this.#acceptance = undefined
    this.#headers = undefined
  }

  // The answers that Fastify writes to the response

  onHead(response: ServerResponse, status: number, rest: readonly unknown[]): readonly unknown[] | undefined {
    const last = rest.at(-1)
    const headers = typeof last === 'object' && last !== null ? last : {}
    if (this.#acceptance !== undefined && status === this.channel.acceptStatus) {
      this.#headers = Object.assign(response.getHeaders(), headers)
      return undefined
    }
    this.#publishRefusal(status)
    return this.#dropsInvalidHeaders ? [validHeaders(headers)] : rest
  }

  onEnd(): boolean {
    const acceptance = this.#acceptance
    const headers = this.#headers
    if (acceptance === undefined || headers === undefined) return false
    this.#refuseFromNowOn()
    if (this.#scope === undefined) this.#complete(acceptance, headers)
    else this.#scope.runInAsyncScope(this.#complete, this, acceptance, headers)
    return true
  }

  #complete({ protocol, extensions, server, open }: Acceptance, headers: Headers): void {
    // The client left while the hooks were at work.
    if (!this.channel.isOpen) {
      this.channel.destroy()
      return
    }
    if (server.isClosing) {
      this.sendError(new ShuttingDownError(), RETRY_AFTER)
      return
    }
    let stream: Duplex
    try {
      stream = this.channel.accept({ key: this.handshake.key, protocol, extensions, headers })
    } catch (error) {
      // The hooks of the reply set the header again.
      this.#dropsInvalidHeaders = true
      this.sendError(new InvalidHeaderError(String(error)))
      return
    }
    open(stream)
  }

  // The end without an acceptance

  override onDeadline(): void {
    const reply = this.#reply
    const isAnswered = reply === undefined || this.channel.isAnswered
    if (!this.channel.isAnswered && !this.#isLate && limitReached.hasSubscribers) this.#publishTimeout()
    // The application answers a reply that it has hijacked, whenever it likes.
    if (!isAnswered && reply.sent) return
    if (isAnswered || this.#isLate) {
      this.channel.destroy()
      return
    }
    this.#isLate = true
    this.linger()
    this.sendError(new HandshakeTimeoutError())
  }

  override onClose(): void {
    super.onClose()
    if (this.channel.isAnswered) return
    this.#publishRefusal(undefined)
    this.channel.abortRequest()
  }

  #publishTimeout(): void {
    const route = this.#reply && routeOf(this.#reply.request)
    limitReached.publish({
      limit: 'handshakeTimeout',
      socket: undefined,
      server: route?.server,
      route: route?.url
    })
  }

  #publishRefusal(status: number | undefined): void {
    if (!handshakeRefused.hasSubscribers) return
    const route = this.#reply && routeOf(this.#reply.request)
    handshakeRefused.publish({
      server: route?.server,
      request: this.channel.request,
      route: route?.url,
      status,
      code: this.#errorCode,
      duration: this.elapsedTime
    })
  }
}

function validHeaders(headers: object): object {
  return Object.fromEntries(Object.entries(headers).filter(isValid))
}

function isValid([name, value]: [string, unknown]): boolean {
  try {
    validateHeaderName(name)
    for (const one of [value].flat()) validateHeaderValue(name, String(one))
    return true
  } catch {
    return false
  }
}
