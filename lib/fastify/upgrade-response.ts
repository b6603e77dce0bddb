import {
  type IncomingMessage,
  type OutgoingHttpHeader,
  ServerResponse,
  validateHeaderName,
  validateHeaderValue
} from 'node:http'
import type { Socket } from 'node:net'
import type { Headers } from '../core/header-field.js'

/**
 * The response to a handshake. A refusal is an ordinary response. A 101 is not written here, as what follows it is the
 * WebSocket's: `accept` says who writes it.
 */
export class UpgradeResponse extends ServerResponse {
  #accept: ((headers: Headers) => void) | undefined
  #headers: Headers | undefined
  #switched = false
  #dropsInvalid = false

  constructor(request: IncomingMessage) {
    super(request)
    // A refused client has nothing more to say on this connection.
    this.shouldKeepAlive = false
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

  /** The 101 is written: this response counts as sent and leaves the socket. */
  switch(socket: Socket): void {
    this.#switched = true
    this.detachSocket(socket)
  }

  /** A second answer, for example that of a hook which the deadline overtook, is dropped. */
  override writeHead(statusCode: number, headers?: Record<string, OutgoingHttpHeader>): this
  override writeHead(statusCode: number, message: string, headers?: Record<string, OutgoingHttpHeader>): this
  override writeHead(statusCode: number, ...rest: never[]): this {
    if (this.headersSent) return this
    const headers: Record<string, OutgoingHttpHeader> | undefined = rest.at(-1)
    if (this.#accept !== undefined && statusCode === 101) {
      this.#headers = Object.assign(this.getHeaders(), headers)
      return this
    }
    if (!this.#dropsInvalid || headers === undefined) return super.writeHead(statusCode, ...rest)
    return super.writeHead(statusCode, validHeaders(headers))
  }

  override end(...rest: never[]): this {
    if (this.writableEnded) return this
    if (this.#accept === undefined || this.#headers === undefined) return super.end(...rest)
    const accept = this.#accept
    const headers = this.#headers
    this.refuse()
    accept(headers)
    return this
  }

  static {
    // Node declares both as properties, so TypeScript takes no accessor. Fastify reads them to know what was sent.
    for (const name of ['headersSent', 'writableEnded'] as const) {
      Object.defineProperty(UpgradeResponse.prototype, name, {
        configurable: true,
        get(this: UpgradeResponse): boolean {
          return this.#switched || Reflect.get(ServerResponse.prototype, name, this) === true
        }
      })
    }
  }
}

function validHeaders(headers: Record<string, OutgoingHttpHeader>): Record<string, OutgoingHttpHeader> {
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
