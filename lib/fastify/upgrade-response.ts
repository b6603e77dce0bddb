import { type IncomingMessage, ServerResponse, validateHeaderName, validateHeaderValue } from 'node:http'
import type { Socket } from 'node:net'
import type { Headers } from '../protocol/handshake/header-field.js'

const kResponse = Symbol('fastify-upgrade.response')

/** The response that Fastify and the application have. */
class RawResponse extends ServerResponse {
  readonly [kResponse]: UpgradeResponse

  constructor(request: IncomingMessage, response: UpgradeResponse) {
    super(request)
    this[kResponse] = response
    // A refused client has nothing more to say on this connection.
    this.shouldKeepAlive = false
    // Own properties, as Express gives each response another prototype.
    this.writeHead = writeHead
    this.end = end
  }

  static {
    // Node declares both as properties, so TypeScript takes no accessor.
    Object.defineProperties(RawResponse.prototype, {
      headersSent: { configurable: true, get: headersSent },
      writableEnded: { configurable: true, get: writableEnded }
    })
  }
}

function writeHead<Response extends RawResponse>(
  this: Response,
  statusCode: number,
  ...rest: readonly unknown[]
): Response {
  this[kResponse].writeHead(statusCode, rest)
  return this
}

function end<Response extends RawResponse>(this: Response, ...rest: readonly unknown[]): Response {
  this[kResponse].end(rest)
  return this
}

// Fastify reads them to know what was sent.
function headersSent(this: RawResponse): boolean {
  return this[kResponse].isSwitched || Reflect.get(ServerResponse.prototype, 'headersSent', this)
}

function writableEnded(this: RawResponse): boolean {
  return this[kResponse].isSwitched || Reflect.get(ServerResponse.prototype, 'writableEnded', this)
}

/**
 * The response to a handshake. A refusal is an ordinary response. A 101 is not written here, as what follows it is the
 * WebSocket's: `accept` says who writes it.
 */
export class UpgradeResponse {
  readonly raw: ServerResponse
  #accept: ((headers: Headers) => void) | undefined
  #headers: Headers | undefined
  #dropsInvalid = false
  #isSent = false
  /** Whether the 101 is written. */
  isSwitched = false

  constructor(request: IncomingMessage) {
    this.raw = new RawResponse(request, this)
  }

  /** A 101 calls `onAccept` with the headers of the reply from now on, until `refuse` is called. */
  accept(onAccept: (headers: Headers) => void): void {
    this.#accept = onAccept
  }

  /** What is sent from now on is a refusal. */
  refuse(): void {
    this.#accept = undefined
    this.#headers = undefined
  }

  /** A refusal because of an invalid header leaves it out, as the hooks of the reply set it anew. */
  dropInvalidHeaders(): void {
    this.#dropsInvalid = true
  }

  get isAccepting(): boolean {
    return this.#accept !== undefined
  }

  /** Whether a head is sent. Express has a `headersSent` of its own, which says something else. */
  get isSent(): boolean {
    return this.#isSent
  }

  /** The 101 is written: this response counts as sent and leaves the socket. */
  switch(socket: Socket): void {
    this.#isSent = true
    this.isSwitched = true
    if (!(this.raw instanceof RawResponse)) Object.defineProperties(this.raw, SENT)
    this.raw.detachSocket(socket)
  }

  /** A second answer, for example that of a hook which the deadline overtook, is dropped. */
  writeHead(statusCode: number, rest: readonly unknown[]): void {
    if (this.#isSent) return
    const { raw } = this
    const last = rest.at(-1)
    const headers = typeof last === 'object' && last !== null ? last : {}
    if (this.#accept !== undefined && statusCode === 101) {
      this.#headers = Object.assign(raw.getHeaders(), headers)
      return
    }
    const sent = this.#dropsInvalid ? [validHeaders(headers)] : rest
    Reflect.apply(ServerResponse.prototype.writeHead, raw, [statusCode, ...sent])
    this.#isSent = true
  }

  end(rest: readonly unknown[]): void {
    if (this.raw.writableEnded) return
    const accept = this.#accept
    const headers = this.#headers
    if (accept === undefined || headers === undefined) {
      Reflect.apply(ServerResponse.prototype.end, this.raw, rest)
      return
    }
    this.refuse()
    accept(headers)
  }
}

/** For a response with another prototype. */
const SENT: PropertyDescriptorMap = {
  headersSent: { configurable: true, value: true },
  writableEnded: { configurable: true, value: true }
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
