import { once } from 'node:events'
import t, { type Test } from 'tap'
import { type WebSocket, WebSocketServer } from '../../lib/compat/index.js'
import { connectRaw, handshake, open, Signal, tick, watchProcess } from '../helpers/app.js'
import { portOf, upgrading } from './servers.js'

// What the application throws reaches `error` of the server, or is a warning; never the process.

type Connection = (socket: WebSocket) => unknown

async function start(t: Test, onConnection: Connection) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  server.on('connection', onConnection)
  t.teardown(() => {
    server.close()
    for (const client of server.clients) client.terminate()
  })
  await once(server, 'listening')
  return { server, port: portOf(server) }
}

const mine = (): never => {
  throw new Error('mine')
}

const WAYS: readonly (readonly [what: string, onConnection: Connection])[] = [
  ['a listener of connection throws', mine],
  ['a listener of connection rejects', async () => mine()],
  ['a listener of message throws', socket => socket.on('message', mine)],
  ['a listener of message rejects', socket => socket.on('message', async () => mine())],
  [
    'a callback of send throws',
    socket => {
      socket.send('one', mine)
    }
  ]
]

for (const [what, onConnection] of WAYS) {
  t.test(`${what}: the error event, and 1011 without internal text`, async t => {
    const uncaught = watchProcess(t)
    const { server, port } = await start(t, onConnection)
    const errors: Error[] = []
    server.on('error', error => errors.push(error))
    const client = await open(t, port, '/')
    client.socket.send('go')
    t.equal(await client.closed(), '1011')
    await tick()
    t.match(errors, [{ message: 'mine' }])
    t.strictSame(uncaught, [])
  })
}

/** The warnings of the process while a test runs. */
function warnings(t: Test): { readonly seen: Error[]; readonly first: Signal<Error> } {
  const seen: Error[] = []
  const first = new Signal<Error>()
  const onWarning = (warning: Error): void => {
    seen.push(warning)
    first.fire(warning)
  }
  process.on('warning', onWarning)
  t.teardown(() => process.off('warning', onWarning))
  return { seen, first }
}

t.test('without a listener of error it is a warning of the process', async t => {
  const uncaught = watchProcess(t)
  const { first } = warnings(t)
  const { port } = await start(t, socket => socket.on('message', mine))
  const client = await open(t, port, '/')
  client.socket.send('go')
  t.equal(await client.closed(), '1011')
  t.equal((await first.wait('warning')).message, 'mine')
  t.strictSame(uncaught, [])
})

t.test('a listener of error that throws, or rejects, makes it a warning too', async t => {
  const uncaught = watchProcess(t)
  for (const onError of [mine, async () => mine()]) {
    const { first } = warnings(t)
    const { server, port } = await start(t, mine)
    server.on('error', onError)
    const client = await open(t, port, '/')
    t.equal(await client.closed(), '1011')
    t.equal((await first.wait('warning')).message, 'mine')
  }
  t.strictSame(uncaught, [])
})

t.test('what is no error is told as one', async t => {
  const { server, port } = await start(t, () => {
    throw 'text'
  })
  const told = once(server, 'error')
  await open(t, port, '/')
  const [error] = await told
  t.type(error, Error)
  t.match(error.message, /'text'/)
})

t.test('a peer that does not heed the Close cannot cause more errors', async t => {
  const { server, port } = await start(t, socket => socket.on('pong', mine))
  const errors: Error[] = []
  server.on('error', error => errors.push(error))
  const client = await connectRaw(t, port)
  const pong = Buffer.from([0x8a, 0x80, 0, 0, 0, 0])
  client.write(handshake('/'), pong, pong, pong)
  await client.response()
  t.equal((await client.frame()).opcode, 8)
  client.write(pong, pong)
  await tick()
  t.equal(errors.length, 1)
})

t.test('a send that comes too late is no error of the application', async t => {
  const left = new Signal<WebSocket>()
  const { server, port } = await start(t, socket => socket.on('close', () => left.fire(socket)))
  server.on('error', error => t.fail(String(error)))
  const client = await open(t, port, '/')
  client.socket.terminate()
  const socket = await left.wait('close')
  socket.on('drain', () => {})
  await new Promise<void>(resolve => {
    socket.send('late', error => {
      resolve()
      throw error
    })
  })
  await tick()
})

t.test('the callback of handleUpgrade throws or rejects', async t => {
  const uncaught = watchProcess(t)
  for (const callback of [mine, async () => mine()]) {
    const server = new WebSocketServer({ noServer: true })
    const told = once(server, 'error')
    const { port } = await upgrading(t, (request, socket, head) =>
      server.handleUpgrade(request, socket, head, callback)
    )
    const client = await open(t, port, '/')
    t.equal(await client.closed(), '1011')
    t.equal((await told)[0].message, 'mine')
  }
  t.strictSame(uncaught, [])
})

t.test('a listener of the server that throws or rejects', async t => {
  const uncaught = watchProcess(t)
  for (const onClose of [mine, async () => mine()]) {
    const server = new WebSocketServer({ noServer: true })
    const told = once(server, 'error')
    server.on('close', onClose)
    server.close()
    t.equal((await told)[0].message, 'mine')
  }
  t.strictSame(uncaught, [])
})

t.test('a peer that breaks the protocol where nobody listens for error', async t => {
  const uncaught = watchProcess(t)
  const { server, port } = await start(t, () => {})
  server.on('error', error => t.fail(String(error)))
  const client = await connectRaw(t, port)
  client.write(handshake('/'), Buffer.from([0x81, 0x01, 0x61]))
  await client.response()
  t.equal((await client.frame()).opcode, 8)
  t.strictSame(uncaught, [])
})
