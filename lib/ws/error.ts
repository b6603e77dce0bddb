import { defineError } from '../error.js'
import { NO_ADDRESS } from '../limits/connection-limiter.js'
import type { Refusal } from '../protocol/handshake/request.js'

export const AlreadyHandledError = defineError(
  'ALREADY_HANDLED',
  'handleUpgrade was called before with the same socket; let one listener of "upgrade" call it, once a request.'
)
/** A warning of the process. */
export const NoAddressError = defineError(
  'NO_ADDRESS',
  `${NO_ADDRESS}; limit them in the proxy in front, or in verifyClient.`
)
export const NoServerError = defineError(
  'NO_SERVER',
  'With the option noServer there is no address; ask the HTTP server whose upgrades you pass on.'
)
export const NotRunningError = defineError('NOT_RUNNING', 'The WebSocketServer is closed already.')

// Refusals besides those of the protocol core.

export const INVALID_UPGRADE = refusal(
  'INVALID_UPGRADE',
  400,
  'The request does not ask for WebSocket: HTTP/1.1 with "websocket" in the Upgrade header.'
)
export const NOT_HANDLED = refusal('NOT_HANDLED', 404, 'There is no WebSocket here.')

/** An error of the application, whose text stays here. */
export const FAILED = refusal('FAILED', 500, 'Internal Server Error')

function refusal(code: string, status: number, message: string): Refusal {
  return { status, code: `FST_UPGRADE_${code}`, message, headers: {} }
}
