import { isKey } from './accept.js'
import { type ExtensionOffer, parseExtensions } from './extension.js'
import { hasToken, parseTokenList } from './token.js'

/** The head of an HTTP request, as `node:http` gives it. */
export interface RequestHead {
  readonly method?: string | undefined
  readonly url?: string | undefined
  readonly httpVersionMajor: number
  readonly httpVersionMinor: number
  readonly headers: { readonly upgrade?: string | undefined }
  /** Names and values in turn: the joined `headers` hide repetitions. */
  readonly rawHeaders: readonly string[]
}

/** A handshake that follows RFC 6455 section 4.2.1. */
export interface Handshake {
  readonly key: string
  /** Offered subprotocols in the client's order. */
  readonly protocols: readonly string[]
  /** Offered extensions in the client's order. */
  readonly extensions: readonly ExtensionOffer[]
  readonly origin: string | undefined
}

/** A handshake that is refused with an HTTP response. */
export interface Refusal {
  readonly status: number
  readonly code: string
  readonly message: string
  readonly headers: Readonly<Record<string, string>>
}

/** The header fields that a handshake is made of: every value that was sent, in order. */
interface Fields {
  host: string[]
  connection: string[]
  origin: string[]
  'sec-websocket-key': string[]
  'sec-websocket-version': string[]
  'sec-websocket-protocol': string[]
  'sec-websocket-extensions': string[]
}

/**
 * Whether a request asks for WebSocket at all: HTTP/1.1 with `websocket` among the tokens of `Upgrade`. A server may
 * ignore any other `Upgrade` (RFC 9110 section 7.8), and must ignore it in HTTP/1.0.
 */
export function asksForWebSocket(request: RequestHead): boolean {
  const isHttp11 = request.httpVersionMajor === 1 && request.httpVersionMinor >= 1
  return isHttp11 && hasToken(request.headers.upgrade, 'websocket')
}

/** Checks an opening handshake as RFC 6455 section 4.2.1 asks, before anything is known about its route. */
export function checkRequest(request: RequestHead): Handshake | Refusal {
  const fields = fieldsOf(request.rawHeaders)
  if (request.method !== 'GET') {
    return refusal(405, 'METHOD_NOT_ALLOWED', 'A WebSocket handshake uses the method GET.', { allow: 'GET' })
  }
  // 4.2.1: origin-form; an absolute target names a server of its own, and a fragment never goes over the wire.
  if (!request.url?.startsWith('/') || request.url.includes('#')) {
    return badRequest('INVALID_TARGET', 'The request target of a WebSocket handshake is a path and a query.')
  }
  if (fields.host.length !== 1 || fields.host[0] === '') {
    return badRequest('INVALID_HOST', 'A WebSocket handshake carries one Host header.')
  }
  if (!hasToken(fields.connection.join(), 'upgrade')) {
    return badRequest('INVALID_CONNECTION', 'The Connection header lacks the token "Upgrade".')
  }
  return checkVersion(fields) ?? checkKey(fields) ?? readOffers(fields)
}

function checkVersion(fields: Fields): Refusal | undefined {
  const versions = fields['sec-websocket-version']
  if (versions.length > 1) {
    return badRequest('REPEATED_VERSION', 'The Sec-WebSocket-Version header was sent more than once.')
  }
  if (versions[0] === '13') return undefined
  // 4.4: the versions that the server does speak; RFC 9110 sections 15.5.22 and 7.8: 426 names the protocol.
  return refusal(426, 'UNSUPPORTED_VERSION', 'This server speaks WebSocket version 13 only.', {
    upgrade: 'websocket',
    connection: 'Upgrade, close',
    'sec-websocket-version': '13'
  })
}

function checkKey(fields: Fields): Refusal | undefined {
  const keys = fields['sec-websocket-key']
  if (keys.length === 1 && isKey(keys[0])) return undefined
  return badRequest('INVALID_KEY', 'A handshake carries one Sec-WebSocket-Key, the base64 of 16 bytes.')
}

function readOffers(fields: Fields): Handshake | Refusal {
  const protocols = readProtocols(fields['sec-websocket-protocol'])
  if (protocols === undefined) {
    return badRequest('INVALID_SUBPROTOCOL', 'Sec-WebSocket-Protocol is not a list of different tokens.')
  }
  const extensions = readExtensions(fields['sec-websocket-extensions'])
  if (extensions === undefined) {
    return badRequest('INVALID_EXTENSIONS', 'Sec-WebSocket-Extensions does not follow its grammar.')
  }
  // A repeated Origin is joined: no rule lets such a value in.
  const origin = fields.origin.length === 0 ? undefined : fields.origin.join(', ')
  return { key: fields['sec-websocket-key'][0], protocols, extensions, origin }
}

/** 4.1: one or more tokens, all different. */
function readProtocols(values: readonly string[]): string[] | undefined {
  if (values.length === 0) return []
  const protocols = parseTokenList(values.join())
  if (protocols === undefined || protocols.length === 0) return undefined
  return new Set(protocols).size === protocols.length ? protocols : undefined
}

/** 9.1: one or more. */
function readExtensions(values: readonly string[]): ExtensionOffer[] | undefined {
  if (values.length === 0) return []
  const extensions = parseExtensions(values.join())
  return extensions?.length === 0 ? undefined : extensions
}

function fieldsOf(rawHeaders: readonly string[]): Fields {
  const fields: Fields = {
    host: [],
    connection: [],
    origin: [],
    'sec-websocket-key': [],
    'sec-websocket-version': [],
    'sec-websocket-protocol': [],
    'sec-websocket-extensions': []
  }
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i].toLowerCase()
    if (isField(name)) fields[name].push(rawHeaders[i + 1])
  }
  return fields
}

function isField(name: string): name is keyof Fields {
  switch (name) {
    case 'host':
    case 'connection':
    case 'origin':
    case 'sec-websocket-key':
    case 'sec-websocket-version':
    case 'sec-websocket-protocol':
    case 'sec-websocket-extensions':
      return true
    default:
      return false
  }
}

function badRequest(code: string, message: string): Refusal {
  return refusal(400, code, message, {})
}

function refusal(status: number, code: string, message: string, headers: Record<string, string>): Refusal {
  return { status, code: `FST_UPGRADE_${code}`, message, headers }
}
