import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import type { FastifyUpgradeOptions } from '../../types/options.js'
import { ConnectionLimiter, readConnectionLimits } from '../limits/connection-limiter.js'
import { invalidOption } from '../options/error.js'
import { MAX_INT32 } from '../options/option.js'
import { AlreadyRegisteredError, DecoratorTakenError } from './error.js'
import { addHandshakeChecks } from './handshake/handshake-check.js'
import { Upgrade } from './handshake/upgrade.js'
import { UpgradeListener } from './handshake/upgrade-listener.js'
import { readPluginOptions, readPluginSettings, readUserLimit } from './options.js'
import { RefusalLog } from './refusal-log.js'
import { readRequestLogging } from './request-logging.js'
import { DeclaredRoutes } from './routes/declared-routes.js'
import { addWebSocketRoutes } from './routes/on-route.js'
import { rootOf } from './routes/scope.js'
import { endsWithin, Shutdown } from './shutdown.js'
import { WebSocketServer } from './websocket-server.js'

// Async, so that an exception rejects `register`.
const register: FastifyPluginAsync<FastifyUpgradeOptions> = async (app, options) => {
  if (app.hasDecorator('websocketServer')) throw decoratorError(app)
  const defaults = readPluginOptions(options)
  const { shutdown, http2, ...pubsub } = readPluginSettings(options)
  if (!http2 && !takesHttp1(app))
    throw invalidOption('http2', 'true, as the server does not accept HTTP/1.1', http2)
  const limiter = new ConnectionLimiter(readConnectionLimits(options))
  const userLimit = readUserLimit(options)
  const root = rootOf(app)
  const server = new WebSocketServer(options.options ?? {}, pubsub, error => {
    app.log.error({ err: error }, 'a listener of websocketServer failed')
  })
  app.decorate('websocketServer', server)
  app.decorate('injectWS', async (...args) => {
    // Production loads nothing of what tests need.
    const { inject } = await import('../testing/inject.js')
    return inject(root, ...args)
  })
  app.decorateRequest('ws', {
    getter() {
      return Upgrade.of(this.raw) !== undefined
    }
  })
  // Hooks at the root see the requests that find no route, too.
  const declared = DeclaredRoutes.of(root)
  declared.checkWhenReady()
  const listener = UpgradeListener.of(root, defaults.handshakeTimeout, first => {
    addHandshakeChecks(root, defaults.handshakeTimeout, declared, request => first.hasRoute(request))
    // Added so late, this runs before all else that `app.close()` does; `preClose` hooks that came first may take a while.
    root.addHook('onReady', async () => {
      first.onReady()
      root.addHook('onClose', async () => first.refuse())
    })
    root.addHook('onListen', async () => first.onListen())
  })
  if (http2) listener.takeConnects()
  // By now the server has closed, unless the application did not open it.
  app.addHook('onClose', async () => listener.leave())
  addWebSocketRoutes(app, {
    defaults,
    server,
    limiter,
    userLimit,
    refusals: new RefusalLog(app.log),
    listener,
    declared,
    isLogDisabled: readRequestLogging(root)
  })
  app.addHook('onReady', async () => server.compileSchemas())
  listener.onClose(new Shutdown(app, server, shutdown, options.preClose))
  app.addHook('preClose', async () => {
    await endsWithin(listener.close(), hookPatience(app))
  })
  app.addHook('onClose', async () => {
    await listener.close()
    await server.closeBroker()
  })
  // Last, because the broker would not be closed if registration failed.
  server.openBroker()
}

/** WebSockets on a Fastify server. Register it before the routes that use it. */
export const plugin: FastifyPluginAsync<FastifyUpgradeOptions> = fp(register, {
  fastify: '5.x',
  name: 'fastify-upgrade'
})

/** Names the plugin that has decorated `websocketServer`. */
function decoratorError(app: FastifyInstance): Error {
  if (app.websocketServer instanceof WebSocketServer) return new AlreadyRegisteredError()
  return new DecoratorTakenError(
    app.hasPlugin('@fastify/websocket')
      ? '@fastify/websocket'
      : 'another plugin, or another copy of fastify-upgrade'
  )
}

/**
 * Whether the server accepts HTTP/1.1. An HTTP/2 server accepts it over TLS with `allowHTTP1`, and
 * then has the properties of an HTTP/1 server.
 */
function takesHttp1({ server }: FastifyInstance): boolean {
  return !('updateSettings' in server) || 'headersTimeout' in server
}

/**
 * The time for a `preClose` hook in milliseconds: `app.close()` fails when a hook needs longer than `pluginTimeout`.
 * Afterwards the server stops listening, and waits for its connections.
 */
function hookPatience({ initialConfig: { pluginTimeout = 10_000 } }: FastifyInstance): number {
  return pluginTimeout === 0 ? MAX_INT32 : pluginTimeout - Math.min(1_000, pluginTimeout / 2)
}
