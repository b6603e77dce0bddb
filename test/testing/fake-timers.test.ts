import { EventEmitter } from 'node:events'
import { mock } from 'node:test'
import FakeTimers from '@sinonjs/fake-timers'
import t, { type Test } from 'tap'
import type { FastifyUpgradeOptions } from '../../lib/index.js'
import type { WebSocket } from '../../lib/testing/index.js'
import { makeApp, Signal } from '../helpers/app.js'

/** Kept here, because the tests fake them. */
const { setImmediate, setTimeout, clearTimeout } = globalThis

const { once } = EventEmitter.prototype

/** Fakes timers, and returns the function that advances them. */
type Fake = (t: Test) => (milliseconds: number) => void

const fakes: Readonly<Record<string, Fake>> = {
  'node:test, with the clock'(t) {
    mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] })
    mock.method(performance, 'now', () => Date.now())
    t.teardown(() => mock.reset())
    return milliseconds => mock.timers.tick(milliseconds)
  },
  'node:test, all it has, with the clock'(t) {
    mock.timers.enable()
    mock.method(performance, 'now', () => Date.now())
    t.teardown(() => mock.reset())
    return milliseconds => mock.timers.tick(milliseconds)
  },
  '@sinonjs/fake-timers'(t) {
    const clock = FakeTimers.install({ toNotFake: ['nextTick', 'queueMicrotask'] })
    t.teardown(() => clock.uninstall())
    return milliseconds => clock.tick(milliseconds)
  }
}

/** The arguments of the next such event, within a deadline that is not faked. */
async function nextEvent(socket: WebSocket, event: string): Promise<unknown[]> {
  return inTime(new Promise(resolve => once.call(socket, event, (...args) => resolve(args))), event)
}

async function inTime<Value>(promise: Promise<Value>, what: string): Promise<Value> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what}`)), 5_000)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Runs enough turns of the event loop for due timers and sent data to be handled. */
async function turns(): Promise<void> {
  for (let i = 0; i < 10; i++) await new Promise(resolve => setImmediate(resolve))
}

for (const [name, fake] of Object.entries(fakes)) {
  t.test(`${name}: timers run when the test advances them`, async t => {
    const tick = fake(t)
    const pass = async (milliseconds: number): Promise<void> => {
      tick(milliseconds)
      await turns()
    }

    /** A client, and the events of the server's side at its end. */
    const open = async (t: Test, options: FastifyUpgradeOptions) => {
      const { app } = await makeApp(t, options)
      const opened = new Signal<WebSocket>()
      const ends: unknown[] = []
      app.get('/', { websocket: true }, socket => {
        socket.on('message', () => {})
        socket.on('close', (code, _reason, error) => ends.push(code, error && Reflect.get(error, 'code')))
        opened.fire(socket)
      })
      const client = await app.injectWS()
      return { app, client, server: await opened.promise, ends }
    }

    await t.test('heartbeat', async t => {
      const { client, ends } = await open(t, {})
      let pings = 0
      client.on('ping', () => pings++)
      await pass(10_000)
      for (let round = 1; round < 4; round++) {
        await pass(19_999)
        t.equal(pings, round - 1, 'none early')
        await pass(1)
        t.equal(pings, round)
        await pass(10_000)
      }
      client.pause()
      await pass(20_000)
      await pass(9_999)
      t.strictSame(ends, [], 'a silent peer gets its time')
      await pass(1)
      t.strictSame(ends, [1006, 'FST_UPGRADE_SILENT_PEER'])
    })

    await t.test('a large advance at once does not make a peer count as silent', async t => {
      const { client, ends } = await open(t, {})
      const pinged = nextEvent(client, 'ping')
      tick(60_000)
      await pinged
      await turns()
      t.strictSame(ends, [])
    })

    await t.test('two clients each have their own time', async t => {
      const { app, client } = await open(t, { idleTimeout: 40_000, heartbeat: false })
      const closed: string[] = []
      client.on('close', code => closed.push(`first ${code}`))
      await pass(10_000)
      const second = await app.injectWS()
      second.on('close', code => closed.push(`second ${code}`))
      for (let i = 0; i < 2; i++) await pass(10_000)
      t.strictSame(closed, [])
      await pass(10_000)
      t.strictSame(closed, ['first 1001'])
      await pass(9_999)
      t.strictSame(closed, ['first 1001'])
      await pass(1)
      t.strictSame(closed, ['first 1001', 'second 1001'])
    })

    await t.test('handshakeTimeout', async t => {
      const { app } = await makeApp(t, { handshakeTimeout: 3_000 })
      const entered = new Signal()
      app.get('/', { websocket: true, onRequest: () => entered.fire() }, () => {})
      const refused = t.rejects(app.injectWS(), { code: 'FST_UPGRADE_INJECT_REFUSED', statusCode: 503 })
      await entered.promise
      tick(3_000)
      await inTime(refused, 'refusal')
    })

    await t.test('closeTimeout', async t => {
      const { client, server, ends } = await open(t, { closeTimeout: 3_000 })
      client.pause()
      server.close(1000)
      await turns()
      await pass(2_999)
      t.strictSame(ends, [])
      await pass(1)
      t.strictSame(ends, [1006, 'FST_UPGRADE_CLOSE_TIMEOUT'])
    })

    await t.test('messageTimeout', async t => {
      const { client } = await open(t, { messageTimeout: 3_000 })
      client.send('the first part', { fin: false })
      await turns()
      const closed = nextEvent(client, 'close')
      tick(3_000)
      t.equal((await closed)[0], 1008)
    })

    await t.test('maxLifetime', async t => {
      const { client } = await open(t, { maxLifetime: 3_600_000, heartbeat: false })
      const closed = nextEvent(client, 'close')
      tick(3_600_000)
      t.equal((await closed)[0], 1001)
    })

    await t.test('rateLimit', async t => {
      const { client, server } = await open(t, { rateLimit: { messages: 2 } })
      const got: string[] = []
      server.on('message', data => got.push(String(data)))
      for (const word of 'abcdef') client.send(word)
      await turns()
      const first = got.length
      t.ok(first < 6, `${first} at once`)
      await pass(1_000)
      t.ok(got.length > first && got.length < 6, `${got.length} after a second`)
      for (let i = 0; i < 3; i++) {
        await pass(1_000)
      }
      t.equal(got.join(''), 'abcdef')
    })

    await t.test('shutdown.timeout and shutdown.spread', async t => {
      const { app, client } = await open(t, {
        closeTimeout: 8_000,
        shutdown: { spread: 4_000, timeout: 8_000 }
      })
      const never = await app.injectWS()
      never.pause()
      const codes: unknown[] = []
      client.on('close', code => codes.push(code))
      let hasEnded = false
      const ended = app.close().then(() => {
        hasEnded = true
      })
      await turns()
      for (let seconds = 0; seconds < 5; seconds++) await pass(1_000)
      t.strictSame(codes, [1001])
      t.notOk(hasEnded)
      for (let seconds = 5; seconds < 9; seconds++) await pass(1_000)
      await inTime(ended, 'end of the application')
    })
  })
}

t.test('without an advance no timer runs', async t => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.reset())
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, () => {})
  const client = await app.injectWS()
  client.on('ping', () => t.fail('the clock has not moved'))
  mock.timers.tick(30_000)
  await turns()
  t.equal(client.readyState, client.OPEN)
})
