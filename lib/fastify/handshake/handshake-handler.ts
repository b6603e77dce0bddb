import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import { toError } from '../../socket/error.js'
import { callHandleProtocols, checkSubprotocol, chooseExtension } from '../../upgrade/negotiation.js'
import { openConnection } from '../connection.js'
import { type Credentials, readCredentials } from '../routes/credentials.js'
import type { WebSocketRoute } from '../routes/route.js'
import { chooseTopics } from '../routes/topic-choice.js'
import { refuseAtLimit } from './handshake-check.js'
import { Upgrade } from './upgrade.js'

/** The handler that Fastify runs after the hooks of a WebSocket route. */
export function handshakeHandler(route: WebSocketRoute): RouteHandlerMethod {
  return function (request, reply) {
    const upgrade = Upgrade.of(request.raw)
    if (upgrade !== undefined) answer(this, route, upgrade, request, reply)
  }
}

/** Chooses the subprotocol and the topics, reads the credentials, then accepts the handshake. */
function answer(
  app: FastifyInstance,
  route: WebSocketRoute,
  upgrade: Upgrade,
  request: FastifyRequest,
  reply: FastifyReply
): void {
  const accept = (protocol: string | undefined, topics: readonly string[] = []): void => {
    // The deadline may have passed meanwhile.
    if (reply.sent) return
    let credentials: Credentials
    try {
      credentials = readCredentials(route, request)
    } catch (thrown) {
      upgrade.sendError(toError(thrown))
      return
    }
    const { user } = credentials
    if (user !== undefined && !upgrade.takeSlots(route.userLimits, user)) {
      upgrade.sendError(refuseAtLimit('maxConnectionsPerUser', route, reply))
      return
    }
    const { extension, response } = chooseExtension(
      upgrade.handshake.extensions,
      route.settings.perMessageDeflate
    )
    upgrade.accept({
      protocol,
      extensions: response,
      server: route.server,
      open: stream =>
        openConnection(app, route, {
          stream,
          protocol,
          subprotocol: upgrade.offers.selected,
          extension,
          request,
          reply,
          topics,
          credentials,
          status: upgrade.channel.acceptStatus,
          handshakeTime: upgrade.elapsedTime,
          release: upgrade.keepSlots()
        })
    })
  }
  // The topics are chosen once the subprotocol is known, so that no rejection is left without a handler.
  const protocol = chooseSubprotocol(route, upgrade, request)
  if (protocol instanceof Promise) {
    const choices = protocol.then(name => Promise.all([name, chooseTopics(route, request)]))
    choices.then(
      ([name, topics]) => accept(name, topics),
      error => upgrade.sendError(toError(error))
    )
    return
  }
  const topics = chooseTopics(route, request)
  if (topics instanceof Promise) {
    topics.then(
      list => accept(protocol, list),
      error => upgrade.sendError(toError(error))
    )
  } else accept(protocol, topics)
}

/**
 * The subprotocol of a connection: the one that its route registers, else the application's choice among the offers.
 * @throws {InvalidChoiceError} when the choice was not offered.
 */
function chooseSubprotocol(
  { settings, server }: WebSocketRoute,
  { offers: { selected }, handshake }: Upgrade,
  request: FastifyRequest
): string | undefined | Promise<string | undefined> {
  const offers = handshake.protocols
  if (selected !== undefined || offers.length === 0) return selected
  const { handleProtocols } = server.options
  if (settings.selectSubprotocol !== undefined) {
    const choice = settings.selectSubprotocol(offers, request)
    if (typeof choice !== 'object') return checkSubprotocol(choice, offers)
    return Promise.resolve(choice).then(name => checkSubprotocol(name, offers))
  }
  if (handleProtocols) return callHandleProtocols(handleProtocols, offers, request.raw)
  return undefined
}
