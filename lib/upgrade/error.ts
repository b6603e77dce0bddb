import createError, { type FastifyError } from '@fastify/error'
import { defineError, defineRefusal } from '../error.js'
import type { Refusal } from '../protocol/handshake/request.js'

// Mistakes of the application during a handshake.

export const InvalidChoiceError = defineError(
  'INVALID_CHOICE',
  'The chosen subprotocol "%s" was not offered; choose one of the offers or none.',
  { status: 500 }
)
export const InvalidHeaderError = defineError(
  'INVALID_HEADER',
  'A header of the reply cannot be sent with the acceptance of the handshake: %s',
  { status: 500 }
)

// Refusals.

export const HandshakeTimeoutError = defineRefusal(
  'HANDSHAKE_TIMEOUT',
  503,
  'The handshake took too long; try again later.'
)
export const TooManyConnectionsError = defineRefusal(
  'TOO_MANY_CONNECTIONS',
  503,
  'There are too many connections; try again later.'
)
export const ShuttingDownError = defineRefusal(
  'SHUTTING_DOWN',
  503,
  'The server is shutting down; try again later.'
)

/** The header of a 503. The client retries after this many seconds; by then a load balancer may choose another server. */
export const RETRY_AFTER = { 'retry-after': '5' } as const

/** The error for a handshake that the protocol core or the application refuses. */
export function refusalError({ code, message, status }: Omit<Refusal, 'headers'>): FastifyError {
  return new (createError<string, [string]>(code, '%s', status, Error, false))(message)
}
