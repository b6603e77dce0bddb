import type { Server } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyHttpOptions, LogController } from 'fastify'
import t, { type Test } from 'tap'
import { readPluginOptions } from '../../lib/fastify/options.js'
import { readRequestLogging } from '../../lib/fastify/request-logging.js'
import type { FastifyUpgradeOptions } from '../../lib/index.js'
import { DEBUG, ERROR, INFO, type LogLine, listen, makeApp, ms, open, shake, WARN } from '../helpers/app.js'

const CLOSED = 'WebSocket closed'

/** The levels of the log lines for closed connections, after each of these paths has one. */
async function levels(
  t: Test,
  paths: readonly string[],
  { plugin, server }: { plugin?: FastifyUpgradeOptions; server?: FastifyHttpOptions<Server> } = {}
): Promise<readonly number[]> {
  const { app, log } = await makeApp(t, plugin, server)
  const handler = (socket: { close: (code: number) => void }): void => socket.close(1000)
  app.get('/', { websocket: true }, handler)
  app.get('/quiet', { websocket: true, logLevel: 'warn' }, handler)
  app.get('/silent', { websocket: true, logLevel: 'silent' }, handler)
  app.route({ method: 'GET', url: '/both', logLevel: 'warn', handler: () => 'page', wsHandler: handler })
  app.get('/off', { websocket: { closeLogLevel: false } }, handler)
  app.get('/debug', { websocket: { closeLogLevel: 'debug' } }, handler)
  app.get('/warn', { websocket: { closeLogLevel: 'warn' }, logLevel: 'warn' }, handler)
  await app.register(
    async scope => {
      scope.get('/in', { websocket: true }, handler)
    },
    { logLevel: 'error' }
  )
  const port = await listen(app)
  for (const path of paths) {
    const client = await open(t, port, path)
    t.equal(await client.closed(), '1000')
  }
  await app.close()
  return log.with(CLOSED).map(({ level }) => level)
}

t.test('a closed connection is logged at info level', async t => {
  t.strictSame(await levels(t, ['/']), [INFO])
})

t.test('the logLevel of a route or of a scope silences the line', async t => {
  t.strictSame(await levels(t, ['/quiet', '/silent', '/both', '/in']), [])
})

t.test('closeLogLevel of the plugin and of a route sets the level', async t => {
  t.strictSame(await levels(t, ['/off', '/debug', '/warn', '/']), [DEBUG, WARN, INFO])
  const plugin = { closeLogLevel: 'error' } as const
  t.strictSame(await levels(t, ['/', '/quiet', '/off', '/debug'], { plugin }), [ERROR, ERROR, DEBUG])
  t.strictSame(await levels(t, ['/', '/debug'], { plugin: { closeLogLevel: false } }), [DEBUG])
})

t.test('without request logging there is no line, unless closeLogLevel requests one', async t => {
  const servers: Readonly<Record<string, FastifyHttpOptions<Server>>> = {
    'disableRequestLogging: true': { disableRequestLogging: true },
    'a function': { disableRequestLogging: ({ url }) => url === '/' },
    'a logController': { logController: new LogController({ disableRequestLogging: true }) },
    'a logController with a function': {
      logController: new LogController({ disableRequestLogging: request => request.url === '/' })
    }
  }
  for (const [name, server] of Object.entries(servers)) {
    t.strictSame(await levels(t, ['/', '/debug'], { server }), [DEBUG], name)
    t.strictSame(await levels(t, ['/'], { server, plugin: { closeLogLevel: 'warn' } }), [WARN], name)
  }
  const server = { disableRequestLogging: () => false }
  t.strictSame(await levels(t, ['/'], { server }), [INFO])
})

t.test('versions of Fastify without a logController', async t => {
  for (const [disableRequestLogging, expected] of [
    [true, true],
    [false, false],
    [undefined, false],
    [() => true, true]
  ] as const) {
    const root = Object.assign(Object.create(null), { initialConfig: { disableRequestLogging } })
    t.equal(Reflect.apply(readRequestLogging(root), undefined, [{}]), expected)
  }
  const app = Fastify({ disableRequestLogging: true })
  t.equal(Reflect.apply(readRequestLogging(app), undefined, [{}]), true)
})

t.test('a wrong closeLogLevel is refused', async t => {
  for (const value of [true, 'silent', 'loud', 30, null]) {
    t.throws(() => Reflect.apply(readPluginOptions, undefined, [{ closeLogLevel: value }]), {
      code: 'FST_UPGRADE_INVALID_OPTION',
      message: /"closeLogLevel" must be one of fatal, error, warn, info, debug, trace, or false/
    })
  }
})

t.test('the durations of the handshake and of the connection are logged separately', async t => {
  const { app, log } = await makeApp(t)
  const seen: [hook: string, status: number, time: number][] = []
  app.addHook('onRequest', async ({ url }) => {
    if (url === '/slow') await sleep(ms(60))
  })
  app.addHook('onSend', async (_request, reply) => {
    seen.push(['onSend', reply.statusCode, reply.elapsedTime])
  })
  app.addHook('onResponse', async (_request, reply) => {
    seen.push(['onResponse', reply.statusCode, reply.elapsedTime])
  })
  app.get('/slow', { websocket: true }, async socket => {
    await sleep(ms(200))
    socket.close(1000)
  })
  app.get('/refused', { websocket: true, preHandler: async (_, reply) => reply.code(401).send() }, () => {})
  const port = await listen(app)
  t.equal(await (await open(t, port, '/slow')).closed(), '1000')
  const line: LogLine & { handshakeTime?: unknown; duration?: unknown } = await log.until(CLOSED)
  const completed = await log.until('request completed')
  const [[sent, status, handshake] = [], [ended, , lifetime] = []] = seen
  t.strictSame([sent, status, ended], ['onSend', 101, 'onResponse'])
  // A timer may fire a millisecond early.
  const atLeast = (value: unknown, least: number): void => {
    t.ok(Number(value) >= least - 2, `${value} is at least ${least}`)
  }
  atLeast(handshake, ms(60))
  atLeast(line.handshakeTime, ms(60))
  atLeast(line.duration, ms(200))
  atLeast(lifetime, ms(260))
  atLeast(completed.responseTime, ms(260))
  t.ok(Number.isInteger(line.handshakeTime))
  t.ok(Number(handshake) < Number(lifetime) - ms(150), 'the handshake time does not include the connection')
  t.ok(Number(line.handshakeTime) < Number(lifetime) - ms(150))
  seen.length = 0
  t.equal((await shake(t, port, '/refused')).status, 401)
  await app.close()
  t.strictSame(
    seen.map(([hook, status]) => [hook, status]),
    [
      ['onSend', 401],
      ['onResponse', 401]
    ]
  )
})
