import type { FastifyRequest } from 'fastify'
import type { ServerOptions } from '../../types/options.js'
import type { Refusal } from '../protocol/handshake/request.js'
import { askVerifyClient } from '../upgrade/verify-client.js'

/** @returns why a client is refused, if it is. */
export async function verifyClient(
  { verifyClient }: ServerOptions,
  request: FastifyRequest,
  origin = ''
): Promise<Refusal | undefined> {
  if (!verifyClient) return undefined
  const info = { origin, secure: request.protocol === 'https', req: request.raw }
  return new Promise((resolve, reject) => askVerifyClient(verifyClient, info, resolve, reject))
}
