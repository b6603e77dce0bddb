import { parseExtensions } from '../extension.js'
import {
  checkDeflateAnswer,
  type DeflateOptions,
  type DeflateParameters,
  offerDeflate
} from '../permessage-deflate.js'
import { acceptValue } from './accept.js'
import { applicationFields, type FieldList, fieldList, type Headers, headerField } from './header-field.js'
import { hasToken } from './token.js'

/** The request of a client. */
export interface ClientHandshake {
  readonly host: string
  /** Path and query, `/` by default. */
  readonly path?: string | undefined
  /** The base64 of 16 random bytes. */
  readonly key: string
  readonly protocols?: readonly string[] | undefined
  /** Offers permessage-deflate; the extension is not offered by default. */
  readonly deflate?: DeflateOptions | undefined
  readonly headers?: Headers | undefined
}

/** A target in origin-form: visible ASCII, so that it cannot end its line (RFC 9112 section 3.2.1). */
const TARGET = /^\/[\x21-\x7e]*$/

/**
 * The head of a client's request, RFC 6455 section 4.1.
 * @throws {TypeError} when the path or a header holds a character that may not be sent.
 */
export function handshakeRequest(handshake: ClientHandshake): Buffer {
  const { path = '/' } = handshake
  if (!TARGET.test(path)) throw new TypeError('The path of a handshake begins with "/" and is visible ASCII.')
  let head = `GET ${path} HTTP/1.1\r\n`
  for (const [name, value] of handshakeFields(handshake)) head += headerField(name, value)
  return Buffer.from(`${head}\r\n`, 'latin1')
}

/** The header fields of that request, the handshake's own first. */
export function handshakeFields(handshake: ClientHandshake): [name: string, value: string][] {
  const { host, key, protocols = [], deflate, headers = {} } = handshake
  const fields: [string, string][] = [
    ['Host', host],
    ['Upgrade', 'websocket'],
    ['Connection', 'Upgrade'],
    ['Sec-WebSocket-Key', key],
    ['Sec-WebSocket-Version', '13']
  ]
  return [...fields, ...offers(protocols, deflate), ...applicationFields(headers)]
}

/** The header fields of a client's extended CONNECT but `:path`, RFC 8441 section 5. */
export function connectFields({ host, protocols = [], deflate, headers = {} }: ClientHandshake): FieldList {
  const fields = fieldList([
    ['sec-websocket-version', '13'],
    ...offers(protocols, deflate),
    ...applicationFields(headers)
  ])
  return { ':method': 'CONNECT', ':protocol': 'websocket', ':authority': host, ...fields }
}

function offers(
  protocols: readonly string[],
  deflate: DeflateOptions | undefined
): [name: string, value: string][] {
  const fields: [string, string][] = []
  if (protocols.length > 0) fields.push(['Sec-WebSocket-Protocol', protocols.join(', ')])
  if (deflate !== undefined) fields.push(['Sec-WebSocket-Extensions', offerDeflate(deflate)])
  return fields
}

/** The head of a server's response, as `node:http` provides it. */
export interface ResponseHead {
  readonly statusCode?: number | undefined
  readonly headers: {
    readonly upgrade?: string | undefined
    readonly connection?: string | undefined
    readonly 'sec-websocket-accept'?: string | undefined
    readonly 'sec-websocket-protocol'?: string | undefined
    readonly 'sec-websocket-extensions'?: string | undefined
  }
}

/**
 * Checks a server's answer, RFC 6455 section 4.1.
 * @returns the selected subprotocol and the agreed parameters of permessage-deflate, if any; or a sentence with the
 * reason why the connection fails.
 */
export function checkResponse(
  response: ResponseHead,
  handshake: ClientHandshake
):
  | { readonly protocol: string; readonly deflate?: DeflateParameters | undefined }
  | { readonly failure: string } {
  const { statusCode, headers } = response
  if (statusCode !== 101) return { failure: `The server answered ${statusCode} instead of 101.` }
  // Not a list as in the request: the server names the one protocol that follows.
  if (headers.upgrade?.toLowerCase() !== 'websocket')
    return { failure: 'The response does not upgrade to websocket.' }
  if (!hasToken(headers.connection, 'upgrade')) return { failure: 'The response lacks Connection: Upgrade.' }
  if (headers['sec-websocket-accept'] !== acceptValue(handshake.key)) {
    return { failure: 'The accept value does not match the key.' }
  }
  return checkChoices(headers, handshake)
}

/** Checks what the server has chosen among the offers, as {@link checkResponse}. Over HTTP/2 nothing else is to check. */
export function checkChoices(
  headers: ResponseHead['headers'],
  handshake: ClientHandshake
): ReturnType<typeof checkResponse> {
  const protocol = headers['sec-websocket-protocol']
  if (protocol !== undefined && handshake.protocols?.includes(protocol) !== true) {
    return { failure: 'The server chose a subprotocol that was not offered.' }
  }
  const chosen = headers['sec-websocket-extensions']
  if (chosen === undefined) return { protocol: protocol ?? '' }
  const extension = checkExtensions(chosen, handshake.deflate)
  if ('failure' in extension) return extension
  return { protocol: protocol ?? '', deflate: extension.parameters }
}

/** RFC 6455 section 9.1: the server may only choose from the offers. */
function checkExtensions(
  text: string,
  deflate: DeflateOptions | undefined
): { readonly parameters: DeflateParameters } | { readonly failure: string } {
  if (deflate === undefined) return { failure: 'The server chose an extension that was not offered.' }
  const answer = parseExtensions(text)
  if (answer === undefined) return { failure: 'Sec-WebSocket-Extensions does not follow its grammar.' }
  return checkDeflateAnswer(answer, deflate)
}
