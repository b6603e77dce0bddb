import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { limitReached } from '../../diagnostics.js'
import { NO_ADDRESS } from '../../limits/connection-limiter.js'
import { asksForWebSocket, checkRequest, type Refusal } from '../../protocol/handshake/request.js'
import { toError } from '../../socket/error.js'
import { RETRY_AFTER, refusalError, ShuttingDownError } from '../../upgrade/error.js'
import { callVerifyClient } from '../../upgrade/verify-client.js'
import { ForbiddenOriginError, UnsupportedSubprotocolError, UpgradeRequiredError } from '../error.js'
import type { DeclaredRoutes } from '../routes/declared-routes.js'
import { routeOf, type WebSocketRoute } from '../routes/route.js'
import { isAllowed } from './origin.js'
import { Upgrade } from './upgrade.js'

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
    let checked: Checked
    try {
      checked = check(upgrade, defaultTimeout, request, reply)
    } catch (thrown) {
      // Fastify ignores a thrown value that is no error.
      checked = toError(thrown)
    }
    if (checked instanceof Promise) checked.then(done, thrown => done(toError(thrown)))
    else done(checked)
  })
  // An error in the hooks of the reply takes the place of the 101.
  root.addHook('onError', (request, _reply, error, done) => {
    Upgrade.of(request.raw)?.onError(error.code)
    done()
  })
}

/**
 * The error that refuses a handshake, if any. It is a promise only where the application decides later: a promise costs a
 * tenth of a handshake.
 */
type Checked = Error | undefined | Promise<Error | undefined>

/** Checks the request, the route, the limits, the origin, and calls `verifyClient`. */
function check(
  upgrade: Upgrade,
  defaultTimeout: number,
  request: FastifyRequest,
  reply: FastifyReply
): Checked {
  const route = routeOf(request)
  upgrade.enter(reply, route?.settings.handshakeTimeout ?? defaultTimeout)
  const { refusal, offers } = upgrade
  if (refusal !== undefined) return refuse(reply, refusal)
  if (route === undefined) return undefined
  if (offers.unsupportedBy !== undefined) {
    const reason =
      upgrade.handshake.protocols.length === 0
        ? 'The client has to offer a subprotocol'
        : 'None of the offered subprotocols is spoken here'
    return new UnsupportedSubprotocolError(reason, offers.unsupportedBy.join(', '))
  }
  if (route.server.isClosing) {
    reply.headers(RETRY_AFTER)
    return new ShuttingDownError()
  }
  if (route.limiters.length > 0 && !takeSlots(upgrade, route, request)) {
    return refuseAtLimit('maxConnections', route, reply)
  }
  const { origin } = upgrade.handshake
  const checked = checkOrigin(route, origin, request)
  // As in `ws`, applications may assign null.
  if (!route.server.options.verifyClient) return checked
  return checkClient(checked, route, origin, request, reply)
}

/** Refuses a handshake because of a limit of the number of connections. @returns the error for the reply. */
export function refuseAtLimit(
  limit: 'maxConnections' | 'maxConnectionsPerUser',
  { server, url, refusals }: WebSocketRoute,
  reply: FastifyReply
): Error {
  reply.headers(RETRY_AFTER)
  if (limitReached.hasSubscribers) limitReached.publish({ limit, socket: undefined, server, route: url })
  return refusals.refuse(reply)
}

/** @returns whether there was a free slot. */
function takeSlots(upgrade: Upgrade, { limiters }: WebSocketRoute, request: FastifyRequest): boolean {
  // Over a Unix socket it is undefined, contrary to Fastify's type.
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

function checkOrigin(
  { settings }: WebSocketRoute,
  origin: string | undefined,
  request: FastifyRequest
): Checked {
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
  origin: string | undefined,
  request: FastifyRequest,
  reply: FastifyReply
): Promise<Error | undefined> {
  const forbidden = await checked
  if (forbidden !== undefined) return forbidden
  // The application may have removed it meanwhile.
  const { verifyClient } = server.options
  if (!verifyClient) return undefined
  const info = { origin: origin ?? '', secure: request.protocol === 'https', req: request.raw }
  const refusal = await new Promise<Refusal | undefined>((resolve, reject) => {
    callVerifyClient(verifyClient, info, resolve, reject)
  })
  return refusal && refuse(reply, refusal)
}

/**
 * The error for an ordinary request without a route whose path has WebSocket routes. A request for a WebSocket without
 * `Connection: Upgrade` comes here too: for Node it is an ordinary request.
 */
function ordinaryRequestError(
  { raw }: FastifyRequest,
  reply: FastifyReply,
  hasRoute: HasRoute
): Error | undefined {
  const isGet = raw.method === 'GET' || raw.method === 'HEAD'
  if (!isGet || !hasRoute(raw)) return undefined
  // RFC 9113 section 8.2.2: over HTTP/2 there is no Upgrade and no Connection.
  if (raw.httpVersionMajor > 1) return new UpgradeRequiredError()
  const handshake = asksForWebSocket(raw) ? checkRequest(raw) : undefined
  if (handshake !== undefined && 'status' in handshake) return refuse(reply, handshake)
  // Without "close" in the Connection header, Node keeps the connection alive.
  const connection = reply.raw.shouldKeepAlive ? 'Upgrade' : 'Upgrade, close'
  reply.headers({ upgrade: 'websocket', connection })
  return new UpgradeRequiredError()
}

/** Sets the headers on the reply, as an error handler of the application may ignore those of the error. */
function refuse(reply: FastifyReply, refusal: Refusal): Error {
  reply.headers(refusal.headers)
  return refusalError(refusal)
}
