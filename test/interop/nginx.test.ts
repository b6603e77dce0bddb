import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { FastifyUpgradeOptions } from '../../lib/index.js'
import {
  Client,
  codeOf,
  connectRaw,
  handshake,
  listen,
  makeApp,
  open,
  request,
  Signal,
  shake,
  WARN,
  withDeadline
} from '../helpers/app.js'
import { addRoutes, checkRoutes } from '../helpers/neighbour.js'
import { type NginxOptions, READ_TIMEOUT, nginxSkip as skip, startNginx } from '../helpers/nginx.js'
import { ms } from '../helpers/timeout.js'

interface Behind {
  readonly app: FastifyInstance
  /** The protocol of the client side of nginx. */
  readonly port: number
  /** Close codes and reasons of connections to /events, as the application receives them. */
  readonly closings: Signal<string>
}

function addEvents(app: FastifyInstance, closings: Signal<string>): void {
  app.get('/events', { websocket: true }, (socket, { ip, host, protocol }) => {
    socket.send(JSON.stringify({ ip, host, protocol }))
    socket.on('close', (code, reason) => closings.fire(`${code} ${reason}`.trimEnd()))
    socket.on('message', data => {
      if (String(data) === 'cut') socket.terminate()
      else socket.close(Number(data), 'as you say')
    })
  })
}

/** An application behind nginx, configured as documented. */
async function startBehind(
  t: Test,
  options: FastifyUpgradeOptions = {},
  nginx: Omit<NginxOptions, 'backends'> = {},
  trustProxy: string | false = '127.0.0.1'
): Promise<Behind> {
  const { app } = await makeApp(t, { maxPayload: 2 ** 21, ...options }, { trustProxy })
  const closings = new Signal<string>()
  addRoutes(app)
  addEvents(app, closings)
  const port = await startNginx(t, { backends: [await listen(app)], ...nginx })
  return { app, port, closings }
}

for (const secure of [false, true]) {
  t.test(secure ? 'behind nginx with TLS' : 'behind nginx', { skip }, async t => {
    const { port } = await startBehind(t, { perMessageDeflate: true }, { tls: secure })
    const scheme = secure ? 'https' : 'http'

    t.test('messages are exchanged, small and of 1 MiB', async t => {
      const client = await open(t, port, '/echo', { secure })
      client.socket.send('small')
      t.equal(await client.next(), 'small')
      for (const data of [Buffer.alloc(2 ** 20, 'binary'), 'žluťoučký kůň '.repeat(2 ** 15)]) {
        const message = once(client.socket, 'message')
        client.socket.send(data)
        const [back, isBinary] = await withDeadline(message, 20_000, 'message')
        t.ok(Buffer.from(data).equals(back))
        t.equal(isBinary, typeof data !== 'string')
      }
    })

    t.test('a subprotocol and compression are negotiated', async t => {
      const client = await open(t, port, '/chat', { secure, protocols: ['other', 'chat.v1'] })
      t.equal(client.socket.protocol, 'chat.v1')
      t.match(client.socket.extensions, /^permessage-deflate/)
      const long = 'compresses well '.repeat(1000)
      client.socket.send(long)
      t.equal(await client.next(), `chat.v1: ${long}`)
    })

    t.test('the application sees the address of the client', async t => {
      const headers = { host: 'app.example.com', 'x-forwarded-for': '192.0.2.1' }
      const client = await open(t, port, '/events', { secure, headers, localAddress: '127.0.0.2' })
      t.strictSame(JSON.parse(await client.next()), {
        ip: '127.0.0.2',
        host: 'app.example.com',
        protocol: scheme
      })
    })

    t.test('a page of the same host may connect, and a page of another host may not', async t => {
      const ask = async (origin: string) => {
        const client = await connectRaw(t, port, secure ? { tls: {} } : {})
        client.write(handshake('/echo', { Host: 'app.example.com', Origin: origin }))
        return client.response()
      }
      t.equal((await ask(`${scheme}://app.example.com`)).status, 101)
      const refused = await ask(`${scheme}://evil.example`)
      t.equal(refused.status, 403)
      t.equal(codeOf(refused), 'FST_UPGRADE_FORBIDDEN_ORIGIN')
    })
  })
}

t.test('over a Unix socket the client is known by its address, and counted by it', { skip }, async t => {
  const { app, log } = await makeApp(
    t,
    { maxConnectionsPerAddress: 1 },
    { trustProxy: (address: string | undefined) => address === undefined }
  )
  addEvents(app, new Signal())
  const folder = await mkdtemp(join(tmpdir(), 'behind-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const path = join(folder, 'app.sock')
  await app.listen({ path })
  const port = await startNginx(t, { backends: [path] })
  const origin = 'http://app.example.com'
  for (const localAddress of ['127.0.0.2', '127.0.0.3']) {
    const headers = { host: 'app.example.com', 'x-forwarded-for': '192.0.2.1' }
    const client = await open(t, port, '/events', { headers, localAddress, origin })
    t.strictSame(JSON.parse(await client.next()), {
      ip: localAddress,
      host: 'app.example.com',
      protocol: 'http'
    })
    const again = new Client(t, port, '/events', { headers, localAddress, origin })
    const [, response] = await withDeadline(once(again.socket, 'unexpected-response'), 10_000, 'refusal')
    t.equal(response.statusCode, 503)
  }
  const others = log.at(WARN).filter(({ code }) => code !== 'FST_UPGRADE_TOO_MANY_CONNECTIONS')
  t.strictSame(others, [])
})

t.test('ordinary requests, refusals and other routes work', { skip }, async t => {
  const { port } = await startBehind(t)
  await checkRoutes(t, port)
  t.equal((await request(t, port, 'GET', '/')).body, 'page')
  t.equal((await request(t, port, 'GET', '/echo')).status, 426)
  t.equal((await shake(t, port, '/nowhere')).status, 404)
  t.equal((await shake(t, port, '/chat', { 'Sec-WebSocket-Protocol': 'other' })).status, 400)
  const h2c = await connectRaw(t, port)
  h2c.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n')
  t.equal((await h2c.response()).status, 200, 'an upgrade to another protocol is not passed on')
})

t.test('close codes pass in both directions', { skip }, async t => {
  const { app, port } = await startBehind(t)
  const enter = async () => {
    const client = await open(t, port, '/events')
    await client.next()
    return client
  }
  for (const code of [1000, 1008, 1011, 4999]) {
    const client = await enter()
    client.socket.send(String(code))
    t.equal(await client.closed(), `${code} as you say`)
  }
  const cut = await enter()
  cut.socket.send('cut')
  t.equal(await cut.closed(), '1006')
  const leaving = await enter()
  await withDeadline(app.close(), 10_000, 'app.close()')
  t.equal(await leaving.closed(), '1001')
})

t.test('and the codes of the client', { skip }, async t => {
  for (const [code, reason, seen] of [
    [1000, '', '1000'],
    [4001, 'bye', '4001 bye'],
    [undefined, '', '1005']
  ] as const) {
    const { port, closings } = await startBehind(t)
    const client = await open(t, port, '/events')
    client.socket.close(code, reason)
    t.equal(await closings.wait('close'), seen)
  }
  const { port, closings } = await startBehind(t)
  const client = await open(t, port, '/events')
  client.socket.terminate()
  t.equal(await closings.wait('close'), '1006')
})

t.test('the heartbeat keeps a connection open past proxy_read_timeout', { skip }, async t => {
  const interval = READ_TIMEOUT / 4
  const { port } = await startBehind(
    t,
    { heartbeat: { interval, timeout: interval } },
    { readTimeout: READ_TIMEOUT }
  )
  const client = await open(t, port, '/echo')
  for (let n = 0; n < 10; n++) await withDeadline(once(client.socket, 'ping'), 10_000, 'ping')
  client.socket.send('still here')
  t.equal(await client.next(), 'still here')
})

t.test('without a heartbeat nginx cuts an idle connection, on both sides', { skip }, async t => {
  const { port, closings } = await startBehind(t, { heartbeat: false }, { readTimeout: READ_TIMEOUT })
  const start = performance.now()
  const client = await open(t, port, '/events')
  t.equal(await client.closed(), '1006')
  t.equal(await closings.wait('close'), '1006')
  t.ok(performance.now() - start > READ_TIMEOUT * 0.9, 'not before the timeout')
})

t.test('a missing line of the configuration has the documented effect', { skip }, async t => {
  const fields = { Host: 'app.example.com', Origin: 'https://app.example.com' }
  for (const [without, trustProxy, status, code] of [
    [['proxy_set_header Upgrade'], '127.0.0.1', 426, 'UPGRADE_REQUIRED'],
    [['proxy_set_header Connection'], '127.0.0.1', 400, 'INVALID_CONNECTION'],
    [['proxy_set_header Host', 'proxy_set_header X-Forwarded-Host'], '127.0.0.1', 403, 'FORBIDDEN_ORIGIN'],
    [['proxy_set_header Host'], false, 403, 'FORBIDDEN_ORIGIN'],
    [['proxy_set_header Host'], '127.0.0.1', 101, undefined],
    [['proxy_set_header X-Forwarded-Host'], false, 101, undefined]
  ] as const) {
    const { port } = await startBehind(t, {}, { without }, trustProxy)
    const response = await shake(t, port, '/echo', fields)
    t.equal(response.status, status, without.join(', '))
    if (code !== undefined) t.equal(codeOf(response), `FST_UPGRADE_${code}`, without.join(', '))
  }
  const { port } = await startBehind(t, {}, { httpVersion: '1.0' })
  const response = await shake(t, port, '/echo', fields)
  t.equal(response.status, 426, 'HTTP/1.0')
  t.equal(codeOf(response), 'FST_UPGRADE_UPGRADE_REQUIRED')
})

t.test('while one process stops, the other receives the handshakes', { skip }, async t => {
  const stopped = new Signal()
  const stopping = await makeApp(t, { preClose: () => stopped.promise, shutdown: { timeout: ms(20_000) } })
  const other = await makeApp(t)
  for (const [name, { app }] of Object.entries({ stopping, other })) {
    app.get('/name', { websocket: true }, socket => socket.send(name))
  }
  const port = await startNginx(t, { backends: [await listen(stopping.app), await listen(other.app)] })
  const names = new Set<string>()
  while (names.size < 2) names.add(await (await open(t, port, '/name')).next())
  const closing = stopping.app.close()
  for (let n = 0; n < 6; n++) t.equal(await (await open(t, port, '/name')).next(), 'other')
  stopped.fire()
  await withDeadline(closing, 20_000, 'app.close()')
})
