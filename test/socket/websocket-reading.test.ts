import { on, once } from 'node:events'
import t from 'tap'
import { withDeadline } from '../helpers/timeout.js'
import {
  binary,
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
  texts,
  tick
} from './harness.js'

const LISTEN = ['on', 'addListener', 'prependListener', 'once', 'prependOnceListener'] as const

for (const over of KINDS) {
  t.test(`over ${over}: nothing is read before there is a consumer, and nothing is lost`, async t => {
    const { socket, peer } = await connect(t, { over })
    const order: string[] = []
    socket.on('error', error => order.push(error.message))
    peer.send(ping('1'), text('a'), binary(Buffer.from('b')), close(1000))
    await roundTrip(t, over)
    t.strictSame(peer.frames, [])
    socket.on('ping', data => order.push(`ping ${data}`))
    socket.on('pong', data => order.push(`pong ${data}`))
    socket.on('close', code => order.push(`close ${code}`))
    const closed = closing(socket)
    socket.on('message', (data, isBinary) => order.push(`${isBinary ? 'binary' : 'text'} ${data}`))
    t.strictSame(order, [], 'not delivered before on() has returned')
    await closed
    t.strictSame(order, ['ping 1', 'text a', 'binary b', 'close 1000'])
  })
}

for (const method of LISTEN) {
  t.test(`${method}: a listener is a consumer`, async t => {
    const { socket, peer } = await connect(t)
    peer.send(text('a'))
    await roundTrip(t)
    const got = new Promise(resolve => {
      const listener = (data: Buffer): void => resolve(String(data))
      t.equal(Reflect.apply(socket[method], socket, ['message', listener]), socket)
    })
    t.equal(await withDeadline(got, 5000, 'message'), 'a')
  })
}

t.test('listeners of other events are no consumers', async t => {
  const { socket, peer } = await connect(t)
  for (const event of ['error', 'drain', 'open'] as const) socket.on(event, () => t.fail(event))
  peer.send(ping('a'))
  await roundTrip(t)
  t.strictSame(peer.frames, [])
  socket.removeAllListeners()
  socket.readAlways()
  t.equal(await peer.next(), 'pong a')
})

t.test("once('message') in a loop with awaits between loses no message", async t => {
  const { socket, peer } = await connect(t)
  peer.send(...texts(20).map(data => text(data)))
  const got: string[] = []
  while (got.length < 30) {
    const [data] = await withDeadline(once(socket, 'message'), 5000, 'message')
    got.push(String(data))
    if (got.length % 5 === 0) await roundTrip(t)
    if (got.length === 15) peer.send(...texts(10, 'more ').map(data => text(data)))
  }
  t.strictSame(got, [...texts(20), ...texts(10, 'more ')])
})

for (const remove of ['off', 'removeListener', 'removeAllListeners', 'removeEventListener'] as const) {
  t.test(
    `${remove}: messages that arrive after the last listener was removed are kept for the next`,
    async t => {
      const { socket, peer } = await connect(t)
      const fail = (): void => void t.fail('a message')
      socket.on('close', () => t.pass('other listeners stay'))
      if (remove === 'removeEventListener') socket.addEventListener('message', fail)
      else socket.on('message', fail)
      await tick()
      peer.send(ping('reading'))
      await tick()
      if (remove === 'removeAllListeners') t.equal(socket.removeAllListeners('message'), socket)
      else Reflect.apply(socket[remove], socket, ['message', fail])
      peer.send(text('a'))
      await roundTrip(t)
      t.equal(String((await nextEvent(socket, 'message'))[0]), 'a')
      const closed = closing(socket)
      socket.readAlways()
      peer.send(close())
      await closed
    }
  )
}

t.test('a listener that is removed while a chunk is parsed leaves the rest of the chunk unread', async t => {
  const { socket, peer } = await connect(t)
  const got: string[] = []
  const listener = (data: Buffer): void => {
    got.push(String(data))
    if (got.length === 2) socket.off('message', listener)
  }
  socket.on('message', listener)
  socket.once('ping', () => socket.removeAllListeners())
  peer.send(...texts(3).map(data => text(data)))
  await roundTrip(t)
  t.strictSame(got, ['0', '1'])
  const again = (data: Buffer): void => void got.push(String(data))
  socket.on('message', again)
  peer.send(ping(), text('3'), text('4'))
  await roundTrip(t)
  t.strictSame(got, ['0', '1', '2'])
  socket.on('message', again)
  await nextEvent(socket, 'message')
  await tick()
  t.strictSame(got, ['0', '1', '2', '3', '4'])
})

t.test('a listener may replace itself with another during its call', async t => {
  const { socket, peer } = await connect(t)
  const got: string[] = []
  const done = new Promise<void>(resolve => {
    const listener = (data: Buffer): void => {
      if (got.push(String(data)) === 10) resolve()
      socket.once('message', listener)
    }
    socket.once('message', listener)
  })
  peer.send(...texts(10).map(data => text(data)))
  await withDeadline(done, 5000, 'messages')
  t.strictSame(got, texts(10))
})

t.test("events.on(socket, 'message') yields the data and whether it is binary", async t => {
  const { socket, peer } = await connect(t)
  peer.send(text('a'), binary(Buffer.from('b')))
  const got: unknown[] = []
  for await (const args of on(socket, 'message')) if (got.push(args) === 2) break
  t.strictSame(got, [
    [Buffer.from('a'), false],
    [Buffer.from('b'), true]
  ])
  peer.send(text('c'))
  await roundTrip(t)
  for await (const [data] of on(socket, 'message', { close: ['close'] })) {
    t.equal(String(data), 'c')
    peer.send(close())
  }
  t.equal(socket.readyState, socket.CLOSED)
})

t.test('pause takes effect immediately, also within a chunk; resume delivers the rest later', async t => {
  const { socket, peer } = await connect(t)
  const got: string[] = []
  t.equal(socket.isPaused, false)
  socket.on('ping', data => got.push(`ping ${data}`))
  socket.on('message', data => {
    got.push(String(data))
    socket.pause()
  })
  peer.send(text('a'), ping('p'), text('b'), text('c'))
  await nextEvent(socket, 'message')
  t.equal(socket.isPaused, true)
  await roundTrip(t)
  t.strictSame(got, ['a'])
  t.strictSame(peer.frames, [])
  socket.resume()
  t.equal(socket.isPaused, false)
  t.strictSame(got, ['a'], 'not delivered before resume() has returned')
  await nextEvent(socket, 'message')
  t.strictSame(got, ['a', 'ping p', 'b'])
  t.equal(await peer.next(), 'pong p')
  socket.resume()
  socket.pause()
  await roundTrip(t)
  t.strictSame(got, ['a', 'ping p', 'b'], 'the last call counts')
  socket.resume()
  await nextEvent(socket, 'message')
  t.strictSame(got, ['a', 'ping p', 'b', 'c'])
})

t.test('pause and resume within a listener change nothing', async t => {
  const { socket, peer } = await connect(t)
  const got: string[] = []
  socket.on('message', data => {
    got.push(String(data))
    socket.pause()
    socket.resume()
  })
  peer.send(...texts(10).map(data => text(data)), close(1000))
  t.equal(await closing(socket), '1000')
  t.strictSame(got, texts(10))
})

t.test('neither an iterator nor readAlways reads from a paused socket', async t => {
  const { socket, peer } = await connect(t)
  socket.pause()
  socket.readAlways()
  const next = socket[Symbol.asyncIterator]().next()
  peer.send(ping('a'), text('b'))
  await roundTrip(t)
  t.strictSame(peer.frames, [])
  socket.resume()
  t.strictSame(await next, { done: false, value: 'b' })
  t.equal(await peer.next(), 'pong a')
})

t.test('a closed socket cannot be paused', async t => {
  const { socket, peer } = await connect(t)
  socket.on('message', () => {})
  socket.pause()
  const closed = closing(socket)
  peer.reset()
  // Without a consumer only a write detects it.
  socket.ping()
  await roundTrip(t)
  socket.terminate()
  await closed
  t.equal(socket.isPaused, false)
  socket.pause()
  t.equal(socket.isPaused, false)
  socket.resume()
})

t.test('with readAlways pings are answered and a close is seen without a consumer', async t => {
  const { socket, peer } = await connect(t)
  peer.send(text('not consumed'), ping('a'))
  socket.readAlways()
  t.equal(await peer.next(), 'pong a')
  const closed = closing(socket)
  peer.send(close(1001))
  t.equal(await closed, '1001')
})

for (const hold of ['pause', 'no consumer', 'iterator'] as const) {
  t.test(`${hold}: TCP slows the peer down`, async t => {
    const { socket, stream, peer } = await connect(t)
    if (hold === 'pause') socket.on('message', () => t.fail('message')).pause()
    const iterator = hold === 'iterator' ? socket[Symbol.asyncIterator]() : undefined
    const message = text('x'.repeat(10_000))
    const size = 32 * MIB
    let sent = 0
    let accepted = true
    while (sent < size) {
      accepted = peer.send(message)
      sent += message.length
      if (sent % (message.length * 64) === 0) await tick()
    }
    t.equal(accepted, false)
    const read: number[] = []
    const taken = (): number => Number(Reflect.get(stream, 'bytesRead'))
    for (let i = 0; i < 5; i++) {
      await iterator?.next()
      await roundTrip(t)
      read.push(taken())
    }
    t.ok(taken() < MIB, `${taken()} bytes were read`)
    t.equal(read.at(-1), read.at(-2), 'and no more')
    t.ok(peer.stream.writableLength > size / 4, 'the rest is pending at the peer')
    let rest = sent / message.length - (iterator ? 5 : 0)
    await iterator?.return?.()
    socket.removeAllListeners('message')
    socket.resume()
    for await (const _ of socket) if (--rest === 0) break
    t.equal(peer.stream.writableLength, 0)
  })
}

t.test('a fragmented message with a ping in it may arrive one byte at a time', async t => {
  const { socket, peer } = await connect(t)
  const got = nextEvent(socket, 'message')
  const wire = Buffer.concat([
    text('gr', { fin: false }),
    ping('p'),
    Buffer.from([0x80, 0x83, 0, 0, 0, 0]),
    Buffer.from('ün')
  ])
  for (const byte of wire) {
    peer.send(Buffer.from([byte]))
    await tick()
  }
  t.strictSame(await got, [Buffer.from('grün'), false])
  t.equal(await peer.next(), 'pong p')
})

t.test('messages of a client of ws that arrive while a handler awaits are delivered', async t => {
  const { socket, client } = await connectWs(t)
  client.send('first')
  client.send(Buffer.from([1, 2]))
  client.ping('p')
  await roundTrip(t)
  const pong = nextEvent(client, 'pong')
  const got: unknown[] = []
  socket.on('message', (data, isBinary) => got.push(data, isBinary))
  t.strictSame(await pong, [Buffer.from('p')])
  t.strictSame(got, [Buffer.from('first'), false, Buffer.from([1, 2]), true])
})

t.test(
  'pause() keeps arrived messages, also after a write has failed during the delivery of a message',
  async t => {
    const { socket, stream, peer } = await connect(t)
    const seen: string[] = []
    const closed = closing(socket)
    socket.on('message', data => {
      seen.push(String(data))
      // All connections write together, so a write of this one may fail in a listener of another.
      stream.destroy(new Error('write ECONNRESET'))
      socket.pause()
    })
    peer.send(...texts(3).map(data => text(data)))
    t.equal(await closed, '1006')
    t.strictSame(seen, texts(1))
  }
)
