import { isUtf8 } from 'node:buffer'

/** A message on its way between processes. */
export interface Envelope {
  /** Of the process that published it. */
  readonly origin: string
  readonly payload: Uint8Array
  readonly isBinary: boolean
  readonly compress: boolean
}

/** The first byte: another version of this package may write something else. */
const VERSION = 1
const ORIGIN_SIZE = 16
const HEADER_SIZE = 2 + ORIGIN_SIZE
const BINARY = 1
const COMPRESS = 2

/** @param origin 16 bytes in hex. */
export function sealEnvelope(
  origin: string,
  payload: string | Uint8Array,
  isBinary: boolean,
  compress: boolean
): Buffer {
  const length = typeof payload === 'string' ? Buffer.byteLength(payload) : payload.length
  const sealed = Buffer.allocUnsafe(HEADER_SIZE + length)
  sealed[0] = VERSION
  sealed[1] = (isBinary ? BINARY : 0) | (compress ? COMPRESS : 0)
  sealed.write(origin, 2, 'hex')
  if (typeof payload === 'string') sealed.write(payload, HEADER_SIZE)
  else sealed.set(payload, HEADER_SIZE)
  return sealed
}

/** @returns undefined for what no process of this application wrote. */
export function openEnvelope(sealed: Uint8Array): Envelope | undefined {
  if (sealed.length < HEADER_SIZE || sealed[0] !== VERSION) return undefined
  const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.length)
  const payload = bytes.subarray(HEADER_SIZE)
  const isBinary = (bytes[1] & BINARY) !== 0
  // A client would fail the connection over text that is not UTF-8, RFC 6455 section 8.1.
  if (!isBinary && !isUtf8(payload)) return undefined
  const origin = bytes.toString('hex', 2, HEADER_SIZE)
  return { origin, payload, isBinary, compress: (bytes[1] & COMPRESS) !== 0 }
}
