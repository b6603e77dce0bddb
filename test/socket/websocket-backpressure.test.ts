import { randomBytes } from 'node:crypto'
import t from 'tap'
import { prepare } from '../../lib/socket/prepared-message.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import {
  Calls,
  closing,
  connect,
  KINDS,
  MIB,
  NOT_OPEN,
  nextEvent,
  ping,
  roundTrip,
  stalled,
  tick,
  watchProcess
} from './harness.js'
import { deflateOf } from './zlib-model.js'

t.test('above highWaterMark send returns false, then drain is emitted and drained() resolves', async t => {
  const subject = await connect(t, { highWaterMark: 1000 })
  const { socket, peer } = subject
  let drains = 0
  socket.on('drain', () => drains++)
  t.equal(socket.send('x'.repeat(996)), true, 'exactly the high-water mark, with the header')
  t.equal(socket.bufferedAmount, 1000)
  await peer.next()
  t.equal(socket.send('x'.repeat(997)), false)
  t.equal(socket.bufferedAmount, 1001)
  await nextEvent(socket, 'drain')
  t.equal(socket.bufferedAmount, 0)
  await socket.drained()
  await roundTrip(t)
  t.equal(drains, 1, 'once')
  await stalled(subject, MIB)
  const order: string[] = []
  const both = [
    socket.drained().then(() => order.push('first')),
    socket.drained().then(() => order.push('second'))
  ]
  socket.once('drain', () => order.push('drain'))
  await roundTrip(t)
  t.strictSame(order, [])
  peer.stream.resume()
  await withDeadline(Promise.all(both), 5000, 'drained')
  t.ok(socket.bufferedAmount <= 1000)
  t.strictSame(order.sort(), ['drain', 'first', 'second'])
})

t.test('drained() also waits for pending answers to pings', async t => {
  const { socket, stream, peer } = await connect(t, { highWaterMark: 1000 })
  socket.readAlways()
  stream.cork()
  let pings = 0
  while (socket.bufferedAmount <= 2000) {
    peer.send(ping(`${pings++}`.padEnd(100)))
    await nextEvent(socket, 'ping')
  }
  const drained = socket.drained()
  stream.uncork()
  await withDeadline(drained, 5000, 'drained')
  t.ok(socket.bufferedAmount <= 1000)
})

t.test('a loop that awaits drained() keeps the backlog small', async t => {
  const { socket, peer } = await connect(t, { highWaterMark: 100_000 })
  let most = 0
  for (let i = 0; i < 400; i++) {
    if (!socket.send('x'.repeat(50_000))) await withDeadline(socket.drained(), 5000, 'drained')
    most = Math.max(most, socket.bufferedAmount)
  }
  await peer.until(() => peer.frames.length === 400, 'all')
  t.ok(most <= 160_000, `${most} bytes`)
})

t.test('drained() rejects when the connection closes before it resolves, and afterwards', async t => {
  const subject = await connect(t, { highWaterMark: 1000 })
  const { socket } = subject
  await stalled(subject, 4 * MIB)
  socket.on('drain', () => t.fail('drain'))
  const waiting = Promise.allSettled([socket.drained(), socket.drained()])
  socket.terminate()
  t.match(await waiting, [{ reason: { code: NOT_OPEN } }, { reason: { code: NOT_OPEN } }])
  await t.rejects(socket.drained(), { code: NOT_OPEN })
})

t.test('drained() rejects when the connection closes during a write that bypassed the queue', async t => {
  const { socket, peer } = await connect(t, { highWaterMark: 100_000 })
  peer.stream.pause()
  socket.on('drain', () => t.fail('drain'))
  while (socket.bufferedAmount === 0) {
    socket.send(Buffer.alloc(4000))
    await tick()
  }
  t.ok(socket.bufferedAmount < 100_000)
  // From a timer, so that pending writes are dropped before the socket is closed.
  await new Promise(resolve => setTimeout(resolve))
  t.equal(socket.send(Buffer.alloc(200_000)), false)
  const waiting = Promise.allSettled([socket.drained()])
  socket.terminate()
  t.match(await waiting, [{ status: 'rejected', reason: { code: NOT_OPEN } }])
})

t.test('drained() resolves immediately when nothing is pending', async t => {
  const { socket } = await connect(t)
  await socket.drained()
  socket.close()
  await socket.drained()
})

t.test('a connection above maxBufferedAmount is cut, with one error event', async t => {
  const uncaught = watchProcess(t)
  for (const listens of [true, false]) {
    const { socket, peer, errors } = await connect(t, { maxBufferedAmount: 100_000 })
    const calls = new Calls()
    const codes: unknown[] = []
    if (listens) {
      socket.on('error', error => {
        codes.push(Reflect.get(error, 'code'))
        // Neither causes more codes from here.
        t.equal(socket.send('x'.repeat(200_000), calls.note('nested')), false)
        socket.ping()
        void socket.drained().catch(() => codes.push('drained'))
      })
    }
    const closed = closing(socket)
    peer.stream.pause()
    t.equal(socket.send('x'.repeat(99_990), calls.note('fits')), false)
    t.equal(socket.readyState, socket.OPEN)
    t.equal(socket.send('x', calls.note('over')), false)
    t.equal(socket.readyState, socket.CLOSING)
    t.equal(await closed, '1006')
    await tick()
    t.strictSame(codes, listens ? ['FST_UPGRADE_BUFFER_OVERFLOW', 'drained'] : [])
    t.equal(calls.lines.length, listens ? 3 : 2)
    t.ok(calls.lines.every(line => line.endsWith(NOT_OPEN)))
    t.strictSame(errors, [])
  }
  t.strictSame(uncaught, [])
})

t.test('answers to pings count: a peer that pings and does not read is cut', async t => {
  // Less than the maximum of pending pongs takes.
  const { socket, stream, peer } = await connect(t, { maxBufferedAmount: 5_000 })
  socket.readAlways()
  const errors: unknown[] = []
  socket.on('error', error => errors.push(Reflect.get(error, 'code')))
  const closed = closing(socket)
  // As if the kernel took nothing.
  stream.cork()
  let most = 0
  for (let i = 0; i < 5000 && socket.readyState === socket.OPEN; i++) {
    peer.send(ping('x'.repeat(125)))
    await tick()
    most = Math.max(most, socket.bufferedAmount)
  }
  t.equal(await closed, '1006')
  t.ok(most > 4_000 && most < 5_200, `${most} bytes`)
  t.strictSame(errors, ['FST_UPGRADE_BUFFER_OVERFLOW'])
})

t.test("the application's own pings and pongs count, too", async t => {
  for (const kind of ['ping', 'pong'] as const) {
    const { socket, stream } = await connect(t, { maxBufferedAmount: 1000 })
    const closed = closing(socket)
    stream.cork()
    for (let i = 0; i < 20; i++) socket[kind]('x'.repeat(125))
    t.equal(socket.readyState, socket.CLOSING, kind)
    t.equal(await closed, '1006')
  }
})

t.test('data lost in a cut is no success: callback and drained() fail, and drain is not emitted', async t => {
  const { socket, peer } = await connect(t)
  peer.stream.pause()
  const outcome = new Promise<unknown>(resolve => socket.send(Buffer.alloc(12 * MIB), resolve))
  socket.on('drain', () => t.fail('drain'))
  const drained = socket.drained()
  await roundTrip(t)
  socket.terminate()
  t.match(await withDeadline(outcome, 5000, 'callback'), { code: 'FST_UPGRADE_NOT_OPEN' })
  await t.rejects(drained, { code: 'FST_UPGRADE_NOT_OPEN' })
})

for (const over of KINDS) {
  t.test(`over ${over}: a message larger than maxBufferedAmount reaches a peer that reads`, async t => {
    const { socket, peer } = await connect(t, { over, maxBufferedAmount: 10_000, highWaterMark: 1000 })
    const data = 'x'.repeat(4 * MIB)
    for (const kind of ['text', 'fragments', 'prepared', 'streamed'] as const) {
      const calls = new Calls()
      if (kind === 'text') socket.send(data, calls.note(kind))
      else if (kind === 'prepared') socket.send(prepare(data), calls.note(kind))
      else if (kind === 'streamed') {
        const stream = socket.stream({ decodeStrings: false })
        stream.write(data, error => calls.note(kind)(error ?? undefined))
      } else {
        socket.send(data, { fin: false })
        await withDeadline(socket.drained(), ms(15_000), 'drained')
        socket.send('', calls.note(kind))
      }
      await peer.until(() => peer.raw.length === (kind === 'fragments' ? 2 : 1), kind)
      t.equal(Buffer.concat(peer.raw.splice(0).map(({ payload }) => payload)).length, data.length)
      await withDeadline(socket.drained(), ms(15_000), 'drained')
      await tick()
      t.strictSame(calls.lines, [kind])
    }
  })
}

t.test('a peer that does not read is cut at the second message above maxBufferedAmount', async t => {
  for (const second of ['text', 'fragment', 'prepared'] as const) {
    const { socket, stream } = await connect(t, { maxBufferedAmount: 1000 })
    const calls = new Calls()
    const reason = nextEvent(socket, 'close')
    stream.cork()
    t.equal(socket.send('x'.repeat(5000), calls.note('first')), false)
    t.equal(socket.readyState, socket.OPEN, 'the first is accepted')
    if (second === 'prepared') socket.send(prepare('x'.repeat(5000)))
    else socket.send('x'.repeat(5000), { fin: second === 'text' })
    t.equal(socket.readyState, socket.CLOSING, second)
    t.match(await reason, [1006, Buffer.alloc(0), { code: 'FST_UPGRADE_BUFFER_OVERFLOW' }])
    t.strictSame(calls.lines, [`first ${NOT_OPEN}`])
  }
})

t.test('messages behind a message above maxBufferedAmount count without it', async t => {
  const { socket, stream, peer } = await connect(t, { maxBufferedAmount: 1000 })
  stream.cork()
  socket.send('x'.repeat(5000))
  socket.readAlways()
  peer.send(ping('p'))
  await nextEvent(socket, 'ping')
  socket.ping('own')
  socket.send('y'.repeat(900))
  t.equal(socket.readyState, socket.OPEN)
  t.ok(socket.bufferedAmount > 5900)
  socket.send('y'.repeat(100))
  t.equal(socket.readyState, socket.CLOSING)
})

t.test('after a message above maxBufferedAmount is written, the limit counts everything again', async t => {
  const { socket, stream, peer } = await connect(t, { maxBufferedAmount: 1000 })
  socket.send('x'.repeat(5000))
  await withDeadline(socket.drained(), 5000, 'drained')
  await peer.next()
  stream.cork()
  socket.send('y'.repeat(900))
  t.equal(socket.readyState, socket.OPEN)
  socket.send('y'.repeat(900))
  t.equal(socket.readyState, socket.CLOSING)
})

t.test('a caller that awaits drained() is never cut, whatever it sends', async t => {
  for (const maxBufferedAmount of [1000, 100_000]) {
    const { socket, peer } = await connect(t, { maxBufferedAmount, highWaterMark: 900 })
    const sizes = [800, 900, 5000, 50, 800, 99_999, 300, 100_000, 850, 400_000, 899, 1001]
    for (const size of sizes) {
      if (!socket.send('x'.repeat(size))) await withDeadline(socket.drained(), 5000, 'drained')
    }
    await peer.until(() => peer.raw.length === sizes.length, 'all')
    t.equal(socket.readyState, socket.OPEN)
  }
})

t.test(
  'a message that exceeds maxBufferedAmount together with the pending bytes is accepted while they are below it',
  async t => {
    const { socket, stream } = await connect(t, { maxBufferedAmount: 1000, highWaterMark: 900 })
    stream.cork()
    socket.send('x'.repeat(850))
    socket.send('x'.repeat(400))
    t.equal(socket.readyState, socket.OPEN, 'sent while there was room')
    socket.send('x'.repeat(150))
    t.equal(socket.readyState, socket.CLOSING)
  }
)

t.test('with maxBufferedAmount false any amount may be buffered', async t => {
  for (const backpressure of ['close', 'drop'] as const) {
    const { socket, stream, peer } = await connect(t, { maxBufferedAmount: false, backpressure })
    stream.cork()
    for (let i = 0; i < 20; i++) t.equal(socket.send(Buffer.alloc(MIB)), false)
    t.equal(socket.readyState, socket.OPEN)
    t.ok(socket.bufferedAmount > 20 * MIB)
    stream.uncork()
    await peer.until(() => peer.raw.length === 20, 'all')
    t.equal(socket.dropped, 0)
  }
})

t.test('a large message that is compressed counts while it is pending', async t => {
  const { socket, peer } = await connect(t, {
    deflate: deflateOf(),
    maxBufferedAmount: 50_000,
    highWaterMark: 1000
  })
  // In the thread pool: the compressed size is not known when more is sent.
  const noise = randomBytes(4 * MIB)
  socket.send(noise)
  socket.send('y'.repeat(30_000), { compress: false })
  t.equal(socket.readyState, socket.OPEN)
  await peer.until(() => peer.raw.length === 2, 'both')
  await withDeadline(socket.drained(), ms(15_000), 'drained')
  socket.send(noise)
  socket.send(noise)
  t.equal(socket.readyState, socket.CLOSING)
})
