import { Readable } from 'node:stream'
import t from 'tap'
import upgrade from '../../lib/index.js'
import {
  type App,
  bareApp,
  codeOf,
  connectRaw,
  handshake,
  headerOf,
  listen,
  makeApp,
  open,
  request as ordinary,
  Signal,
  shake,
  watchProcess
} from '../helpers/app.js'

// The steps between the hooks and the bytes of the response: onSend, onError, error handlers, headers that cannot be sent.

type SetHeader = (name: string, value: string) => void

/** The hooks that may set a header; each calls `set` with the reply's `header`. */
const SETTERS: Readonly<Record<string, (app: App['app'], set: (header: SetHeader) => void) => void>> = {
  'a preHandler': (app, set) => {
    app.addHook('preHandler', (_request, reply, done) => {
      set((name, value) => reply.header(name, value))
      done()
    })
  },
  'an onSend with a callback': (app, set) => {
    app.addHook('onSend', (_request, reply, _payload, done) => {
      set((name, value) => reply.header(name, value))
      done()
    })
  },
  'an onSend with a late callback': (app, set) => {
    app.addHook('onSend', (_request, reply, _payload, done) => {
      set((name, value) => reply.header(name, value))
      setImmediate(done)
    })
  },
  'an async onSend': (app, set) => {
    app.addHook('onSend', async (_request, reply) => {
      await null
      set((name, value) => reply.header(name, value))
    })
  }
}

const BAD_HEADERS: readonly (readonly [string, string])[] = [
  ['x-bad', 'a\r\nX-Evil: 1'],
  ['x-bad', 'a\nX-Evil: 1'],
  ['x-bad', 'a\rX-Evil: 1'],
  ['x-bad', 'nul\0'],
  ['x-bad', 'wide \u{1f600}'],
  ['bad name', 'v'],
  ['x-evil: 1\r\nx-bad', 'v'],
  ['', 'v']
]

for (const [where, add] of Object.entries(SETTERS)) {
  t.test(`a header that cannot be sent, set by ${where}, gets 500 and never splits the response`, async t => {
    const uncaught = watchProcess(t)
    const { app } = await makeApp(t)
    let bad: readonly [string, string] = BAD_HEADERS[0] ?? ['', '']
    add(app, header => {
      header(...bad)
      header('x-good', 'yes')
    })
    app.get('/', { websocket: true }, () => t.fail('no connection'))
    const port = await listen(app)
    for (bad of BAD_HEADERS) {
      const response = await shake(t, port, '/')
      const name = JSON.stringify(bad)
      t.equal(response.status, 500, name)
      t.equal(codeOf(response), 'FST_UPGRADE_INVALID_HEADER', name)
      t.notMatch(response.head, /evil/i, name)
      t.equal(headerOf(response, 'x-good'), 'yes', name)
      t.equal(headerOf(response, 'connection'), 'close', name)
    }
    t.strictSame(uncaught, [])
  })
}

t.test(
  'an invalid header in a list is not sent either, and an error handler may answer with a stream',
  async t => {
    const uncaught = watchProcess(t)
    const { app } = await makeApp(t)
    app.setErrorHandler((error: { code?: string }, _request, reply) => {
      reply.removeHeader('set-cookie')
      return reply
        .code(500)
        .type('text/plain')
        .send(Readable.from([`${error.code}`]))
    })
    app.addHook('preHandler', async (_request, reply) => {
      reply.header('set-cookie', ['good=1', 'bad=1\r\nX-Evil: 1'])
    })
    app.get('/', { websocket: true }, () => t.fail('no connection'))
    const port = await listen(app)
    const client = await connectRaw(t, port)
    client.write(handshake('/'))
    await client.end()
    const answer = String(client.data)
    t.match(answer, /^HTTP\/1.1 500 /)
    t.match(answer, 'FST_UPGRADE_INVALID_HEADER')
    t.notMatch(answer, /evil/i)
    t.strictSame(uncaught, [])
  }
)

t.test('onSend sees 101 and no payload, and runs once', async t => {
  const { app } = await makeApp(t)
  const seen: unknown[] = []
  app.addHook('onSend', async (request, reply, payload) => {
    seen.push([request.ws, reply.statusCode, payload, reply.sent])
  })
  app.get('/', { websocket: true }, socket => socket.close(1000))
  const port = await listen(app)
  await (await open(t, port, '/')).closed()
  t.strictSame(seen, [[true, 101, undefined, false]])
})

t.test('a payload that onSend returns for a 101 is not sent', async t => {
  const { app } = await makeApp(t)
  app.addHook('onSend', async (_request, reply) => {
    reply.type('text/plain')
    return 'a body'
  })
  app.get('/', { websocket: true }, socket => socket.close(1000))
  const port = await listen(app)
  const client = await open(t, port, '/')
  t.equal(client.headers['content-length'], undefined)
  t.equal(client.headers['content-type'], undefined)
  t.equal(await client.closed(), '1000')
})

for (const late of [false, true]) {
  t.test(`onSend may turn the 101 into a refusal${late ? ', later' : ''}`, async t => {
    const { app, log } = await makeApp(t)
    app.addHook('onSend', async (_request, reply) => {
      if (late) await new Promise(setImmediate)
      reply.code(403).header('x-why', 'no').type('text/plain')
      return 'not today'
    })
    app.get('/', { websocket: true }, () => t.fail('no connection'))
    const port = await listen(app)
    const response = await shake(t, port, '/')
    t.equal(response.status, 403)
    t.equal(response.body, 'not today')
    t.equal(headerOf(response, 'x-why'), 'no')
    t.equal(headerOf(response, 'upgrade'), undefined)
    await log.until('request completed')
  })
}

t.test('a handshake whose onSend fails gets the status of the error, never a 101', async t => {
  const uncaught = watchProcess(t)
  const { app } = await makeApp(t)
  const plain = new Error('plain')
  const teapot = Object.assign(new Error('teapot'), { statusCode: 418 })
  for (const [path, error] of [
    ['/plain', plain],
    ['/teapot', teapot]
  ] as const) {
    const failed = new WeakSet<object>()
    app.get(
      `${path}/sync`,
      {
        websocket: true,
        onSend: (request, _reply, _payload, done) => {
          if (failed.has(request)) return done()
          failed.add(request)
          throw error
        }
      },
      () => t.fail('no connection')
    )
    app.get(
      `${path}/callback`,
      {
        websocket: true,
        onSend: (request, _reply, _payload, done) => {
          if (failed.has(request)) return done()
          failed.add(request)
          setImmediate(() => done(error))
        }
      },
      () => t.fail('no connection')
    )
    app.get(
      `${path}/async`,
      {
        websocket: true,
        onSend: async request => {
          await null
          if (failed.has(request)) return
          failed.add(request)
          throw error
        }
      },
      () => t.fail('no connection')
    )
    app.get(
      `${path}/always`,
      {
        websocket: true,
        onSend: async () => {
          throw error
        }
      },
      () => t.fail('no connection')
    )
  }
  const port = await listen(app)
  for (const way of ['sync', 'callback', 'async', 'always']) {
    t.equal((await shake(t, port, `/plain/${way}`)).status, 500, way)
    const response = await shake(t, port, `/teapot/${way}`)
    t.equal(response.status, 418, way)
    t.equal(JSON.parse(response.body).message, 'teapot', way)
  }
  t.strictSame(uncaught, [])
})

t.test('onError hooks run once for each refusal and for each error of a hook', async t => {
  const { app } = await makeApp(t)
  const calls: unknown[] = []
  app.addHook('onError', async (request, reply, error) => {
    calls.push([request.url, error.code ?? error.message, reply.sent])
  })
  app.addHook('preHandler', async request => {
    if (request.url === '/thrown') throw new Error('thrown')
  })
  app.get('/', { websocket: true }, () => t.fail('no connection'))
  app.get('/thrown', { websocket: true }, () => t.fail('no connection'))
  const port = await listen(app)
  await shake(t, port, '/', { 'Sec-WebSocket-Version': '8' })
  await shake(t, port, '/thrown')
  await shake(t, port, '/', { Origin: 'https://evil.test' })
  t.strictSame(calls, [
    ['/', 'FST_UPGRADE_UNSUPPORTED_VERSION', false],
    ['/thrown', 'thrown', false],
    ['/', 'FST_UPGRADE_FORBIDDEN_ORIGIN', false]
  ])
})

t.test(
  'an error handler of the application receives refusals with their codes, and documented headers stay',
  async t => {
    const { app } = await makeApp(t)
    app.setErrorHandler((error: { code?: string; statusCode?: number }, request, reply) =>
      reply.code(error.statusCode ?? 500).send({ mine: error.code, ws: request.ws })
    )
    app.get('/', { websocket: true }, () => t.fail('no connection'))
    app.get('/chat', { websocket: { subprotocol: 'chat' } }, () => t.fail('no connection'))
    const port = await listen(app)

    const version = await shake(t, port, '/', { 'Sec-WebSocket-Version': '8' })
    t.equal(version.status, 426)
    t.equal(version.body, '{"mine":"FST_UPGRADE_UNSUPPORTED_VERSION","ws":true}')
    t.equal(headerOf(version, 'sec-websocket-version'), '13')

    const client = await connectRaw(t, port)
    client.write(handshake('/').replace('GET', 'POST'))
    const method = await client.response()
    t.equal(method.status, 405)
    t.equal(method.body, '{"mine":"FST_UPGRADE_METHOD_NOT_ALLOWED","ws":true}')
    t.equal(headerOf(method, 'allow'), 'GET')

    const origin = await shake(t, port, '/', { Origin: 'https://evil.test' })
    t.equal(origin.status, 403)
    t.equal(origin.body, '{"mine":"FST_UPGRADE_FORBIDDEN_ORIGIN","ws":true}')

    const spoken = await shake(t, port, '/chat', { 'Sec-WebSocket-Protocol': 'mqtt' })
    t.equal(spoken.status, 400)
    t.equal(spoken.body, '{"mine":"FST_UPGRADE_UNSUPPORTED_SUBPROTOCOL","ws":true}')

    const plain = await ordinary(t, port, 'GET', '/')
    t.equal(plain.status, 426)
    t.equal(plain.body, '{"mine":"FST_UPGRADE_UPGRADE_REQUIRED","ws":false}')
    t.equal(headerOf(plain, 'upgrade'), 'websocket')
  }
)

t.test('an error handler of a scope or a route receives the errors of the hooks of that route', async t => {
  const { app } = await makeApp(t)
  const fail = async (): Promise<void> => {
    throw new Error('inside')
  }
  await app.register(async scope => {
    scope.setErrorHandler((error: Error, _request, reply) => reply.code(409).send(`scope: ${error.message}`))
    scope.get('/scope', { websocket: true, preHandler: fail }, () => t.fail('no connection'))
    scope.get(
      '/route',
      {
        websocket: true,
        preHandler: fail,
        errorHandler: (error, _request, reply) => reply.code(410).send(`route: ${error.message}`)
      },
      () => t.fail('no connection')
    )
  })
  const port = await listen(app)
  const scope = await shake(t, port, '/scope')
  t.strictSame([scope.status, scope.body], [409, 'scope: inside'])
  const route = await shake(t, port, '/route')
  t.strictSame([route.status, route.body], [410, 'route: inside'])
})

t.test('an error handler that fails causes a 500, and no uncaught exception', async t => {
  const uncaught = watchProcess(t)
  for (const fail of [
    () => {
      throw new Error('handler broke')
    },
    async () => {
      throw new Error('handler broke')
    }
  ]) {
    const { app } = await makeApp(t)
    app.setErrorHandler(fail)
    app.get('/', { websocket: true }, () => t.fail('no connection'))
    const port = await listen(app)
    const response = await shake(t, port, '/', { 'Sec-WebSocket-Key': 'short' })
    t.equal(response.status, 500)
    t.equal(JSON.parse(response.body).message, 'handler broke')
  }
  t.strictSame(uncaught, [])
})

t.test('a 404 handler of the application answers handshakes without a route', async t => {
  const { app } = await makeApp(t)
  app.setNotFoundHandler((request, reply) => reply.code(404).send(`nothing at ${request.url}, ${request.ws}`))
  const port = await listen(app)
  const response = await shake(t, port, '/nowhere')
  t.strictSame([response.status, response.body], [404, 'nothing at /nowhere, true'])
})

t.test('reply.callNotFound in a hook answers 404', async t => {
  const { app } = await makeApp(t)
  app.get(
    '/',
    {
      websocket: true,
      preHandler: async (_request, reply) => {
        reply.callNotFound()
        return reply
      }
    },
    () => t.fail('no connection')
  )
  const port = await listen(app)
  t.equal((await shake(t, port, '/')).status, 404)
})

t.test('a reply of a hook after the reply of the deadline is dropped', async t => {
  const uncaught = watchProcess(t)
  const { app } = bareApp(t)
  await app.register(upgrade, { handshakeTimeout: 50 })
  const go = new Signal()
  const answered = new Signal()
  app.get(
    '/',
    {
      websocket: true,
      onSend: async (_request, reply) => {
        if (reply.statusCode === 101) await go.promise
      },
      onResponse: async () => answered.fire()
    },
    () => t.fail('no connection')
  )
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  const response = await client.response()
  t.equal(response.status, 503)
  t.equal(codeOf(response), 'FST_UPGRADE_HANDSHAKE_TIMEOUT')
  await answered.wait('onResponse')
  go.fire()
  await client.end()
  t.equal(client.data.length, 0)
  t.strictSame(uncaught, [])
})

t.test('a redirect refuses the handshake, and clients may follow it', async t => {
  const { app } = await makeApp(t)
  app.get('/old', { websocket: true, onRequest: async (_request, reply) => reply.redirect('/new') }, () => {})
  app.get('/new', { websocket: true }, socket => socket.send('new'))
  const port = await listen(app)
  const response = await shake(t, port, '/old')
  t.strictSame([response.status, headerOf(response, 'location')], [302, '/new'])
})
