import { once } from 'node:events'
import t from 'tap'
import {
  codeOf,
  connectRaw,
  handshake,
  INFO,
  listen,
  makeApp,
  ms,
  open,
  request as ordinary,
  Signal,
  shake,
  text,
  watchProcess
} from '../helpers/app.js'

// The end of a request: onResponse, request.signal, onRequestAbort, timeouts, hijacked replies, the log.

t.test('onResponse runs once with 101, when the connection has ended', async t => {
  const { app, log } = await makeApp(t)
  const order: string[] = []
  const ended = new Signal()
  app.addHook('onResponse', async (request, reply) => {
    order.push(`onResponse ${reply.statusCode} ${request.ws} ${reply.elapsedTime > 0}`)
    ended.fire()
  })
  app.get('/', { websocket: true }, socket => {
    socket.on('message', data => socket.send(data, { binary: false }))
    socket.on('close', () => order.push('close'))
  })
  const port = await listen(app)
  const client = await open(t, port, '/')
  client.socket.send('still here')
  await client.next()
  t.strictSame(order, [])
  t.strictSame(log.with('request completed'), [])
  client.socket.close(1000)
  await client.closed()
  await ended.wait('onResponse')
  await log.until('request completed')
  t.strictSame(order, ['close', 'onResponse 101 true true'])
  const [completed, ...others] = log.with('request completed')
  t.strictSame(others, [])
  t.match(completed, { level: INFO, res: { statusCode: 101 } })
  t.equal(log.with('incoming request').length, 1)
})

for (const way of ['terminate', 'reset'] as const) {
  t.test(`onResponse runs once after ${way}, too`, async t => {
    const { app, log } = await makeApp(t)
    let count = 0
    app.addHook('onResponse', async () => void count++)
    const opened = new Signal()
    app.get('/', { websocket: true }, socket => {
      opened.fire()
      if (way === 'terminate') socket.terminate()
    })
    const port = await listen(app)
    const client = await connectRaw(t, port)
    client.write(handshake('/'))
    await opened.wait('handler')
    if (way === 'reset') {
      await client.response()
      client.socket.resetAndDestroy()
    }
    await log.until('request completed')
    await app.close()
    t.equal(count, 1)
    t.equal(log.with('request completed').length, 1)
  })
}

t.test('onResponse runs once after a handler has destroyed the request', async t => {
  const { app } = await makeApp(t)
  let count = 0
  const ended = new Signal()
  app.addHook('onResponse', async () => {
    count++
    ended.fire()
  })
  app.get('/', { websocket: true }, (_socket, request) => {
    request.raw.destroy()
  })
  const client = await open(t, await listen(app), '/')
  client.socket.terminate()
  await ended.wait('onResponse')
  await app.close()
  t.equal(count, 1)
})

t.test('onResponse runs immediately for a refusal', async t => {
  const { app, log } = await makeApp(t)
  const ended: unknown[] = []
  app.addHook('onResponse', async (request, reply) => void ended.push([request.url, reply.statusCode]))
  app.get('/', { websocket: true }, () => t.fail('no connection'))
  const port = await listen(app)
  // The client keeps its side open.
  const client = await connectRaw(t, port)
  client.write(handshake('/', { 'Sec-WebSocket-Key': 'short' }))
  t.equal((await client.response()).status, 400)
  await log.until('request completed')
  t.strictSame(ended, [['/', 400]])
  t.notOk(client.closed)
  client.socket.end()
  await client.gone()
  await app.close()
  t.strictSame(ended, [['/', 400]])
})

t.test('request.signal is aborted when the connection has ended, and not before', async t => {
  const { app } = await makeApp(t)
  const aborted = new Signal()
  let signal: AbortSignal | undefined
  app.get('/', { websocket: true }, (socket, request) => {
    signal = request.signal
    signal.addEventListener('abort', () => aborted.fire())
    socket.on('message', data => socket.send(data))
  })
  const port = await listen(app)
  const client = await open(t, port, '/')
  client.socket.send('x')
  await client.next()
  t.equal(signal?.aborted, false)
  client.socket.close()
  await aborted.wait('abort')
  t.equal(signal?.aborted, true)
})

t.test('the request.signal that a hook has read is aborted before onResponse', async t => {
  const { app } = await makeApp(t)
  const seen = new Signal<unknown>()
  app.addHook('onRequest', async request => {
    t.equal(request.signal.aborted, false)
  })
  app.addHook('onResponse', async request => seen.fire(request.signal.aborted))
  app.get('/', { websocket: true }, socket => socket.close())
  const port = await listen(app)
  await (await open(t, port, '/')).closed()
  t.equal(await seen.wait('onResponse'), true)
})

for (const way of ['reset', 'end'] as const) {
  t.test(
    `a client that leaves during an async hook (${way}) causes onRequestAbort and aborts the signal`,
    async t => {
      const { app } = await makeApp(t)
      const entered = new Signal()
      const go = new Signal()
      const aborted = new Signal()
      const left = new Signal<boolean>()
      let aborts = 0
      app.addHook('onRequest', async request => {
        request.signal.addEventListener('abort', () => aborted.fire())
        entered.fire()
        await go.promise
      })
      app.addHook('onRequestAbort', async request => {
        aborts++
        left.fire(request.ws)
      })
      app.addHook('onResponse', async () => t.fail('there was no response'))
      app.get('/', { websocket: true }, () => t.fail('no connection'))
      const port = await listen(app)
      const client = await connectRaw(t, port)
      client.write(handshake('/'))
      await entered.wait('hook')
      if (way === 'reset') client.socket.resetAndDestroy()
      else client.socket.end()
      t.equal(await left.wait('onRequestAbort'), true)
      await aborted.wait('abort')
      await client.gone()
      go.fire()
      await app.close()
      t.equal(client.data.length, 0)
      t.equal(aborts, 1)
    }
  )
}

t.test('onRequestAbort runs neither for a normal end nor for a refusal', async t => {
  const { app, log } = await makeApp(t)
  app.addHook('onRequestAbort', async request => t.fail(`aborted: ${request.url}`))
  app.get('/', { websocket: true }, socket => socket.close(1000))
  app.get('/cut', { websocket: true }, socket => socket.terminate())
  const port = await listen(app)
  await (await open(t, port, '/')).closed()
  await (await open(t, port, '/cut')).closed()
  await shake(t, port, '/', { Origin: 'https://evil.test' })
  await app.close()
  t.equal(log.with('request completed').length, 3)
})

t.test('connectionTimeout cuts a handshake without traffic, and onTimeout runs', async t => {
  const { app } = await makeApp(t, {}, { connectionTimeout: ms(100) })
  const timedOut = new Signal<boolean>()
  const go = new Signal()
  app.addHook('onTimeout', async request => timedOut.fire(request.ws))
  app.get('/slow', { websocket: true, preHandler: () => go.promise }, () => t.fail('no connection'))
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/slow'))
  t.equal(await timedOut.wait('onTimeout'), true)
  await client.gone()
  t.equal(client.data.length, 0)
  go.fire()
})

t.test('connectionTimeout does not end open connections', async t => {
  const { app } = await makeApp(t, {}, { connectionTimeout: ms(100) })
  app.addHook('onTimeout', async () => t.fail('timed out'))
  const idle = new Signal()
  app.get('/', { websocket: true }, socket => {
    // Three times the timeout, without any traffic.
    setTimeout(() => idle.fire(), ms(300))
    socket.on('message', data => socket.send(data))
  })
  const port = await listen(app)
  const client = await open(t, port, '/')
  await idle.wait('the pause')
  client.socket.send('alive')
  t.equal(await client.next(), 'alive')
})

t.test('handlerTimeout refuses a slow handshake with 503, and leaves open connections alone', async t => {
  const { app } = await makeApp(t)
  const go = new Signal()
  const handlerTimeout = ms(100)
  app.get('/slow', { websocket: true, handlerTimeout, preHandler: () => go.promise }, () =>
    t.fail('no connection')
  )
  app.get('/open', { websocket: true, handlerTimeout }, (socket, request) => {
    setTimeout(() => socket.send(`${request.signal.aborted}`), 3 * handlerTimeout)
  })
  const port = await listen(app)
  const client = await open(t, port, '/open')
  const response = await shake(t, port, '/slow')
  t.equal(response.status, 503)
  t.equal(codeOf(response), 'FST_ERR_HANDLER_TIMEOUT')
  t.equal(await client.next(), 'false')
  go.fire()
})

t.test('handlerTimeout during onSend replaces the 101', async t => {
  const uncaught = watchProcess(t)
  const { app } = await makeApp(t)
  const go = new Signal()
  const onSend = async (_request: unknown, reply: { statusCode: number }): Promise<void> => {
    if (reply.statusCode === 101) await go.promise
  }
  app.get('/', { websocket: true, handlerTimeout: ms(100), onSend }, () => t.fail('no connection'))
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  t.equal((await client.response()).status, 503)
  go.fire()
  await client.end()
  t.equal(client.data.length, 0)
  t.strictSame(uncaught, [])
})

t.test('a hijacked reply is left to its hook, with its bytes and without a deadline', async t => {
  const { app } = await makeApp(t, { handshakeTimeout: ms(50) })
  const hijacked = new Signal()
  const go = new Signal()
  app.get(
    '/',
    {
      websocket: true,
      onRequest: (request, reply, done) => {
        reply.hijack()
        hijacked.fire()
        go.promise.then(() => request.raw.socket.end('HTTP/1.1 299 Mine\r\nContent-Length: 0\r\n\r\n'))
        done()
      }
    },
    () => t.fail('no connection')
  )
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await hijacked.wait('hook')
  await new Promise(resolve => setTimeout(resolve, ms(200)))
  t.notOk(client.closed || client.ended)
  go.fire()
  t.equal((await client.response()).status, 299)
  await client.end()
})

t.test('a hijacked reply may be answered through reply.raw', async t => {
  const { app } = await makeApp(t)
  app.get(
    '/',
    {
      websocket: true,
      preHandler: async (_request, reply) => {
        reply.hijack()
        reply.raw.writeHead(299, 'Mine', { 'x-mine': 'yes', 'content-length': '4' })
        reply.raw.write('bo')
        reply.raw.end('dy')
      }
    },
    () => t.fail('no connection')
  )
  const port = await listen(app)
  const response = await shake(t, port, '/')
  t.match(response.head, /^HTTP\/1.1 299 Mine\r\n/)
  t.equal(response.body, 'body')
})

t.test('a hijacked handshake delays app.close() no longer than the deadline', async t => {
  const { app } = await makeApp(t, { shutdown: { timeout: ms(100) } })
  const hijacked = new Signal()
  app.get(
    '/',
    {
      websocket: true,
      preHandler: async (_request, reply) => {
        reply.hijack()
        hijacked.fire()
      }
    },
    () => t.fail('no connection')
  )
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await hijacked.wait('hook')
  await app.close()
  await client.gone()
  t.equal(client.data.length, 0)
})

t.test('a reply that is awaited in a hook delays nothing', async t => {
  const { app } = await makeApp(t)
  const settled = new Signal()
  app.addHook('onRequest', (_request, reply, done) => {
    reply.then(
      () => settled.fire(),
      () => t.fail('rejected')
    )
    done()
  })
  app.get('/', { websocket: true }, socket => socket.close(1000))
  const port = await listen(app)
  await (await open(t, port, '/')).closed()
  await settled.wait('reply')
})

t.test('earlier requests on the socket have ended when the handshake arrives', async t => {
  const { app, log } = await makeApp(t)
  app.get('/plain', async () => 'plain')
  app.get('/ws', { websocket: true }, socket => {
    socket.on('message', data => socket.close(1000, String(data)))
  })
  const port = await listen(app)
  const client = await connectRaw(t, port)
  for (const round of [1, 2]) {
    client.write('GET /plain HTTP/1.1\r\nHost: x\r\n\r\n')
    t.equal((await client.response()).body, 'plain', `round ${round}`)
  }
  client.write(handshake('/ws'))
  t.equal((await client.response()).status, 101)
  client.write(text('bye'))
  const { opcode, payload } = await client.frame()
  t.equal(opcode, 8)
  t.equal(String(payload.subarray(2)), 'bye')
  client.socket.end()
  await client.gone()
  await app.close()
  t.equal(log.with('request completed').length, 3)
  await once(log.stream.end(), 'finish')
})

t.test('onResponse of an ordinary request runs immediately, beside open WebSockets', async t => {
  const { app } = await makeApp(t)
  const ended = new Signal<string>()
  app.addHook('onResponse', async request => ended.fire(request.url))
  app.get('/ws', { websocket: true }, () => {})
  app.get('/plain', async () => 'plain')
  const port = await listen(app)
  await open(t, port, '/ws')
  await ordinary(t, port, 'GET', '/plain')
  t.equal(await ended.wait('onResponse'), '/plain')
})
