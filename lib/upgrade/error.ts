import createError, { type FastifyError, type FastifyErrorConstructor } from '@fastify/error'
import type { Refusal } from '../protocol/handshake/request.js'

type ErrorClass<Code extends string, Arguments extends [string?] = []> = FastifyErrorConstructor<
  { code: `FST_UPGRADE_${Code}` },
  Arguments
>

// Mistakes of the application that a handshake brings to light.

export const InvalidChoiceError: ErrorClass<'INVALID_CHOICE', [string]> = createError(
  'FST_UPGRADE_INVALID_CHOICE',
  'The chosen subprotocol "%s" was not offered; choose one of the offers or none.',
  500
)
export const InvalidHeaderError: ErrorClass<'INVALID_HEADER', [string]> = createError(
  'FST_UPGRADE_INVALID_HEADER',
  'A header of the reply cannot be sent with the 101: %s',
  500
)

// Refusals. A peer causes them as often as it likes, so they come without the cost of a stack trace.

export const HandshakeTimeoutError: ErrorClass<'HANDSHAKE_TIMEOUT'> = createError(
  'FST_UPGRADE_HANDSHAKE_TIMEOUT',
  'The handshake took too long; try again later.',
  503,
  Error,
  false
)
export const TooManyConnectionsError: ErrorClass<'TOO_MANY_CONNECTIONS'> = createError(
  'FST_UPGRADE_TOO_MANY_CONNECTIONS',
  'There are too many connections; try again later.',
  503,
  Error,
  false
)
export const ShuttingDownError: ErrorClass<'SHUTTING_DOWN'> = createError(
  'FST_UPGRADE_SHUTTING_DOWN',
  'The server is shutting down; try again later.',
  503,
  Error,
  false
)

/** The header of a 503. Within these seconds a load balancer may choose another server for the client. */
export const RETRY_AFTER = { 'retry-after': '5' } as const

/** The error that answers a handshake which the protocol core, or the application, refused. */
export function refusalError({ code, message, status }: Omit<Refusal, 'headers'>): FastifyError {
  return new (createError<string, [string]>(code, '%s', status, Error, false))(message)
}
