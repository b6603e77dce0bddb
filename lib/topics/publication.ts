import { isUtf8 } from 'node:buffer'

/** A message on its way to subscribers. */
export interface Publication {
  readonly payload: string | Uint8Array
  readonly isBinary: boolean
  readonly compress: boolean
}

/** A publication of another process. */
export interface RemotePublication extends Publication {
  /** The id of the server that published it. */
  readonly origin: string
  readonly payload: Uint8Array
}

/** The first byte of an encoded publication, for changes of the format. */
const VERSION = 1
const ORIGIN_SIZE = 16
const HEADER_SIZE = 2 + ORIGIN_SIZE
const BINARY = 1
const COMPRESS = 2

/** @param origin 16 bytes in hexadecimal. */
export function encodePublication(origin: string, { payload, isBinary, compress }: Publication): Buffer {
  const length = typeof payload === 'string' ? Buffer.byteLength(payload) : payload.length
  const bytes = Buffer.allocUnsafe(HEADER_SIZE + length)
  bytes[0] = VERSION
  bytes[1] = (isBinary ? BINARY : 0) | (compress ? COMPRESS : 0)
  bytes.write(origin, 2, 'hex')
  if (typeof payload === 'string') bytes.write(payload, HEADER_SIZE)
  else bytes.set(payload, HEADER_SIZE)
  return bytes
}

/** @returns undefined for bytes that {@link encodePublication} did not write. */
export function decodePublication(encoded: Uint8Array): RemotePublication | undefined {
  if (encoded.length < HEADER_SIZE || encoded[0] !== VERSION) return undefined
  const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.length)
  const payload = bytes.subarray(HEADER_SIZE)
  const isBinary = (bytes[1] & BINARY) !== 0
  // A client would fail the connection over text that is not UTF-8, RFC 6455 section 8.1.
  if (!isBinary && !isUtf8(payload)) return undefined
  const origin = bytes.toString('hex', 2, HEADER_SIZE)
  return { origin, payload, isBinary, compress: (bytes[1] & COMPRESS) !== 0 }
}
