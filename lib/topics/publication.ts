import { isUtf8 } from 'node:buffer'

/** A message on its way to subscribers. */
export interface Publication {
  readonly payload: string | Uint8Array
  readonly isBinary: boolean
  readonly compress: boolean
}

/** A message of another process. */
export interface RemoteMessage extends Publication {
  readonly payload: Uint8Array
}

/** A publication of another process. */
export interface RemotePublication extends RemoteMessage {
  /** The id of the server that published it. */
  readonly origin: string
  /** The number of the connection that published it and does not receive it; 0 for none. */
  readonly sender: number
}

/** The first byte of an encoded publication, for changes of the format. */
const VERSION = 1
const ORIGIN_SIZE = 16
const HEADER_SIZE = 2 + ORIGIN_SIZE
const BINARY = 1
const COMPRESS = 2
/** After the header, the number of the sender follows. */
const SENDER = 4
const SENDER_SIZE = 4

/**
 * @param origin 16 bytes in hexadecimal.
 * @param sender an unsigned integer of 32 bits.
 */
export function encodePublication(
  origin: string,
  { payload, isBinary, compress }: Publication,
  sender = 0
): Buffer {
  const length = typeof payload === 'string' ? Buffer.byteLength(payload) : payload.length
  const start = sender === 0 ? HEADER_SIZE : HEADER_SIZE + SENDER_SIZE
  const bytes = Buffer.allocUnsafe(start + length)
  bytes[0] = VERSION
  bytes[1] = (isBinary ? BINARY : 0) | (compress ? COMPRESS : 0) | (sender === 0 ? 0 : SENDER)
  bytes.write(origin, 2, 'hex')
  if (sender !== 0) bytes.writeUInt32BE(sender, HEADER_SIZE)
  if (typeof payload === 'string') bytes.write(payload, start)
  else bytes.set(payload, start)
  return bytes
}

/** @returns undefined for bytes that {@link encodePublication} did not write. */
export function decodePublication(encoded: Uint8Array): RemotePublication | undefined {
  if (encoded.length < HEADER_SIZE || encoded[0] !== VERSION) return undefined
  const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.length)
  const hasSender = (bytes[1] & SENDER) !== 0
  const start = hasSender ? HEADER_SIZE + SENDER_SIZE : HEADER_SIZE
  if (bytes.length < start) return undefined
  const payload = bytes.subarray(start)
  const isBinary = (bytes[1] & BINARY) !== 0
  // A client would fail the connection over text that is not UTF-8, RFC 6455 section 8.1.
  if (!isBinary && !isUtf8(payload)) return undefined
  const origin = bytes.toString('hex', 2, HEADER_SIZE)
  const sender = hasSender ? bytes.readUInt32BE(HEADER_SIZE) : 0
  return { origin, sender, payload, isBinary, compress: (bytes[1] & COMPRESS) !== 0 }
}
