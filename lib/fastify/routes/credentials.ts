import type { FastifyRequest } from 'fastify'
import { toExpiry } from '../../socket/error.js'
import { isThenable } from '../../socket/events.js'
import { checkId } from '../../topics/connections/connections.js'
import { ExpiredError } from '../error.js'
import type { WebSocketRoute } from './route.js'

/** The user of a connection, and when it expires. */
export interface Credentials {
  readonly user: string | undefined
  /** Milliseconds since 1970. */
  readonly expiresAt: number | undefined
}

/**
 * Reads the options `user` and `expires` for a connection.
 * @throws {TypeError} `FST_UPGRADE_INVALID_ID` or `FST_UPGRADE_INVALID_EXPIRY`
 * @throws `FST_UPGRADE_EXPIRED`, and what a function of the application throws.
 */
export function readCredentials({ settings }: WebSocketRoute, request: FastifyRequest): Credentials {
  const user = settled(settings.user?.(request))
  if (user !== undefined) checkId('user', user)
  const expires = settled(settings.expires?.(request))
  const expiresAt = expires === undefined ? undefined : toExpiry(expires)
  if (expiresAt !== undefined && expiresAt <= Date.now()) throw new ExpiredError()
  return { user, expiresAt }
}

/** The result of a function, which must not be a promise: its rejection would end the process. */
function settled(result: unknown): unknown {
  if (isThenable(result)) result.then(undefined, () => {})
  return result
}
