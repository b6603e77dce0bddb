import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import upgrade, { type FastifyUpgradeOptions } from '../../lib/index.js'
import {
  bareApp,
  connectRaw,
  duration,
  handshake,
  headerOf,
  listen,
  ms,
  type RawClient,
  Signal,
  shake,
  watchProcess,
  withDeadline
} from '../helpers/app.js'
import { frame } from '../protocol/wire.js'

// app.close() ends within shutdown.timeout, whatever peers and the application do.

const TIMEOUT = ms(200)
/** Much less than the 5 s that a refused client gets otherwise. */
const MARGIN = ms(1_500)
/** Longer than any test waits. */
const NEVER = 1_000_000

const nothing = (): void => {}
const never = (): Promise<void> => new Promise(nothing)
const forEver = <Value>(entered: Signal): Promise<Value> => {
  entered.fire()
  return new Promise(nothing)
}
const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`

interface Case {
  readonly options?: (entered: Signal) => FastifyUpgradeOptions
  /** Runs before the plugin is registered. */
  readonly before?: (app: FastifyInstance, entered: Signal) => void
  /** Adds the route `/`. */
  readonly route: (app: FastifyInstance, entered: Signal) => void
  /** The data that the client writes; it reads everything and does nothing else, except for `goesOn`. */
  readonly writes?: readonly (string | Uint8Array)[]
  readonly goesOn?: (client: RawClient) => Promise<void>
  /** The statuses of all responses that the client receives. */
  readonly statuses?: readonly number[]
}

const open = (app: FastifyInstance, entered: Signal): void => {
  app.get('/', { websocket: true }, () => entered.fire())
}

/** A route whose handshake waits in `hook` forever. */
function stuckIn(
  hook: 'onRequest' | 'preParsing' | 'preValidation' | 'preHandler' | 'onSend'
): Case['route'] {
  return (app, entered) => {
    app.addHook(hook, async () => {
      entered.fire()
      await never()
    })
    app.get('/', { websocket: true }, nothing)
  }
}

const CASES: Readonly<Record<string, Case>> = {
  'a silent peer': { route: open, statuses: [101] },
  'a peer that never stops sending': {
    route: open,
    statuses: [101],
    goesOn: async client => {
      const flood = frame(2, Buffer.alloc(50_000))
      const send = (): void => {
        while (client.socket.writable && client.socket.write(flood));
      }
      client.socket.on('drain', send)
      send()
    }
  },
  'a peer that sends pings and never reads': {
    route: open,
    goesOn: async client => {
      client.socket.pause()
      const ping = Buffer.concat(Array.from({ length: 5_000 }, () => frame(9, 'x')))
      const send = (): void => {
        while (client.socket.writable && client.socket.write(ping));
      }
      client.socket.on('drain', send)
      send()
    }
  },
  'a peer that never reads what is buffered for it': {
    options: () => ({ maxBufferedAmount: 100_000_000 }),
    route: (app, entered) => {
      app.get('/', { websocket: true }, socket => {
        socket.send(Buffer.alloc(30_000_000))
        entered.fire()
      })
    },
    goesOn: async client => void client.socket.pause()
  },
  'a handler that never settles': {
    route: (app, entered) => {
      app.get('/', { websocket: true }, async () => {
        entered.fire()
        await never()
      })
    },
    statuses: [101]
  },
  'a loop that waits for messages': {
    route: (app, entered) => {
      app.get('/', { websocket: true }, async socket => {
        entered.fire()
        for await (const _ of socket) await never()
      })
    },
    writes: [handshake('/'), frame(1, 'one'), frame(1, 'two')],
    statuses: [101]
  },
  'onRequest that never settles': { route: stuckIn('onRequest'), statuses: [503] },
  'preParsing that never settles': { route: stuckIn('preParsing'), statuses: [503] },
  'preHandler that never settles': { route: stuckIn('preHandler'), statuses: [503] },
  'onSend that never settles': { route: stuckIn('onSend'), statuses: [] },
  'onRequest from before the plugin that never settles': {
    before: (app, entered) => {
      app.addHook('onRequest', async () => {
        entered.fire()
        await never()
      })
    },
    route: open,
    statuses: []
  },
  'an origin check that never settles': {
    options: entered => ({ origin: () => forEver(entered) }),
    route: open,
    writes: [handshake('/', { Origin: 'http://a.test' })],
    statuses: [503]
  },
  'a verifyClient that never answers': {
    options: entered => ({ options: { verifyClient: (_info, _callback) => entered.fire() } }),
    route: open,
    statuses: [503]
  },
  'a choice of the subprotocol that never settles': {
    options: entered => ({ selectSubprotocol: () => forEver(entered) }),
    route: open,
    writes: [handshake('/', { 'Sec-WebSocket-Protocol': 'a' })],
    statuses: [503]
  },
  'a reply that was hijacked': {
    route: (app, entered) => {
      app.addHook('preHandler', async (_request, reply) => {
        reply.hijack()
        entered.fire()
      })
      app.get('/', { websocket: true }, nothing)
    },
    statuses: []
  },
  'a refused client that lingers': {
    route: (app, entered) => {
      app.addHook('onResponse', async () => entered.fire())
      open(app, entered)
    },
    writes: [handshake('/nowhere')],
    goesOn: async client => client.end(),
    statuses: [404]
  },
  'a refusal that never ends': {
    route: (app, entered) => {
      app.setErrorHandler((_error, _request, reply) => {
        entered.fire()
        return reply.code(400).send(new Readable({ read: nothing }))
      })
      app.get('/', { websocket: true }, nothing)
    },
    writes: [handshake('/', { 'Sec-WebSocket-Key': 'short' })]
  },
  'a handshake behind a request that never ends': {
    route: (app, entered) => {
      open(app, entered)
      app.get('/slow', async () => {
        entered.fire()
        await never()
      })
    },
    writes: [get('/slow'), handshake('/')],
    statuses: []
  },
  'a handshake that no listener of the server takes': {
    route: (app, entered) => {
      open(app, entered)
      app.server.on('upgrade', () => entered.fire())
    },
    writes: [handshake('/nowhere')],
    statuses: [404]
  },
  'a preClose that never settles': { options: () => ({ preClose: never }), route: open, statuses: [101] },
  'a preClose hook from before the plugin that fails': {
    before: app => {
      app.addHook('preClose', async () => {
        throw new Error('of preClose')
      })
    },
    route: open,
    statuses: [101]
  }
}

/** The statuses of the responses that a client has received. */
function statusesOf({ data }: RawClient): number[] {
  return Array.from(data.toString('latin1').matchAll(/HTTP\/1\.1 (\d+)/g), ([, status]) => Number(status))
}

async function withPlugin(
  t: Test,
  { options, before }: Partial<Case>
): Promise<readonly [FastifyInstance, Signal]> {
  const { app } = bareApp(t)
  const entered = new Signal()
  before?.(app, entered)
  await app.register(upgrade, {
    shutdown: { timeout: TIMEOUT },
    closeTimeout: NEVER,
    handshakeTimeout: NEVER,
    heartbeat: false,
    ...options?.(entered)
  })
  return [app, entered]
}

for (const [name, one] of Object.entries(CASES)) {
  t.test(`app.close() ends in time with ${name}`, async t => {
    const uncaught = watchProcess(t)
    const [app, entered] = await withPlugin(t, one)
    one.route(app, entered)
    const client = await connectRaw(t, await listen(app))
    client.write(...(one.writes ?? [handshake('/')]))
    await entered.wait('the server')
    await one.goesOn?.(client)
    const took = await duration(app.close().catch(error => t.equal(error.message, 'of preClose')))
    t.ok(took < TIMEOUT + MARGIN, `${took} ms`)
    t.equal(app.websocketServer.clients.size, 0)
    if (one.statuses !== undefined) {
      await client.gone()
      t.strictSame(statusesOf(client), one.statuses)
    }
    t.strictSame(uncaught, [])
  })
}

t.test('a handshake that starts during app.close(), behind a slow request, is refused in time', async t => {
  const [app, entered] = await withPlugin(t, {})
  const release = new Signal()
  const closes = new Signal()
  app.addHook('preClose', async () => closes.fire())
  app.get('/slow', async () => {
    entered.fire()
    await release.promise
    return 'slow'
  })
  open(app, new Signal())
  const client = await connectRaw(t, await listen(app))
  client.write(get('/slow'), handshake('/'))
  await entered.wait('request')
  const took = duration(app.close())
  await closes.wait('preClose')
  release.fire()
  t.equal((await client.response()).body, 'slow')
  const refused = await client.response()
  t.equal(refused.status, 503)
  t.equal(headerOf(refused, 'retry-after'), '5')
  // The client has read everything and stays connected.
  t.ok((await took) < TIMEOUT + MARGIN, `${await took} ms`)
})

t.test('a handshake after the deadline of app.close() gets 503, and little time to read it', async t => {
  const [app] = await withPlugin(t, {})
  const release = new Signal()
  const overdue = new Signal()
  app.addHook('preClose', async () => {
    setTimeout(() => overdue.fire(), TIMEOUT + ms(50))
    await release.promise
  })
  open(app, new Signal())
  const port = await listen(app)
  const closed = app.close()
  await overdue.wait('the timeout')
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  t.equal((await client.response()).status, 503)
  release.fire()
  const took = await duration(closed)
  t.ok(took < MARGIN, `${took} ms`)
  await client.gone()
})

for (const return503OnClosing of [true, false]) {
  t.test(
    `a handshake gets 503 with Retry-After from the start of app.close(), return503OnClosing: ${return503OnClosing}`,
    async t => {
      const { app } = bareApp(t, { return503OnClosing })
      const closes = new Signal()
      const release = new Signal()
      // The plugin closes nothing before this hook has ended.
      app.addHook('preClose', async () => {
        closes.fire()
        await release.promise
      })
      await app.register(upgrade)
      app.get('/', { websocket: true }, socket => {
        socket.on('message', data => socket.send(data))
      })
      const port = await listen(app)
      const client = await connectRaw(t, port)
      client.write(handshake('/'))
      await client.response()
      const closed = app.close()
      await closes.wait('preClose')
      const response = await shake(t, port, '/')
      t.equal(response.status, 503)
      t.equal(headerOf(response, 'retry-after'), '5')
      client.write(frame(1, 'still here'))
      t.equal(String((await client.frame()).payload), 'still here', 'open connections work')
      release.fire()
      t.equal((await client.frame()).opcode, 8)
      client.socket.end()
      await withDeadline(closed, 10_000, 'app.close()')
    }
  )
}

t.test('a shutdown.timeout beyond pluginTimeout is limited by it', async t => {
  const { app } = bareApp(t, { pluginTimeout: ms(200) })
  await app.register(upgrade, {
    shutdown: { timeout: ms(600) },
    preClose: () => new Promise(resolve => setTimeout(resolve, ms(250))),
    closeTimeout: NEVER
  })
  const ended: string[] = []
  app.addHook('onClose', async () => void ended.push('onClose'))
  app.get('/', { websocket: true }, socket => {
    socket.on('close', code => ended.push(`${code}`))
  })
  const client = await connectRaw(t, await listen(app))
  client.write(handshake('/'))
  await client.response()
  const took = await duration(app.close())
  t.ok(took > ms(600) - 5 && took < ms(600) + MARGIN, `${took} ms`)
  t.strictSame(ended.sort(), ['1006', 'onClose'])
  t.equal((await client.frame()).opcode, 8, 'it received the Close frame')
})

t.test('pluginTimeout 0 means none', async t => {
  const { app } = bareApp(t, { pluginTimeout: 0 })
  await app.register(upgrade, { shutdown: { timeout: TIMEOUT }, closeTimeout: NEVER })
  const order: string[] = []
  app.addHook('preClose', async () => void order.push(`${app.websocketServer.clients.size}`))
  app.get('/', { websocket: true }, nothing)
  const client = await connectRaw(t, await listen(app))
  client.write(handshake('/'))
  await client.response()
  await withDeadline(app.close(), 10_000, 'app.close()')
  t.strictSame(order, ['0'], 'hooks that were added later wait')
})

t.test('a preClose that takes too long is logged, and the connections do not wait for it', async t => {
  const { app, log } = bareApp(t)
  const codes: string[] = []
  await app.register(upgrade, { shutdown: { timeout: TIMEOUT }, preClose: never })
  app.get('/', { websocket: true }, socket => {
    socket.on('close', code => codes.push(`${code}`))
  })
  const client = await connectRaw(t, await listen(app))
  client.write(handshake('/'))
  await client.response()
  const closed = duration(app.close())
  client.write((await client.frame()).opcode === 8 ? frame(8, Buffer.from([3, 233])) : 'no Close')
  const took = await closed
  t.ok(took > TIMEOUT - 5 && took < TIMEOUT + MARGIN, `${took} ms`)
  t.strictSame(codes, ['1001'], 'there was time for the closing handshake')
  t.equal(log.with('preClose did not end within shutdown.timeout').length, 1)
})
