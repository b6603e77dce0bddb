import { AsyncLocalStorage } from 'node:async_hooks'
import { once } from 'node:events'
import t from 'tap'
import type { WebSocket } from '../../lib/socket/websocket.js'
import { withDeadline } from '../helpers/timeout.js'
import { binary, close, closing, connect, KINDS, ping, pong, roundTrip, text } from './harness.js'

for (const over of KINDS) {
  t.test(`over ${over}: a single listener of close sees the peer's Close`, async t => {
    const { socket, peer } = await connect(t, { over })
    peer.send(ping('a'), close(1000))
    await roundTrip(t, over)
    t.strictSame(peer.frames, [], 'nothing is read before')
    const [code] = await withDeadline(once(socket, 'close'), 5000, 'close')
    t.equal(code, 1000)
    t.strictSame(peer.frames, ['pong a', 'close 1000'])
  })

  t.test(`over ${over}: a single listener of close sees the peer disconnect`, async t => {
    const { socket, peer } = await connect(t, { over })
    peer.stream.end()
    const [code] = await withDeadline(once(socket, 'close'), 5000, 'close')
    t.equal(code, 1006)
  })
}

t.test('a single listener of pong sees the pong', async t => {
  const { socket, peer } = await connect(t)
  peer.send(pong('a'))
  const [data] = await withDeadline(once(socket, 'pong'), 5000, 'pong')
  t.equal(String(data), 'a')
})

t.test('a single listener of ping sees the ping', async t => {
  const { socket, peer } = await connect(t)
  peer.send(ping('a'))
  const [data] = await withDeadline(once(socket, 'ping'), 5000, 'ping')
  t.equal(String(data), 'a')
})

t.test('an onclose handler counts as a listener', async t => {
  const { socket, peer } = await connect(t)
  peer.send(close(1000))
  const closed = new Promise(resolve => {
    socket.onclose = ({ code }) => resolve(code)
  })
  t.equal(await withDeadline(closed, 5000, 'close'), 1000)
})

/** Consumers that take all messages until the connection ends. */
const takers: Record<string, (socket: WebSocket) => Promise<string[]>> = {
  async listener(socket) {
    const got: string[] = []
    socket.on('message', data => got.push(String(data)))
    await closing(socket)
    return got
  },
  async loop(socket) {
    const got: string[] = []
    for await (const message of socket) got.push(String(message))
    return got
  },
  async stream(socket) {
    const got: string[] = []
    for await (const message of socket.stream({ readableObjectMode: true })) got.push(String(message))
    return got
  }
}

for (const [kind, take] of Object.entries(takers)) {
  for (const rest of ['at once', 'later']) {
    t.test(`messages that arrive before a ${kind} are kept, with later frames arriving ${rest}`, async t => {
      const { socket, peer } = await connect(t)
      const order: string[] = []
      socket.on('ping', data => order.push(String(data)))
      socket.on('close', () => order.push('close'))
      const more = [text('b'), ping('2'), text('c'), close(1000)]
      peer.send(ping('1'), text('a'), ...(rest === 'at once' ? more : []))
      t.equal(await peer.next(), 'pong 1')
      if (rest === 'later') peer.send(...more)
      await roundTrip(t)
      t.strictSame(order, ['1'], 'nothing after the first message is read')
      t.strictSame(await withDeadline(take(socket), 5000, kind), ['a', 'b', 'c'])
      t.strictSame(order, ['1', '2', 'close'])
    })
  }
}

t.test('kept messages wait while the socket is paused', async t => {
  const { socket, peer } = await connect(t)
  const got: string[] = []
  socket.on('ping', () => {})
  peer.send(ping('1'), text('a'))
  t.equal(await peer.next(), 'pong 1')
  socket.pause()
  socket.on('message', data => got.push(String(data)))
  await roundTrip(t)
  t.strictSame(got, [])
  socket.resume()
  await withDeadline(once(socket, 'message'), 5000, 'message')
  t.strictSame(got, ['a'])
})

t.test('a peer that sends to a connection without a consumer is slowed down by TCP', async t => {
  const { socket, stream, peer } = await connect(t)
  socket.on('close', () => {})
  const chunk = text('x'.repeat(60_000))
  for (let i = 0; i < 500; i++) peer.stream.write(chunk)
  await once(stream, 'pause')
  await roundTrip(t)
  t.ok(stream.isPaused())
  t.ok(
    peer.stream.writableLength > 10_000_000,
    `${peer.stream.writableLength} of 30 MB are pending at the peer`
  )
})

t.test('kept messages are dropped when the connection is cut', async t => {
  const { socket, peer } = await connect(t)
  socket.on('ping', () => {})
  peer.send(ping('1'), text('a'))
  t.equal(await peer.next(), 'pong 1')
  socket.terminate()
  await closing(socket)
  socket.on('message', () => t.fail('no message after close'))
  await roundTrip(t)
})

t.test('kept messages are delivered in the async context of the connection', async t => {
  const storage = new AsyncLocalStorage<string>()
  const { socket, peer } = await storage.run('connection', () => connect(t))
  socket.on('ping', () => {})
  peer.send(ping('1'), text('a'), text('b'))
  t.equal(await peer.next(), 'pong 1')
  const seen: unknown[] = []
  const both = new Promise<void>(resolve => {
    storage.run('elsewhere', () =>
      socket.on('message', data => {
        seen.push(`${data} ${storage.getStore()}`)
        if (seen.length === 2) resolve()
      })
    )
  })
  await withDeadline(both, 5000, 'messages')
  t.strictSame(seen, ['a connection', 'b connection'])
})

const keepsMessages = { keepsMessages: true }

for (const [kind, take] of Object.entries(takers)) {
  t.test(`with keepsMessages, everything is read and kept for a ${kind}`, async t => {
    const { socket, peer } = await connect(t, keepsMessages)
    peer.send(text('a'), text('b'), ping('1'), binary(Buffer.from('c')))
    t.equal(await peer.next(), 'pong 1', 'frames after messages are read')
    const taken = take(socket)
    peer.send(text('d'))
    await roundTrip(t)
    peer.send(text('e'), close(1000))
    t.strictSame(await withDeadline(taken, 5000, kind), ['a', 'b', 'c', 'd', 'e'])
    t.equal(socket.readyState, socket.CLOSED)
  })
}

for (const kind of ['loop', 'stream']) {
  t.test(`with keepsMessages, a ${kind} receives the messages after the end, too`, async t => {
    const { socket, peer } = await connect(t, keepsMessages)
    peer.send(text('a'), text('b'), close(4000, 'c'))
    t.equal(await closing(socket), '4000 c', 'the close event is emitted although no consumer takes messages')
    t.strictSame(await withDeadline(takers[kind]?.(socket) ?? Promise.reject(), 5000, kind), ['a', 'b'])
    t.strictSame(await withDeadline(takers[kind]?.(socket) ?? Promise.reject(), 5000, kind), [], 'each once')
  })
}

t.test('with keepsMessages, a listener receives the messages after the end, too', async t => {
  const { socket, peer } = await connect(t, keepsMessages)
  peer.send(text('a'), text('b'), close(1000))
  await closing(socket)
  const got: string[] = []
  socket.on('message', data => got.push(String(data)))
  await roundTrip(t)
  t.strictSame(got, ['a', 'b'])
})

t.test(
  'with keepsMessages, a running loop receives the remaining messages after the connection has ended',
  async t => {
    const { socket, peer } = await connect(t, keepsMessages)
    peer.send(text('a'), text('b'), text('c'), ping('1'))
    t.equal(await peer.next(), 'pong 1')
    const got: string[] = []
    for await (const message of socket) {
      got.push(String(message))
      if (message !== 'a') continue
      peer.stream.destroy()
      socket.terminate()
      await closing(socket)
    }
    t.strictSame(got, ['a', 'b', 'c'])
  }
)

t.test('with keepsMessages, a slow consumer does not stop the reading', async t => {
  const { socket, peer } = await connect(t, keepsMessages)
  const messages = socket[Symbol.asyncIterator]()
  peer.send(text('a'), text('b'), ping('1'), close(1000))
  t.equal((await messages.next()).value, 'a')
  t.equal(await closing(socket), '1000')
  t.strictSame(peer.frames, ['pong 1', 'close 1000'])
  t.equal((await messages.next()).value, 'b')
  t.equal((await messages.next()).done, true)
})

t.test(
  'with keepsMessages, kept messages and messages that arrive during delivery keep their order',
  async t => {
    const { socket, peer } = await connect(t, keepsMessages)
    peer.send(text('a'), text('b'), ping('1'))
    t.equal(await peer.next(), 'pong 1')
    const got: string[] = []
    const listener = (data: Buffer): void => {
      got.push(String(data))
      if (got.length > 1) return
      socket.off('message', listener)
      peer.send(text('c'), ping('2'))
    }
    socket.on('message', listener)
    t.equal(await peer.next(), 'pong 2')
    t.strictSame(got, ['a'], 'untaken messages are kept again')
    t.strictSame(String((await withDeadline(once(socket, 'message'), 5000, 'message'))[0]), 'b')
    t.strictSame(String((await withDeadline(once(socket, 'message'), 5000, 'message'))[0]), 'c')
  }
)

t.test('with keepsMessages, a pause stops the reading, and close drops the messages', async t => {
  const { socket, peer } = await connect(t, keepsMessages)
  socket.pause()
  peer.send(text('a'), ping('1'))
  await roundTrip(t)
  t.strictSame(peer.frames, [])
  socket.resume()
  t.equal(await peer.next(), 'pong 1')
  socket.close(1000)
  t.equal(await peer.next(), 'close 1000')
  peer.send(text('b'), close(1000))
  t.equal(await closing(socket), '1000')
  t.strictSame(await takers.loop?.(socket), [])
})
