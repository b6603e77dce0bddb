import createError, { type FastifyErrorConstructor } from '@fastify/error'
import { NO_ADDRESS } from '../limits/connection-limiter.js'
import type { Refusal } from '../protocol/handshake/request.js'

type ErrorClass<Code extends string> = FastifyErrorConstructor<{ code: `FST_UPGRADE_${Code}` }>

export const AlreadyHandledError: ErrorClass<'ALREADY_HANDLED'> = createError(
  'FST_UPGRADE_ALREADY_HANDLED',
  'handleUpgrade was called before with the same socket; let one listener of "upgrade" call it, once a request.'
)

/** A warning of the process. */
export const NoAddressError: ErrorClass<'NO_ADDRESS'> = createError(
  'FST_UPGRADE_NO_ADDRESS',
  `${NO_ADDRESS}; limit them in the proxy in front, or in verifyClient.`
)

export const NoServerError: ErrorClass<'NO_SERVER'> = createError(
  'FST_UPGRADE_NO_SERVER',
  'With the option noServer there is no address; ask the HTTP server whose upgrades you pass on.'
)

export const NotRunningError: ErrorClass<'NOT_RUNNING'> = createError(
  'FST_UPGRADE_NOT_RUNNING',
  'The WebSocketServer is closed already.'
)

// Refusals besides those of the protocol core.

export const INVALID_UPGRADE: Refusal = {
  status: 400,
  code: 'FST_UPGRADE_INVALID_UPGRADE',
  message: 'The request does not ask for WebSocket: HTTP/1.1 with "websocket" in the Upgrade header.',
  headers: {}
}

export const NOT_HANDLED: Refusal = {
  status: 404,
  code: 'FST_UPGRADE_NOT_HANDLED',
  message: 'There is no WebSocket here.',
  headers: {}
}

/** The application failed; the client learns no more. */
export const FAILED: Refusal = {
  status: 500,
  code: 'FST_UPGRADE_FAILED',
  message: 'Internal Server Error',
  headers: {}
}
