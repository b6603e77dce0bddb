import { type IncomingMessage, ServerResponse, validateHeaderName, validateHeaderValue } from 'node:http'
import type { Socket } from 'node:net'
import type { Headers } from '../core/header-field.js'

/**
 * The response to a handshake. A refusal is an ordinary response. A 101 is not written here, as what follows it is the
 * WebSocket's: `accept` says who writes it.
 *
 * Express gives each response another prototype. So this class overrides methods on the response object itself, and provides
 * what the upgrade needs.
 */
export class UpgradeResponse {
  /** The response that Fastify and the application have. */
  readonly raw: ServerResponse
  #accept: ((headers: Headers) => void) | undefined
  #headers: Headers | undefined
  #dropsInvalid = false
  #isSent = false

  constructor(request: IncomingMessage) {
    const raw = new ServerResponse(request)
    // A refused client has nothing more to say on this connection.
    raw.shouldKeepAlive = false
    const { writeHead, end } = raw
    raw.writeHead = (statusCode: number, ...rest: readonly unknown[]) => {
      this.#writeHead(writeHead, statusCode, rest)
      return raw
    }
    raw.end = (...rest: readonly unknown[]) => {
      this.#end(end, rest)
      return raw
    }
    this.raw = raw
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
    // Fastify reads them to know what was sent.
    Object.defineProperties(this.raw, SENT)
    this.raw.detachSocket(socket)
  }

  /** A second answer, for example that of a hook which the deadline overtook, is dropped. */
  #writeHead(writeHead: ServerResponse['writeHead'], statusCode: number, rest: readonly unknown[]): void {
    const { raw } = this
    if (this.#isSent) return
    const last = rest.at(-1)
    const headers = typeof last === 'object' && last !== null ? last : {}
    if (this.#accept !== undefined && statusCode === 101) {
      this.#headers = Object.assign(raw.getHeaders(), headers)
      return
    }
    const sent = this.#dropsInvalid ? [validHeaders(headers)] : rest
    Reflect.apply(writeHead, raw, [statusCode, ...sent])
    this.#isSent = true
  }

  #end(end: ServerResponse['end'], rest: readonly unknown[]): void {
    const { raw } = this
    if (raw.writableEnded) return
    if (this.#accept === undefined || this.#headers === undefined) {
      Reflect.apply(end, raw, rest)
      return
    }
    const accept = this.#accept
    const headers = this.#headers
    this.refuse()
    accept(headers)
  }
}

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
