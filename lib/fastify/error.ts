import { inspect } from 'node:util'
import createError, { type FastifyError } from '@fastify/error'
import type { Refusal } from '../core/request.js'

const prefix = 'FST_UPGRADE_'

// Mistakes of the application, thrown when the plugin or a route is registered.

export const AlreadyRegisteredError = createError(
  `${prefix}ALREADY_REGISTERED`,
  'fastify-upgrade is registered in this scope already; register it once, in a scope that holds all WebSocket routes.'
)
export const UnknownOptionError = createError<`${typeof prefix}UNKNOWN_OPTION`, [string, string]>(
  `${prefix}UNKNOWN_OPTION`,
  'There is no option "%s"; there are %s.',
  undefined,
  TypeError
)
export const InvalidOptionError = createError<`${typeof prefix}INVALID_OPTION`, [string, string, string]>(
  `${prefix}INVALID_OPTION`,
  'The option "%s" must be %s, but it is %s.',
  undefined,
  TypeError
)
export const InvalidRouteError = createError<`${typeof prefix}INVALID_ROUTE`, [string, string]>(
  `${prefix}INVALID_ROUTE`,
  'The WebSocket route %s %s.',
  undefined,
  TypeError
)
export const DuplicatedSubprotocolError = createError<
  `${typeof prefix}DUPLICATED_SUBPROTOCOL`,
  [string, string]
>(
  `${prefix}DUPLICATED_SUBPROTOCOL`,
  'Another WebSocket route at %s speaks the subprotocol "%s" already; register each subprotocol of a path once.'
)
export const TooManyRoutesError = createError<`${typeof prefix}TOO_MANY_ROUTES`, [string]>(
  `${prefix}TOO_MANY_ROUTES`,
  'There are 31 routes at %s already, the most that the router takes; let one route speak a list of subprotocols.'
)

// Mistakes of the application that a handshake brings to light.

export const InvalidChoiceError = createError<`${typeof prefix}INVALID_CHOICE`, [string]>(
  `${prefix}INVALID_CHOICE`,
  'The chosen subprotocol "%s" was not offered; choose one of the offers or none.',
  500
)
export const InvalidHeaderError = createError<`${typeof prefix}INVALID_HEADER`, [string]>(
  `${prefix}INVALID_HEADER`,
  'A header of the reply cannot be sent with the 101: %s',
  500
)

// Refusals of a handshake. A peer causes them as often as it likes, so they come without the cost of a stack trace.

export const UpgradeRequiredError = createError(
  `${prefix}UPGRADE_REQUIRED`,
  'This path speaks WebSocket only; open it with a WebSocket client.',
  426,
  Error,
  false
)
export const UnsupportedSubprotocolError = createError<
  `${typeof prefix}UNSUPPORTED_SUBPROTOCOL`,
  400,
  [string]
>(
  `${prefix}UNSUPPORTED_SUBPROTOCOL`,
  'None of the offered subprotocols is spoken here; this path speaks %s.',
  400,
  Error,
  false
)
export const ForbiddenOriginError = createError(
  `${prefix}FORBIDDEN_ORIGIN`,
  'Pages of this origin may not connect.',
  403,
  Error,
  false
)
export const HandshakeTimeoutError = createError(
  `${prefix}HANDSHAKE_TIMEOUT`,
  'The handshake took too long; try again later.',
  503,
  Error,
  false
)
/** Seconds, for those whom the server cannot serve now: by then a load balancer may send them elsewhere. */
export const COME_BACK = { 'retry-after': '5' } as const

export const TooManyConnectionsError = createError(
  `${prefix}TOO_MANY_CONNECTIONS`,
  'There are too many connections; try again later.',
  503,
  Error,
  false
)

export const ShuttingDownError = createError(
  `${prefix}SHUTTING_DOWN`,
  'The server is shutting down; try again later.',
  503,
  Error,
  false
)

/** The error that answers a handshake which the protocol core, or the application, refused. */
export function refusalError({ code, message, status }: Omit<Refusal, 'headers'>): FastifyError {
  return new (createError<string, [string]>(code, '%s', status, Error, false))(message)
}

export function invalidOption(name: string, expected: string, value: unknown): FastifyError {
  return new InvalidOptionError(name, expected, inspect(value, { depth: 1 }))
}

/** What was thrown, as an error. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(`${inspect(thrown)} was thrown, which is no error.`)
}
