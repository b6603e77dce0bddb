import dns from 'node:dns'
import { once } from 'node:events'
import type { RequestListener, ServerResponse } from 'node:http'
import { createServer, type Http2Server, type Http2ServerRequest } from 'node:http2'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import upgrade from '../../lib/index.js'
import { connectRaw, listen, open, text, watchProcess, withDeadline } from '../helpers/app.js'
import { bareHttp2App, makeHttp2App, Session } from '../helpers/http2.js'

/** Sends its name. */
function hello(app: FastifyInstance, path: string, name = 'hello'): void {
  app.get(path, { websocket: true }, socket => socket.send(name))
}

const ADDRESSES = ['127.0.0.1', '127.0.0.2']

/** Listens on two addresses, as for `localhost` where that has one of IPv4 and one of IPv6. */
async function listenTwice(t: Test, app: FastifyInstance): Promise<number> {
  const { lookup } = dns
  t.teardown(() => Object.assign(dns, { lookup }))
  const found = ADDRESSES.map(address => ({ address, family: 4 }))
  Object.assign(dns, {
    lookup: (host: string, options: dns.LookupOptions, callback: (...args: unknown[]) => void) => {
      if (host === 'localhost' && options.all) callback(null, found)
      else Reflect.apply(lookup, dns, [host, options, callback])
    }
  })
  const port = await listen(app, 'localhost')
  t.equal(app.addresses().length, 2)
  return port
}

t.test('localhost: WebSockets over HTTP/2 and HTTP/1.1 on both addresses', async t => {
  for (const cleartext of [false, true]) {
    const { app } = await makeHttp2App(t, {}, { cleartext })
    hello(app, '/')
    const port = await listenTwice(t, app)
    for (const host of ADDRESSES) {
      const session = await Session.open(t, port, { host, cleartext })
      t.equal(session.isAnnounced, true, host)
      t.equal(await (await session.open('/')).text(), 'hello')
      session.session.destroy()
      if (cleartext) continue
      const client = await open(t, port, '/', { secure: true, host })
      t.equal(await client.next(), 'hello')
      client.socket.terminate()
    }
    await withDeadline(app.close(), 10_000, 'close')
  }
})

t.test('http2: false announces nothing, and HTTP/1.1 still works', async t => {
  const { app } = await makeHttp2App(t, { http2: false })
  hello(app, '/')
  const port = await listenTwice(t, app)
  for (const host of ADDRESSES) {
    const session = await Session.open(t, port, { host })
    t.equal(session.isAnnounced, false, host)
    t.equal((await session.get('/')).status, 426)
    t.equal(await (await open(t, port, '/', { secure: true, host })).next(), 'hello')
  }
})

t.test('http2: false is an error on a server without HTTP/1.1', async t => {
  for (const options of [{ cleartext: true }, { allowHTTP1: false }]) {
    const { app } = bareHttp2App(t, options)
    await t.rejects(async () => app.register(upgrade, { http2: false }), {
      code: 'FST_UPGRADE_INVALID_OPTION',
      message: 'http2'
    })
  }
  const { app } = bareHttp2App(t, { allowHTTP1: false })
  await app.register(upgrade)
  hello(app, '/')
  const session = await Session.open(t, await listen(app), { host: '127.0.0.1' })
  t.equal(await (await session.open('/')).text(), 'hello')
})

t.test('two scopes: one of them is enough to announce', async t => {
  const { app } = bareHttp2App(t)
  await app.register(async scope => {
    await scope.register(upgrade, { http2: false })
    hello(scope, '/off', 'off')
  })
  await app.register(async scope => {
    await scope.register(upgrade)
    hello(scope, '/on', 'on')
  })
  const session = await Session.open(t, await listen(app), { host: '127.0.0.1' })
  t.equal(await (await session.open('/on')).text(), 'on')
  t.equal(await (await session.open('/off')).text(), 'off')
})

t.test('a CONNECT of HTTP/1.1 is cut, as without a listener', async t => {
  const { app } = await makeHttp2App(t)
  const port = await listen(app)
  const cut = await connectRaw(t, port, { tls: {} })
  cut.write('CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n')
  await cut.gone()
  t.equal(String(cut.data), '')
})

t.test('other listeners of connect keep what is not for a WebSocket route', async t => {
  const uncaught = watchProcess(t)
  const { app } = await makeHttp2App(t)
  hello(app, '/')
  const seen: unknown[] = []
  const onConnect = (request: Http2ServerRequest, answer: ServerResponse): void => {
    seen.push(request.headers[':protocol'] ?? request.httpVersion, request.method)
    if (request.httpVersionMajor === 2) answer.writeHead(404).end()
    else Reflect.apply(Reflect.get(answer, 'end'), answer, ['HTTP/1.1 404 Not Found\r\n\r\n'])
  }
  Reflect.apply(app.server.on, app.server, ['connect', onConnect])
  const port = await listen(app)
  const session = await Session.open(t, port, { host: '127.0.0.1' })
  t.equal(await (await session.open('/')).text(), 'hello')
  t.strictSame(seen, [], 'the event ends at the plugin')
  t.equal(await session.connect('/none').status(), 404)
  t.equal(await session.connect('/', { ':protocol': 'connect-udp' }).status(), 404)
  const plain = { ':protocol': undefined, ':path': undefined, ':authority': 'a.test' }
  t.equal(await session.connect('/', plain).status(), 404)
  const client = await connectRaw(t, port, { tls: {} })
  client.write('CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n')
  t.equal((await client.head()).status, 404)
  t.strictSame(seen, ['websocket', 'CONNECT', 'connect-udp', 'CONNECT', '2.0', 'CONNECT', '1.1', 'CONNECT'])
  t.strictSame(uncaught, [])
})

/** A server of HTTP/2 without TLS, for several applications. */
class Shared {
  readonly server: Http2Server = createServer((request, response) =>
    Reflect.apply(this.#handler, undefined, [request, response])
  )
  readonly #test: Test
  #handler: RequestListener = () => {}

  constructor(t: Test) {
    this.#test = t
    t.teardown(() => this.server.close())
  }

  async app(name: string, paths: readonly string[]): Promise<FastifyInstance> {
    const { app } = await makeHttp2App(
      this.#test,
      {},
      {
        cleartext: true,
        server: {
          serverFactory: (handler: RequestListener) => {
            this.#handler = handler
            return this.server
          }
        }
      }
    )
    for (const path of paths) hello(app, path, name)
    return app
  }

  async listen(): Promise<number> {
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    const address = this.server.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    return address.port
  }

  async session(port: number): Promise<Session> {
    return Session.open(this.#test, port, { host: '127.0.0.1', cleartext: true })
  }
}

t.test('two applications on one server: each answers the paths that it has', async t => {
  const shared = new Shared(t)
  const first = await shared.app('first', ['/a', '/both'])
  const second = await shared.app('second', ['/b', '/both'])
  const port = await shared.listen()
  const early = await shared.session(port)
  t.equal(await early.connect('/a').status(), 404, 'neither is ready')
  await Promise.all([first.ready(), second.ready()])
  const session = await shared.session(port)
  for (const [path, name] of [
    ['/a', 'first'],
    ['/b', 'second'],
    ['/both', 'first']
  ] as const) {
    t.equal(await (await session.open(path)).text(), name)
  }
  t.equal(await session.connect('/none').status(), 404)
  const client = await session.open('/a')
  t.equal(await client.text(), 'first')
  const closed = first.close()
  await client.frame()
  client.write(text('ignored'))
  session.session.destroy()
  await withDeadline(closed, 10_000, 'close')
  const later = await shared.session(port)
  t.equal(later.isAnnounced, true)
  t.equal(await (await later.open('/both')).text(), 'second')
  later.session.destroy()
  await withDeadline(second.close(), 10_000, 'close')
  const last = await shared.session(port)
  t.equal(last.isAnnounced, false, 'as before the applications')
  t.equal(shared.server.listenerCount('connect'), 0)
})

t.test('a stream that is destroyed before the handshake is read opens no WebSocket', async t => {
  const { app } = await makeHttp2App(t)
  let opened = 0
  app.get('/', { websocket: true }, () => void opened++)
  const port = await listen(app)
  const destroy = ({ stream }: Http2ServerRequest): unknown => stream.destroy()
  Reflect.apply(app.server.prependListener, app.server, ['connect', destroy])
  const session = await Session.open(t, port)
  const client = session.connect('/')
  await withDeadline(once(client.stream, 'close'), 10_000, 'close of the stream')
  t.equal((await session.get('/')).status, 426, 'the session continues')
  t.equal(opened, 0)
})
