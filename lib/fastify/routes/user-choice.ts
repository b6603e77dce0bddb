import type { FastifyRequest } from 'fastify'
import { isThenable } from '../../socket/events.js'
import { checkId } from '../../topics/connections/connections.js'
import type { WebSocketRoute } from './route.js'

/**
 * The user of a connection; undefined for none.
 * @throws {TypeError} `FST_UPGRADE_INVALID_ID`, and what the function of the application throws.
 */
export function chooseUser({ settings }: WebSocketRoute, request: FastifyRequest): string | undefined {
  const user: unknown = settings.user?.(request)
  if (user === undefined) return undefined
  // Its rejection would end the process.
  if (isThenable(user)) user.then(undefined, () => {})
  checkId('user', user)
  return user
}
