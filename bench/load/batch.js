import { constants, deflateRawSync } from 'node:zlib'

const PATTERN = Buffer.from('the quick brown fox jumps over the lazy dog {"id":1234567} ')
const KEY = [0x37, 0xfa, 0x21, 0x3d]

const TEXT = 1
const BINARY = 2
const FIN = 0x80
const RSV1 = 0x40
const MASKED = 0x80

/** A Pong without payload: any byte tells a server's heartbeat that the connection lives. */
export const PONG = Buffer.from([0x8a, MASKED, ...KEY])

/**
 * The bytes that a client sends at once: one message, several times over, masked beforehand.
 * @param {{ size: number, pipeline: number, binary: boolean, deflate: boolean }} workload
 */
export function makeBatch({ size, pipeline, binary, deflate }) {
  const frame = makeFrame(Buffer.alloc(size, PATTERN), binary ? BINARY : TEXT, deflate)
  return Buffer.concat(Array.from({ length: pipeline }, () => frame))
}

/**
 * @param {Buffer} message
 * @param {number} opcode
 * @param {boolean} deflate
 */
function makeFrame(message, opcode, deflate) {
  const payload = deflate ? deflated(message) : message
  const header = Buffer.from([FIN | (deflate ? RSV1 : 0) | opcode, ...lengthBytes(payload.length), ...KEY])
  return Buffer.concat([header, payload.map((byte, i) => byte ^ KEY[i & 3])])
}

/**
 * RFC 7692 section 7.2.1: the four bytes that end a sync flush are left out.
 * @param {Buffer} message
 */
function deflated(message) {
  return deflateRawSync(message, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4)
}

/** @param {number} length */
function lengthBytes(length) {
  if (length < 126) return [MASKED | length]
  if (length < 65536) return [MASKED | 126, length >> 8, length & 255]
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(length))
  return [MASKED | 127, ...bytes]
}
