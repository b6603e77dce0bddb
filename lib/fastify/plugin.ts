import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import type { FastifyUpgradeOptions } from '../../types/options.js'
import { isThenable } from '../transport/thenable.js'
import { ConnectionCount } from './connection-count.js'
import { AlreadyRegisteredError } from './error.js'
import { addHandshakeChecks } from './handshake-check.js'
import { addWebSocketRoutes } from './on-route.js'
import { readConnectionLimits, readPluginOptions, readShutdown } from './options.js'
import { Upgrade } from './upgrade.js'
import { UpgradeListener } from './upgrade-listener.js'
import { WebSocketServer } from './websocket-server.js'

// Async, so that what it throws is an error of `register`.
const register: FastifyPluginAsync<FastifyUpgradeOptions> = async (app, options) => {
  if (app.hasDecorator('websocketServer')) throw new AlreadyRegisteredError()
  const defaults = readPluginOptions(options)
  const shutdown = readShutdown(options)
  const server = new WebSocketServer(options.options ?? {}, error => {
    app.log.error({ err: error }, 'a listener of websocketServer failed')
  })
  app.decorate('websocketServer', server)
  app.decorateRequest('ws', {
    getter() {
      return Upgrade.of(this.raw) !== undefined
    }
  })
  // Hooks at the root see the requests that find no route, too.
  const listener = UpgradeListener.of(app, defaults.handshakeTimeout, first =>
    addHandshakeChecks(rootOf(app), defaults.handshakeTimeout, request => first.hasRoute(request))
  )
  const count = new ConnectionCount(readConnectionLimits(options))
  addWebSocketRoutes(app, { defaults, server, count, listener })
  listener.onClose(shutdown.timeout, async () => {
    // Handshakes are refused from now on, whatever takes its time.
    server.close()
    const preClosed = runPreClose(app, options.preClose)
    // It may itself wait for peers that stay: they have until the timeout.
    const timer = new AbortController()
    await Promise.race([
      preClosed,
      setTimeout(shutdown.timeout, undefined, { signal: timer.signal }).catch(() => {})
    ])
    timer.abort()
    await server.shutDown(shutdown)
    await preClosed
  })
  app.addHook('preClose', () => listener.close())
}

/** WebSockets on a Fastify server. Register it before the routes that use it. */
export const plugin: FastifyPluginAsync<FastifyUpgradeOptions> = fp(register, {
  fastify: '5.x',
  name: 'fastify-upgrade'
})

/** Fastify makes a scope by deriving an object from the scope that it is in. */
function rootOf(app: FastifyInstance): FastifyInstance {
  const parent: FastifyInstance = Object.getPrototypeOf(app)
  return 'server' in parent ? rootOf(parent) : app
}

async function runPreClose(app: FastifyInstance, preClose: FastifyUpgradeOptions['preClose']): Promise<void> {
  if (preClose === undefined) return
  try {
    await new Promise<void>((resolve, reject) => {
      const result: unknown = Reflect.apply(preClose, app, [resolve])
      if (isThenable(result)) result.then(() => resolve(), reject)
      else if (preClose.length === 0) resolve()
    })
  } catch (error) {
    // The connections have to be closed all the same, or the server would wait for them for ever.
    app.log.error({ err: error }, 'preClose failed')
  }
}
