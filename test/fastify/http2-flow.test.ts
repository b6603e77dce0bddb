import { once } from 'node:events'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import type { FastifyUpgradeOptions, WebSocket } from '../../lib/index.js'
import { listen, ms, Signal, text, tick, watchProcess, withDeadline } from '../helpers/app.js'
import { CANCEL, type Http2Client, makeHttp2App, Session } from '../helpers/http2.js'
import {
  connectFields,
  DATA,
  Http2Bytes,
  http2Frame,
  RST_STREAM,
  WINDOW_UPDATE
} from '../helpers/http2-bytes.js'

const MIB = 2 ** 20

/** An empty pong with the masking key 0. */
const PONG = Buffer.from([0x8a, 0x80, 0, 0, 0, 0])

/** A frame of the server with a payload of this size has a header of ten bytes. */
const HEADER = 10

/** An application that sends back each message, and whose route `/given` hands its socket to the test. */
async function makeEcho(
  t: Parameters<typeof makeHttp2App>[0],
  options: FastifyUpgradeOptions = {}
): Promise<{ readonly app: FastifyInstance; readonly port: number; next(): Promise<WebSocket> }> {
  const { app } = await makeHttp2App(t, options, { cleartext: true })
  let given = new Signal<WebSocket>()
  app.get('/echo', { websocket: true }, socket => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
  app.get('/given', { websocket: true }, socket => given.fire(socket))
  const port = await listen(app)
  const next = async (): Promise<WebSocket> => {
    const socket = await given.wait('a socket')
    given = new Signal()
    return socket
  }
  return { app, port, next }
}

async function roundTrips(client: Http2Client, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    client.write(text(`${i}`))
    const answer = await client.text()
    if (answer !== `${i}`) throw new Error(`${answer} is not ${i}`)
  }
}

t.test('a peer that does not read one stream slows no other, and gets all in the end', async t => {
  const uncaught = watchProcess(t)
  const { port, next } = await makeEcho(t, { maxBufferedAmount: 64 * MIB })
  const session = await Session.open(t, port, { host: '127.0.0.1', cleartext: true })
  const slow = session.connect('/given')
  slow.stream.pause()
  const socket = await next()
  const fast = await session.open('/echo')
  let sent = 0
  while (sent < 8 && socket.send(Buffer.alloc(MIB))) sent++
  sent++
  t.ok(socket.bufferedAmount > 0, 'HTTP/2 holds back')
  await roundTrips(fast, 200)
  t.ok(socket.bufferedAmount > 0, 'still')
  const drained = once(socket, 'drain')
  slow.stream.resume()
  await withDeadline(drained, 20_000, 'drain')
  await slow.until(() => slow.data.length === sent * (MIB + HEADER), 'all')
  t.equal(socket.bufferedAmount, 0)
  t.strictSame(uncaught, [])
})

t.test('a socket that is paused slows no other, and reads all in the end', async t => {
  const { port, next } = await makeEcho(t)
  const session = await Session.open(t, port, { host: '127.0.0.1', cleartext: true })
  const slow = await session.open('/given')
  const socket = await next()
  const fast = await session.open('/echo')
  let received = 0
  socket.on('message', (data: Buffer) => {
    received += data.length
  })
  socket.pause()
  const message = text('x'.repeat(100_000))
  for (let i = 0; i < 20; i++) slow.stream.write(message)
  await roundTrips(fast, 200)
  t.equal(received, 0)
  t.ok(slow.stream.writableLength > 10 * message.length, 'the window of the stream holds back')
  socket.resume()
  while (received < 2_000_000) await tick()
  t.equal(received, 2_000_000)
})

t.test('heartbeat: a peer that reads slowly is kept, one that does not read is cut', async t => {
  const timeout = ms(100)
  const { port, next } = await makeEcho(t, { heartbeat: { interval: 4 * timeout, timeout } })
  const session = await Session.open(t, port, { host: '127.0.0.1', cleartext: true })
  const neighbour = await session.open('/given')
  const kept = await next()
  neighbour.stream.on('data', () => neighbour.write(PONG))
  const client = session.connect('/given')
  client.stream.removeAllListeners('data')
  client.stream.pause()
  const socket = await next()
  const end = new Signal<string>()
  socket.on('close', (code, _reason, error) => end.fire(`${code} ${error ? Reflect.get(error, 'code') : ''}`))
  const message = Buffer.alloc(2000)
  const messages = 200
  for (let i = 0; i < messages; i++) socket.send(message)
  // It reads for many timeouts, and answers no ping.
  const until = performance.now() + 20 * timeout
  let read = 0
  while (performance.now() < until || read < 100_000) {
    read += client.stream.read()?.length ?? 0
    await new Promise(resolve => setTimeout(resolve, timeout))
  }
  t.equal(socket.readyState, socket.OPEN, 'it reads')
  t.equal(await end.wait('the end'), '1006 FST_UPGRADE_SILENT_PEER')
  t.equal(kept.readyState, kept.OPEN)
})

/** SETTINGS_INITIAL_WINDOW_SIZE of 0, and of the most. */
const NO_WINDOW = Buffer.from([0, 4, 0, 0, 0, 0])

const LARGE_WINDOW = Buffer.from([0, 4, 0x7f, 0xff, 0xff, 0xff])

t.test('a peer without a window costs what is buffered for it, until it is cut', async t => {
  const timeout = ms(100)
  const { app, port, next } = await makeEcho(t, {
    heartbeat: { interval: 2 * timeout, timeout },
    maxBufferedAmount: MIB,
    handshakeTimeout: ms(200)
  })
  const session = await Http2Bytes.open(t, port, NO_WINDOW)
  const silent = session.request(connectFields('/given'))
  t.equal(await session.answer(silent), 'status 200')
  await next()
  t.equal((await session.find(RST_STREAM, silent)).payload.readUInt32BE(0), CANCEL, 'by the heartbeat')
  const flooded = session.request(connectFields('/given'))
  const socket = await next()
  const closed = new Signal()
  socket.on('error', () => {})
  socket.on('close', () => closed.fire())
  while (socket.readyState === socket.OPEN) socket.send(Buffer.alloc(100_000))
  await closed.wait('close')
  t.equal((await session.find(RST_STREAM, flooded)).payload.readUInt32BE(0), CANCEL, 'by the limit')
  const refused = session.request(connectFields('/none'))
  t.equal(await session.answer(refused), 'status 404')
  t.equal((await session.find(RST_STREAM, refused)).payload.readUInt32BE(0), CANCEL, 'an unread refusal')
  t.equal(app.websocketServer.clients.size, 0)
  t.equal(session.frames.filter(({ type, payload }) => type === DATA && payload.length > 0).length, 0)
})

t.test('app.close() does not wait for a session whose peer reads nothing', async t => {
  const { app, port, next } = await makeEcho(t, { shutdown: { timeout: 50 } })
  const session = await Http2Bytes.open(t, port, LARGE_WINDOW)
  session.write(http2Frame(WINDOW_UPDATE, 0, 0, Buffer.from([0x7f, 0, 0, 0])))
  t.equal(await session.answer(session.request(connectFields('/given'))), 'status 200')
  const socket = await next()
  session.pause()
  for (let i = 0; i < 15; i++) socket.send(Buffer.alloc(MIB))
  await tick()
  t.ok(socket.bufferedAmount > MIB, 'TCP holds back')
  await withDeadline(app.close(), 10_000, 'close')
  t.equal(socket.readyState, socket.CLOSED)
})
