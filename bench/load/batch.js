import { constants, deflateRawSync } from 'node:zlib'
import { BINARY, clientFrame, FIN, PONG as PONG_OPCODE, RSV1, TEXT } from './frame.js'

const PATTERN = Buffer.from('the quick brown fox jumps over the lazy dog {"id":1234567} ')
const KEY = [0x37, 0xfa, 0x21, 0x3d]

/** A pong without payload: any byte is a sign of life for the heartbeat of a server. */
export const PONG = clientFrame(FIN | PONG_OPCODE, Buffer.alloc(0), KEY)

/**
 * The bytes that a client sends at once: one message, several times over, masked beforehand.
 * @param {{ size: number, pipeline: number, binary: boolean, deflate: boolean }} workload
 */
export function makeBatch({ size, pipeline, binary, deflate }) {
  const message = Buffer.alloc(size, PATTERN)
  const first = FIN | (deflate ? RSV1 : 0) | (binary ? BINARY : TEXT)
  const frame = clientFrame(first, deflate ? deflated(message) : message, KEY)
  return Buffer.concat(Array.from({ length: pipeline }, () => frame))
}

/**
 * The same with a given text message.
 * @param {string} text
 * @param {number} pipeline
 */
export function makeTextBatch(text, pipeline) {
  const frame = clientFrame(FIN | TEXT, Buffer.from(text), KEY)
  return Buffer.concat(Array.from({ length: pipeline }, () => frame))
}

/**
 * RFC 7692 section 7.2.1: the four bytes that end a sync flush are left out.
 * @param {Buffer} message
 */
export function deflated(message) {
  return deflateRawSync(message, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4)
}
