import { BINARY, CONTINUATION, PONG, TEXT } from './opcode.js'
import {
  FRAGMENTED_CONTROL,
  INTERLEAVED_MESSAGE,
  INVALID_LENGTH,
  INVALID_OPCODE,
  LONG_CONTROL,
  MASKED_FRAME,
  MESSAGE_TOO_BIG,
  NON_MINIMAL_LENGTH,
  RESERVED_BITS,
  UNEXPECTED_CONTINUATION,
  UNMASKED_FRAME,
  type Violation
} from './violation.js'

export const FIN = 0x80
/** The first reserved bit: the message is compressed (RFC 7692 section 6). */
export const RSV1 = 0x40
const RESERVED = 0x70
const OPCODE = 0x0f
const MASKED = 0x80

/** Two bytes, a 64-bit length and a masking key. */
export const MAX_HEADER_SIZE = 14

/** The state on which the rules for the next frame depend. */
export interface FrameContext {
  /** Client frames are masked, server frames are not (RFC 6455 section 5.1). */
  readonly masked: boolean
  /** Whether permessage-deflate is in use (RFC 7692). */
  readonly compressible: boolean
  /** Whether a fragmented message is unfinished. */
  readonly fragmented: boolean
  /** The number of payload bytes that the message may still have. */
  readonly room: number
}

/** The bytes that an encoder may add to a fragment: the flush that ends it on a byte (RFC 7692 section 7.2.1). */
const FLUSH = 6

/**
 * The maximum size of a compressed message that inflates to no more than `room`: at worst nine bits per byte, when the
 * data cannot be compressed (RFC 1951 section 3.2.6).
 * @param fragments the number of its frames that have ended.
 */
export function deflatedRoom(room: number, fragments = 0): number {
  return room + Math.ceil(room / 8) + 64 + FLUSH * fragments
}

/** The size of the header whose first two bytes are at `at`. */
export function headerSize(bytes: Uint8Array, at: number): number {
  const second = bytes[at + 1]
  const length = second & 0x7f
  return 2 + (length < 126 ? 0 : length === 126 ? 2 : 8) + (second & MASKED ? 4 : 0)
}

/** The payload length in the header at `at`, which passed {@link checkHeader} and therefore is a safe integer. */
export function payloadLength(bytes: Uint8Array, at: number): number {
  const length = bytes[at + 1] & 0x7f
  if (length < 126) return length
  if (length === 126) return uint16(bytes, at + 2)
  return uint32(bytes, at + 2) * 2 ** 32 + uint32(bytes, at + 6)
}

/** The masking key of the header of `size` bytes at `at`, its first byte on top; 0, which changes nothing, without one. */
export function maskingKey(bytes: Uint8Array, at: number, size: number): number {
  return bytes[at + 1] & MASKED ? uint32(bytes, at + size - 4) : 0
}

/**
 * Checks as much of a frame header as has arrived, so that a header is refused at the byte that shows it.
 * Limits are checked here, before a byte of the payload is kept.
 * @param available how many bytes there are from `at` on; more than the header are not looked at.
 */
export function checkHeader(
  bytes: Uint8Array,
  at: number,
  available: number,
  context: FrameContext
): Violation | undefined {
  const first = bytes[at]
  const broken = checkFirstByte(first, context.fragmented, context.compressible)
  if (broken !== undefined || available < 2) return broken
  const second = bytes[at + 1]
  const length = second & 0x7f
  // 5.1: a server closes upon an unmasked frame, a client upon a masked one.
  if (((second & MASKED) !== 0) !== context.masked) return context.masked ? UNMASKED_FRAME : MASKED_FRAME
  // 5.5: control frames carry 125 bytes at most.
  if ((first & OPCODE) > 7) return length > 125 ? LONG_CONTROL : undefined
  const room = (first & RSV1) === 0 ? context.room : deflatedRoom(context.room)
  if (length < 126) return length > room ? MESSAGE_TOO_BIG : undefined
  return length === 126
    ? checkLength16(bytes, at + 2, available - 2, room)
    : checkLength64(bytes, at + 2, available - 2, room)
}

function checkFirstByte(first: number, fragmented: boolean, compressible: boolean): Violation | undefined {
  const opcode = first & OPCODE
  const reserved = first & RESERVED
  // 5.2: reserved bits are zero unless an extension defines them. RFC 7692 section 6.1: the first frame of a message says
  // that it is compressed, and neither the others nor control frames do.
  if (reserved !== 0 && !(reserved === RSV1 && compressible && (opcode === TEXT || opcode === BINARY))) {
    return RESERVED_BITS
  }
  if (opcode > 7) {
    if (opcode > PONG) return INVALID_OPCODE
    // 5.5: control frames are never fragmented.
    return (first & FIN) === 0 ? FRAGMENTED_CONTROL : undefined
  }
  if (opcode > 2) return INVALID_OPCODE
  // 5.4: a continuation needs a message to continue, and a fragmented message admits no other.
  if (opcode === CONTINUATION) return fragmented ? undefined : UNEXPECTED_CONTINUATION
  return fragmented ? INTERLEAVED_MESSAGE : undefined
}

/** 5.2: "the minimal number of bytes MUST be used to encode the length". */
function checkLength16(
  bytes: Uint8Array,
  at: number,
  available: number,
  room: number
): Violation | undefined {
  if (available < 2) return undefined
  const length = uint16(bytes, at)
  if (length < 126) return NON_MINIMAL_LENGTH
  return length > room ? MESSAGE_TOO_BIG : undefined
}

/** 5.2: the most significant bit is 0. The halves are compared apart: their sum could pass 2^53. */
function checkLength64(
  bytes: Uint8Array,
  at: number,
  available: number,
  room: number
): Violation | undefined {
  if (available < 1) return undefined
  if (bytes[at] & 0x80) return INVALID_LENGTH
  if (available < 4) return undefined
  const high = uint32(bytes, at)
  if (high * 2 ** 32 > room) return MESSAGE_TOO_BIG
  if (available < 6) return undefined
  if (high === 0 && uint16(bytes, at + 4) === 0) return NON_MINIMAL_LENGTH
  if (available < 8) return undefined
  return high * 2 ** 32 + uint32(bytes, at + 4) > room ? MESSAGE_TOO_BIG : undefined
}

/** The number of bytes that {@link writeHeader} writes. */
export function sizeOfHeader(length: number, masked: boolean): number {
  return (length < 126 ? 2 : length < 65536 ? 4 : 10) + (masked ? 4 : 0)
}

/**
 * Writes a frame header at `at` and returns where the payload begins.
 * @param first FIN, reserved bits and opcode.
 * @param key the masking key, `undefined` for a frame without one.
 */
export function writeHeader(
  target: Buffer,
  at: number,
  first: number,
  length: number,
  key: number | undefined
): number {
  const masked = key === undefined ? 0 : MASKED
  target[at] = first
  let next = at + 2
  if (length < 126) {
    target[at + 1] = masked | length
  } else if (length < 65536) {
    target[at + 1] = masked | 126
    next = target.writeUInt16BE(length, next)
  } else {
    target[at + 1] = masked | 127
    next = target.writeUInt32BE(Math.floor(length / 2 ** 32), next)
    next = target.writeUInt32BE(length % 2 ** 32, next)
  }
  return key === undefined ? next : target.writeUInt32BE(key >>> 0, next)
}

/** Whether the opcode of a first byte is a control opcode, RFC 6455 section 5.5. */
export function isControl(first: number): boolean {
  return (first & OPCODE) >= 8
}

export function opcodeOf(first: number): number {
  return first & OPCODE
}

function uint16(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 8) | bytes[at + 1]
}

function uint32(bytes: Uint8Array, at: number): number {
  return uint16(bytes, at) * 65536 + uint16(bytes, at + 2)
}
