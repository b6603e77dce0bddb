import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type WebSocket, WebSocketServer } from '../../lib/ws/index.js'
import { connectRaw, handshake, open, Signal, tick, watchProcess } from '../helpers/app.js'
import { root } from '../helpers/root.js'
import { bytes, frame, header } from '../protocol/wire.js'
import { IMPLEMENTATIONS, listening, portOf, upgrading } from './servers.js'

// Errors of the application reach the `error` event of the server, or become a warning; they never end the process.

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
  t.test(`${what}: the server emits error, and the peer gets 1011 without internal text`, async t => {
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

/** Records the warnings of the process during a test. */
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

t.test('without an error listener the error becomes a warning of the process', async t => {
  const uncaught = watchProcess(t)
  const { first } = warnings(t)
  const { port } = await start(t, socket => socket.on('message', mine))
  const client = await open(t, port, '/')
  client.socket.send('go')
  t.equal(await client.closed(), '1011')
  t.equal((await first.wait('warning')).message, 'mine')
  t.strictSame(uncaught, [])
})

t.test('an error listener that throws or rejects causes a warning, too', async t => {
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

t.test('a thrown value that is not an error is emitted as an error', async t => {
  const { server, port } = await start(t, () => {
    throw 'text'
  })
  const emitted = once(server, 'error')
  await open(t, port, '/')
  const [error] = await emitted
  t.type(error, Error)
  t.match(error.message, /'text'/)
})

t.test('a peer that ignores the Close frame cannot cause more errors', async t => {
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

t.test('a send after the close is no error of the application', async t => {
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

t.test('an error of the callback of handleUpgrade is emitted', async t => {
  const uncaught = watchProcess(t)
  for (const callback of [mine, async () => mine()]) {
    const server = new WebSocketServer({ noServer: true })
    const emitted = once(server, 'error')
    const { port } = await upgrading(t, (request, socket, head) =>
      server.handleUpgrade(request, socket, head, callback)
    )
    const client = await open(t, port, '/')
    t.equal(await client.closed(), '1011')
    t.equal((await emitted)[0].message, 'mine')
  }
  t.strictSame(uncaught, [])
})

t.test('an error of a listener of the server is emitted', async t => {
  const uncaught = watchProcess(t)
  for (const onClose of [mine, async () => mine()]) {
    const server = new WebSocketServer({ noServer: true })
    const emitted = once(server, 'error')
    server.on('close', onClose)
    server.close()
    t.equal((await emitted)[0].message, 'mine')
  }
  t.strictSame(uncaught, [])
})

t.test('a protocol violation without an error listener is no error of the application', async t => {
  const uncaught = watchProcess(t)
  const { server, port } = await start(t, () => {})
  server.on('error', error => t.fail(String(error)))
  const client = await connectRaw(t, port)
  client.write(handshake('/'), Buffer.from([0x81, 0x01, 0x61]))
  await client.response()
  t.equal((await client.frame()).opcode, 8)
  t.strictSame(uncaught, [])
})

/** The data that a client sends, and the error codes of `ws` and of this package for it. */
const CODES: readonly (readonly [sent: Buffer, theirs: string | undefined, ours: string])[] = [
  [frame(1, 'a', { key: null }), 'EXPECTED_MASK', 'UNMASKED_FRAME'],
  [frame(1, 'a', { rsv: 4 }), 'UNEXPECTED_RSV_1', 'RESERVED_BITS'],
  [frame(1, 'a', { rsv: 3 }), 'UNEXPECTED_RSV_2_3', 'RESERVED_BITS'],
  [frame(3, 'a'), 'INVALID_OPCODE', 'INVALID_OPCODE'],
  [frame(0, 'a'), 'INVALID_OPCODE', 'UNEXPECTED_CONTINUATION'],
  [bytes(frame(1, 'a', { fin: false }), frame(1, 'a')), 'INVALID_OPCODE', 'INTERLEAVED_MESSAGE'],
  [frame(9, 'a', { fin: false }), 'EXPECTED_FIN', 'FRAGMENTED_CONTROL'],
  [frame(9, 'a'.repeat(126)), 'INVALID_CONTROL_PAYLOAD_LENGTH', 'LONG_CONTROL'],
  [frame(8, 'a'), 'INVALID_CONTROL_PAYLOAD_LENGTH', 'INVALID_CLOSE_BODY'],
  [frame(8, bytes([3, 237])), 'INVALID_CLOSE_CODE', 'INVALID_CLOSE_CODE'],
  [frame(8, bytes([3, 232, 0xff])), 'INVALID_UTF8', 'INVALID_CLOSE_REASON'],
  [frame(1, bytes([0xff])), 'INVALID_UTF8', 'INVALID_UTF8'],
  [frame(1, 'a'.repeat(101)), 'UNSUPPORTED_MESSAGE_LENGTH', 'MESSAGE_TOO_BIG'],
  [header(2, 2n ** 63n), 'UNSUPPORTED_DATA_PAYLOAD_LENGTH', 'INVALID_LENGTH'],
  [header(2, 2n ** 60n), 'UNSUPPORTED_DATA_PAYLOAD_LENGTH', 'MESSAGE_TOO_BIG'],
  [frame(1, bytes([0xff, 0xff, 0xff]), { rsv: 4 }), 'Z_DATA_ERROR', 'INVALID_DEFLATE'],
  [frame(1, 'a', { form: 16 }), undefined, 'NON_MINIMAL_LENGTH']
]

t.test('docs/reference/compatibility.md lists the code of this package for each error of ws', async t => {
  const page = readFileSync(join(root, 'docs', 'reference', 'compatibility.md'), 'utf8')
  for (const [sent, theirs, ours] of CODES) {
    const code = theirs === undefined || theirs.startsWith('Z_') ? theirs : `WS_ERR_${theirs}`
    const expected = { ws: code, ours: `FST_UPGRADE_${ours}` }
    for (const implementation of IMPLEMENTATIONS) {
      const perMessageDeflate = theirs === 'Z_DATA_ERROR'
      const { server, port } = await listening(t, implementation, { maxPayload: 100, perMessageDeflate })
      const failed = new Signal<unknown>()
      server.on('connection', socket => {
        socket.on('message', () => failed.fire(undefined))
        socket.on('error', error => failed.fire(Reflect.get(error, 'code')))
      })
      const client = await connectRaw(t, port)
      const fields = perMessageDeflate ? { 'Sec-WebSocket-Extensions': 'permessage-deflate' } : {}
      client.write(handshake('/', fields), sent)
      t.equal(await failed.wait('error'), Reflect.get(expected, implementation.name), `${code} ${ours}`)
    }
    const row = page.split('\n').filter(line => line.startsWith('|') && line.includes(`\`${expected.ours}\``))
    const names = row.some(line => line.includes(code === undefined ? '| none' : `\`${code}\``))
    t.ok(names, `${code} ${ours}`)
  }
})

t.test('a send after the close leaves bufferedAmount unchanged, whereas with ws it grows', async t => {
  for (const implementation of IMPLEMENTATIONS) {
    const { server, port } = await listening(t, implementation)
    const connection = once(server, 'connection')
    const client = await open(t, port, '/')
    const [socket] = await connection
    client.socket.close(1000)
    await once(socket, 'close')
    const failed = new Signal<unknown>()
    socket.send('late', (error: unknown) => failed.fire(error))
    t.type(await failed.wait('callback'), Error)
    t.equal(socket.bufferedAmount, implementation.name === 'ws' ? 4 : 0, implementation.name)
  }
})
