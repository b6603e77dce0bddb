import { inspect } from 'node:util'
import { defineError } from '../error.js'

export const NoClientError = defineError(
  'NO_CLIENT',
  'There is no WebSocket client here; use the WebSocket of Node itself, of undici or of ws.',
  { base: TypeError }
)
/** An operation on a connection that is closing or closed. */
export const NotOpenError = defineError(
  'NOT_OPEN',
  'The WebSocket is closing or closed; check readyState before you send.'
)
export const BufferOverflowError = defineError(
  'BUFFER_OVERFLOW',
  'More than %s bytes are pending for a peer that does not read, or for the end of a message in fragments; raise maxBufferedAmount or await drained() when send() returns false.'
)
export const BudgetExceededError = defineError(
  'BUDGET_EXCEEDED',
  'All connections together held more than %s bytes, and this one grew; raise maxTotalBufferedAmount or send less.'
)
export const DroppedError = defineError(
  'DROPPED',
  'The message was dropped, as too many bytes are pending for a peer that does not read; await drained() when send() returns false.'
)
export const SilentPeerError = defineError(
  'SILENT_PEER',
  'The peer sent nothing after a ping, not even a pong, and was cut; see the option heartbeat.'
)
export const CloseTimeoutError = defineError(
  'CLOSE_TIMEOUT',
  'The peer did not finish the closing handshake in time and was cut; see the option closeTimeout.'
)
export const PingTooLongError = defineError(
  'PING_TOO_LONG',
  'A ping or pong of %s bytes was to be sent; at most 125 fit in a control frame.',
  { base: RangeError }
)
export const InvalidDataError = defineError('INVALID_DATA', 'A value of type %s cannot be sent; pass %s.', {
  base: TypeError
})
export const InvalidTextError = defineError(
  'INVALID_TEXT',
  'Bytes that are not UTF-8 cannot be broadcast as text, as each peer would close its connection; send them with "binary".',
  { base: TypeError }
)
export const AlreadyReadError = defineError(
  'ALREADY_READ',
  'Another iterator or stream is already reading this WebSocket; end it before you start another.'
)

export const InvalidExpiryError = defineError(
  'INVALID_EXPIRY',
  'The expiry must be a Date or a number of milliseconds since 1970, but it is %s; multiply the "exp" of a JWT by 1000.',
  { base: TypeError }
)

/**
 * Reads an expiry.
 * @returns milliseconds since 1970.
 * @throws {TypeError} `FST_UPGRADE_INVALID_EXPIRY`
 */
export function toExpiry(until: unknown): number {
  const at = until instanceof Date ? until.getTime() : until
  if (typeof at === 'number' && Number.isFinite(at)) return at
  throw new InvalidExpiryError(inspect(until, { depth: 1 }))
}

/** Converts a thrown value to an error. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error
    ? thrown
    : new Error(`A value that is not an error was thrown: ${inspect(thrown)}`)
}
