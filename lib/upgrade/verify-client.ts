import { type IncomingMessage, type OutgoingHttpHeaders, STATUS_CODES } from 'node:http'
import type { Refusal } from '../protocol/handshake/request.js'
import { isThenable } from '../socket/events.js'

/** What `verifyClient` is told, as in `ws`. */
export interface VerifyClientInfo {
  /** Empty when the client sent none. */
  readonly origin: string
  readonly secure: boolean
  readonly req: IncomingMessage
}

/** Lets a client in by returning true, or another value that stands for it, but no promise; with a second parameter, through the callback. */
export type VerifyClient = (
  info: VerifyClientInfo,
  callback: (verified: boolean, code?: number, message?: string, headers?: OutgoingHttpHeaders) => void
) => unknown

/**
 * Asks `verifyClient` as `ws` does: a function of two parameters answers through its callback.
 * @param settle told once, with the refusal if there is one. What is thrown here is thrown on.
 * @param fail told what a promise rejects with: `ws` knows no asynchronous answer but the callback.
 */
export function askVerifyClient(
  verifyClient: VerifyClient,
  info: VerifyClientInfo,
  settle: (refusal: Refusal | undefined) => void,
  fail: (error: unknown) => void
): void {
  let isSettled = false
  const answer: Parameters<VerifyClient>[1] = (verified, status, message, headers) => {
    if (isSettled) return
    isSettled = true
    // `ws` has null, 0 and the empty text for none.
    settle(verified ? undefined : refusal(status || 401, message || undefined, headers ?? {}))
  }
  const verified = verifyClient(info, answer)
  const isPromise = isThenable(verified)
  if (isPromise) verified.then(undefined, fail)
  if (verifyClient.length !== 2) answer(Boolean(verified) && !isPromise)
}

function refusal(
  status: number,
  message = STATUS_CODES[status] ?? 'Not verified',
  headers: OutgoingHttpHeaders
): Refusal {
  const given = Object.entries(headers).filter(([, value]) => value !== undefined)
  const values = given.map(([name, value]) => [name, [value].flat().join(', ')])
  return { status, code: 'FST_UPGRADE_NOT_VERIFIED', message, headers: Object.fromEntries(values) }
}
