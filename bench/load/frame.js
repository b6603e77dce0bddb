export const TEXT = 1
export const BINARY = 2
export const CLOSE = 8
export const PING = 9
export const PONG = 10
export const FIN = 0x80
export const RSV1 = 0x40
const MASKED = 0x80

/**
 * A frame as clients send it, RFC 6455 section 5.2.
 * @param {number} first FIN, RSV1 and the opcode.
 * @param {Buffer} payload
 * @param {ArrayLike<number>} key four bytes.
 */
export function clientFrame(first, payload, key) {
  const length = lengthBytes(payload.length)
  const start = 1 + length.length + 4
  const frame = Buffer.allocUnsafe(start + payload.length)
  frame[0] = first
  frame.set(length, 1)
  frame.set(key, start - 4)
  for (let i = 0; i < payload.length; i++) frame[start + i] = payload[i] ^ key[i & 3]
  return frame
}

/** @param {number} length */
function lengthBytes(length) {
  if (length < 126) return [MASKED | length]
  if (length < 65536) return [MASKED | 126, length >> 8, length & 255]
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(length))
  return [MASKED | 127, ...bytes]
}
