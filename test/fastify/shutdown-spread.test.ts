import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { FastifyUpgradeOptions } from '../../lib/index.js'
import {
  connectRaw,
  duration,
  handshake,
  listen,
  makeApp,
  ms,
  open,
  type RawClient,
  Signal,
  shake,
  tick,
  withDeadline
} from '../helpers/app.js'
import { frame } from '../protocol/wire.js'

// Connections closed by app.close(): spread over time, after pending messages, on one timer.

/** Longer than any test waits. */
const NEVER = 1_000_000

const nothing = (): void => {}

/** Makes Math.random() return these numbers, and then 0. */
function setRandom(t: Test, ...numbers: readonly number[]): void {
  const { random } = Math
  t.teardown(() => {
    Math.random = random
  })
  const left = [...numbers]
  Math.random = () => left.shift() ?? 0
}

async function echoApp(t: Test, options: FastifyUpgradeOptions): Promise<readonly [FastifyInstance, number]> {
  const { app } = await makeApp(t, options)
  app.get('/', { websocket: true }, socket => {
    socket.on('message', data => socket.send(data, { binary: false }))
  })
  return [app, await listen(app)]
}

async function silentClients(t: Test, port: number, count: number): Promise<RawClient[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const client = await connectRaw(t, port)
      client.write(handshake('/'))
      await client.response()
      return client
    })
  )
}

t.test('with spread, connections keep working until their turn', async t => {
  const [app, port] = await echoApp(t, { shutdown: { code: 1012, spread: NEVER, timeout: NEVER + 1 } })
  const first = await open(t, port, '/')
  const second = await open(t, port, '/')
  const third = await open(t, port, '/')
  setRandom(t, 0.5, 0, 0.9)
  const closed = app.close()
  t.equal(await second.closed(), '1012', 'the connection whose turn comes first')
  for (const client of [first, third]) {
    client.socket.send('still here')
    t.equal(await client.next(), 'still here')
  }
  app.websocketServer.broadcast('to all')
  t.equal(await first.next(), 'to all')
  t.equal((await shake(t, port, '/')).status, 503)
  first.socket.close(4000)
  third.socket.close(4000)
  await withDeadline(closed, 10_000, 'app.close()')
})

t.test(
  'with spread, each connection is closed at its own time, independent of the answers of others',
  async t => {
    const spread = ms(400)
    const [app, port] = await echoApp(t, { shutdown: { spread, timeout: NEVER } })
    const clients = [await open(t, port, '/'), await open(t, port, '/'), await open(t, port, '/')]
    const order: number[] = []
    setRandom(t, 0.75, 0.25, 0.5)
    const start = performance.now()
    const times = clients.map(async (client, index) => {
      t.equal(await client.closed(), '1001')
      order.push(index)
      return performance.now() - start
    })
    const took = await duration(app.close())
    const [last = 0, first = 0, second = 0] = await Promise.all(times)
    t.strictSame(order, [1, 2, 0])
    t.ok(first >= 0.25 * spread - 2 && second >= 0.5 * spread - 2 && last >= 0.75 * spread - 2, 'none early')
    t.ok(first < 0.5 * spread || took > spread, `the first after ${first} ms`)
  }
)

t.test('without spread all connections are closed immediately', async t => {
  const [app, port] = await echoApp(t, { shutdown: { timeout: NEVER } })
  const clients = await silentClients(t, port, 20)
  setRandom(t, ...Array.from({ length: 20 }, () => 0.99))
  const closed = app.close()
  for (const client of clients) t.equal((await client.frame()).opcode, 8)
  for (const client of clients) client.socket.destroy()
  await withDeadline(closed, 10_000, 'app.close()')
})

t.test('the duration of preClose is part of the spread', async t => {
  const timeout = ms(400)
  const { app } = await makeApp(t, {
    shutdown: { timeout, spread: timeout - 1 },
    closeTimeout: NEVER,
    preClose: () => new Promise(nothing)
  })
  app.get('/', { websocket: true }, nothing)
  const [client] = await silentClients(t, await listen(app), 1)
  setRandom(t, 0.75)
  const took = duration(app.close())
  t.equal((await client?.frame())?.opcode, 8, 'before the time was up')
  t.ok((await took) < 2 * timeout)
})

t.test('one timer is used for all connections', async t => {
  const timers = (): number => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
  const timeout = ms(300)
  for (const spread of [0, ms(200)]) {
    const [app, port] = await echoApp(t, {
      shutdown: { timeout, spread },
      closeTimeout: NEVER,
      heartbeat: false
    })
    await silentClients(t, port, 50)
    await tick()
    const before = timers()
    const closed = app.close()
    await tick()
    // The deadlines of the connections, of the handshakes and of Fastify's hook have one timer each.
    t.ok(timers() - before <= 6, `${timers() - before} with spread ${spread}`)
    await closed
    t.equal(app.websocketServer.clients.size, 0)
  }
})

t.test('pending messages are sent before the Close frame, and their callbacks run', async t => {
  const { app } = await makeApp(t, { perMessageDeflate: true })
  const results: unknown[] = []
  app.get('/', { websocket: true }, nothing)
  const port = await listen(app)
  const client = await open(t, port, '/')
  const sent: string[] = []
  // Large messages are compressed in the thread pool, and are not ready when the connection is closed.
  for (let i = 0; i < 20; i++) sent.push(`${i} `.repeat(i % 3 === 0 ? 50_000 : 10))
  for (const socket of app.websocketServer.clients) {
    for (const message of sent) socket.send(message, error => results.push(error))
  }
  await withDeadline(app.close(), 10_000, 'app.close()')
  t.strictSame(client.messages.length < sent.length ? client.messages.length : client.messages, sent)
  t.equal(await client.closed(), '1001')
  t.strictSame(
    results,
    sent.map(() => undefined)
  )
})

t.test('callbacks of messages that cannot be delivered get an error, once', async t => {
  const { app } = await makeApp(t, {
    shutdown: { timeout: ms(150) },
    closeTimeout: NEVER,
    maxBufferedAmount: 200_000_000
  })
  const results: unknown[] = []
  const opened = new Signal()
  const COUNT = 60
  app.get('/', { websocket: true }, socket => {
    for (let i = 0; i < COUNT; i++) {
      socket.send(Buffer.alloc(1_000_000), error => results.push(error && Reflect.get(error, 'code')))
    }
    opened.fire()
  })
  const client = await connectRaw(t, await listen(app))
  client.socket.pause()
  client.write(handshake('/'))
  await opened.wait('handler')
  await withDeadline(app.close(), 10_000, 'app.close()')
  await tick()
  t.equal(results.length, COUNT)
  t.equal(results.at(-1), 'FST_UPGRADE_NOT_OPEN')
  t.strictSame(
    [...new Set(results)].sort(),
    results.includes(undefined) ? ['FST_UPGRADE_NOT_OPEN', undefined] : ['FST_UPGRADE_NOT_OPEN']
  )
})

t.test('a message in transit is still delivered while the peer is being closed', async t => {
  const { app } = await makeApp(t)
  const got: string[] = []
  app.get('/', { websocket: true }, socket => {
    socket.on('message', data => got.push(String(data)))
  })
  const [client] = await silentClients(t, await listen(app), 1)
  const closed = app.close()
  t.equal((await client?.frame())?.opcode, 8)
  client?.write(frame(1, 'on its way'), frame(8, Buffer.from([3, 233])))
  client?.socket.end()
  await withDeadline(closed, 10_000, 'app.close()')
  t.strictSame(got, ['on its way'])
})

t.test(
  'an incomplete request head is left to Node, and forceCloseConnections does not wait for it',
  async t => {
    const { app } = await makeApp(t, {}, { forceCloseConnections: true })
    app.get('/', { websocket: true }, nothing)
    const client = await connectRaw(t, await listen(app))
    await new Promise<unknown>(resolve => client.socket.write(handshake('/').slice(0, 40), resolve))
    await tick()
    await withDeadline(app.close(), 10_000, 'app.close()')
    await client.gone()
  }
)
