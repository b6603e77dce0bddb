import { STATUS_CODES } from 'node:http'
import type { FastifyRequest } from 'fastify'
import type { ServerOptions } from '../../types/options.js'
import { isThenable } from '../transport/thenable.js'
import { refusalError } from './error.js'

/** What a client gets that `verifyClient` refused. */
export interface Unverified {
  readonly error: Error
  readonly headers: Readonly<Record<string, string>>
}

/** Asks `verifyClient` as `ws` does: a function of two parameters answers through its callback. */
export async function verifyClient(
  { verifyClient }: ServerOptions,
  request: FastifyRequest,
  origin = ''
): Promise<Unverified | undefined> {
  if (verifyClient === undefined) return undefined
  const info = { origin, secure: request.protocol === 'https', req: request.raw }
  return new Promise((resolve, reject) => {
    const answer = (
      verified: boolean,
      status = 401,
      message = STATUS_CODES[status] ?? 'Not verified',
      headers: Record<string, string | number> = {}
    ): void => {
      if (verified) resolve(undefined)
      else resolve({ error: refusalError({ status, code: CODE, message }), headers: asStrings(headers) })
    }
    const verified = verifyClient(info, answer)
    // `ws` knows no asynchronous answer but the callback; what is rejected must not end the process.
    if (isThenable(verified)) verified.then(undefined, reject)
    if (verifyClient.length < 2) answer(verified === true)
  })
}

const CODE = 'FST_UPGRADE_NOT_VERIFIED'

function asStrings(headers: Record<string, string | number>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))
}
