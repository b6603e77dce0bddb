import t, { type Test } from 'tap'
import type { FastifyUpgradeOptions, ServerOptions } from '../../lib/index.js'
import {
  codeOf,
  connectRaw,
  handshake,
  listen,
  makeApp,
  ms,
  Signal,
  shake,
  tick,
  watchProcess
} from '../helpers/app.js'

// Checks of the application that are asynchronous, or fail.

const ORIGIN = { Origin: 'http://a.test' }

async function statusOf(t: Test, options: FastifyUpgradeOptions, fields = ORIGIN): Promise<number> {
  const { app } = await makeApp(t, options)
  app.get('/', { websocket: true }, () => {})
  return (await shake(t, await listen(app), '/', fields)).status
}

/** Options that the types refuse and that code without types passes. */
const asServerOptions = (options: object): ServerOptions => Object.assign({}, options)

/** Values that code may throw instead of an error. */
const NOTHINGS = [undefined, null, false, 0, '']

t.test('a check that rejects without an error refuses the client', async t => {
  for (const nothing of NOTHINGS) {
    const name = `with ${JSON.stringify(nothing)}`
    const reject = (): Promise<boolean> => Promise.reject(nothing)
    t.equal(await statusOf(t, { origin: reject }), 500, `origin, ${name}`)
    const verifyClient = (): never => {
      throw nothing
    }
    t.equal(await statusOf(t, { origin: '*', options: { verifyClient } }), 500, `verifyClient, ${name}`)
  }
})

t.test(
  'asynchronous checks of kinds that ws does not support refuse the client and do not end the process',
  async t => {
    const uncaught = watchProcess(t)
    const fails = async (): Promise<never> => {
      throw new Error('not now')
    }
    t.equal(await statusOf(t, { origin: '*', options: { verifyClient: () => fails() } }), 401)
    const withCallback = (_info: object, _callback: unknown): Promise<never> => fails()
    t.equal(await statusOf(t, { origin: '*', options: { verifyClient: withCallback } }), 500)
    const options = asServerOptions({ handleProtocols: () => fails() })
    const fields = { ...ORIGIN, 'Sec-WebSocket-Protocol': 'a' }
    t.equal(await statusOf(t, { origin: '*', options }, fields), 500)
    await tick()
    t.strictSame(uncaught, [])
  }
)

t.test('a check that throws without an error refuses the client', async t => {
  for (const nothing of NOTHINGS) {
    const origin = (): never => {
      throw nothing
    }
    t.equal(await statusOf(t, { origin }), 500, `origin, with ${JSON.stringify(nothing)}`)
  }
})

t.test('a choice of the subprotocol that fails without an error opens no connection', async t => {
  for (const nothing of NOTHINGS) {
    const { app } = await makeApp(t, { selectSubprotocol: () => Promise.reject(nothing) })
    app.get('/', { websocket: true }, () => t.fail('no connection'))
    const { status } = await shake(t, await listen(app), '/', { 'Sec-WebSocket-Protocol': 'chat' })
    t.equal(status, 500, `with ${JSON.stringify(nothing)}`)
  }
})

t.test('verifyClient is called after an async origin check has accepted, and only then', async t => {
  const asked: string[] = []
  const verdicts = new Map([
    ['http://a.test', true],
    ['http://b.test', false]
  ])
  const { app } = await makeApp(t, {
    origin: async origin => {
      asked.push(`origin ${origin}`)
      await tick()
      return verdicts.get(origin) === true
    },
    options: {
      verifyClient: ({ origin }) => {
        asked.push(`verify ${JSON.stringify(origin)}`)
        return true
      }
    }
  })
  app.addHook('preHandler', async () => {
    asked.push('preHandler')
  })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  t.equal((await shake(t, port, '/', { Origin: 'http://a.test' })).status, 101)
  const refused = await shake(t, port, '/', { Origin: 'http://b.test' })
  t.equal(refused.status, 403)
  t.equal(codeOf(refused), 'FST_UPGRADE_FORBIDDEN_ORIGIN')
  t.equal((await shake(t, port, '/')).status, 101)
  t.strictSame(asked, [
    'origin http://a.test',
    'verify "http://a.test"',
    'preHandler',
    'origin http://b.test',
    'verify ""',
    'preHandler'
  ])
})

t.test('verifyClient may be removed during the origin check', async t => {
  const { app } = await makeApp(t, {
    origin: async () => {
      await tick()
      app.websocketServer.options.verifyClient = undefined
      return true
    },
    options: { verifyClient: () => false }
  })
  app.get('/', { websocket: true }, () => {})
  t.equal((await shake(t, await listen(app), '/', ORIGIN)).status, 101)
})

t.test('an async origin check after the deadline has no effect', async t => {
  const go = new Signal<boolean>()
  const { app } = await makeApp(t, { handshakeTimeout: ms(50), origin: () => go.promise })
  app.addHook('preHandler', async () => t.fail('refused by then'))
  app.get('/', { websocket: true }, () => t.fail('no connection'))
  const client = await connectRaw(t, await listen(app))
  client.write(handshake('/', ORIGIN))
  t.equal((await client.response()).status, 503)
  go.fire(true)
  await client.end()
  await tick()
  t.equal(client.data.length, 0)
})

t.test('a choice of the subprotocol after the deadline has no effect', async t => {
  const go = new Signal<string>()
  const { app } = await makeApp(t, { handshakeTimeout: ms(50), selectSubprotocol: () => go.promise })
  app.get('/', { websocket: true }, () => t.fail('no connection'))
  const client = await connectRaw(t, await listen(app))
  client.write(handshake('/', { 'Sec-WebSocket-Protocol': 'chat' }))
  t.equal((await client.response()).status, 503)
  go.fire('chat')
  await client.end()
  await tick()
  t.equal(client.data.length, 0)
})

t.test('another listener of upgrade receives its request unchanged', async t => {
  const { app } = await makeApp(t)
  app.get('/ours', { websocket: true }, socket => socket.close(4000))
  const port = await listen(app)
  const listeners = new Map<string, number>()
  app.server.on('upgrade', (request, socket, head) => {
    if (request.url !== '/theirs') return
    for (const event of ['close', 'end', 'timeout', 'drain', 'error']) {
      listeners.set(event, socket.listenerCount(event))
    }
    socket.end(`theirs ${request.url} ${head.length}`)
  })
  const client = await connectRaw(t, port)
  client.write(handshake('/theirs'), 'abc')
  await client.end()
  t.equal(String(client.data), 'theirs /theirs 3')
  t.equal(listeners.get('timeout'), 0)
  t.equal((await shake(t, port, '/ours')).status, 101)
})
