import { isToken } from './token.js'

/** Header fields as `node:http` takes them. */
export type Headers = Readonly<Record<string, number | string | readonly string[] | undefined>>

/** Fields that only the handshake itself may set: hop-by-hop ones (RFC 9110 section 7.6.1) and those of a body. */
const RESERVED_FIELDS = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade'
])

/**
 * One line of a head.
 * @throws {TypeError} when the name is not a token or the value holds a control character: such a header would let its
 * author write a response of his own.
 */
export function headerField(name: string, value: string): string {
  if (!isToken(name)) throw new TypeError(`"${name}" is not the name of a header.`)
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if ((code < 0x20 && code !== 0x09) || code === 0x7f || code > 0xff) {
      throw new TypeError(`The value of the header "${name}" holds a character that may not be sent.`)
    }
  }
  return `${name}: ${value}\r\n`
}

/** The lines of {@link applicationFields}. Throws as {@link headerField}. */
export function headerFields(headers: Headers): string {
  let lines = ''
  for (const [name, value] of applicationFields(headers)) lines += headerField(name, value)
  return lines
}

/** The name and the value of each field except those of the connection and the handshake. */
export function applicationFields(headers: Headers): [name: string, value: string][] {
  const fields: [string, string][] = []
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || isReserved(name)) continue
    for (const one of Array.isArray(value) ? value : [value]) fields.push([name, String(one)])
  }
  return fields
}

function isReserved(name: string): boolean {
  const lower = name.toLowerCase()
  return RESERVED_FIELDS.has(lower) || lower.startsWith('sec-websocket-')
}
