import t from 'tap'
import { BufferBudget } from '../../lib/limits/buffer-budget.js'
import { type PreparedMessage, prepare } from '../../lib/socket/prepared-message.js'
import type { SendCallback } from '../../lib/socket/sender.js'
import type { WebSocket } from '../../lib/socket/websocket.js'
import { withDeadline } from '../helpers/timeout.js'
import { Calls, connect, MIB, nextEvent, ping, roundTrip, tick } from './harness.js'

/** No overload of `send` accepts both types. */
function send(socket: WebSocket, message: string | PreparedMessage, callback: SendCallback): boolean {
  return typeof message === 'string' ? socket.send(message, callback) : socket.send(message, callback)
}

const DROPPED = 'FST_UPGRADE_DROPPED'

t.test(
  'drop: a message that would exceed maxBufferedAmount is dropped, counted and reported; the connection stays open',
  async t => {
    const { socket, stream, peer } = await connect(t, { backpressure: 'drop', maxBufferedAmount: 1000 })
    const calls = new Calls()
    const drops: number[] = []
    socket.on('drop', count => drops.push(count))
    stream.cork()
    t.equal(socket.send('a'.repeat(900), calls.note('a')), true)
    t.equal(socket.send('b'.repeat(200), calls.note('b')), false)
    t.equal(socket.send(prepare('c'.repeat(200)), calls.note('c')), false)
    t.equal(socket.send(Buffer.alloc(200), calls.note('d')), false)
    t.equal(socket.send('e', calls.note('e')), true, 'a message that fits is sent')
    t.strictSame(calls.lines, [], 'no callback runs before send has returned')
    t.equal(socket.dropped, 3)
    await tick()
    t.strictSame(drops, [3], 'once per tick')
    t.strictSame(
      calls.lines,
      ['b', 'c', 'd'].map(name => `${name} ${DROPPED}`)
    )
    stream.uncork()
    t.equal(await peer.next(), `text ${'a'.repeat(900)}`)
    t.equal(await peer.next(), 'text e')
    t.equal(socket.send('f'), true)
    t.equal(await peer.next(), 'text f')
    t.equal(socket.traffic.messagesSent, 3)
  }
)

t.test('drop: a message larger than maxBufferedAmount is sent while nothing else is pending', async t => {
  for (const message of ['x'.repeat(1001), prepare('x'.repeat(1001))]) {
    const { socket, stream, peer } = await connect(t, { backpressure: 'drop', maxBufferedAmount: 1000 })
    const calls = new Calls()
    for (const round of ['first', 'second']) {
      stream.cork()
      t.equal(send(socket, message, calls.note('large')), false)
      t.equal(socket.dropped, round === 'first' ? 0 : 1)
      t.equal(send(socket, message, calls.note('another')), false)
      t.equal(socket.dropped, round === 'first' ? 1 : 2)
      stream.uncork()
      t.equal(await peer.next(), `text ${'x'.repeat(1001)}`)
      await withDeadline(socket.drained(), 5000, 'drained')
      t.strictSame(calls.lines.splice(0), [`another ${DROPPED}`, 'large'])
    }
    stream.cork()
    socket.send('small')
    t.equal(send(socket, message, calls.note('behind')), false)
    t.equal(socket.dropped, 3, 'another message is pending')
  }
})

t.test('drop: the limit counts messages that are sent after a message larger than it', async t => {
  const { socket, stream, peer } = await connect(t, { backpressure: 'drop', maxBufferedAmount: 1000 })
  stream.cork()
  socket.send('x'.repeat(5000))
  for (let i = 0; i < 5; i++) socket.send('y'.repeat(300))
  t.equal(socket.dropped, 2)
  t.ok(socket.bufferedAmount <= 6000 + 10)
  stream.uncork()
  await peer.until(() => peer.frames.length === 4, 'four messages')
})

t.test('drop: a message in fragments is sent or dropped as a whole', async t => {
  const { socket, stream, peer } = await connect(t, { backpressure: 'drop', maxBufferedAmount: 1000 })
  stream.cork()
  socket.send('a'.repeat(500), { fin: false })
  socket.send('b'.repeat(700))
  t.equal(socket.dropped, 0, 'a message that was begun is finished')
  socket.send('c', { fin: false })
  socket.send('d', { fin: false })
  socket.send('e')
  t.equal(socket.dropped, 1, 'one message')
  stream.uncork()
  t.equal(await peer.next(), `text more ${'a'.repeat(500)}`)
  t.equal(await peer.next(), `continuation ${'b'.repeat(700)}`)
  socket.send('next')
  t.equal(await peer.next(), 'text next')
})

t.test('drop: a peer that pings and does not read is still disconnected', async t => {
  const { socket, stream, peer } = await connect(t, { backpressure: 'drop', maxBufferedAmount: 1000 })
  socket.readAlways()
  const closed = nextEvent(socket, 'close')
  stream.cork()
  for (let i = 0; i < 20; i++) {
    peer.send(ping('x'.repeat(125)))
    await roundTrip(t)
  }
  t.match((await closed)[2], { code: 'FST_UPGRADE_BUFFER_OVERFLOW' })
})

t.test('close: the close event has the reason', async t => {
  const { socket, stream } = await connect(t, { maxBufferedAmount: 1000 })
  const closed = nextEvent(socket, 'close')
  stream.cork()
  socket.send('x'.repeat(2000))
  socket.send('x'.repeat(2000))
  t.match(await closed, [1006, Buffer.alloc(0), { code: 'FST_UPGRADE_BUFFER_OVERFLOW' }])
})

t.test('a connection that exceeds the shared budget is cut, or drops its messages', async t => {
  const budget = new BufferBudget(3 * MIB)
  const settings = { budget, highWaterMark: 1000, maxBufferedAmount: 16 * MIB }
  const first = await connect(t, settings)
  const second = await connect(t, settings)
  const dropping = await connect(t, { ...settings, backpressure: 'drop' })
  for (const { stream } of [first, second, dropping]) stream.cork()
  first.socket.send(Buffer.alloc(2 * MIB))
  dropping.socket.send(Buffer.alloc(MIB / 2))
  t.ok(budget.used > 2 * MIB && !budget.isExceeded)
  const closed = nextEvent(second.socket, 'close')
  second.socket.send(Buffer.alloc(MIB))
  t.match((await closed)[2], { code: 'FST_UPGRADE_BUDGET_EXCEEDED' })
  t.ok(budget.used < 3 * MIB, 'it releases its bytes')
  t.equal(dropping.socket.send(Buffer.alloc(MIB)), false, 'it exceeds the budget and stays open')
  t.equal(budget.isExceeded, true)
  t.equal(dropping.socket.dropped, 0)
  dropping.socket.send('one more')
  t.equal(dropping.socket.dropped, 1)
  t.equal(dropping.socket.readyState, dropping.socket.OPEN)
  for (const { stream, socket } of [first, dropping]) {
    stream.uncork()
    await withDeadline(socket.drained(), 5000, 'drained')
  }
  t.equal(budget.used, 0)
})

t.test(
  'written bytes are released from the shared budget, also by a connection that never exceeded its mark',
  async t => {
    const budget = new BufferBudget(MIB)
    const { socket, peer } = await connect(t, { budget, highWaterMark: MIB })
    let drains = 0
    socket.on('drain', () => drains++)
    t.equal(socket.send(Buffer.alloc(MIB / 2)), true)
    t.ok(budget.used >= MIB / 2)
    await peer.next()
    await roundTrip(t)
    t.equal(socket.bufferedAmount, 0)
    t.equal(budget.used, 0)
    t.equal(drains, 0)
  }
)
