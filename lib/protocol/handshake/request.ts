import { type ExtensionOffer, parseExtensions } from '../extension.js'
import { isKey } from './accept.js'
import { hasToken, parseTokenList, parseUpgrade } from './token.js'

/** The head of an HTTP request, as `node:http` provides it. */
export interface RequestHead {
  readonly method?: string | undefined
  readonly url?: string | undefined
  readonly httpVersionMajor: number
  readonly httpVersionMinor: number
  readonly headers: { readonly upgrade?: string | undefined }
  /** Names and values alternate: the joined `headers` hide repetitions. */
  readonly rawHeaders: readonly string[]
}

/** A handshake that follows RFC 6455 section 4.2.1, or RFC 8441 section 5. */
export interface Handshake {
  /** Empty over HTTP/2, which has no key. */
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

/** The header fields of a handshake. The values of a repeated field are joined, and counted if their number matters. */
interface Fields {
  scheme: string
  authority: string
  host: string
  hosts: number
  connection: string
  origin: string | undefined
  key: string
  keys: number
  version: string
  versions: number
  protocol: string | undefined
  extensions: string
  /** Whether `Content-Length` or `Transfer-Encoding` announces a body. */
  hasBody: boolean
}

/**
 * Whether a request asks for WebSocket: HTTP/1.1 with `websocket` among the protocols of `Upgrade`. A server may ignore
 * any other `Upgrade` (RFC 9110 section 7.8), and must ignore it in HTTP/1.0. `websocket/13` is another protocol: RFC
 * 6455 sections 4.2.1 and 11.2 define no version there, as `Sec-WebSocket-Version` has it.
 */
export function asksForWebSocket(request: RequestHead): boolean {
  const isHttp11 = request.httpVersionMajor === 1 && request.httpVersionMinor >= 1
  return isHttp11 && offersWebSocket(request.headers.upgrade)
}

function offersWebSocket(upgrade = ''): boolean {
  return upgrade.toLowerCase() === 'websocket' || parseUpgrade(upgrade)?.includes('websocket') === true
}

/** Whether a request asks for h2c only (RFC 7540 section 3.2), which no listener of `upgrade` supports. */
export function asksForH2cOnly({ headers }: RequestHead): boolean {
  const protocols = parseUpgrade(headers.upgrade ?? '') ?? []
  return protocols.length > 0 && protocols.every(protocol => protocol === 'h2c')
}

/** Checks an opening handshake as RFC 6455 section 4.2.1 asks, before anything is known about its route. */
export function checkRequest(request: RequestHead): Handshake | Refusal {
  const fields = fieldsOf(request.rawHeaders)
  if (request.method !== 'GET') {
    return refusal(405, 'METHOD_NOT_ALLOWED', 'A WebSocket handshake uses the method GET.', { allow: 'GET' })
  }
  if (!isTarget(request.url)) return INVALID_TARGET
  if (fields.hosts !== 1 || fields.host === '') {
    return badRequest('INVALID_HOST', 'A WebSocket handshake carries one Host header.')
  }
  if (!hasToken(fields.connection, 'upgrade')) {
    return badRequest('INVALID_CONNECTION', 'The Connection header lacks the token "Upgrade".')
  }
  return checkBody(fields) ?? checkVersion(fields) ?? checkKey(fields) ?? readOffers(fields)
}

/**
 * Checks an extended CONNECT for `websocket` as RFC 8441 sections 4 and 5 ask. The pseudo-header fields stand for the
 * request line and for `Host`. HTTP/2 has neither `Upgrade` nor `Connection`, and the handshake has no key.
 */
export function checkConnect(request: RequestHead): Handshake | Refusal {
  const fields = fieldsOf(request.rawHeaders)
  const { scheme, authority, host, hosts } = fields
  if (scheme !== 'https' && scheme !== 'http') {
    return badRequest('INVALID_SCHEME', 'The :scheme of a WebSocket handshake is "https" or "http".')
  }
  if (!isTarget(request.url)) return INVALID_TARGET
  // RFC 9113 section 8.3.1: a Host header that is sent nevertheless has the same value.
  if (authority === '' || hosts > 1 || (hosts === 1 && host !== authority)) {
    return badRequest('INVALID_HOST', 'A WebSocket handshake names one host, in :authority.')
  }
  const refused = checkBody(fields) ?? checkVersion(fields)
  if (refused === undefined) return readOffers({ ...fields, key: '' })
  // RFC 9113 section 8.2.2: no Upgrade and no Connection.
  const { upgrade, connection, ...headers } = refused.headers
  return { ...refused, headers }
}

const INVALID_TARGET = badRequest(
  'INVALID_TARGET',
  'The request target of a WebSocket handshake is a path and a query.'
)

/** RFC 6455 section 4.2.1: origin-form; an absolute target names a server of its own, and a fragment never goes over the wire. */
function isTarget(url = ''): boolean {
  return url.startsWith('/') && !url.includes('#')
}

/**
 * RFC 9110 section 7.8: the protocol changes once the request has been received, its body included. A handshake has no
 * use for a body, and whether Node reads it as one or takes it for the first frames depends on its version.
 */
function checkBody({ hasBody }: Fields): Refusal | undefined {
  return hasBody ? badRequest('UNEXPECTED_BODY', 'A WebSocket handshake has no body.') : undefined
}

/** For a client that ends the stream with the head of its request, so that it could send no frames. */
export const ENDED_STREAM: Refusal = badRequest(
  'ENDED_STREAM',
  'A WebSocket handshake over HTTP/2 leaves its stream open.'
)

function checkVersion({ version, versions }: Fields): Refusal | undefined {
  if (versions > 1) {
    return badRequest('REPEATED_VERSION', 'The Sec-WebSocket-Version header was sent more than once.')
  }
  if (version === '13') return undefined
  // 4.4: the versions that the server does speak; RFC 9110 sections 15.5.22 and 7.8: 426 names the protocol.
  return refusal(426, 'UNSUPPORTED_VERSION', 'This server speaks WebSocket version 13 only.', {
    upgrade: 'websocket',
    connection: 'Upgrade, close',
    'sec-websocket-version': '13'
  })
}

function checkKey({ key, keys }: Fields): Refusal | undefined {
  if (keys === 1 && isKey(key)) return undefined
  return badRequest('INVALID_KEY', 'A handshake carries one Sec-WebSocket-Key, the base64 of 16 bytes.')
}

function readOffers(fields: Fields): Handshake | Refusal {
  const protocols = readProtocols(fields.protocol)
  if (protocols === undefined) {
    return badRequest('INVALID_SUBPROTOCOL', 'Sec-WebSocket-Protocol is not a list of different tokens.')
  }
  // 9.1 requires one or more, but some proxies leave an empty field, which offers nothing.
  const extensions = parseExtensions(fields.extensions)
  if (extensions === undefined) {
    return badRequest('INVALID_EXTENSIONS', 'Sec-WebSocket-Extensions does not follow its grammar.')
  }
  // No rule lets the joined values of a repeated Origin in.
  return { key: fields.key, protocols, extensions, origin: fields.origin }
}

/** 4.1: one or more tokens, all different. */
function readProtocols(value: string | undefined): string[] | undefined {
  if (value === undefined) return []
  const protocols = parseTokenList(value)
  if (protocols === undefined || protocols.length === 0) return undefined
  return new Set(protocols).size === protocols.length ? protocols : undefined
}

function fieldsOf(rawHeaders: readonly string[]): Fields {
  const fields: Fields = {
    scheme: '',
    authority: '',
    host: '',
    hosts: 0,
    connection: '',
    origin: undefined,
    key: '',
    keys: 0,
    version: '',
    versions: 0,
    protocol: undefined,
    extensions: '',
    hasBody: false
  }
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) readField(fields, rawHeaders[i], rawHeaders[i + 1])
  return fields
}

function readField(fields: Fields, name: string, value: string): void {
  switch (name.toLowerCase()) {
    case ':scheme':
      fields.scheme = value
      break
    case ':authority':
      fields.authority = value
      break
    case 'host':
      fields.host = value
      fields.hosts++
      break
    case 'connection':
      fields.connection = joined(fields.connection, value)
      break
    case 'origin':
      fields.origin = fields.origin === undefined ? value : `${fields.origin}, ${value}`
      break
    case 'sec-websocket-key':
      fields.key = value
      fields.keys++
      break
    case 'sec-websocket-version':
      fields.version = value
      fields.versions++
      break
    case 'sec-websocket-protocol':
      fields.protocol = fields.protocol === undefined ? value : `${fields.protocol},${value}`
      break
    case 'sec-websocket-extensions':
      fields.extensions = joined(fields.extensions, value)
      break
    case 'content-length':
      fields.hasBody ||= !/^0*$/.test(value)
      break
    case 'transfer-encoding':
      fields.hasBody = true
      break
  }
}

function joined(list: string, value: string): string {
  return list === '' ? value : `${list},${value}`
}

function badRequest(code: string, message: string): Refusal {
  return refusal(400, code, message, {})
}

function refusal(status: number, code: string, message: string, headers: Record<string, string>): Refusal {
  return { status, code: `FST_UPGRADE_${code}`, message, headers }
}
