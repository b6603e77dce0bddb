import t from 'tap'
import { deadlinesAfter } from '../../lib/limits/deadline.js'
import { ms } from '../helpers/timeout.js'
import { bytes } from '../protocol/wire.js'
import {
  close,
  closing,
  connect,
  connectWs,
  KINDS,
  MIB,
  nextEvent,
  ping,
  roundTrip,
  text,
  tick
} from './harness.js'

for (const over of KINDS) {
  t.test(`over ${over}: this side closes the connection`, async t => {
    const { socket, peer } = await connect(t, { over })
    const states: number[] = [socket.readyState]
    let closes = 0
    socket.on('close', () => {
      states.push(socket.readyState)
      closes++
    })
    const closed = closing(socket)
    socket.send('before')
    socket.close(4001, 'grün')
    states.push(socket.readyState)
    t.equal(await peer.next(), 'text before')
    t.equal(await peer.next(), 'close 4001 grün')
    t.equal(peer.ended, false, 'the peer may still send')
    peer.send(close(4001, 'reply'))
    t.equal(await closed, '4001 reply')
    await peer.end()
    await roundTrip(t, over)
    t.strictSame(states, [1, 2, 3])
    t.equal(closes, 1)
    t.strictSame(peer.frames, [])
  })

  t.test(`over ${over}: the peer closes the connection`, async t => {
    const { socket, peer } = await connect(t, { over })
    socket.on('message', () => socket.send('answer'))
    const closed = closing(socket)
    peer.send(text('a'), close(1001, 'away'), text('after the close'))
    t.equal(await peer.next(), 'text answer')
    t.equal(await peer.next(), 'close 1001 away')
    t.equal(await closed, '1001 away')
    t.equal(socket.readyState, socket.CLOSED)
    t.equal(peer.frames.length, 0)
  })

  t.test(`over ${over}: the peer ends TCP without a Close frame`, async t => {
    const { socket, peer } = await connect(t, { over })
    socket.on('message', () => {})
    const closed = closing(socket)
    peer.send(text('a'), text('unfinished').subarray(0, 5))
    peer.stream.end()
    t.equal(await closed, '1006')
    await peer.end()
    t.strictSame(peer.frames, [])
  })
}

t.test('close without a code sends an empty body, and is reported as 1005', async t => {
  const { socket, peer } = await connect(t)
  const closed = closing(socket)
  socket.close()
  t.equal(await peer.next(), 'close')
  peer.send(close())
  t.equal(await closed, '1005')
})

t.test('the reason may be bytes', async t => {
  const { socket, peer } = await connect(t)
  socket.close(1000, Buffer.from('bytes'))
  t.equal(await peer.next(), 'close 1000 bytes')
})

t.test('codes and reasons that may not be sent throw and change nothing', async t => {
  const { socket, peer } = await connect(t)
  for (const code of [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 1000.5, Number.NaN]) {
    t.throws(() => socket.close(code), { name: 'TypeError' }, `${code}`)
  }
  t.throws(() => socket.close(1000, 'x'.repeat(124)), { name: 'RangeError' })
  t.throws(() => socket.close(1000, 'é'.repeat(62)), { name: 'RangeError' })
  t.equal(socket.readyState, socket.OPEN)
  t.equal(socket.bufferedAmount, 0)
  socket.close(1000, 'x'.repeat(123))
  t.equal(await peer.next(), `close 1000 ${'x'.repeat(123)}`)
})

t.test('a second close has no effect, whatever its arguments are and whenever it is called', async t => {
  const { socket, peer } = await connect(t)
  const closed = closing(socket)
  socket.close(1000, 'first')
  socket.close(1001, 'second')
  socket.close(7)
  t.equal(await peer.next(), 'close 1000 first')
  socket.close(1001)
  peer.send(close(1000))
  t.equal(await closed, '1000')
  socket.close(1001)
  socket.close(7)
  socket.terminate()
  await roundTrip(t)
  t.strictSame(peer.frames, [])
  t.equal(socket.readyState, socket.CLOSED)
})

t.test('close after terminate does nothing', async t => {
  const { socket, peer } = await connect(t)
  const closed = closing(socket)
  socket.terminate()
  socket.close(7)
  socket.close(1000)
  t.equal(await closed, '1006')
  await peer.end()
  t.strictSame(peer.frames, [])
})

t.test('both sides may close at the same time', async t => {
  const { socket, peer } = await connect(t)
  const closed = closing(socket)
  peer.send(close(1001, 'peer'))
  socket.close(1000, 'own')
  t.equal(await closed, '1001 peer')
  await peer.end()
  t.strictSame(peer.frames, ['close 1000 own'])
})

t.test('messages in transit when this side closes are still delivered', async t => {
  const { socket, peer } = await connect(t)
  const got: string[] = []
  socket.on('message', data => got.push(String(data)))
  const closed = closing(socket)
  socket.close(1000)
  peer.send(text('a'), ping('not answered'), text('b'), close(1000))
  t.equal(await closed, '1000')
  t.strictSame(got, ['a', 'b'])
  t.strictSame(peer.frames, ['close 1000'])
})

t.test('a connection that closes without a consumer reads the answer and drops earlier messages', async t => {
  const { socket, peer } = await connect(t)
  const closed = closing(socket)
  peer.send(text('unread'))
  socket.close(1000)
  t.equal(await peer.next(), 'close 1000')
  peer.send(text('unread'), close(1000))
  t.equal(await closed, '1000')
})

t.test('a peer that does not answer is cut at the deadline', async t => {
  const closeTimeout = ms(50) + 0.5
  for (const silence of ['no Close frame', 'no end of TCP', 'not read'] as const) {
    const { socket, peer } = await connect(t, { closeTimeout, lingers: true })
    if (silence === 'not read') socket.pause()
    const closed = closing(socket)
    const since = performance.now()
    socket.close(1000)
    t.equal(await peer.next(), 'close 1000')
    if (silence !== 'no Close frame') peer.send(close(1000))
    t.equal(await closed, silence === 'no end of TCP' ? '1000' : '1006', silence)
    t.ok(performance.now() - since >= closeTimeout - 3)
    t.equal(deadlinesAfter(closeTimeout).size, 0)
  }
})

t.test('a peer that closes and then leaves TCP open is cut, however late its Close was read', async t => {
  const closeTimeout = ms(50) + 0.625
  for (const late of [false, true]) {
    const { socket, peer } = await connect(t, { closeTimeout, lingers: true })
    const closed = closing(socket)
    peer.send(text('a'), close(1000, 'bye'))
    if (late) {
      const iterator = socket[Symbol.asyncIterator]()
      t.equal((await iterator.next()).value, 'a')
      await roundTrip(t)
      t.equal(socket.readyState, socket.OPEN)
      void iterator.next()
    } else socket.readAlways()
    t.equal(await peer.next(), 'close 1000 bye')
    await peer.end()
    t.equal(socket.readyState, socket.CLOSING)
    t.equal(await closed, '1000 bye')
    t.equal(deadlinesAfter(closeTimeout).size, 0)
  }
})

t.test('a backlog is sent before the Close frame, also when the peer closes', async t => {
  for (const by of ['this side', 'peer', 'violation'] as const) {
    const { socket, peer } = await connect(t)
    peer.stream.pause()
    const closed = closing(socket)
    for (let i = 0; i < 12; i++) socket.send(Buffer.alloc(MIB))
    await tick()
    t.ok(socket.bufferedAmount > MIB)
    socket.readAlways()
    if (by === 'this side') socket.close(1000)
    else peer.send(by === 'peer' ? close(1000) : text('x', { rsv: 1 }))
    await roundTrip(t)
    t.equal(socket.readyState, by === 'this side' ? socket.CLOSING : socket.CLOSING)
    peer.stream.resume()
    await peer.until(() => peer.frames.length === 13, 'all')
    t.equal(peer.frames.at(-1), by === 'violation' ? 'close 1002 reserved bits set' : 'close 1000')
    if (by === 'this side') peer.send(close(1000))
    t.equal(await closed, by === 'violation' ? '1006' : '1000')
  }
})

t.test('a peer that does not read is cut at the deadline, whichever side closes', async t => {
  // A peer that has not read everything gets a hundred times as long.
  const cut = async (by: 'this side' | 'peer' | 'end'): Promise<void> => {
    const { socket, peer } = await connect(t, { closeTimeout: ms(20) })
    peer.stream.pause()
    for (let i = 0; i < 12; i++) socket.send(Buffer.alloc(MIB))
    await tick()
    const closed = closing(socket)
    socket.readAlways()
    if (by === 'this side') socket.close(1000)
    else if (by === 'peer') peer.send(close(1000))
    else peer.stream.end()
    await roundTrip(t)
    // Already closing, as far as close may be called again: nothing is checked or sent.
    socket.close(7)
    t.equal(await closed, by === 'peer' ? '1000' : '1006', by)
    t.equal(socket.bufferedAmount, 0)
  }
  await Promise.all([cut('this side'), cut('peer'), cut('end')])
})

t.test('bytes that arrived before the WebSocket was created come first in the stream', async t => {
  const { socket, peer } = await connect(t, {
    before: stream => {
      stream.unshift(bytes(text('a'), text('b').subarray(0, 3)))
    }
  })
  peer.send(text('b').subarray(3), close(1000))
  const got: unknown[] = []
  for await (const message of socket) got.push(message)
  t.strictSame(got, ['a', 'b'])
})

t.test('no timer or listener is left after any kind of end', async t => {
  const closeTimeout = ms(10_000) + 0.75
  const heartbeat = { interval: ms(10_000) + 0.75, timeout: ms(5_000) + 0.75 }
  for (const way of ['close', 'terminate', 'end', 'violation'] as const) {
    const { socket, peer } = await connect(t, { closeTimeout, heartbeat })
    t.equal(deadlinesAfter(heartbeat.interval).size, 1)
    const closed = closing(socket)
    socket.readAlways()
    if (way === 'close') {
      socket.close(1000)
      t.equal(deadlinesAfter(closeTimeout).size, 1)
      peer.send(close(1000))
    } else if (way === 'terminate') socket.terminate()
    else if (way === 'end') peer.stream.end()
    else peer.send(text('x', { rsv: 1 }))
    await closed
    for (const delay of [closeTimeout, heartbeat.interval, heartbeat.timeout]) {
      t.equal(deadlinesAfter(delay).size, 0, way)
    }
  }
})

t.test('a client of ws and the server can both close cleanly', async t => {
  for (const by of ['server', 'client'] as const) {
    const { socket, client } = await connectWs(t)
    socket.readAlways()
    const both = [closing(socket), nextEvent<[number, Buffer]>(client, 'close')] as const
    if (by === 'server') socket.close(4000, 'bye')
    else client.close(4000, 'bye')
    t.equal(await both[0], '4000 bye')
    t.strictSame(await both[1], [4000, Buffer.from('bye')])
  }
})
