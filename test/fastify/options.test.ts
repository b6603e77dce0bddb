import { totalmem } from 'node:os'
import Fastify from 'fastify'
import t from 'tap'
import { readPluginOptions, readPluginSettings, readRouteOptions } from '../../lib/fastify/options.js'
import upgrade, { type FastifyUpgradeOptions, type WebSocketRouteOptions } from '../../lib/index.js'
import {
  codeOf,
  connectRaw,
  handshake,
  headerOf,
  listen,
  makeApp,
  ms,
  type RawClient,
  shake,
  text
} from '../helpers/app.js'
import { frame } from '../protocol/wire.js'

/** Values that the types refuse and that code without types passes. */
const asOptions = (options: object): FastifyUpgradeOptions => Object.assign({}, options)
const asRouteOptions = (options: object): WebSocketRouteOptions => Object.assign({}, options)

/** An application that registers the plugin with these options. */
async function register(options: FastifyUpgradeOptions): Promise<void> {
  await Fastify().register(upgrade, options)
}

const NUMBERS = ['maxPayload', 'handshakeTimeout', 'closeTimeout', 'highWaterMark']

/** Numeric options that `false` disables. */
const LIMITS = [
  'messageTimeout',
  'idleTimeout',
  'maxLifetime',
  'maxControlFrames',
  'maxPendingMessages',
  'maxConnections',
  'maxConnectionsPerAddress'
]

/** Options of `perMessageDeflate`. */
const BOOLEANS = ['serverNoContextTakeover', 'clientNoContextTakeover']
const RANGES: Readonly<Record<string, readonly [min: number, max: number]>> = {
  serverMaxWindowBits: [9, 15],
  clientMaxWindowBits: [9, 15],
  threshold: [0, Number.MAX_SAFE_INTEGER]
}
const ZLIB_RANGES: Readonly<Record<string, readonly [min: number, max: number]>> = {
  level: [0, 9],
  memLevel: [1, 9],
  strategy: [0, 4]
}

const WRONG: Readonly<Record<string, readonly unknown[]>> = {
  ...Object.fromEntries(
    LIMITS.map(name => [name, [0, -1, 1.5, NaN, Infinity, '1', null, true, {}, 2 ** 31]])
  ),
  maxBufferedAmount: [0, -1, 1.5, NaN, Infinity, '1', null, true, {}, 2 ** 60],
  backpressure: [null, true, 'cut', 1],
  rateLimit: [
    true,
    null,
    7,
    ...['messages', 'bytes'].flatMap(name => [0, -1, 0.5, '1', null, true].map(value => ({ [name]: value }))),
    ...[null, 'drop', 1].map(policy => ({ messages: 1, policy }))
  ],
  ...Object.fromEntries(NUMBERS.map(name => [name, [0, -1, 1.5, NaN, Infinity, '1', null, {}, 2 ** 60]])),
  origin: [
    7,
    null,
    [],
    ['example.com'],
    'https://example.com/path',
    'https://EXAMPLE.com',
    'example.com',
    [7],
    {},
    true
  ],
  perMessageDeflate: [
    null,
    0,
    'true',
    () => {},
    ...BOOLEANS.flatMap(name => [0, 1, null, 'true', {}].map(value => ({ [name]: value }))),
    ...Object.entries(RANGES).flatMap(([name, [min, max]]) =>
      [min - 1, max + 1, min + 0.5, `${min}`, null, true, NaN].map(value => ({ [name]: value }))
    ),
    ...Object.entries(ZLIB_RANGES).flatMap(([name, [min, max]]) =>
      [min - 1, max + 1, min + 0.5, `${min}`, null, true, NaN].map(value => ({
        zlibDeflateOptions: { [name]: value }
      }))
    ),
    { zlibDeflateOptions: 7 },
    { zlibDeflateOptions: 'x' },
    { zlibDeflateOptions: true }
  ],
  heartbeat: [
    true,
    null,
    7,
    'x',
    { interval: 0 },
    { timeout: 0 },
    { interval: 10, timeout: 11 },
    { interval: '1' }
  ],
  errorHandler: [7, null, {}],
  selectSubprotocol: ['a', null]
}

for (const [name, values] of Object.entries(WRONG)) {
  t.test(`the error for a wrong ${name} names the option, for the plugin and for a route`, async t => {
    const { app } = await makeApp(t)
    for (const value of values) {
      const wrong = { code: 'FST_UPGRADE_INVALID_OPTION', message: new RegExp(`"${name}`) }
      await t.rejects(register(asOptions({ [name]: value })), wrong)
      t.throws(() => app.get('/', { websocket: asRouteOptions({ [name]: value }) }, () => {}), {
        code: 'FST_UPGRADE_INVALID_OPTION',
        message: new RegExp(`"websocket.${name}`)
      })
    }
  })
}

const WRONG_OF_PLUGIN: Readonly<Record<string, readonly unknown[]>> = {
  options: [7, null, 'x'],
  preClose: [7, null],
  maxTotalBufferedAmount: [0, -1, 1.5, '1', null, false],
  shutdown: [
    7,
    null,
    { code: 1005 },
    { code: 'x' },
    { reason: 'x'.repeat(124) },
    { timeout: 0 },
    { spread: -1 },
    { spread: 5000 },
    { spread: 100, timeout: 100 },
    { spread: '1' },
    { reason: 7 }
  ]
}
for (const [name, values] of Object.entries(WRONG_OF_PLUGIN)) {
  t.test(`a wrong ${name} of the plugin is refused`, async t => {
    for (const value of values) {
      await t.rejects(register(asOptions({ [name]: value })), {
        code: 'FST_UPGRADE_INVALID_OPTION',
        message: new RegExp(`"${name}`)
      })
    }
  })
}

t.test(
  'the error for an unknown option of a route names the route and the option that was probably meant',
  async t => {
    const { app } = await makeApp(t)
    const message = (websocket: object): string => {
      try {
        Reflect.apply(app.get, app, ['/rooms/:room', { websocket }, () => {}])
      } catch (error) {
        t.match(
          String(Object(error).stack).split('\n', 1)[0],
          Object(error).message,
          'the stack begins with the message'
        )
        return Object(error).message
      }
      return 'nothing was thrown'
    }
    for (const [options, start] of [
      [
        { maxPayLoad: 1 },
        'There is no option "websocket.maxPayLoad". Did you mean "websocket.maxPayload"? The options are '
      ],
      [
        { subprotocols: 'a' },
        'There is no option "websocket.subprotocols". Did you mean "websocket.subprotocol"? '
      ],
      [
        { heartbeat: { intervall: 1 } },
        'There is no option "websocket.heartbeat.intervall". Did you mean "websocket.heartbeat.interval"? '
      ],
      [
        { idletimout: 1 },
        'There is no option "websocket.idletimout". Did you mean "websocket.idleTimeout"? '
      ],
      [{ nothing: 1 }, 'There is no option "websocket.nothing". The options are '],
      [{ maxPayload: 'x' }, 'The option "websocket.maxPayload" must be '],
      [{ maxConnections: -1 }, 'The option "websocket.maxConnections" must be '],
      [{ topics: [] }, 'The option "websocket.topics" must be '],
      [{ subprotocol: '' }, 'The option "websocket.subprotocol" must be ']
    ] as const) {
      t.equal(message(options).slice(0, `GET /rooms/:room: ${start}`.length), `GET /rooms/:room: ${start}`)
    }
    t.throws(() => readPluginOptions(asOptions({ maxPayload: 1, hartbeat: false })), {
      code: 'FST_UPGRADE_UNKNOWN_OPTION',
      message: /^There is no option "hartbeat"\. Did you mean "heartbeat"\? The options are maxPayload, /
    })
  }
)

t.test('unknown option names are refused', async t => {
  const { app } = await makeApp(t)
  const unknown = (name: string): { code: string; message: RegExp } => ({
    code: 'FST_UPGRADE_UNKNOWN_OPTION',
    message: new RegExp(`"${name}"`)
  })
  const cases: Readonly<Record<string, object>> = {
    maxPayLoad: { maxPayLoad: 1 },
    subprotocol: { subprotocol: 'a' },
    'heartbeat.every': { heartbeat: { every: 1 } },
    'perMessageDeflate.level': { perMessageDeflate: { level: 1 } },
    'perMessageDeflate.maxPayload': { perMessageDeflate: { maxPayload: 1 } },
    'perMessageDeflate.zlibDeflateOptions.windowBits': {
      perMessageDeflate: { zlibDeflateOptions: { windowBits: 9 } }
    },
    'rateLimit.frames': { rateLimit: { frames: 1 } },
    'shutdown.after': { shutdown: { after: 1 } },
    'options.port': { options: { port: 1 } },
    'options.server': { options: { server: {} } }
  }
  for (const [name, options] of Object.entries(cases)) {
    await t.rejects(register(asOptions(options)), unknown(name))
  }
  for (const name of ['shutdown', 'preClose', 'options', 'subprotocols', 'maxTotalBufferedAmount']) {
    t.throws(
      () => app.get('/', { websocket: asRouteOptions({ [name]: {} }) }, () => {}),
      unknown(`websocket.${name}`)
    )
  }
})

t.test('limits come from the route, the plugin or the defaults, and false disables them', async t => {
  const defaults = readPluginOptions({})
  t.match(defaults, {
    messageTimeout: 60_000,
    idleTimeout: false,
    maxLifetime: false,
    maxControlFrames: 1000,
    maxPendingMessages: 256,
    backpressure: 'close',
    rateLimit: false
  })
  const quarter = totalmem() / 4
  t.ok(defaults.budget.limit > 0 && defaults.budget.limit <= quarter, 'a quarter of the memory')
  const plugin = readPluginOptions({
    messageTimeout: false,
    idleTimeout: 5,
    backpressure: 'drop',
    rateLimit: { messages: 7 },
    maxTotalBufferedAmount: 9
  })
  t.equal(plugin.budget.limit, 9)
  const route = readRouteOptions({ idleTimeout: false, maxLifetime: 3, backpressure: 'close' }, plugin)
  t.match(route, {
    messageTimeout: false,
    idleTimeout: false,
    maxLifetime: 3,
    backpressure: 'close',
    rateLimit: { messages: 7, bytes: undefined, policy: 'pause' }
  })
  t.equal(route.budget, plugin.budget, 'shared')
  const own = readRouteOptions({ rateLimit: { bytes: 8, policy: 'close' } }, plugin)
  t.strictSame(own.rateLimit, { messages: undefined, bytes: 8, policy: 'close' })
  t.equal(readRouteOptions({ rateLimit: false }, plugin).rateLimit, false)
})

t.test('the limits of a route reach its connections', async t => {
  const { app } = await makeApp(t, { maxControlFrames: 5 })
  const websocket = {
    idleTimeout: ms(40),
    maxControlFrames: 3,
    rateLimit: { messages: 1, policy: 'close' }
  } as const
  app.get('/own', { websocket }, socket => {
    socket.on('message', () => {})
  })
  app.get('/plugin', { websocket: true }, () => {})
  const port = await listen(app)
  const client = async (path: string): Promise<RawClient> => {
    const raw = await connectRaw(t, port)
    raw.write(handshake(path))
    await raw.response()
    return raw
  }
  const idle = await client('/own')
  t.equal(String((await idle.frame()).payload.subarray(2)), 'idle')
  const busy = await client('/own')
  busy.write(text('a'), text('b'))
  t.equal(String((await busy.frame()).payload.subarray(2)), 'too much at once')
  for (const [path, count] of [
    ['/own', 4],
    ['/plugin', 6]
  ] as const) {
    const flood = await client(path)
    flood.write(...Array.from({ length: count }, () => frame(10, '')))
    t.equal(String((await flood.frame()).payload.subarray(2)), 'too many control frames', path)
  }
})

t.test('a wrong subprotocol of a route is refused', async t => {
  const { app } = await makeApp(t)
  for (const subprotocol of ['', 'a b', [], ['a', 'a'], ['a', 7], 7, null, 'ä']) {
    t.throws(() => app.get('/', { websocket: asRouteOptions({ subprotocol }) }, () => {}), {
      code: 'FST_UPGRADE_INVALID_OPTION',
      message: /"websocket.subprotocol"/
    })
  }
})

t.test('option names of ws are accepted when their meaning is the same, and 0 means no limit', async t => {
  const given = asOptions({
    prefix: '/x',
    logLevel: 'info',
    options: {
      maxPayload: 0,
      closeTimeout: 7,
      perMessageDeflate: false,
      clientTracking: true,
      autoPong: true,
      skipUTF8Validation: false
    }
  })
  t.match(readPluginOptions(given), { maxPayload: 2 ** 31 - 1, closeTimeout: 7 })
  for (const [value, maxPayload, closeTimeout] of [
    [Infinity, 2 ** 31 - 1, 2 ** 31 - 1],
    [1e10, 2 ** 31 - 1, 2 ** 31 - 1],
    ['1024', 1024, 1024],
    [10.5, 10, 10],
    [0, 2 ** 31 - 1, 1],
    [null, 2 ** 20, 5000]
  ]) {
    const options = asOptions({ options: { maxPayload: value, closeTimeout: value } })
    t.match(readPluginOptions(options), { maxPayload, closeTimeout }, String(value))
  }
  t.equal(
    readPluginOptions({ maxPayload: 5, options: { maxPayload: 9 } }).maxPayload,
    5,
    "the plugin's name takes precedence"
  )
  for (const options of [
    { clientTracking: false },
    { autoPong: false },
    { skipUTF8Validation: true },
    { handleProtocols: 7 },
    { verifyClient: 7 },
    { maxPayload: -1 },
    { maxPayload: NaN },
    { maxPayload: 'much' },
    { closeTimeout: '' },
    { perMessageDeflate: 7 },
    { perMessageDeflate: { serverMaxWindowBits: 8 } }
  ]) {
    t.throws(() => readPluginOptions(asOptions({ options })), { code: 'FST_UPGRADE_INVALID_OPTION' })
  }
  t.throws(() => readPluginOptions(asOptions({ options: { perMessageDeflate: { x: 1 } } })), {
    code: 'FST_UPGRADE_UNKNOWN_OPTION',
    message: /perMessageDeflate.x"/
  })
  t.doesNotThrow(() => readPluginOptions(asOptions({ options: { clientTracking: undefined } })))
})

t.test('the error for a wrong part of perMessageDeflate names it', async t => {
  const { app } = await makeApp(t)
  const parts: readonly (readonly [name: string, option: object, expected: string])[] = [
    ...BOOLEANS.map(name => [name, { [name]: 7 }, 'a boolean'] as const),
    ...Object.entries(RANGES).map(
      ([name, [min, max]]) => [name, { [name]: max + 1 }, `an integer from ${min} to ${max}`] as const
    ),
    ...Object.entries(ZLIB_RANGES).map(([name, [min, max]]) => {
      const option = { zlibDeflateOptions: { [name]: min - 1 } }
      return [`zlibDeflateOptions.${name}`, option, `an integer from ${min} to ${max}`] as const
    }),
    ['zlibDeflateOptions', { zlibDeflateOptions: 7 }, 'an object']
  ]
  for (const [name, perMessageDeflate, expected] of parts) {
    const options = { perMessageDeflate }
    const says = (prefix: string): { message: RegExp } => ({
      message: new RegExp(`"${prefix}perMessageDeflate.${name}".*${expected}`)
    })
    await t.rejects(register(asOptions(options)), says(''), name)
    t.throws(() => app.get('/', { websocket: asRouteOptions(options) }, () => {}), says('websocket.'), name)
    await t.rejects(register(asOptions({ options })), { message: new RegExp(`${name}".*${expected}`) }, name)
  }
})

t.test(
  'perMessageDeflate has defaults and accepts edge values, and options without effect are ignored',
  async t => {
    const defaults = {
      serverNoContextTakeover: true,
      clientNoContextTakeover: true,
      serverMaxWindowBits: 15,
      clientMaxWindowBits: 15,
      threshold: 1024,
      level: 3,
      memLevel: 8,
      strategy: 0
    }
    const read = (perMessageDeflate: FastifyUpgradeOptions['perMessageDeflate']): unknown =>
      readPluginOptions({ perMessageDeflate }).perMessageDeflate
    t.equal(read(undefined), false)
    t.equal(read(false), false)
    t.strictSame(read(true), defaults)
    t.strictSame(read({}), defaults)
    t.strictSame(
      read({
        serverNoContextTakeover: undefined,
        clientMaxWindowBits: undefined,
        threshold: undefined,
        zlibDeflateOptions: undefined,
        // Option names of `ws` without a meaning here.
        zlibInflateOptions: { chunkSize: 10_240 },
        concurrencyLimit: 10
      }),
      defaults
    )
    t.strictSame(read({ zlibDeflateOptions: { chunkSize: 1024, level: undefined } }), defaults)
    const asInWs = asOptions({ perMessageDeflate: { zlibDeflateOptions: null } })
    t.strictSame(readPluginOptions(asInWs).perMessageDeflate, defaults)
    for (const edge of [0, 1] as const) {
      const ranges = Object.fromEntries(Object.entries(RANGES).map(([name, range]) => [name, range[edge]]))
      const zlibRanges = Object.fromEntries(
        Object.entries(ZLIB_RANGES).map(([name, range]) => [name, range[edge]])
      )
      const noContextTakeover = { serverNoContextTakeover: false, clientNoContextTakeover: false }
      t.strictSame(read({ ...noContextTakeover, ...ranges, zlibDeflateOptions: zlibRanges }), {
        ...noContextTakeover,
        ...ranges,
        ...zlibRanges
      })
    }
    const plugin = readPluginOptions({ options: { perMessageDeflate: { threshold: 7 } } })
    t.strictSame(plugin.perMessageDeflate, { ...defaults, threshold: 7 })
    t.strictSame(readRouteOptions({}, plugin).perMessageDeflate, { ...defaults, threshold: 7 })
    t.equal(readRouteOptions({ perMessageDeflate: false }, plugin).perMessageDeflate, false)
    t.strictSame(readRouteOptions({ perMessageDeflate: true }, plugin).perMessageDeflate, defaults)
    const named = { perMessageDeflate: false, options: { perMessageDeflate: true } }
    t.equal(readPluginOptions(named).perMessageDeflate, false, "the plugin's name takes precedence")
  }
)

t.test('a route inherits the options of the plugin, and the defaults', async t => {
  const errorHandler = (): void => {}
  const plugin = readPluginOptions({
    maxPayload: 10,
    origin: 'https://a.test',
    heartbeat: false,
    errorHandler,
    handshakeTimeout: undefined
  })
  t.match(plugin, { maxPayload: 10, handshakeTimeout: 10_000, heartbeat: false, origin: ['https://a.test'] })
  t.match(readRouteOptions({ maxPayload: 20 }, plugin), {
    maxPayload: 20,
    heartbeat: false,
    origin: ['https://a.test'],
    errorHandler
  })
  t.strictSame(readRouteOptions({ heartbeat: {} }, plugin).heartbeat, { interval: 30_000, timeout: 10_000 })
  t.strictSame(readRouteOptions({ heartbeat: { interval: 5000 } }, plugin).heartbeat, {
    interval: 5000,
    timeout: 5000
  })
  t.strictSame(readPluginSettings({ shutdown: { code: 1012, reason: 'restart' } }).shutdown, {
    code: 1012,
    reason: 'restart',
    timeout: 5000,
    spread: 0
  })
  t.equal(readPluginSettings({ shutdown: { timeout: 30_000, spread: 29_999 } }).shutdown.spread, 29_999)
})

t.test('verifyClient and handleProtocols may be assigned null', async t => {
  const { app } = await makeApp(t, { options: { verifyClient: () => false, handleProtocols: () => 'b' } })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  t.equal((await shake(t, port, '/')).status, 401)
  Object.assign(app.websocketServer.options, { verifyClient: null, handleProtocols: null })
  t.equal((await shake(t, port, '/', { 'Sec-WebSocket-Protocol': 'a' })).status, 101)
})

t.test('verifyClient accepts and refuses as in ws', async t => {
  const { app } = await makeApp(t, { origin: '*', options: {} })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  const { options } = app.websocketServer
  const ask = async (
    verifyClient: typeof options.verifyClient
  ): Promise<Awaited<ReturnType<typeof shake>>> => {
    options.verifyClient = verifyClient
    return shake(t, port, '/', { Origin: 'http://a.test' })
  }
  t.equal(
    (await ask(info => info.origin === 'http://a.test' && !info.secure && info.req.url === '/')).status,
    101
  )
  const refused = await ask(() => false)
  t.equal(refused.status, 401)
  t.equal(codeOf(refused), 'FST_UPGRADE_NOT_VERIFIED')
  t.equal((await ask((_info, callback) => setImmediate(callback, true))).status, 101)
  const other = await ask((_info, callback) => callback(false, 418, 'a teapot', { 'X-Pot': 1 }))
  t.equal(other.status, 418)
  t.match(other.body, 'a teapot')
  t.equal(headerOf(other, 'x-pot'), '1')
  t.equal((await ask((_info, callback) => callback(false, 499))).status, 499, 'a status without a name')
  t.equal(
    (
      await ask(() => {
        throw new Error('no database')
      })
    ).status,
    500
  )
  options.verifyClient = undefined
  t.equal((await shake(t, port, '/')).status, 101)
})

t.test('a verifyClient that never answers is ended by the deadline', async t => {
  const { app } = await makeApp(t, {
    handshakeTimeout: ms(50),
    options: { verifyClient: (_info, _callback) => {} }
  })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  t.equal((await client.response()).status, 503)
})
