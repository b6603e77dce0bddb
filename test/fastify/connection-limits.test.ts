import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import t from 'tap'
import {
  codeOf,
  connectRaw,
  handshake,
  headerOf,
  type Log,
  type LogLine,
  listen,
  makeApp,
  RawClient,
  Signal,
  shake,
  WARN,
  withDeadline
} from '../helpers/app.js'

const FULL = 'FST_UPGRADE_TOO_MANY_CONNECTIONS'

async function connected(t: Test, port: number, path: string, fields = {}): Promise<RawClient> {
  const client = await connectRaw(t, port)
  client.write(handshake(path, fields))
  t.equal((await client.response()).status, 101, path)
  return client
}

async function isFull(t: Test, port: number, path: string, fields = {}): Promise<void> {
  const response = await shake(t, port, path, fields)
  t.equal(response.status, 503)
  t.equal(codeOf(response), FULL)
  t.equal(headerOf(response, 'retry-after'), '5')
}

t.test('maxConnections of the plugin counts all routes, and a closed connection frees its slot', async t => {
  const { app } = await makeApp(t, { maxConnections: 2 })
  let hooks = 0
  app.addHook('preValidation', async () => {
    hooks++
  })
  const closed = new Signal()
  app.get('/a', { websocket: true }, socket => {
    socket.on('close', () => closed.fire())
  })
  app.get('/b', { websocket: true }, () => {})
  const port = await listen(app)
  const first = await connected(t, port, '/a')
  await connected(t, port, '/b')
  t.equal(hooks, 2)
  for (let i = 0; i < 20; i++) await isFull(t, port, '/a')
  t.equal(hooks, 2, 'a refused handshake runs no hook of the application')
  first.socket.destroy()
  await closed.wait('close')
  await connected(t, port, '/a')
  await isFull(t, port, '/b')
})

t.test('maxConnections of a route counts that route only', async t => {
  const { app } = await makeApp(t, { maxConnections: 3 })
  app.get('/a', { websocket: { maxConnections: 1 } }, () => {})
  app.get('/b', { websocket: true }, () => {})
  const port = await listen(app)
  await connected(t, port, '/a')
  await isFull(t, port, '/a')
  await connected(t, port, '/b')
  await connected(t, port, '/b')
  await isFull(t, port, '/b')
})

t.test('maxConnectionsPerAddress counts by request.ip, IPv6 by its first 64 bits', async t => {
  const { app } = await makeApp(t, { maxConnectionsPerAddress: 1 }, { trustProxy: true })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  const from = (address: string) => ({ 'X-Forwarded-For': address })
  for (const [one, same, other] of [
    ['192.0.2.1', '192.0.2.1', '192.0.2.2'],
    ['2001:db8::1', '2001:0db8:0:0:ffff::2', '2001:db8:0:1::1'],
    ['::1', '0:0:0:0:1::', '1::'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::', '2001:db8:1:3::'],
    ['::ffff:192.0.2.7', '::ffff:192.0.2.7', '::ffff:192.0.2.8']
  ]) {
    await connected(t, port, '/', from(one))
    await isFull(t, port, '/', from(same))
    await connected(t, port, '/', from(other))
  }
})

/** Makes an application listen on a Unix socket, and returns the status of a handshake there. */
async function listenOnPath(t: Test, app: FastifyInstance) {
  const folder = await mkdtemp(join(tmpdir(), 'limits-'))
  const path = join(folder, 'app.sock')
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await app.listen({ path })
  return async (url: string, fields = {}): Promise<number> => {
    const client = new RawClient(t, connect({ path, allowHalfOpen: true }))
    await withDeadline(once(client.socket, 'connect'), 5_000, 'connect')
    client.write(handshake(url, fields))
    return (await client.response()).status
  }
}

const NO_ADDRESS = /^maxConnectionsPerAddress does not count connections without an IP address/

/** The warnings, without those that count refusals. */
function warnings(log: Log): LogLine[] {
  return log.at(WARN).filter(({ code }) => code !== 'FST_UPGRADE_TOO_MANY_CONNECTIONS')
}

t.test(
  'maxConnectionsPerAddress does not count connections without an address, and logs that once per limit',
  async t => {
    const { app, log } = await makeApp(t, { maxConnectionsPerAddress: 1, maxConnections: 7 })
    app.get('/', { websocket: true }, () => {})
    app.get('/own', { websocket: { maxConnectionsPerAddress: 1, maxConnections: 2 } }, () => {})
    app.get('/total', { websocket: { maxConnections: 1 } }, () => {})
    const shakeAt = await listenOnPath(t, app)
    for (let i = 0; i < 3; i++) t.equal(await shakeAt('/'), 101)
    t.match(warnings(log), [{ msg: NO_ADDRESS }])
    t.match(warnings(log)[0]?.msg, /set "trustProxy"/)
    for (const status of [101, 101, 503]) t.equal(await shakeAt('/own'), status)
    for (const status of [101, 503]) t.equal(await shakeAt('/total'), status, 'the total limits count')
    t.equal(await shakeAt('/'), 101)
    t.equal(await shakeAt('/'), 503)
    t.match(warnings(log), [{ msg: NO_ADDRESS }, { msg: NO_ADDRESS }])
    t.equal(warnings(log).length, 2, 'of the plugin and of the route')
  }
)

for (const [trustProxy, counts] of [
  [(address: string | undefined) => address === undefined, true],
  [true, true],
  ['127.0.0.1', false],
  [false, false]
] as const) {
  t.test(`behind a proxy on a Unix socket, trustProxy: ${String(trustProxy)}`, async t => {
    const { app, log } = await makeApp(t, { maxConnectionsPerAddress: 1 }, { trustProxy })
    app.get('/', { websocket: true }, () => {})
    const shakeAt = await listenOnPath(t, app)
    const from = (address: string) => shakeAt('/', { 'X-Forwarded-For': address })
    t.equal(await from('192.0.2.1'), 101)
    t.equal(await from('192.0.2.1'), counts ? 503 : 101)
    t.equal(await from('192.0.2.2'), 101)
    t.equal(warnings(log).length, counts ? 0 : 1)
    for (const address of ['unix:', 'unknown', 'unknown', '']) t.equal(await from(address), 101, address)
    t.equal(warnings(log).length, 1)
  })
}

t.test('a handshake holds its slot while its hooks run, and releases it however it ends', async t => {
  const { app } = await makeApp(t, { maxConnections: 1 })
  const entered = new Signal()
  const gate = new Signal()
  const aborted = new Signal()
  app.addHook('onRequest', async (request, reply) => {
    if (request.url === '/refused') return reply.code(401).send({})
    if (request.url === '/slow') {
      entered.fire()
      request.raw.once('close', () => aborted.fire())
      await gate.promise
    }
  })
  for (const path of ['/', '/slow', '/refused']) app.get(path, { websocket: true }, () => {})
  const port = await listen(app)
  for (let i = 0; i < 3; i++) t.equal((await shake(t, port, '/refused')).status, 401)
  const lingering = await connectRaw(t, port)
  lingering.write(handshake('/refused'))
  t.equal((await lingering.response()).status, 401)
  t.equal(
    (await shake(t, port, '/refused')).status,
    401,
    'a refused client that stays connected holds no slot'
  )
  t.equal((await shake(t, port, '/', { 'Sec-WebSocket-Version': '8' })).status, 426)
  t.equal((await shake(t, port, '/', { Origin: 'https://evil.test' })).status, 403)
  const slow = await connectRaw(t, port)
  slow.write(handshake('/slow'))
  await entered.wait('hook')
  await isFull(t, port, '/')
  slow.socket.destroy()
  await aborted.wait('abort')
  gate.fire()
  await connected(t, port, '/')
})
