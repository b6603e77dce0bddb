import { isToken } from './token.js'

/** Header fields as `node:http` takes them. */
export type Headers = Readonly<Record<string, number | string | readonly string[] | undefined>>

/** Hop-by-hop fields, RFC 9110 section 7.6.1 and RFC 7540 section 3.2.1. HTTP/2 has none, RFC 9113 section 8.2.2. */
const HOP_BY_HOP_FIELDS = new Set([
  'connection',
  'http2-settings',
  'keep-alive',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade'
])

/** Fields that only the handshake itself may set: hop-by-hop ones and those of a body. */
const RESERVED_FIELDS = new Set([...HOP_BY_HOP_FIELDS, 'content-length', 'trailer'])

export function isHopByHop(name: string): boolean {
  return HOP_BY_HOP_FIELDS.has(name.toLowerCase())
}

/**
 * One line of a head.
 * @throws {TypeError} when the name is not a token or the value holds a control character: such a header would let its
 * author write a response of his own.
 */
export function headerField(name: string, value: string): string {
  checkField(name, value)
  return `${name}: ${value}\r\n`
}

function checkField(name: string, value: string): void {
  if (!isToken(name)) throw new TypeError(`"${name}" is not the name of a header.`)
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if ((code < 0x20 && code !== 0x09) || code === 0x7f || code > 0xff) {
      throw new TypeError(`The value of the header "${name}" holds a character that may not be sent.`)
    }
  }
}

/** The lines of {@link applicationFields}. Throws as {@link headerField}. */
export function headerFields(headers: Headers): string {
  let lines = ''
  for (const [name, value] of applicationFields(headers)) lines += headerField(name, value)
  return lines
}

/** The fields of a head of HTTP/2: names in lower case, and a list for a name with several values. */
export type FieldList = Record<string, string | string[]>

/** Collects fields for a head of HTTP/2. Throws as {@link headerField}. */
export function fieldList(fields: readonly (readonly [name: string, value: string])[]): FieldList {
  const list: FieldList = Object.create(null)
  for (const [name, value] of fields) {
    checkField(name, value)
    const key = name.toLowerCase()
    const earlier = list[key]
    list[key] = earlier === undefined ? value : [earlier, value].flat()
  }
  return list
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
