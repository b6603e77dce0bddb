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

/** The server has accepted with an answer that RFC 6455 section 4.1 does not let a client accept. */
export class InjectInvalidResponseError extends Error {
  readonly code = 'FST_UPGRADE_INJECT_INVALID_RESPONSE'
  readonly statusCode: number
  readonly headers: IncomingHttpHeaders

  constructor(failure: string, statusCode: number, headers: IncomingHttpHeaders) {
    super(failure)
    this.statusCode = statusCode
    this.headers = headers
  }
}

/** WebSockets over HTTP/2 are off, or the server does not speak HTTP/2. */
export class InjectHttp2Error extends Error {
  readonly code = 'FST_UPGRADE_INJECT_HTTP2'

  constructor() {
    super(
      'The server does not announce WebSockets over HTTP/2; create it with "http2: true", and leave the option "http2" of the plugin on.'
    )
  }
}
