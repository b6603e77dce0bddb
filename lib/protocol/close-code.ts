import { isUtf8 } from 'node:buffer'
import { INVALID_CLOSE_BODY, INVALID_CLOSE_CODE, INVALID_CLOSE_REASON, type Violation } from './violation.js'

/** Status codes that this package sends by itself or reports, RFC 6455 section 7.4.1. */
export const NORMAL_CLOSURE = 1000
export const GOING_AWAY = 1001
export const TRY_AGAIN_LATER = 1013
export const NO_STATUS_RECEIVED = 1005
export const ABNORMAL_CLOSURE = 1006
export const POLICY_VIOLATION = 1008
export const INTERNAL_ERROR = 1011

/** A control frame carries at most this many bytes, RFC 6455 section 5.5. */
export const MAX_CONTROL_PAYLOAD = 125

const NO_REASON = Buffer.alloc(0)

/** The content of a Close frame. `code` is 1005 when its body is empty (RFC 6455 section 7.1.5). */
export interface CloseBody {
  readonly code: number
  readonly reason: Buffer
}

/**
 * Whether a Close frame may contain a status code. 1004 to 1006 and 1015 are never allowed (RFC 6455 section 7.4.1),
 * and a code that is neither registered with IANA nor in the ranges for libraries and applications is undefined
 * (section 7.4.2).
 */
export function isValidCloseCode(code: number): boolean {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999)
}

/** Reads the body of a Close frame, RFC 6455 section 5.5.1. */
export function parseCloseBody(payload: Buffer): CloseBody | Violation {
  if (payload.length === 0) return { code: NO_STATUS_RECEIVED, reason: NO_REASON }
  if (payload.length === 1) return INVALID_CLOSE_BODY
  const code = payload.readUInt16BE(0)
  if (!isValidCloseCode(code)) return INVALID_CLOSE_CODE
  const reason = payload.subarray(2)
  return isUtf8(reason) ? { code, reason } : INVALID_CLOSE_REASON
}

/**
 * Writes the body of a Close frame; without a code it is empty.
 * @throws {TypeError} when the code may not be sent.
 * @throws {RangeError} when the reason is longer than 123 bytes in UTF-8.
 */
export function closeBody(code?: number, reason: string | Uint8Array = ''): Buffer {
  if (code === undefined) return NO_REASON
  if (!Number.isInteger(code) || !isValidCloseCode(code)) {
    throw new TypeError(
      `${String(code)} may not be sent as a close code; use 1000 to 1003, 1007 to 1014 or 3000 to 4999.`
    )
  }
  const text = typeof reason === 'string' ? Buffer.from(reason) : reason
  if (text.length > MAX_CONTROL_PAYLOAD - 2) {
    throw new RangeError(`The close reason has ${text.length} bytes; 123 fit in a Close frame.`)
  }
  const body = Buffer.alloc(2 + text.length)
  body.writeUInt16BE(code, 0)
  body.set(text, 2)
  return body
}
