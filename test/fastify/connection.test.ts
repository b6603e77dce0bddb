import { once } from 'node:events'
import t from 'tap'
import { WebSocket, type WebSocketHandler } from '../../lib/index.js'
import {
  close,
  connectRaw,
  DEBUG,
  ERROR,
  handshake,
  INFO,
  listen,
  makeApp,
  ms,
  open,
  Signal,
  text,
  WARN,
  watchProcess
} from '../helpers/app.js'
import { bytes, frame } from '../protocol/wire.js'

t.test('the handler receives a WebSocket with the settings of its route', async t => {
  const { app } = await makeApp(t, { maxPayload: 10 })
  app.get('/chat', { websocket: { subprotocol: 'chat', maxPayload: 5 } }, socket => {
    socket.send(`${socket instanceof WebSocket} ${socket.protocol} ${socket.readyState}`)
  })
  app.get('/plain', { websocket: true }, socket => {
    socket.send(JSON.stringify(socket.protocol))
  })
  const port = await listen(app)
  const chat = await open(t, port, '/chat', { protocols: ['chat'] })
  t.equal(await chat.next(), 'true chat 1')
  chat.socket.send('123456')
  t.match(await chat.closed(), /^1009/)
  const plain = await open(t, port, '/plain')
  t.equal(await plain.next(), '""')
  plain.socket.send('12345678901')
  t.match(await plain.closed(), /^1009/)
})

t.test('messages that arrive while an async handler awaits are delivered', async t => {
  const { app } = await makeApp(t)
  const entered = new Signal()
  const go = new Signal()
  app.get('/listener', { websocket: true }, async socket => {
    entered.fire()
    await go.promise
    socket.on('message', data => socket.send(`listener ${data}`))
  })
  app.get('/loop', { websocket: true }, async socket => {
    await go.promise
    for await (const message of socket) socket.send(`loop ${message}`)
  })
  const port = await listen(app)
  const listener = await open(t, port, '/listener')
  const loop = await open(t, port, '/loop')
  for (const message of ['1', '2', '3']) {
    listener.socket.send(message)
    loop.socket.send(message)
  }
  await entered.wait('handler')
  go.fire()
  for (const message of ['1', '2', '3']) {
    t.equal(await listener.next(), `listener ${message}`)
    t.equal(await loop.next(), `loop ${message}`)
  }
})

t.test('frames in the same packet as the handshake are delivered as the first messages', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, async socket => {
    await new Promise(setImmediate)
    socket.on('message', data => socket.send(`got ${data}`))
  })
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'), text('one'), text('two'), close(1000))
  t.equal((await client.response()).status, 101)
  t.equal(String((await client.frame()).payload), 'got one')
  t.equal(String((await client.frame()).payload), 'got two')
  t.equal((await client.frame()).opcode, 8)
  await client.end()
})

t.test('a connection whose handler reads no messages still answers pings and sees the close', async t => {
  const { app } = await makeApp(t)
  const closed = new Signal<number>()
  app.get('/sync', { websocket: true }, socket => {
    socket.on('close', code => closed.fire(code))
  })
  app.get('/async', { websocket: true }, async () => {
    await null
  })
  const port = await listen(app)
  for (const path of ['/sync', '/async']) {
    const client = await open(t, port, path)
    client.socket.send('ignored')
    const pong = new Promise(resolve => client.socket.once('pong', resolve))
    client.socket.ping('x')
    t.equal(String(await pong), 'x', path)
    client.socket.close(3000)
    t.equal(await client.closed(), '3000', path)
  }
  t.equal(await closed.wait('close'), 3000)
})

t.test('the return value of a handler is ignored', async t => {
  const uncaught = watchProcess(t)
  const { app, log } = await makeApp(t)
  const almost = Object.fromEntries([['then', 'no function']])
  const values = [undefined, null, 'text', 7, {}, almost, () => {}]
  values.forEach((value, i) => {
    app.get(`/${i}`, { websocket: true }, socket => {
      socket.send('open')
      return value
    })
  })
  const port = await listen(app)
  for (const i of values.keys()) {
    const client = await open(t, port, `/${i}`)
    t.equal(await client.next(), 'open')
    client.socket.close(1000)
    t.equal(await client.closed(), '1000')
  }
  t.strictSame(log.at(ERROR), [])
  t.strictSame(uncaught, [])
})

t.test('a protocol violation is logged at debug level and emitted by the socket', async t => {
  const { app, log } = await makeApp(t)
  const emitted = new Signal<unknown>()
  app.get('/', { websocket: true }, socket => {
    socket.on('error', error => emitted.fire(error))
  })
  app.get('/silent', { websocket: true }, () => {})
  const port = await listen(app)
  for (const path of ['/', '/silent']) {
    const client = await connectRaw(t, port)
    client.write(handshake(path))
    await client.response()
    client.write(frame(1, 'unmasked', { key: null }))
    const { opcode, payload } = await client.frame()
    t.equal(opcode, 8)
    t.equal(payload.readUInt16BE(0), 1002)
    await client.end()
    client.socket.end()
  }
  t.match(await emitted.wait('error'), { code: 'FST_UPGRADE_UNMASKED_FRAME' })
  await app.close()
  t.equal(log.with('the WebSocket failed').length, 2)
  for (const line of log.with('the WebSocket failed')) {
    t.match(line, { level: DEBUG, err: { code: 'FST_UPGRADE_UNMASKED_FRAME' }, reqId: /^req-/ })
  }
  t.strictSame(
    log.with('WebSocket closed').map(({ level, code, reason }) => ({ level, code, reason })),
    [
      // RFC 6455 section 7.1.5: the code is that of the peer's Close frame, and it has sent none.
      { level: INFO, code: 1006, reason: 'FST_UPGRADE_UNMASKED_FRAME' },
      { level: INFO, code: 1006, reason: 'FST_UPGRADE_UNMASKED_FRAME' }
    ]
  )
  t.strictSame(log.at(ERROR), [])
})

t.test(
  'a connection has one more log line at info level than a request, with the amount of its traffic',
  async t => {
    const { app, log } = await makeApp(t)
    app.get('/', { websocket: true }, socket => {
      socket.send('hello')
      socket.send('you')
      socket.on('message', () => socket.close(1000))
    })
    const port = await listen(app)
    const client = await connectRaw(t, port)
    client.write(handshake('/'))
    await client.response()
    client.write(text('four'))
    for (const opcode of [1, 1, 8]) t.equal((await client.frame()).opcode, opcode)
    client.write(close(1000))
    await client.end()
    client.socket.end()
    await log.until('request completed')
    const [line] = log.with('WebSocket closed')
    t.match(line, { level: INFO, code: 1000, messagesReceived: 1, messagesSent: 2 })
    t.match(line, { bytesReceived: 6 + 4 + 6 + 2, bytesSent: 2 + 5 + 2 + 3 + 2 + 2 })
    t.ok(Number.isInteger(line?.duration) && !('reason' in (line ?? {})))
    const lines = log.at(INFO).filter(line => line.reqId !== undefined)
    t.strictSame(
      lines.map(line => line.msg),
      ['incoming request', 'WebSocket closed', 'request completed']
    )
  }
)

t.test('heartbeat and closeTimeout of the options reach the connection', async t => {
  const { app, log } = await makeApp(t, {
    heartbeat: { interval: ms(100), timeout: ms(50) },
    closeTimeout: ms(100)
  })
  app.get('/ping', { websocket: true }, () => {})
  app.get('/close', { websocket: { heartbeat: false } }, socket => socket.close(1000))
  const port = await listen(app)
  const silent = await connectRaw(t, port)
  silent.write(handshake('/ping'))
  await silent.response()
  t.equal((await silent.frame()).opcode, 9)
  await silent.gone()
  const mute = await connectRaw(t, port)
  mute.write(handshake('/close'))
  await mute.response()
  t.equal((await mute.frame()).opcode, 8)
  await mute.gone()
  await app.close()
  t.strictSame(
    log.with('WebSocket closed').map(line => line.code),
    [1006, 1006]
  )
})

t.test('maxBufferedAmount: false, for the plugin or for a route, disables the limit', async t => {
  for (const [plugin, route] of [
    [false, undefined],
    [1000, false],
    [false, 1000]
  ] as const) {
    const { app } = await makeApp(t, { maxBufferedAmount: plugin })
    app.get('/', { websocket: { maxBufferedAmount: route } }, socket => {
      for (let i = 0; i < 10; i++) socket.send('x'.repeat(100_000))
      socket.close(1000)
    })
    const client = await open(t, await listen(app), '/')
    t.equal(await client.closed(), route === 1000 ? '1006' : '1000')
    t.equal(client.messages.length, route === 1000 ? 0 : 10)
  }
})

t.test('maxBufferedAmount cuts a client that does not read', async t => {
  const { app, log } = await makeApp(t, { maxBufferedAmount: 1000, highWaterMark: 100 })
  app.get('/', { websocket: true }, socket => {
    socket.on('message', () => {
      // More than any socket buffer holds.
      while (socket.readyState === WebSocket.OPEN) socket.send('x'.repeat(100_000))
    })
  })
  const port = await listen(app)
  const client = await open(t, port, '/')
  client.socket.send('go')
  t.equal(await client.closed(), '1006')
  t.match(await log.until('the WebSocket failed'), {
    level: DEBUG,
    err: { code: 'FST_UPGRADE_BUFFER_OVERFLOW' }
  })
})

t.test(
  'fragments of a message are delivered as one message, however they are split into packets',
  async t => {
    const { app } = await makeApp(t)
    app.get('/', { websocket: true }, socket => {
      socket.on('message', data => socket.send(String(data)))
    })
    const port = await listen(app)
    const client = await connectRaw(t, port)
    const all = bytes(handshake('/'), frame(1, 'he', { fin: false }), frame(9, 'p'), frame(0, 'llo'))
    for (const byte of all) client.write(bytes(byte))
    await client.response()
    const answers = [await client.frame(), await client.frame()]
    t.strictSame(answers.map(({ opcode, payload }) => `${opcode} ${payload}`).sort(), ['1 hello', '10 p'])
  }
)

t.test('a handler that only awaits the end of the connection sees it', async t => {
  const { app } = await makeApp(t)
  const codes: unknown[] = []
  const ended = new Signal()
  app.get('/', { websocket: true }, async socket => {
    socket.send('hello')
    codes.push(...(await once(socket, 'close')))
    ended.fire()
  })
  const port = await listen(app)
  const client = await open(t, port, '/')
  t.equal(await client.next(), 'hello')
  client.socket.close(4000, 'bye')
  await ended.wait('end of the handler')
  t.equal(codes[0], 4000)
  t.equal(await client.closed(), '4000 bye')
})

t.test('a handler that returns a value logs a warning, once per route', async t => {
  const returned = (type: string): string =>
    `the WebSocket handler of GET /x/:y returned a value of type ${type}, which is not sent; call socket.send()`
  const values: readonly (readonly [value: unknown, type: string])[] = [
    ['text', 'string'],
    [{ hello: 'world' }, 'object'],
    [null, 'object'],
    [0, 'number'],
    [Buffer.from('bytes'), 'object'],
    [Promise.resolve('text'), 'string']
  ]
  for (const [value, type] of values) {
    const { app, log } = await makeApp(t)
    app.get('/x/:y', { websocket: true }, () => value)
    const port = await listen(app)
    for (const path of ['/x/1', '/x/2']) {
      const client = await open(t, port, path)
      client.socket.close(1000)
      t.equal(await client.closed(), '1000', 'the connection works')
    }
    t.strictSame(
      log.at(WARN).map(({ msg }) => msg),
      [returned(type)]
    )
  }
})

t.test('a handler that returns nothing, or the result of a socket method, logs no warning', async t => {
  const { app, log } = await makeApp(t)
  const handlers: Readonly<Record<string, WebSocketHandler>> = {
    '/nothing': () => {},
    '/promise': async () => {},
    '/send': socket => socket.send('x'),
    '/on': socket => socket.on('message', () => {}),
    '/async-send': async socket => socket.send('x'),
    '/subscribe': socket => socket.subscribe('x')
  }
  for (const [url, handler] of Object.entries(handlers)) app.get(url, { websocket: true }, handler)
  const port = await listen(app)
  for (const url of Object.keys(handlers)) {
    const client = await open(t, port, url)
    client.socket.close(1000)
    t.equal(await client.closed(), '1000')
  }
  t.strictSame(log.at(WARN), [])
})

t.test(
  'a ping that arrives before the handler closes or throws is answered before the Close frame',
  async t => {
    const { app } = await makeApp(t)
    app.get('/close', { websocket: true }, socket => {
      socket.on('message', () => socket.close(1000))
    })
    app.get('/throw', { websocket: true }, socket => {
      socket.on('message', () => {
        throw new Error('mine')
      })
    })
    const port = await listen(app)
    for (const [path, code] of [
      ['/close', 1000],
      ['/throw', 1011]
    ] as const) {
      const client = await connectRaw(t, port)
      client.write(handshake(path), frame(9, 'p'), text('a'))
      await client.response()
      const pong = await client.frame()
      t.strictSame([pong.opcode, String(pong.payload)], [10, 'p'], path)
      const { opcode, payload } = await client.frame()
      t.strictSame([opcode, payload.readUInt16BE()], [8, code], path)
    }
  }
)
