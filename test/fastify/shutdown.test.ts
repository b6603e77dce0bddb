import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import upgrade, { type FastifyUpgradeOptions } from '../../lib/index.js'
import {
  bareApp,
  codeOf,
  connectRaw,
  duration,
  ERROR,
  handshake,
  headerOf,
  listen,
  makeApp,
  ms,
  open,
  type RawClient,
  Signal,
  shake,
  watchProcess,
  withDeadline
} from '../helpers/app.js'
import { run } from '../helpers/program.js'
import { bytes } from '../protocol/wire.js'

/** Longer than any test waits. */
const NEVER = 1_000_000

const nothing = (): void => {}

/** A client that does not parse its input and never answers. */
async function silentClient(t: Test, port: number, path: string): Promise<RawClient> {
  const client = await connectRaw(t, port)
  client.write(handshake(path))
  t.equal((await client.response()).status, 101)
  return client
}

const closing = async (app: FastifyInstance): Promise<void> => {
  await withDeadline(app.close(), 10_000, 'app.close()')
}

t.test('app.close() closes every connection with 1001', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, nothing)
  const port = await listen(app)
  const clients = [await open(t, port, '/'), await open(t, port, '/'), await open(t, port, '/')]
  t.equal(app.websocketServer.clients.size, 3)
  await closing(app)
  t.equal(app.websocketServer.clients.size, 0)
  for (const client of clients) t.equal(await client.closed(), '1001')
})

t.test('the option shutdown sets another code and reason', async t => {
  const { app } = await makeApp(t, { shutdown: { code: 1012, reason: 'back in a minute' } })
  app.get('/', { websocket: true }, nothing)
  const client = await open(t, await listen(app), '/')
  await closing(app)
  t.equal(await client.closed(), '1012 back in a minute')
})

t.test('a peer that never answers is cut after shutdown.timeout', async t => {
  const { app } = await makeApp(t, { shutdown: { timeout: 150 }, closeTimeout: NEVER, heartbeat: false })
  const code = new Signal<number>()
  app.get('/', { websocket: true }, socket => {
    socket.on('close', code.fire.bind(code))
  })
  const port = await listen(app)
  const client = await silentClient(t, port, '/')
  const took = await duration(app.close())
  t.ok(took > 140, `not before: ${took} ms`)
  t.same(Buffer.from(client.data), bytes(0x88, 2, 1001 >> 8, 1001 & 255), 'it received the Close frame')
  t.equal(await code.wait('close'), 1006)
  await client.gone()
})

t.test('a peer that is slower than closeTimeout is cut by it, before shutdown.timeout', async t => {
  const { app } = await makeApp(t, { shutdown: { timeout: NEVER }, closeTimeout: 100 })
  app.get('/', { websocket: true }, nothing)
  const client = await silentClient(t, await listen(app), '/')
  await closing(app)
  await client.gone()
})

t.test('a peer that has stopped reading does not delay app.close()', async t => {
  const { app } = await makeApp(t, { shutdown: { timeout: 100 } })
  app.get('/', { websocket: true }, socket => socket.send(Buffer.alloc(8_000_000)))
  const client = await connectRaw(t, await listen(app))
  client.socket.pause()
  client.write(handshake('/'))
  await once(app.websocketServer, 'connection')
  await closing(app)
})

t.test('closing connections are awaited, and not closed again', async t => {
  const { app } = await makeApp(t, { closeTimeout: 100 })
  app.get('/', { websocket: true }, socket => socket.close(4000, 'mine'))
  const client = await silentClient(t, await listen(app), '/')
  await closing(app)
  t.same(Buffer.from(client.data), bytes(0x88, 6, 4000 >> 8, 4000 & 255, 'mine'), 'one Close')
})

t.test('a handshake whose hook never ends gets 503, and app.close() does not wait for the hook', async t => {
  const { app } = await makeApp(t, { handshakeTimeout: NEVER })
  const entered = new Signal()
  const uncaught = watchProcess(t)
  let opened = 0
  const release = new Signal()
  app.get(
    '/',
    {
      websocket: true,
      preHandler: async () => {
        entered.fire()
        await release.promise
      }
    },
    () => opened++
  )
  const client = await connectRaw(t, await listen(app))
  client.write(handshake('/'))
  await entered.wait('hook')
  const closed = closing(app)
  const response = await client.response()
  t.equal(response.status, 503)
  t.equal(codeOf(response), 'FST_UPGRADE_SHUTTING_DOWN')
  t.equal(headerOf(response, 'retry-after'), '5')
  await client.end()
  client.socket.end()
  await closed
  release.fire()
  await new Promise(setImmediate)
  t.equal(opened, 0)
  t.strictSame(uncaught, [])
})

t.test('a handshake during app.close() gets 503 with Retry-After', async t => {
  for (const return503OnClosing of [true, false]) {
    const { app } = bareApp(t, { return503OnClosing })
    const closes = new Signal()
    const release = new Signal()
    // The connections are closed by now, and the server still has clients.
    await app.register(upgrade)
    app.addHook('preClose', async () => {
      closes.fire()
      await release.promise
    })
    app.get('/', { websocket: true }, nothing)
    const port = await listen(app)
    const closed = app.close()
    await closes.wait('preClose')
    const response = await shake(t, port, '/')
    t.equal(response.status, 503, `return503OnClosing: ${return503OnClosing}`)
    t.equal(headerOf(response, 'retry-after'), '5')
    release.fire()
    await withDeadline(closed, 10_000, 'app.close()')
  }
})

t.test('a server that starts to close between the hooks and the 101 refuses the handshake', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true, onSend: async () => app.websocketServer.close() }, nothing)
  const port = await listen(app)
  const response = await shake(t, port, '/')
  t.equal(response.status, 503)
  t.equal(codeOf(response), 'FST_UPGRADE_SHUTTING_DOWN')
  t.equal(headerOf(response, 'retry-after'), '5')
})

t.test('websocketServer.close() refuses new handshakes and leaves open connections', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, socket => {
    socket.on('message', data => socket.send(data))
  })
  const port = await listen(app)
  const { websocketServer } = app
  const client = await open(t, port, '/')
  const calls: string[] = []
  websocketServer.on('close', () => calls.push('close'))
  t.notOk(websocketServer.isClosing)
  websocketServer.close(() => calls.push('first'))
  websocketServer.close(() => calls.push('second'))
  t.ok(websocketServer.isClosing)
  const response = await shake(t, port, '/')
  t.equal(response.status, 503)
  t.equal(codeOf(response), 'FST_UPGRADE_SHUTTING_DOWN')
  t.equal(headerOf(response, 'retry-after'), '5')
  client.socket.send('still here')
  t.equal(await client.next(), 'still here')
  t.strictSame(calls, [])
  const closed = once(websocketServer, 'close')
  client.socket.close()
  await withDeadline(closed, 10_000, 'close')
  t.strictSame(calls.sort(), ['close', 'first', 'second'])
  await withDeadline(
    new Promise<void>(resolve => websocketServer.close(resolve)),
    10_000,
    'close of a closed server'
  )
  t.equal(calls.length, 3, 'close is emitted once')
  await closing(app)
})

t.test('websocketServer.close() works without connections', async t => {
  const { app } = await makeApp(t)
  const calls: string[] = []
  app.websocketServer.close(() => calls.push('callback'))
  t.strictSame(calls, [], 'not before it returns')
  await withDeadline(once(app.websocketServer, 'close'), 10_000, 'close')
  t.strictSame(calls, ['callback'])
  await closing(app)
})

t.test('websocketServer emits close after it was closed, however connections end before', async t => {
  const { app } = await makeApp(t)
  const { websocketServer } = app
  const calls: string[] = []
  websocketServer.on('close', () => calls.push('close'))
  const gone = new Signal()
  app.get('/', { websocket: true }, socket => {
    socket.on('close', () => gone.fire())
  })
  const client = await open(t, await listen(app), '/')
  client.socket.close()
  await gone.wait('end of the connection')
  t.equal(websocketServer.clients.size, 0)
  t.strictSame(calls, [])
  websocketServer.close(() => calls.push('callback'))
  await withDeadline(once(websocketServer, 'close'), 10_000, 'close')
  t.strictSame(calls.sort(), ['callback', 'close'])
})

t.test('a callback of websocketServer.close() that throws does not stop the others', async t => {
  const uncaught = watchProcess(t)
  const { app, log } = await makeApp(t)
  const calls: string[] = []
  app.websocketServer.close(() => {
    throw new Error('of the first')
  })
  app.websocketServer.close(() => calls.push('second'))
  await withDeadline(once(app.websocketServer, 'close'), 10_000, 'close')
  t.strictSame(calls, ['second'])
  t.match(log.at(ERROR), [{ msg: 'a listener of websocketServer failed', err: { message: 'of the first' } }])
  t.strictSame(uncaught, [])
})

type PreClose = NonNullable<FastifyUpgradeOptions['preClose']>
const preCloses: Record<string, (calls: unknown[]) => PreClose> = {
  'with a callback': calls =>
    function (done) {
      calls.push(this.websocketServer.clients.size)
      setImmediate(done)
    },
  'that is async': calls =>
    async function () {
      calls.push(this.websocketServer.clients.size)
    },
  'that returns nothing': calls =>
    function () {
      calls.push(this.websocketServer.clients.size)
    },
  'that throws': calls => () => {
    calls.push(1)
    throw new Error('of preClose')
  },
  'that rejects': calls => async () => {
    calls.push(1)
    throw new Error('of preClose')
  }
}
for (const [name, preClose] of Object.entries(preCloses)) {
  t.test(`preClose ${name} runs once, before the connections are closed`, async t => {
    const calls: unknown[] = []
    const { app, log } = await makeApp(t, { preClose: preClose(calls) })
    app.get('/', { websocket: true }, nothing)
    const client = await open(t, await listen(app), '/')
    await closing(app)
    t.strictSame(calls, [1])
    t.equal(await client.closed(), '1001')
    const failures = log.with('preClose failed').map(({ err }) => Object(err).message)
    t.strictSame(failures, /throws|rejects/.test(name) ? ['of preClose'] : [])
  })
}

t.test('a preClose that only waits for the peers ends', async t => {
  const { app } = await makeApp(t, {
    shutdown: { timeout: 100 },
    preClose(done) {
      this.websocketServer.close(done)
    }
  })
  app.get('/', { websocket: true }, nothing)
  const client = await open(t, await listen(app), '/')
  await closing(app)
  t.equal(await client.closed(), '1001')
})

t.test('new handshakes are refused while preClose runs', async t => {
  const entered = new Signal()
  const release = new Signal()
  const { app } = await makeApp(
    t,
    {
      preClose: () => {
        entered.fire()
        return release.promise
      }
    },
    { return503OnClosing: false }
  )
  app.get('/', { websocket: true }, () => t.fail('no connection'))
  const port = await listen(app)
  const closed = closing(app)
  await entered.wait('preClose')
  t.equal((await shake(t, port, '/')).status, 503)
  release.fire()
  await closed
})

t.test('the code of a preClose that closes the connections itself is sent', async t => {
  const { app } = await makeApp(t, {
    async preClose() {
      for (const socket of this.websocketServer.clients) socket.close(4321, 'by preClose')
    }
  })
  app.get('/', { websocket: true }, nothing)
  const client = await open(t, await listen(app), '/')
  await closing(app)
  t.equal(await client.closed(), '4321 by preClose')
})

t.test('each scope closes with its own options, and none waits for another', async t => {
  const { app } = bareApp(t)
  const release = new Signal()
  await app.register(async scope => {
    await scope.register(upgrade, {
      shutdown: { code: 4001 },
      preClose: () => release.promise
    })
    scope.get('/slow', { websocket: true }, nothing)
  })
  await app.register(async scope => {
    await scope.register(upgrade, { shutdown: { code: 4002 } })
    scope.get('/quick', { websocket: true }, nothing)
  })
  const port = await listen(app)
  const slow = await open(t, port, '/slow')
  const quick = await open(t, port, '/quick')
  const closed = app.close()
  t.equal(await quick.closed(), '4002')
  release.fire()
  t.equal(await slow.closed(), '4001')
  await withDeadline(closed, 10_000, 'app.close()')
})

t.test('app.close() works before the server has listened', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, nothing)
  await app.ready()
  await closing(app)
  t.ok(app.websocketServer.isClosing)
})

t.test('messages sent during the shutdown arrive before the Close frame', async t => {
  const { app } = await makeApp(t, {
    async preClose() {
      for (const socket of this.websocketServer.clients) socket.send('goodbye')
    }
  })
  app.get('/', { websocket: true }, nothing)
  const client = await open(t, await listen(app), '/')
  await closing(app)
  t.equal(await client.next(), 'goodbye')
  t.equal(await client.closed(), '1001')
})

t.test(
  'an unclaimed upgrade neither keeps the application from closing nor ends the process early',
  async t => {
    for (const leaves of [true, false]) {
      for (const head of ['Upgrade: websocket', 'Upgrade: foo']) {
        const ended = await run(t, process.execPath, [
          '--input-type=module',
          '--eval',
          `
        import { once } from 'node:events'
        import { connect } from 'node:net'
        import Fastify from 'fastify'
        import upgrade from 'fastify-upgrade'
        const app = Fastify()
        await app.register(upgrade)
        app.get('/ws', { websocket: true }, () => {})
        app.addHook('onClose', async () => console.log('onClose'))
        app.server.on('upgrade', () => {})
        await app.listen({ port: 0, host: '127.0.0.1' })
        const upgraded = once(app.server, 'upgrade')
        const client = connect(app.server.address().port, '127.0.0.1')
        client.write('GET /stray HTTP/1.1\\r\\nHost: x\\r\\nConnection: Upgrade\\r\\n${head}\\r\\n\\r\\n')
        let data = ''
        const closed = once(client.on('data', chunk => { data += chunk }), 'close')
        await upgraded
        if (${leaves}) client.destroy()
        const start = performance.now()
        await app.close()
        console.log('closed')
        await closed
        console.log(data.slice(9, 12))
        if (performance.now() - start > ${ms(2_000)}) console.log('late')
        `
        ])
        const expected = `onClose\nclosed\n${leaves ? '' : '404'}\n`
        t.strictSame(ended, { code: 0, stdout: expected, stderr: '' }, `${leaves} ${head}`)
      }
    }
  }
)

t.test(
  'an upgrade during the close of the application is left to other listeners, and then ended',
  async t => {
    const hold = new Signal()
    const { app } = await makeApp(t, { preClose: () => hold.promise, shutdown: { timeout: ms(60_000) } })
    app.server.on('upgrade', ({ url }: IncomingMessage, socket: Duplex) => {
      if (url === '/other') socket.end('HTTP/1.1 101 Other\r\n\r\n', () => socket.destroy())
    })
    const port = await listen(app)
    const [other, nowhere] = [await connectRaw(t, port), await connectRaw(t, port)]
    const closed = app.close()
    other.write(handshake('/other'))
    nowhere.write(handshake('/nowhere'))
    t.equal((await other.response()).head, 'HTTP/1.1 101 Other')
    t.equal((await nowhere.response()).status, 404)
    hold.fire()
    await withDeadline(closed, 10_000, 'app.close()')
  }
)
