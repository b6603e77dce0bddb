import { once } from 'node:events'
import t from 'tap'
import { BufferBudget } from '../../lib/limits/buffer-budget.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import { bytes, frame, header } from '../protocol/wire.js'
import {
  binary,
  close,
  closing,
  connect,
  MIB,
  nextEvent,
  ping,
  pong,
  roundTrip,
  text,
  texts
} from './harness.js'

t.test('rateLimit with policy close: messages above the limit are not delivered and get 1008', async t => {
  const { socket, peer } = await connect(t, {
    rateLimit: { messages: 5, bytes: undefined, policy: 'close' }
  })
  const seen: string[] = []
  socket.on('message', data => seen.push(String(data)))
  const error = nextEvent<[Error]>(socket, 'error')
  const closed = nextEvent(socket, 'close')
  peer.send(...texts(50).map(data => text(data)))
  t.equal(await peer.next(), 'close 1008 too much at once')
  t.match((await error)[0], { code: 'FST_UPGRADE_RATE_EXCEEDED', closeCode: 1008 })
  t.strictSame(seen, texts(5), 'earlier messages are delivered')
  t.match((await closed)[2], { code: 'FST_UPGRADE_RATE_EXCEEDED' }, 'close has the reason')
})

t.test(
  'rateLimit with policy pause: all messages are delivered in order, and no faster than the limit',
  async t => {
    const { socket, peer } = await connect(t, {
      rateLimit: { messages: 100, bytes: undefined, policy: 'pause' }
    })
    const seen: string[] = []
    const since = performance.now()
    const all = new Promise<void>(resolve => {
      socket.on('message', data => {
        if (seen.push(String(data)) === 130) resolve()
      })
    })
    peer.send(...texts(130).map(data => text(data)))
    await roundTrip(t)
    await roundTrip(t)
    t.ok(seen.length >= 100 && seen.length < 130, `${seen.length} immediately`)
    await all
    t.ok(performance.now() - since >= 290, 'the rest at its time')
    t.strictSame(seen, texts(130))
    peer.send(close(1000))
    t.equal(await closing(socket), '1000')
  }
)

t.test('rateLimit of bytes slows the peer down by TCP', async t => {
  const { socket, stream, peer } = await connect(t, {
    rateLimit: { messages: undefined, bytes: MIB, policy: 'pause' }
  })
  let received = 0
  socket.on('message', data => {
    received += data.length
  })
  const paused = once(stream, 'pause')
  const chunk = binary(Buffer.alloc(60_000))
  let sent = 0
  while (sent < 40 * MIB && peer.send(chunk)) sent += chunk.length
  for (let i = 0; i < 40; i++) peer.send(chunk)
  await withDeadline(paused, ms(15_000), 'a pause of the stream')
  t.ok(received > 0 && received <= 2 * MIB, `${received} bytes`)
})

t.test('rateLimit of bytes with policy close: a peer above the limit gets 1008', async t => {
  const { socket, peer } = await connect(t, {
    rateLimit: { messages: undefined, bytes: 1000, policy: 'close' }
  })
  socket.on('message', data => {
    if (data.length === 2000) peer.send(text('more'))
  })
  peer.send(text('x'.repeat(2000)))
  t.equal(await peer.next(), 'close 1008 too much at once')
})

t.test('more than maxControlFrames control frames per second get 1008, pings and pongs alike', async t => {
  for (const control of [ping, pong]) {
    const { socket, peer } = await connect(t, { maxControlFrames: 20 })
    let emitted = 0
    socket.on('ping', () => emitted++)
    socket.on('pong', () => emitted++)
    const closed = closing(socket)
    peer.send(...texts(20).map(control))
    peer.send(...texts(200).map(control))
    await peer.until(() => peer.frames.some(frame => frame.startsWith('close')), 'Close')
    t.equal(peer.frames.at(-1), 'close 1008 too many control frames')
    t.equal(await closed, '1006')
    t.equal(emitted, 20)
  }
  const { socket, peer } = await connect(t, { maxControlFrames: false })
  socket.readAlways()
  peer.send(...texts(5000).map(ping))
  await peer.until(() => peer.frames.includes('pong 4999'), 'pong')
})

t.test(
  'a message that is not complete within messageTimeout gets 1008, whatever arrives meanwhile',
  async t => {
    for (const begin of [
      header(1, 10n),
      Buffer.from([0x81]),
      text('one', { fin: false }),
      bytes(text('one', { fin: false }), ping(), Buffer.from([0x80]))
    ]) {
      const { socket, peer } = await connect(t, { messageTimeout: ms(60) })
      const error = nextEvent<[Error]>(socket, 'error')
      socket.readAlways()
      peer.send(text('whole'))
      peer.send(begin)
      await peer.until(() => peer.frames.some(frame => frame.startsWith('close')), 'Close')
      t.equal(peer.frames.at(-1), 'close 1008 message not finished in time')
      t.match((await error)[0], { code: 'FST_UPGRADE_MESSAGE_TIMEOUT' })
    }
  }
)

t.test('messageTimeout is not extended when parts of the message arrive slowly', async t => {
  const { socket, peer } = await connect(t, { messageTimeout: ms(100) })
  socket.readAlways()
  const closed = peer.until(() => peer.frames.some(frame => frame.startsWith('close')), 'Close')
  let isClosed = false
  void closed.then(() => {
    isClosed = true
  })
  peer.send(header(2, 10_000))
  let drips = 0
  // Ten times as long as a message may take.
  for (; !isClosed && drips < 100; drips++) {
    peer.send(Buffer.from('x'))
    await new Promise(resolve => setTimeout(resolve, ms(10)))
  }
  t.ok(isClosed, `${drips} drips`)
  await closed
  t.equal(peer.frames.at(-1), 'close 1008 message not finished in time')
})

t.test(
  'messageTimeout applies to each message, and is suspended while the application does not read',
  async t => {
    const { socket, peer } = await connect(t, { messageTimeout: ms(150) })
    const seen: string[] = []
    socket.on('message', data => seen.push(String(data)))
    // A message is incomplete at any time, each is completed soon, and together they take longer than the timeout of one.
    const frames = texts(40).map(data => text(data.padStart(8, '0')))
    const wire = bytes(...frames)
    const [{ length }] = frames
    const since = performance.now()
    peer.send(wire.subarray(0, 7))
    for (let at = 7; at < wire.length; at += length) {
      await new Promise(resolve => setTimeout(resolve, ms(10)))
      peer.send(wire.subarray(at, at + length))
      await roundTrip(t)
    }
    t.ok(performance.now() - since > ms(300), 'twice the timeout')
    t.equal(seen.length, 40)
    peer.send(text('half', { fin: false }))
    await roundTrip(t)
    socket.pause()
    await new Promise(resolve => setTimeout(resolve, ms(250)))
    t.equal(socket.readyState, socket.OPEN, 'while paused')
    socket.resume()
    peer.send(frameEnd())
    t.strictSame((await nextEvent(socket, 'message')).map(String), ['half!', 'false'])
    peer.send(close(1000))
    t.equal(await closing(socket), '1000')
  }
)

const frameEnd = (): Buffer => frame(0, '!')

t.test(
  'incomplete messages count against the shared budget, and a connection that exceeds it gets 1013',
  async t => {
    const budget = new BufferBudget(450_000)
    const first = await connect(t, { budget })
    const second = await connect(t, { budget })
    for (const { socket } of [first, second]) socket.readAlways()
    const piece = Buffer.alloc(200_000)
    first.peer.send(binary(piece, { fin: false }))
    second.peer.send(binary(Buffer.alloc(1000), { fin: false }))
    await roundTrip(t)
    t.ok(budget.used >= 200_000 && budget.used < 300_000, `${budget.used}: small messages do not count`)
    second.peer.send(frame(0, Buffer.alloc(300_000), { fin: false }))
    t.equal(await second.peer.next(), 'close 1013 try again later')
    await nextEvent(second.socket, 'close')
    const message = nextEvent<[Buffer]>(first.socket, 'message')
    first.peer.send(frame(0, piece))
    t.equal((await message)[0].length, 400_000, 'the other message is completed')
    await roundTrip(t)
    t.equal(budget.used, 0, 'and all bytes are released')
    first.peer.send(binary(piece, { fin: false }))
    await roundTrip(t)
    t.ok(budget.used >= 200_000)
    const closed = nextEvent(first.socket, 'close')
    first.peer.stream.destroy()
    await closed
    t.equal(budget.used, 0, 'also when a peer disconnects within a message')
  }
)
