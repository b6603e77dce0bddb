/** A rule of RFC 6455 or a limit of this side (its section 10.4) that a peer broke, and the answer of the connection. */
export interface Violation {
  /** Stable, to be tested for. */
  readonly code: string
  /** The status code of the Close frame that answers it. */
  readonly closeCode: number
  /** The reason in that Close frame: short, and nothing internal. */
  readonly reason: string
  /** The section of the rule, in RFC 6455 unless it names another RFC. */
  readonly section: string
}

function violation(code: string, closeCode: number, reason: string, section: string): Violation {
  return Object.freeze({ code: `FST_UPGRADE_${code}`, closeCode, reason, section })
}

export const RESERVED_BITS = violation('RESERVED_BITS', 1002, 'reserved bits set', '5.2')
export const INVALID_OPCODE = violation('INVALID_OPCODE', 1002, 'unknown opcode', '5.2')
export const NON_MINIMAL_LENGTH = violation('NON_MINIMAL_LENGTH', 1002, 'length not minimal', '5.2')
export const INVALID_LENGTH = violation('INVALID_LENGTH', 1002, 'length with the top bit set', '5.2')
export const UNMASKED_FRAME = violation('UNMASKED_FRAME', 1002, 'frame not masked', '5.1')
export const MASKED_FRAME = violation('MASKED_FRAME', 1002, 'frame masked', '5.1')
export const UNEXPECTED_CONTINUATION = violation(
  'UNEXPECTED_CONTINUATION',
  1002,
  'continuation of no message',
  '5.4'
)
export const INTERLEAVED_MESSAGE = violation(
  'INTERLEAVED_MESSAGE',
  1002,
  'message inside a fragmented message',
  '5.4'
)
export const FRAGMENTED_CONTROL = violation('FRAGMENTED_CONTROL', 1002, 'fragmented control frame', '5.5')
export const LONG_CONTROL = violation('LONG_CONTROL', 1002, 'control frame over 125 bytes', '5.5')
export const INVALID_CLOSE_BODY = violation('INVALID_CLOSE_BODY', 1002, 'close body of one byte', '5.5.1')
export const INVALID_CLOSE_CODE = violation('INVALID_CLOSE_CODE', 1002, 'invalid close code', '7.4')
export const INVALID_CLOSE_REASON = violation('INVALID_CLOSE_REASON', 1007, 'close reason not UTF-8', '5.5.1')
export const INVALID_UTF8 = violation('INVALID_UTF8', 1007, 'text not UTF-8', '8.1')
export const TOO_MANY_FRAGMENTS = violation('TOO_MANY_FRAGMENTS', 1009, 'too many fragments', '10.4')
export const MESSAGE_TIMEOUT = violation('MESSAGE_TIMEOUT', 1008, 'message not finished in time', '10.4')
export const CONTROL_FLOOD = violation('CONTROL_FLOOD', 1008, 'too many control frames', '10.4')
export const RATE_EXCEEDED = violation('RATE_EXCEEDED', 1008, 'too much at once', '10.4')
export const OVERLOADED = violation('OVERLOADED', 1013, 'try again later', '10.4')
export const MESSAGE_TOO_BIG = violation('MESSAGE_TOO_BIG', 1009, 'message too big', '10.4')
export const INVALID_DEFLATE = violation(
  'INVALID_DEFLATE',
  1007,
  'compressed data invalid',
  'RFC 7692 section 7.2.2'
)

/** The error that reports a {@link Violation} to the application. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError'
  /** Stable, one of the codes in docs/reference/errors.md. */
  readonly code: string
  /** The status code that the connection was closed with. */
  readonly closeCode: number

  constructor(violation: Violation) {
    const { section } = violation
    super(
      `The peer broke ${section.startsWith('RFC') ? section : `RFC 6455 section ${section}`}: ${violation.reason}.`
    )
    this.code = violation.code
    this.closeCode = violation.closeCode
  }
}
