import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FastifyInstance, FastifyPluginAsync, RouteShorthandOptions } from 'fastify'
import fp from 'fastify-plugin'
import { FASTIFY_OPTIONS } from '../../fastify/options.js'
import { addAssets, asPage, escapeHtml, folderOf } from '../../fastify/web-page.js'
import { invalidOption } from '../../options/error.js'
import { checkNames } from '../../options/option.js'
import { isId } from '../../topics/connections/connections.js'
import { isTopic } from '../../topics/topics.js'
import { UnguardedConsoleError } from '../error.js'
import { Console } from './console.js'
import { type ConsoleMessage, type PageMessage, RECEIVE, SEND } from './messages.js'
import { matches } from './schema.js'
import { MAX_PENDING } from './viewer.js'

/** Options of {@link websocketConsole}. */
export interface ConsoleOptions {
  /**
   * Hooks of the page, of its files and of its WebSocket, which check who may use the console. At least one is required,
   * unless `unprotected` is true.
   */
  readonly onRequest?: RouteShorthandOptions['onRequest'] | undefined
  /** Registers the console without a hook: every client that can reach the server may use it. Default: `false`. */
  readonly unprotected?: boolean | undefined
  /** The path of the page. Default: `/console`. */
  readonly routePrefix?: string | undefined
  /** Milliseconds between two updates of the page, 100 to 60,000. Default: 2000. */
  readonly interval?: number | undefined
}

const NAMES = ['onRequest', 'unprotected', 'routePrefix', 'interval']

/** The files of the page. They are not compiled. */
const FOLDER = join(import.meta.dirname, '..', '..', '..', '..', 'lib', 'observe', 'console', 'page')

/** Milliseconds after which a page has to pass the hooks again. */
const MAX_LIFETIME = 15 * 60_000

const register: FastifyPluginAsync<ConsoleOptions> = async (app, options) => {
  checkNames(options, [...NAMES, ...FASTIFY_OPTIONS], '')
  const { onRequest, unprotected = false, routePrefix = '/console', interval = 2000 } = options
  if (typeof unprotected !== 'boolean') throw invalidOption('unprotected', 'a boolean', unprotected)
  if (typeof routePrefix !== 'string' || !routePrefix.startsWith('/'))
    throw invalidOption('routePrefix', 'a path that begins with a slash', routePrefix)
  if (!Number.isInteger(interval) || interval < 100 || interval > 60_000)
    throw invalidOption('interval', 'an integer from 100 to 60000', interval)
  const hooks = [onRequest ?? []].flat()
  if (hooks.length === 0 && !unprotected) throw new UnguardedConsoleError()
  const console = new Console(app.websocketServer, interval, app.log)
  app.addHook('onClose', async () => console.close())
  await app.register(routes, { prefix: routePrefix, console, hooks: { onRequest: hooks } })
}

/** The routes of the console. All of them run the hooks of the application. */
async function routes(
  app: FastifyInstance,
  { console, hooks }: { readonly console: Console; readonly hooks: RouteShorthandOptions }
): Promise<void> {
  const route: RouteShorthandOptions = { ...hooks, schema: { hide: true } }
  const html = readFileSync(join(FOLDER, 'console.html'), 'utf8')
  // With and without a slash at the end.
  app.get('/', route, async (request, reply) => {
    asPage(reply)
    return html.replaceAll('{folder}', () => escapeHtml(folderOf(request.url)))
  })
  addAssets(app, route, {
    'console.css': { path: join(FOLDER, 'console.css'), type: 'css' },
    'console.mjs': { path: join(FOLDER, 'console.mjs'), type: 'js' }
  })
  app.get<{ Receive: PageMessage; Send: ConsoleMessage }>(
    '/socket',
    {
      ...hooks,
      // The defaults of the application may not suit this route.
      websocket: {
        origin: 'same-origin',
        maxPayload: 8192,
        highWaterMark: 65_536,
        maxBufferedAmount: 4 * MAX_PENDING,
        backpressure: 'close',
        invalidMessage: 'close',
        maxLifetime: MAX_LIFETIME,
        rateLimit: { messages: 20 }
      },
      schema: { hide: true, receive: RECEIVE, send: SEND },
      validatorCompiler,
      serializerCompiler: () => JSON.stringify
    },
    (socket, request) => {
      const viewer = console.open(socket, request.log)
      socket.on('message', message => viewer.onMessage(message))
      socket.on('close', () => console.leave(viewer))
    }
  )
}

/** The application may have compilers for another language. */
function validatorCompiler() {
  return (value: unknown) =>
    isPageMessage(value) ? { value } : { error: new Error('the message is not one of the console') }
}

/** Names that no topic, user or connection can have are not in the schemas: their limits are in bytes. */
function isPageMessage(value: unknown): value is PageMessage {
  return matches(RECEIVE, value) && hasValidName(value)
}

function hasValidName(message: PageMessage): boolean {
  switch (message.type) {
    case 'list':
      return true
    case 'topic':
      return message.topic === undefined || isTopic(message.topic)
    case 'close':
      return isId(message.connection)
    default:
      return isId(message.user)
  }
}

/**
 * Serves a page for operators, which shows the connections, topics and processes of `websocketServer` live, and closes
 * connections. Register it after fastify-upgrade, in the same scope.
 * @throws `FST_UPGRADE_UNGUARDED_CONSOLE` without a hook, unless `unprotected` is true.
 * @throws {TypeError} `FST_UPGRADE_INVALID_OPTION` or `FST_UPGRADE_UNKNOWN_OPTION`
 * @throws `FST_ERR_PLUGIN_DEPENDENCY_NOT_REGISTERED` when fastify-upgrade is not registered.
 */
export const websocketConsole: FastifyPluginAsync<ConsoleOptions> = fp(register, {
  fastify: '5.x',
  name: 'fastify-upgrade/console',
  dependencies: ['fastify-upgrade']
})
