import { AsyncLocalStorage } from 'node:async_hooks'
import t from 'tap'
import type { WebSocket } from '../../lib/index.js'
import {
  type App,
  connectRaw,
  handshake,
  listen,
  makeApp,
  open,
  Signal,
  shake,
  text
} from '../helpers/app.js'

// The store that a hook puts into an AsyncLocalStorage is available to everything that follows on its connection.

const storage = new AsyncLocalStorage<string>()

/** Ways in which hooks enter a context. */
const WAYS: Readonly<Record<string, (app: App['app']) => void>> = {
  'run(), callback': app => {
    app.addHook('onRequest', (request, _reply, done) => storage.run(request.url, done))
  },
  'run(), later': app => {
    app.addHook('preHandler', (request, _reply, done) => {
      setImmediate(() => storage.run(request.url, done))
    })
  },
  'enterWith()': app => {
    app.addHook('onRequest', (request, _reply, done) => {
      storage.enterWith(request.url)
      done()
    })
  }
}

for (const [way, enter] of Object.entries(WAYS)) {
  t.test(`a context entered by ${way} reaches the handler and all listeners`, async t => {
    const { app } = await makeApp(t)
    enter(app)
    // The 101 is written in another context than that of the handler.
    app.addHook('onSend', (_request, _reply, _payload, done) => {
      storage.exit(() => setImmediate(done))
    })
    const seen: string[] = []
    const note = (what: string): void => void seen.push(`${what} ${storage.getStore()}`)
    const ended = new Signal()
    app.get('/:name', { websocket: true }, socket => {
      note('handler')
      socket.on('message', async data => {
        note(`message ${data}`)
        await new Promise(resolve => setTimeout(resolve, 1))
        note('timer')
        socket.send('answer', () => {
          note('sent')
          socket.close(1000)
        })
      })
      socket.on('ping', () => note('ping'))
      socket.addEventListener('close', () => {
        note('close')
        ended.fire()
      })
    })
    const port = await listen(app)
    const client = await open(t, port, '/one')
    client.socket.ping()
    client.socket.send('hi')
    await client.closed()
    await ended.wait('close')
    t.strictSame(seen, [
      'handler /one',
      'ping /one',
      'message hi /one',
      'timer /one',
      'sent /one',
      'close /one'
    ])
  })
}

t.test('the contexts of connections do not mix', async t => {
  const { app } = await makeApp(t)
  app.addHook('onRequest', (request, _reply, done) => storage.run(request.url, done))
  app.get('/:name', { websocket: true }, socket => {
    socket.on('message', () => socket.send(String(storage.getStore())))
  })
  const port = await listen(app)
  const clients = await Promise.all(
    ['/a', '/b', '/c'].map(async path => ({ path, client: await open(t, port, path) }))
  )
  for (let round = 0; round < 3; round++) {
    for (const { client } of clients) client.socket.send('who')
    for (const { path, client } of clients) t.equal(await client.next(), path)
  }
})

t.test('listeners run in the context of their connection, whichever connection causes the event', async t => {
  const { app } = await makeApp(t)
  app.addHook('onRequest', (request, _reply, done) => storage.run(request.url, done))
  const sockets: WebSocket[] = []
  const seen: string[] = []
  const closed = new Signal()
  app.get('/:name', { websocket: true }, socket => {
    sockets.push(socket)
    socket.on('close', () => {
      seen.push(`close ${storage.getStore()}`)
      if (seen.length === 2) closed.fire()
    })
  })
  const port = await listen(app)
  await open(t, port, '/a')
  await open(t, port, '/b')
  storage.run('outside', () => {
    for (const socket of sockets) socket.terminate()
  })
  await closed.wait('close')
  t.strictSame(seen.sort(), ['close /a', 'close /b'])
})

t.test('iterators, drain and the error handler run in the context', async t => {
  const seen: string[] = []
  const note = (what: string): void => void seen.push(`${what} ${storage.getStore()}`)
  const failed = new Signal()
  const { app } = await makeApp(t, {
    highWaterMark: 1,
    errorHandler: (error, socket) => {
      note(error.message)
      socket.close(1011)
      failed.fire()
    }
  })
  app.addHook('onRequest', (request, _reply, done) => storage.run(request.url, done))
  app.get('/loop', { websocket: true }, async socket => {
    for await (const message of socket) {
      note(`${message}`)
      t.equal(socket.send('x'.repeat(100_000)), false)
      socket.once('drain', () => note('drain'))
      await socket.drained()
      note('drained')
      if (message === 'last') throw new Error('thrown')
    }
  })
  const port = await listen(app)
  const client = await open(t, port, '/loop')
  client.socket.send('first')
  client.socket.send('last')
  await failed.wait('errorHandler')
  t.equal(await client.closed(), '1011')
  t.strictSame(seen.sort(), [
    'drain /loop',
    'drain /loop',
    'drained /loop',
    'drained /loop',
    'first /loop',
    'last /loop',
    'thrown /loop'
  ])
})

t.test('a handshake behind a pipelined request has its own context', async t => {
  const { app } = await makeApp(t)
  const go = new Signal()
  app.addHook('onRequest', (request, _reply, done) => storage.run(request.url, done))
  app.get('/slow', async () => {
    await go.promise
    return 'slow'
  })
  app.get('/ws', { websocket: true }, socket => {
    socket.on('message', () => socket.send(String(storage.getStore())))
  })
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n', handshake('/ws'), text('who'))
  await shake(t, port, '/elsewhere')
  go.fire()
  t.equal((await client.response()).body, 'slow')
  t.equal((await client.response()).status, 101)
  t.equal(String((await client.frame()).payload), '/ws')
})
