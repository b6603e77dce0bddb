import type { IncomingHttpHeaders } from 'node:http'

/** The server has answered a handshake with something else than a 101. The message is that of `ws`. */
export class InjectRefusedError extends Error {
  readonly code = 'FST_UPGRADE_INJECT_REFUSED'
  readonly statusCode: number
  readonly headers: IncomingHttpHeaders
  /** As text. */
  readonly body: string

  constructor(statusCode: number, headers: IncomingHttpHeaders, body: string) {
    super(`Unexpected server response: ${statusCode}`)
    this.statusCode = statusCode
    this.headers = headers
    this.body = body
  }
}

/** The server has answered with a 101 that RFC 6455 section 4.1 does not let a client accept. */
export class InjectInvalidResponseError extends Error {
  readonly code = 'FST_UPGRADE_INJECT_INVALID_RESPONSE'
  readonly statusCode = 101
  readonly headers: IncomingHttpHeaders

  constructor(failure: string, headers: IncomingHttpHeaders) {
    super(failure)
    this.headers = headers
  }
}
