import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { FastifyUpgradeOptions } from '../../lib/index.js'
import {
  type App,
  connectRaw,
  handshake,
  listen,
  makeApp,
  ms,
  open,
  Signal,
  shake,
  watchProcess
} from '../helpers/app.js'
import { type Fail, SECRET, WAYS } from '../helpers/fault.js'

// Errors of the application during a handshake: the process continues, other clients are served, and the log has one line.

const WARN = 40

interface Fault {
  readonly options?: (fail: Fail) => FastifyUpgradeOptions
  readonly connectionTimeout?: number
  /** Adds the failing part, and the route `/`. */
  readonly add: (scope: FastifyInstance, fail: Fail, entered: Signal) => void
  /** The result for the client: a status, or the code of a close. */
  readonly act: (t: Test, port: number, entered: Signal) => Promise<string>
  readonly outcome: string
  /** The lines at level warn and above. */
  readonly lines?: readonly string[]
}

const status = async (t: Test, port: number, fields = {}): Promise<string> =>
  String((await shake(t, port, '/', fields)).status)

const never = (): Promise<void> => new Promise(() => {})

/** A route whose handler must not run. */
function unreached(scope: FastifyInstance): void {
  scope.get('/', { websocket: true }, () => {
    throw new Error('the handler ran')
  })
}

/** A hook that fails before any other part looks at the handshake. */
function refusedBy(hook: 'onRequest' | 'preParsing' | 'preValidation' | 'preHandler' | 'onSend'): Fault {
  return {
    add: (scope, fail) => {
      Reflect.apply(scope.addHook, scope, [hook, () => fail()])
      unreached(scope)
    },
    act: status,
    outcome: '500',
    lines: [SECRET]
  }
}

const FAULTS: Readonly<Record<string, Fault>> = {
  onRequest: refusedBy('onRequest'),
  preParsing: refusedBy('preParsing'),
  preValidation: refusedBy('preValidation'),
  preHandler: refusedBy('preHandler'),
  onSend: refusedBy('onSend'),
  preSerialization: {
    add: (scope, fail) => {
      scope.addHook('preSerialization', () => fail() as Promise<unknown>)
      scope.addHook('preHandler', async (_request, reply) => reply.code(401).send({ who: 'are you' }))
      unreached(scope)
    },
    act: status,
    // Fastify keeps the status of a reply that is an error already, and logs the failure at info level.
    outcome: '401'
  },
  'onError of a refusal': {
    add: (scope, fail) => {
      scope.addHook('onError', () => fail() as Promise<void>)
      unreached(scope)
    },
    act: (t, port) => status(t, port, { 'Sec-WebSocket-Key': 'short' }),
    outcome: '400'
  },
  'onError of what a hook threw': {
    add: (scope, fail) => {
      scope.addHook('onError', () => fail() as Promise<void>)
      scope.addHook('preHandler', async () => {
        throw Object.assign(new Error('teapot'), { statusCode: 418 })
      })
      unreached(scope)
    },
    act: status,
    outcome: '418'
  },
  'onResponse of a connection': {
    add: (scope, fail) => {
      scope.addHook('onResponse', () => fail() as Promise<void>)
      scope.get('/', { websocket: true }, socket => socket.close(4000))
    },
    act: async (t, port) => (await open(t, port, '/')).closed(),
    outcome: '4000',
    lines: ['request errored']
  },
  'onResponse of a refusal': {
    add: (scope, fail) => {
      scope.addHook('onResponse', () => fail() as Promise<void>)
      unreached(scope)
    },
    act: (t, port) => status(t, port, { 'Sec-WebSocket-Key': 'short' }),
    outcome: '400',
    lines: ['request errored']
  },
  onRequestAbort: {
    add: (scope, fail, entered) => {
      scope.addHook('onRequestAbort', () => fail() as Promise<void>)
      scope.addHook('preHandler', async () => {
        entered.fire()
        await never()
      })
      unreached(scope)
    },
    act: async (t, port, entered) => {
      const client = await connectRaw(t, port)
      client.write(handshake('/'))
      await entered.wait('preHandler')
      client.socket.resetAndDestroy()
      return 'reset'
    },
    outcome: 'reset',
    lines: ['onRequestAborted hook failed']
  },
  onTimeout: {
    connectionTimeout: ms(100),
    add: (scope, fail) => {
      scope.addHook('onTimeout', () => fail() as Promise<void>)
      scope.addHook('preHandler', never)
      unreached(scope)
    },
    act: async (t, port) => {
      const client = await connectRaw(t, port)
      client.write(handshake('/'))
      await client.gone()
      return `${client.data.length} bytes`
    },
    outcome: '0 bytes',
    lines: []
  },
  'an error handler': {
    add: (scope, fail) => {
      scope.setErrorHandler(() => fail())
      unreached(scope)
    },
    act: (t, port) => status(t, port, { 'Sec-WebSocket-Key': 'short' }),
    outcome: '500',
    lines: [SECRET]
  },
  origin: {
    options: fail => ({ origin: () => fail() as Promise<boolean> }),
    add: unreached,
    act: (t, port) => status(t, port, { Origin: 'http://a.test' }),
    outcome: '500',
    lines: [SECRET]
  },
  selectSubprotocol: {
    options: fail => ({ selectSubprotocol: () => fail() as Promise<string> }),
    add: unreached,
    act: (t, port) => status(t, port, { 'Sec-WebSocket-Protocol': 'chat' }),
    outcome: '500',
    lines: [SECRET]
  }
}

/** These answer synchronously; a promise that they return is no answer. */
const FUNCTIONS: Readonly<Record<string, Fault>> = {
  'verifyClient with one parameter': {
    options: fail => ({ options: { verifyClient: ({ req }) => req.url === '/echo' || fail() } }),
    add: unreached,
    act: status,
    outcome: '500',
    lines: [SECRET]
  },
  'verifyClient with a callback': {
    options: fail => ({
      options: { verifyClient: ({ req }, callback) => (req.url === '/echo' ? callback(true) : fail()) }
    }),
    add: unreached,
    act: status,
    outcome: '500',
    lines: [SECRET]
  },
  handleProtocols: {
    options: fail => ({ options: { handleProtocols: () => String(fail()) } }),
    add: unreached,
    act: (t, port) => status(t, port, { 'Sec-WebSocket-Protocol': 'chat' }),
    outcome: '500',
    lines: [SECRET]
  }
}

/** The messages at level warn and above. */
const warnings = ({ log }: App): string[] =>
  log.lines.filter(({ level }) => level >= WARN).map(({ msg }) => msg)

async function survives(
  t: Test,
  { options, connectionTimeout = 0, ...fault }: Fault,
  fail: Fail
): Promise<void> {
  const uncaught = watchProcess(t)
  const made = await makeApp(t, options?.(fail), { connectionTimeout })
  const { app, log } = made
  const entered = new Signal()
  app.get('/echo', { websocket: { origin: '*' } }, socket => {
    socket.on('message', data => socket.send(data, { binary: false }))
  })
  await app.register(async scope => fault.add(scope, fail, entered))
  const port = await listen(app)
  const bystander = await open(t, port, '/echo')
  for (const round of ['once', 'again']) {
    log.lines.length = 0
    t.equal(await fault.act(t, port, entered), fault.outcome, round)
    bystander.socket.send('alive')
    t.equal(await bystander.next(), 'alive', round)
    for (const line of fault.lines ?? []) await log.until(line)
    t.strictSame(warnings(made), fault.lines ?? [], round)
    t.equal(app.websocketServer.clients.size, 1, round)
  }
  const next = await open(t, port, '/echo')
  t.equal(next.socket.readyState, next.socket.OPEN, 'and new ones are served')
  t.strictSame(uncaught, [])
}

for (const [what, fault] of Object.entries(FAULTS)) {
  for (const [how, fail] of Object.entries(WAYS)) {
    t.test(`${what} ${how}`, t => survives(t, fault, fail))
  }
}

for (const [what, fault] of Object.entries(FUNCTIONS)) {
  t.test(`${what} throws`, t => survives(t, fault, WAYS.throws))
}
