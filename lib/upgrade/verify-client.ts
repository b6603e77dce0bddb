import { type IncomingMessage, type OutgoingHttpHeaders, STATUS_CODES } from 'node:http'
import type { Refusal } from '../protocol/handshake/request.js'
import { isThenable } from '../socket/events.js'

/** The first argument of `verifyClient`, as in `ws`. */
export interface VerifyClientInfo {
  /** Empty when the client sent none. */
  readonly origin: string
  readonly secure: boolean
  readonly req: IncomingMessage
}

/**
 * Accepts a client by returning a truthy value other than a promise. With a second parameter it answers through the callback
 * instead.
 */
export type VerifyClient = (
  info: VerifyClientInfo,
  callback: (verified: boolean, code?: number, message?: string, headers?: OutgoingHttpHeaders) => void
) => unknown

/**
 * Calls `verifyClient` as `ws` does: a function of two parameters answers through its callback.
 * @param settle called once, with the refusal if there is one. Its exceptions reach `verifyClient`, or the caller.
 * @param fail called with the rejection of a promise: with `ws` the callback is the only asynchronous answer.
 */
export function callVerifyClient(
  verifyClient: VerifyClient,
  info: VerifyClientInfo,
  settle: (refusal: Refusal | undefined) => void,
  fail: (error: unknown) => void
): void {
  let isSettled = false
  const answer: Parameters<VerifyClient>[1] = (verified, status, message, headers) => {
    if (isSettled) return
    isSettled = true
    // In `ws`, null, 0 and the empty string mean none.
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
