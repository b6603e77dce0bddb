import type { FastifyRequest } from 'fastify'
import { askHandleProtocols, checkChoice } from '../upgrade/protocol-choice.js'
import type { WebSocketRoute } from './route.js'
import type { Upgrade } from './upgrade.js'

/**
 * The subprotocol of a connection: the one that its route registers, else the application's choice among the offers.
 * @throws {InvalidChoiceError} when the choice was not offered.
 */
export function chooseSubprotocol(
  { settings, server }: WebSocketRoute,
  upgrade: Upgrade,
  request: FastifyRequest
): string | undefined | Promise<string | undefined> {
  const { selected } = upgrade.offers
  const offers = upgrade.handshake.protocols
  if (selected !== undefined || offers.length === 0) return selected
  const { handleProtocols } = server.options
  if (settings.selectSubprotocol !== undefined) {
    const choice = settings.selectSubprotocol(offers, request)
    if (typeof choice !== 'object') return checkChoice(choice, offers)
    return Promise.resolve(choice).then(name => checkChoice(name, offers))
  }
  if (handleProtocols) return askHandleProtocols(handleProtocols, offers, request.raw)
  return undefined
}
