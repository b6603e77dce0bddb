import { once } from 'node:events'
import t from 'tap'
import type { WebSocket, WebSocketErrorHandler, WebSocketHandler } from '../../lib/index.js'
import {
  close,
  connectRaw,
  DEBUG,
  ERROR,
  handshake,
  listen,
  makeApp,
  open,
  Signal,
  text,
  tick,
  watchProcess,
  withDeadline
} from '../helpers/app.js'

// Errors of handlers and listeners, and how they are handled.

const SECRET = 'the password is 1234'

/** The log lines of routes at `/`. */
const HANDLER_FAILED = 'the WebSocket handler of GET / failed'
const LISTENER_FAILED = 'a listener or callback of the WebSocket at GET / failed'

function fail(): never {
  throw new Error(SECRET)
}

/** Each of these fails after the client has sent a message. */
const FAILURES: Readonly<Record<string, WebSocketHandler>> = {
  'the handler throws': fail,
  'the handler rejects before it awaits': async () => fail(),
  'the handler rejects after it has awaited': async () => {
    await new Promise(setImmediate)
    fail()
  },
  'the handler rejects while a message waits': async socket => {
    await new Promise(resolve => socket.once('message', resolve))
    fail()
  },
  'a message listener throws': socket => {
    socket.on('message', fail)
  },
  'an async message listener rejects': socket => {
    socket.on('message', async () => {
      await null
      fail()
    })
  },
  'onmessage throws': socket => {
    socket.onmessage = fail
  },
  'an event listener with handleEvent rejects': socket => {
    socket.addEventListener('message', {
      async handleEvent() {
        fail()
      }
    })
  },
  'a ping listener throws': socket => {
    socket.on('ping', fail)
  },
  'the callback of send throws': socket => {
    socket.on('message', () => socket.send('', fail))
  },
  'the loop throws': async socket => {
    for await (const _ of socket) fail()
  },
  'a thenable rejects': () => ({
    // biome-ignore lint/suspicious/noThenProperty: the test needs a thenable
    then(_resolve: unknown, reject: (error: Error) => void) {
      reject(new Error(SECRET))
    }
  })
}

for (const [what, handler] of Object.entries(FAILURES)) {
  t.test(`${what}: the error is logged once, and the peer gets 1011 without its text`, async t => {
    const uncaught = watchProcess(t)
    const { app, log } = await makeApp(t)
    app.get('/', { websocket: true }, handler)
    app.get('/next', { websocket: true }, socket => socket.send('still serving'))
    const port = await listen(app)
    const client = await open(t, port, '/')
    client.socket.ping()
    client.socket.send('go')
    t.equal(await client.closed(), '1011')
    t.strictSame(
      client.messages.filter(message => message !== ''),
      []
    )
    await log.until('request completed')
    const [line, ...others] = log.at(ERROR)
    t.strictSame(others, [])
    const failed =
      what.startsWith('the handler') || what === 'the loop throws' || what === 'a thenable rejects'
    t.match(line, {
      msg: failed ? HANDLER_FAILED : LISTENER_FAILED,
      err: { message: SECRET, stack: /errors.test.ts/ },
      reqId: 'req-1'
    })
    t.equal(await (await open(t, port, '/next')).next(), 'still serving')
    t.strictSame(uncaught, [])
  })

  t.test(`${what}: a custom errorHandler is called`, async t => {
    const called = new Signal<readonly unknown[]>()
    const errorHandler: WebSocketErrorHandler = function (error, socket, request, reply) {
      called.fire([
        this === app,
        error.message,
        socket === socketOfHandler,
        request.ws,
        reply.request === request
      ])
      socket.close(4000, 'custom')
    }
    const { app, log } = await makeApp(t, { errorHandler })
    let socketOfHandler: unknown
    app.get('/', { websocket: true }, function (socket, request) {
      socketOfHandler = socket
      return Reflect.apply(handler, this, [socket, request])
    })
    const port = await listen(app)
    const client = await open(t, port, '/')
    client.socket.ping()
    client.socket.send('go')
    t.strictSame(await called.wait('errorHandler'), [true, SECRET, true, true, true])
    t.equal(await client.closed(), '4000 custom')
    t.strictSame(log.at(ERROR), [])
  })
}

t.test('an error of a close listener is logged, too', async t => {
  const uncaught = watchProcess(t)
  const { app, log } = await makeApp(t)
  app.get('/', { websocket: true }, socket => {
    socket.on('close', fail)
    socket.close(1000)
  })
  const port = await listen(app)
  t.equal(await (await open(t, port, '/')).closed(), '1000')
  await log.until(LISTENER_FAILED)
  await app.close()
  t.equal(log.at(ERROR).length, 1)
  t.equal(app.websocketServer.clients.size, 0)
  t.equal(log.with('request completed').length, 1)
  t.strictSame(uncaught, [])
})

t.test(
  'an error of a connection listener of websocketServer closes with 1011, and the handler is not called',
  async t => {
    const uncaught = watchProcess(t)
    const { app, log } = await makeApp(t)
    app.websocketServer.once('connection', fail)
    app.get('/', { websocket: true }, socket => socket.send('handled'))
    const port = await listen(app)
    const client = await open(t, port, '/')
    t.equal(await client.closed(), '1011')
    t.strictSame(client.messages, [])
    t.equal(log.with(LISTENER_FAILED).length, 1)
    t.equal(await (await open(t, port, '/')).next(), 'handled')
    t.strictSame(uncaught, [])
  }
)

t.test(
  'errorHandler of a route takes precedence over that of the plugin, with the instance of the route as this',
  async t => {
    const errors: string[] = []
    const { app } = await makeApp(t, { errorHandler: (_error, socket) => socket.close(4001) })
    await app.register(async scope => {
      scope.get(
        '/own',
        {
          websocket: {
            errorHandler(error, socket, request) {
              errors.push(`${this === scope} ${request.url} ${error.message}`)
              socket.close(4002)
            }
          }
        },
        fail
      )
      scope.get('/inherited', { websocket: true }, fail)
    })
    const port = await listen(app)
    t.equal(await (await open(t, port, '/own')).closed(), '4002')
    t.equal(await (await open(t, port, '/inherited')).closed(), '4001')
    t.strictSame(errors, [`true /own ${SECRET}`])
  }
)

const BROKEN: Readonly<Record<string, () => unknown>> = {
  throws: () => {
    throw new Error('handler broke')
  },
  rejects: async () => {
    await null
    throw new Error('handler broke')
  }
}

for (const [how, broken] of Object.entries(BROKEN)) {
  t.test(`an errorHandler that ${how} itself is logged, and the connection is cut`, async t => {
    const uncaught = watchProcess(t)
    const { app, log } = await makeApp(t, { errorHandler: () => broken() })
    app.get('/', { websocket: true }, fail)
    const port = await listen(app)
    t.equal(await (await open(t, port, '/')).closed(), '1006')
    const line = await log.until('the WebSocket error handler failed')
    t.match(line, { level: ERROR, err: { message: 'handler broke' } })
    t.equal(log.at(ERROR).length, 1)
    t.strictSame(uncaught, [])
  })
}

t.test('an errorHandler that only records the error leaves the connection open', async t => {
  const errors: string[] = []
  const { app } = await makeApp(t, {
    errorHandler: async error => {
      errors.push(error.message)
    }
  })
  app.get('/', { websocket: true }, socket => {
    socket.on('message', data => {
      if (String(data) === 'bad') fail()
      socket.send(data, { binary: false })
    })
  })
  const port = await listen(app)
  const client = await open(t, port, '/')
  for (const message of ['one', 'bad', 'two', 'bad', 'three']) client.socket.send(message)
  for (const message of ['one', 'two', 'three']) t.equal(await client.next(), message)
  t.strictSame(errors, [SECRET, SECRET])
})

t.test('a handler that has failed does not stop the reading of a connection that stays open', async t => {
  const { app } = await makeApp(t, { errorHandler: () => {} })
  app.get('/throws', { websocket: true }, fail)
  app.get('/rejects', { websocket: true }, async () => {
    await null
    fail()
  })
  const port = await listen(app)
  for (const path of ['/throws', '/rejects']) {
    const client = await open(t, port, path)
    const pong = new Promise(resolve => client.socket.once('pong', resolve))
    client.socket.ping('x')
    t.equal(String(await pong), 'x')
    client.socket.close(1000)
    t.equal(await client.closed(), '1000')
  }
})

for (const thrown of [undefined, null, 'text', 7, { code: 1 }, Object.create(null)]) {
  t.test(`a thrown value need not be an error: ${JSON.stringify(thrown)}`, async t => {
    const uncaught = watchProcess(t)
    const errors: unknown[] = []
    const { app, log } = await makeApp(t)
    app.get('/sync', { websocket: true }, () => {
      throw thrown
    })
    app.get('/async', { websocket: true }, async () => {
      throw thrown
    })
    app.get('/listener', { websocket: true }, socket => {
      socket.on('message', async () => {
        throw thrown
      })
    })
    const errorHandler: WebSocketErrorHandler = (error, socket) => {
      errors.push(error instanceof Error)
      socket.close(4000)
    }
    app.get('/custom', { websocket: { errorHandler } }, () => {
      throw thrown
    })
    const port = await listen(app)
    for (const path of ['/sync', '/async', '/listener']) {
      const client = await open(t, port, path)
      client.socket.send('go')
      t.equal(await client.closed(), '1011', path)
    }
    t.equal(log.at(ERROR).length, 3)
    t.strictSame(
      log.at(ERROR).map(({ msg }) => msg),
      [
        'the WebSocket handler of GET /sync failed',
        'the WebSocket handler of GET /async failed',
        'a listener or callback of the WebSocket at GET /listener failed'
      ]
    )
    for (const { err } of log.at(ERROR))
      t.match(err, { message: /^A value that is not an error was thrown: / })
    t.equal(await (await open(t, port, '/custom')).closed(), '4000')
    t.strictSame(errors, [true])
    t.strictSame(uncaught, [])
  })
}

t.test(
  'the first of several failures of a connection is logged as an error, and the others at debug level',
  async t => {
    const { app, log } = await makeApp(t)
    app.get('/', { websocket: true }, async socket => {
      socket.on('message', fail)
      socket.on('message', fail)
      await new Promise(resolve => socket.on('close', resolve))
      fail()
    })
    const port = await listen(app)
    const client = await open(t, port, '/')
    client.socket.send('go')
    t.equal(await client.closed(), '1011')
    await app.close()
    // Emitting stops at the first listener that throws.
    t.strictSame(
      [log.with(LISTENER_FAILED), log.with(HANDLER_FAILED)].flat().map(({ level }) => level),
      [ERROR, DEBUG]
    )
  }
)

t.test('a disconnect while a handler awaits drained() is logged at debug level, not as an error', async t => {
  const uncaught = watchProcess(t)
  const { app, log } = await makeApp(t, { maxBufferedAmount: 100_000_000 })
  const full = new Signal()
  app.get('/', { websocket: true }, async socket => {
    // More than the operating system buffers.
    while (socket.bufferedAmount < 60_000_000) socket.send('x'.repeat(1_000_000))
    full.fire()
    await socket.drained()
    t.fail('the peer is gone')
  })
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.socket.pause()
  client.write(handshake('/'))
  await full.wait('backpressure')
  client.socket.resetAndDestroy()
  const line = await log.until('the peer went away while a handler was at work')
  t.match(line, { level: DEBUG, err: { code: 'FST_UPGRADE_NOT_OPEN' } })
  await log.until('request completed')
  t.strictSame(log.at(ERROR), [])
  t.strictSame(uncaught, [])
})

t.test('a disconnect is not reported to a custom errorHandler either', async t => {
  const { app, log } = await makeApp(t, { errorHandler: error => t.fail(error.message) })
  app.get('/', { websocket: true }, async socket => {
    socket.terminate()
    await new Promise(resolve => socket.on('close', resolve))
    await socket.drained()
  })
  const port = await listen(app)
  await (await open(t, port, '/')).closed()
  await log.until('the peer went away while a handler was at work')
})

t.test('a peer that ignores the Close frame cannot fill the log', async t => {
  const { app, log } = await makeApp(t)
  app.get('/', { websocket: true }, socket => {
    socket.on('message', fail)
  })
  const client = await connectRaw(t, await listen(app))
  client.write(handshake('/'), ...Array.from({ length: 1000 }, () => text('x')))
  await client.response()
  await client.frame()
  client.write(close(1011))
  await client.end()
  t.equal(log.at(ERROR).length, 1)
})

t.test('an error of another closed socket counts as an error of the handler', async t => {
  const { app, log } = await makeApp(t)
  const others: WebSocket[] = []
  app.get('/other', { websocket: true }, socket => {
    others.push(socket)
  })
  app.get('/', { websocket: true }, async socket => {
    for await (const _ of socket) for (const other of others) await other.drained()
  })
  const port = await listen(app)
  const other = await open(t, port, '/other')
  const gone = once(others[0], 'close')
  other.socket.terminate()
  await gone
  const client = await open(t, port, '/')
  client.socket.send('go')
  t.equal(await client.closed(), '1011')
  t.equal(log.at(ERROR).length, 1)
})

t.test('rejections of async listeners of websocketServer and of async callbacks are logged', async t => {
  const uncaught = watchProcess(t)
  const { app, log } = await makeApp(t)
  app.websocketServer.once('connection', async () => {
    throw new Error('of connection')
  })
  app.get('/', { websocket: true }, () => {})
  app.get('/callback', { websocket: true }, socket => {
    socket.send('x', async () => {
      throw new Error('of callback')
    })
  })
  const port = await listen(app)
  t.equal(await (await open(t, port, '/')).closed(), '1011')
  t.equal(await (await open(t, port, '/callback')).closed(), '1011')
  t.strictSame(
    log.at(ERROR).map(({ msg, err }) => [msg, Object(err).message]),
    [
      [LISTENER_FAILED, 'of connection'],
      ['a listener or callback of the WebSocket at GET /callback failed', 'of callback']
    ]
  )
  app.websocketServer.once('close', () => {
    throw new Error('of close')
  })
  app.websocketServer.once('close', async () => {
    throw new Error('of close, later')
  })
  await withDeadline(app.close(), 10_000, 'app.close()')
  await tick()
  t.equal(
    log.with('a listener of websocketServer failed').length,
    1,
    'emitting stops at the first listener that throws'
  )
  t.strictSame(uncaught, [])
})

t.test('a rejection of an async close listener of websocketServer is logged', async t => {
  const uncaught = watchProcess(t)
  const { app, log } = await makeApp(t)
  app.websocketServer.once('close', async () => {
    throw new Error('of close')
  })
  await withDeadline(app.close(), 10_000, 'app.close()')
  await log.until('a listener of websocketServer failed')
  t.strictSame(uncaught, [])
})
