import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { NO_ADDRESS } from '../limits/connection-limiter.js'
import {
  asksForWebSocket,
  checkRequest,
  type Handshake,
  type Refusal
} from '../protocol/handshake/request.js'
import { toError } from '../socket/error.js'
import { RETRY_AFTER, refusalError, ShuttingDownError, TooManyConnectionsError } from '../upgrade/error.js'
import type { DeclaredRoutes } from './declared-routes.js'
import { ForbiddenOriginError, UnsupportedSubprotocolError, UpgradeRequiredError } from './error.js'
import { isAllowed } from './origin.js'
import { routeOf, type WebSocketRoute } from './route.js'
import { Upgrade } from './upgrade.js'
import { verifyClient } from './verify-client.js'

/** Whether the path of a request has a WebSocket route. */
type HasRoute = (request: FastifyRequest['raw']) => boolean

/** Adds the hooks that check each handshake before the hooks of the application run. */
export function addHandshakeChecks(
  root: FastifyInstance,
  defaultTimeout: number,
  declared: DeclaredRoutes,
  hasRoute: HasRoute
): void {
  root.addHook('onRequest', (request, reply, done) => {
    const upgrade = Upgrade.of(request.raw)
    if (upgrade === undefined) {
      done(request.is404 ? ordinaryRequestError(request, reply, hasRoute) : undefined)
      return
    }
    if (request.is404) declared.report(request.url, request.log)
    // Fastify takes what is no error for success.
    const fail = (thrown: unknown): void => done(toError(thrown))
    let checked: Checked
    try {
      checked = checkUpgrade(upgrade, defaultTimeout, request, reply)
    } catch (thrown) {
      fail(thrown)
      return
    }
    if (checked instanceof Promise) checked.then(done, fail)
    else done(checked)
  })
  // An error that comes while the 101 waits for the hooks of the reply takes its place.
  root.addHook('onError', (request, _reply, _error, done) => {
    Upgrade.of(request.raw)?.takeBack()
    done()
  })
}

/** Why a handshake is refused, if it is. A promise only where the application needs time: each costs a handshake's tenth. */
type Checked = Error | undefined | Promise<Error | undefined>

function checkUpgrade(
  upgrade: Upgrade,
  defaultTimeout: number,
  request: FastifyRequest,
  reply: FastifyReply
): Checked {
  const route = routeOf(request)
  upgrade.enter(reply, route?.settings.handshakeTimeout ?? defaultTimeout)
  const { refusal, handshake, offers } = upgrade
  if (refusal !== undefined) return refuse(reply, refusal)
  if (route === undefined) return undefined
  if (offers.unsupportedBy !== undefined) {
    const reason =
      handshake.protocols.length === 0
        ? 'The client has to offer a subprotocol'
        : 'None of the offered subprotocols is spoken here'
    return new UnsupportedSubprotocolError(reason, offers.unsupportedBy.join(', '))
  }
  if (route.server.isClosing) {
    reply.headers(RETRY_AFTER)
    return new ShuttingDownError()
  }
  if (route.limiters.length > 0 && !takeSlots(upgrade, route, request)) {
    reply.headers(RETRY_AFTER)
    return new TooManyConnectionsError()
  }
  const checked = checkOrigin(route, handshake, request)
  // It may have been assigned `null`, as `ws` has for none.
  if (!route.server.options.verifyClient) return checked
  return checkClient(checked, route, handshake, request, reply)
}

function takeSlots(upgrade: Upgrade, { limiters }: WebSocketRoute, request: FastifyRequest): boolean {
  // Over a Unix socket it is undefined, whatever Fastify's type says.
  const ip: string | undefined = request.ip
  for (const limiter of limiters) {
    if (limiter.missesAddress(ip))
      request.log.warn(
        { ip },
        `${NO_ADDRESS}; set "trustProxy" so that request.ip is the address of the client`
      )
  }
  return upgrade.takeSlots(limiters, ip)
}

function checkOrigin({ settings }: WebSocketRoute, { origin }: Handshake, request: FastifyRequest): Checked {
  if (origin === undefined) return undefined
  const allowed = isAllowed(origin, settings.origin, request)
  if (typeof allowed !== 'object') return allowed ? undefined : forbid(origin, request)
  return Promise.resolve(allowed).then(isGood => (isGood ? undefined : forbid(origin, request)))
}

function forbid(origin: string, request: FastifyRequest): Error {
  request.log.info(
    { origin, host: request.host },
    'a page of another origin tried to open a WebSocket; to allow it, add its origin to the option "origin"'
  )
  return new ForbiddenOriginError()
}

async function checkClient(
  checked: Checked,
  { server }: WebSocketRoute,
  { origin }: Handshake,
  request: FastifyRequest,
  reply: FastifyReply
): Promise<Error | undefined> {
  const forbidden = await checked
  if (forbidden !== undefined) return forbidden
  const refusal = await verifyClient(server.options, request, origin)
  return refusal && refuse(reply, refusal)
}

/**
 * What an ordinary request gets that found no route, if its path has WebSocket routes. A client that asked for WebSocket
 * without `Connection: Upgrade` comes here too: for Node it is an ordinary request.
 */
function ordinaryRequestError(
  { raw }: FastifyRequest,
  reply: FastifyReply,
  hasRoute: HasRoute
): Error | undefined {
  const isGet = raw.method === 'GET' || raw.method === 'HEAD'
  if (!isGet || raw.httpVersionMajor !== 1 || !hasRoute(raw)) return undefined
  const handshake = asksForWebSocket(raw) ? checkRequest(raw) : undefined
  if (handshake !== undefined && 'status' in handshake) return refuse(reply, handshake)
  // Node takes a Connection header that does not say "close" for keep-alive.
  const connection = reply.raw.shouldKeepAlive ? 'Upgrade' : 'Upgrade, close'
  reply.headers({ upgrade: 'websocket', connection })
  return new UpgradeRequiredError()
}

/** The headers go onto the reply, as an error handler of the application may answer without those of the error. */
function refuse(reply: FastifyReply, refusal: Refusal): Error {
  reply.headers(refusal.headers)
  return refusalError(refusal)
}
