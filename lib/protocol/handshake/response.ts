import { acceptValue } from './accept.js'
import {
  applicationFields,
  type FieldList,
  fieldList,
  type Headers,
  headerField,
  headerFields
} from './header-field.js'

/** The content of a response that accepts a handshake. */
export interface Acceptance {
  readonly key: string
  readonly protocol?: string | undefined
  /** The value of `Sec-WebSocket-Extensions`, when any was negotiated. */
  readonly extensions?: string | undefined
  /** Further fields. Those that belong to the connection or to the handshake are left out. */
  readonly headers?: Headers | undefined
}

const PREFIX = `HTTP/1.1 101 Switching Protocols\r\n${headerField('Upgrade', 'websocket')}${headerField('Connection', 'Upgrade')}`

/**
 * The head of the 101 response, RFC 6455 section 4.2.2, to be written as latin1.
 * @throws {TypeError} when a name is not a token or a value holds a control character: such a header would let its
 * author write another response.
 */
export function acceptResponse(acceptance: Acceptance): string {
  const { key, protocol, extensions, headers } = acceptance
  let head = PREFIX + headerField('Sec-WebSocket-Accept', acceptValue(key))
  if (protocol !== undefined) head += headerField('Sec-WebSocket-Protocol', protocol)
  if (extensions !== undefined) head += headerField('Sec-WebSocket-Extensions', extensions)
  if (headers !== undefined) head += headerFields(headers)
  return `${head}\r\n`
}

/**
 * The fields of the response with status 200 that accepts a handshake over HTTP/2, RFC 8441 section 5.1.
 * @throws {TypeError} as {@link acceptResponse}.
 */
export function acceptFields({ protocol, extensions, headers = {} }: Acceptance): FieldList {
  const fields = applicationFields(headers)
  if (protocol !== undefined) fields.push(['sec-websocket-protocol', protocol])
  if (extensions !== undefined) fields.push(['sec-websocket-extensions', extensions])
  return fieldList(fields)
}
