import t from 'tap'
import type { WebSocket } from '../../lib/socket/websocket.js'
import { ms } from '../helpers/timeout.js'
import {
  close,
  closing,
  connect,
  MIB,
  nextEvent,
  ping,
  roundTrip,
  text,
  texts,
  tick,
  watchProcess
} from './harness.js'

t.test('a half-open peer that ended without a Close frame sees the end immediately', async t => {
  const { socket, peer } = await connect(t, { lingers: true })
  const closed = closing(socket)
  socket.readAlways()
  socket.send('last')
  peer.stream.end()
  t.equal(await peer.next(), 'text last')
  await peer.end()
  t.equal(await closed, '1006')
})

for (const over of ['net', 'tls'] as const) {
  for (const allowHalfOpen of [true, false]) {
    t.test(
      `over ${over}, half-open ${allowHalfOpen}: messages are delivered later when the socket is paused at the peer's end`,
      async t => {
        const { socket, peer } = await connect(t, { over, allowHalfOpen })
        const got: string[] = []
        socket.on('message', data => {
          got.push(String(data))
          socket.pause()
        })
        const closed = closing(socket)
        peer.send(...texts(50).map(data => text(data)))
        peer.stream.end()
        while (got.length < 50) {
          await roundTrip(t, over)
          socket.resume()
          await nextEvent(socket, 'message')
        }
        socket.resume()
        t.equal(await closed, '1006')
        t.strictSame(got, texts(50))
      }
    )
  }
}

t.test("after the peer's end nothing can be sent, but close still leads to the end", async t => {
  for (const consumer of ['paused', 'abandoned'] as const) {
    const { socket, peer } = await connect(t, { lingers: true, closeTimeout: ms(50) })
    const closed = closing(socket)
    const iterator = socket[Symbol.asyncIterator]()
    peer.send(text('a'), text('b'), text('c'))
    peer.stream.end()
    t.equal((await iterator.next()).value, 'a')
    await roundTrip(t)
    t.equal(socket.readyState, socket.CLOSING)
    const errors: unknown[] = []
    t.equal(
      socket.send('x', error => errors.push(Reflect.get(error ?? {}, 'code'))),
      false
    )
    await tick()
    t.strictSame(errors, ['FST_UPGRADE_NOT_OPEN'])
    if (consumer === 'paused') {
      await iterator.return?.()
      socket.pause()
    }
    socket.close(1000, 'enough')
    t.equal(await peer.next(), 'close 1000 enough')
    t.equal(await closed, '1006')
  }
})

t.test('a break from a loop and a close drop pending messages and end immediately', async t => {
  const { socket, peer } = await connect(t)
  const closed = closing(socket)
  peer.send(...texts(100).map(data => text(data)))
  peer.stream.end()
  for await (const _ of socket) {
    await roundTrip(t)
    break
  }
  socket.close(1000)
  t.equal(await closed, '1006')
})

t.test('terminate cuts without a Close frame', async t => {
  const { socket, peer } = await connect(t)
  const closed = closing(socket)
  socket.terminate()
  socket.terminate()
  t.equal(socket.readyState, socket.CLOSING)
  t.equal(await closed, '1006')
  t.equal(socket.readyState, socket.CLOSED)
  await peer.end()
  t.strictSame(peer.frames, [])
})

t.test('messages behind a terminate in a listener are not delivered', async t => {
  const { socket, peer } = await connect(t)
  const got: string[] = []
  const closed = closing(socket)
  socket.on('ping', () => t.fail('ping'))
  socket.on('message', data => {
    got.push(String(data))
    socket.terminate()
    socket.resume()
  })
  peer.send(text('a'), text('b'), ping(), close(1000))
  t.equal(await closed, '1006')
  t.strictSame(got, ['a'])
})

t.test('a reset at any moment is reported once as 1006 and causes no uncaught exception', async t => {
  const uncaught = watchProcess(t)
  const moments = [
    'idle',
    'before',
    'unread',
    'paused',
    'in the middle',
    'closing',
    'sending',
    'answered'
  ] as const
  for (const moment of moments) {
    let resetAlready = false
    const { socket, peer, errors } = await connect(t, {
      before: async (stream, peer) => {
        if (moment !== 'before') return
        stream.on('error', () => {})
        stream.resume()
        peer.reset()
        await new Promise(resolve => stream.on('close', resolve))
        resetAlready = true
      }
    })
    const codes: number[] = []
    socket.on('close', code => codes.push(code))
    const closed = closing(socket)
    if (moment === 'unread' || moment === 'paused') {
      peer.send(...texts(10).map(data => text(data)))
      if (moment === 'paused') socket.on('message', () => socket.pause())
      await roundTrip(t)
    } else socket.readAlways()
    if (moment === 'in the middle') peer.send(text('unfinished').subarray(0, 8))
    if (moment === 'closing') socket.close(1000)
    if (moment === 'answered') {
      peer.send(text('x', { rsv: 1 }))
      await peer.next()
    }
    if (moment === 'sending') for (let i = 0; i < 8; i++) socket.send(Buffer.alloc(MIB))
    if (!resetAlready) peer.reset()
    await roundTrip(t)
    // A connection that does not read detects it by writing.
    if (moment === 'unread' || moment === 'paused') {
      socket.ping()
      await roundTrip(t)
      socket.ping()
    }
    t.equal(await closed, '1006', moment)
    await roundTrip(t)
    socket.send('late')
    socket.ping()
    socket.close(1000)
    await tick()
    t.strictSame(codes, [1006], moment)
    t.strictSame(errors, [])
  }
  t.strictSame(uncaught, [])
})

t.test("messages sent in the tick in which the peer's end is seen still leave", async t => {
  const sockets: WebSocket[] = []
  const { socket, peer } = await connect(t, {
    lingers: true,
    before: stream => {
      stream.on('end', () => sockets[0]?.send('last'))
    }
  })
  sockets.push(socket)
  socket.readAlways()
  peer.stream.end()
  t.equal(await peer.next(), 'text last')
})

t.test('a peer may end before the WebSocket is created', async t => {
  const { socket } = await connect(t, {
    before: async (stream, peer) => {
      stream.resume()
      peer.stream.end()
      await nextEvent(stream, 'end')
    }
  })
  t.equal(await closing(socket), '1006')
})
