import { inspect } from 'node:util'
import createError, { type FastifyErrorConstructor } from '@fastify/error'

export const NoClientError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_NO_CLIENT' }> = createError(
  'FST_UPGRADE_NO_CLIENT',
  'There is no WebSocket client here; use the WebSocket of Node itself, of undici or of ws.',
  undefined,
  TypeError
)

/** The message of an operation on a connection that is closing or closed. */
export const NotOpenError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_NOT_OPEN' }> = createError(
  'FST_UPGRADE_NOT_OPEN',
  'The WebSocket is closing or closed; check readyState before you send.'
)

export const BufferOverflowError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_BUFFER_OVERFLOW' }, [number]> =
  createError(
    'FST_UPGRADE_BUFFER_OVERFLOW',
    'More than %s bytes waited for a peer that does not read, or for the end of a message in fragments; raise maxBufferedAmount or await drained() when send() returns false.'
  )

export const BudgetExceededError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_BUDGET_EXCEEDED' }, [number]> =
  createError(
    'FST_UPGRADE_BUDGET_EXCEEDED',
    'All connections together held more than %s bytes, and this one grew; raise maxTotalBufferedAmount or send less.'
  )

export const DroppedError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_DROPPED' }> = createError(
  'FST_UPGRADE_DROPPED',
  'The message was dropped, as too many bytes wait for a peer that does not read; await drained() when send() returns false.'
)

export const SilentPeerError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_SILENT_PEER' }> = createError(
  'FST_UPGRADE_SILENT_PEER',
  'The peer sent nothing after a ping, not even a pong, and was cut; see the option heartbeat.'
)

export const CloseTimeoutError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_CLOSE_TIMEOUT' }> = createError(
  'FST_UPGRADE_CLOSE_TIMEOUT',
  'The peer did not finish the closing handshake in time and was cut; see the option closeTimeout.'
)

export const PingTooLongError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_PING_TOO_LONG' }, [number]> =
  createError(
    'FST_UPGRADE_PING_TOO_LONG',
    'A ping or pong of %s bytes was to be sent; at most 125 fit in a control frame.',
    undefined,
    RangeError
  )

export const InvalidDataError: FastifyErrorConstructor<
  { code: 'FST_UPGRADE_INVALID_DATA' },
  [string, string]
> = createError(
  'FST_UPGRADE_INVALID_DATA',
  'A value of type %s cannot be sent; pass %s.',
  undefined,
  TypeError
)

export const InvalidTextError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_INVALID_TEXT' }> = createError(
  'FST_UPGRADE_INVALID_TEXT',
  'Bytes that are not UTF-8 cannot be sent to many as text, as each peer would close its connection; send them with "binary".',
  undefined,
  TypeError
)

export const AlreadyReadError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_ALREADY_READ' }> = createError(
  'FST_UPGRADE_ALREADY_READ',
  'Another iterator or stream reads this WebSocket; end it before you begin a second.'
)

/** What was thrown, as an error. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error
    ? thrown
    : new Error(`A value that is not an error was thrown: ${inspect(thrown)}`)
}
