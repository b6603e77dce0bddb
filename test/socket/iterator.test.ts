import t from 'tap'
import { MessageIterator } from '../../lib/socket/consumers.js'
import { ms } from '../helpers/timeout.js'
import {
  binary,
  close,
  closing,
  connect,
  connectWs,
  endlessText,
  KINDS,
  ping,
  roundTrip,
  text,
  texts,
  tick
} from './harness.js'

class FakeSource {
  wants = 0
  releases = 0
  wanted = (): void => void this.wants++
  release = (): void => void this.releases++
}

t.test('the iterator requests a message for each call of next, and returns them in order', async t => {
  const source = new FakeSource()
  const iterator = new MessageIterator(source)
  t.equal(iterator.wantsMore, false)
  const [one, two] = [iterator.next(), iterator.next()]
  t.equal(source.wants, 2)
  t.equal(iterator.wantsMore, true)
  iterator.onMessage(Buffer.from('text'), false)
  t.equal(iterator.wantsMore, true)
  iterator.onMessage(Buffer.from('bytes'), true)
  t.equal(iterator.wantsMore, false)
  t.strictSame(await one, { done: false, value: 'text' })
  t.strictSame(await two, { done: false, value: Buffer.from('bytes') })
  t.equal(iterator[Symbol.asyncIterator](), iterator)
})

t.test('the end of the connection ends pending and later calls of next', async t => {
  const source = new FakeSource()
  const iterator = new MessageIterator(source)
  const waiting = [iterator.next(), iterator.next()]
  iterator.onEnd()
  const done = { done: true, value: undefined }
  t.strictSame(await Promise.all(waiting), [done, done])
  t.strictSame(await iterator.next(), done)
  t.strictSame(await iterator.return(), done)
  t.equal(iterator.wantsMore, false)
  t.equal(source.releases, 0, 'nothing to release after the end')
})

t.test('text that is too long for a string rejects, and ends the iterator', async t => {
  const source = new FakeSource()
  const iterator = new MessageIterator(source)
  const [one, two] = [iterator.next(), iterator.next()]
  iterator.onMessage(endlessText(), false)
  await t.rejects(one, { message: 'ERR_STRING_TOO_LONG' })
  t.strictSame(await two, { done: true, value: undefined })
  t.equal(source.releases, 1)
  iterator.onMessage(Buffer.from('late'), true)
})

t.test('return releases the source once and ends pending calls of next', async t => {
  const source = new FakeSource()
  const iterator = new MessageIterator(source)
  const waiting = iterator.next()
  const done = { done: true, value: undefined }
  t.strictSame(await iterator.return(), done)
  t.strictSame(await iterator.return(), done)
  t.strictSame(await waiting, done)
  t.equal(source.releases, 1)
})

for (const over of KINDS) {
  t.test(`over ${over}: a slow loop receives all messages before a Close frame or an end of TCP`, async t => {
    for (const last of ['close', 'end', 'close and end'] as const) {
      const { socket, peer } = await connect(t, { over })
      const closed = closing(socket)
      peer.send(...texts(100).map(data => text(data)), ...(last === 'end' ? [] : [close(1000, 'bye')]))
      if (last !== 'close') peer.stream.end()
      await roundTrip(t, over)
      const got: unknown[] = []
      for await (const message of socket) {
        got.push(message)
        if (got.length % 10 === 0) await tick()
        if (got.length === 50) await roundTrip(t, over)
      }
      t.strictSame(got, texts(100), last)
      t.equal(await closed, last === 'end' ? '1006' : '1000 bye')
    }
  })
}

t.test('text is returned as strings, and binary messages as Buffers', async t => {
  const { socket, peer } = await connect(t)
  socket.binaryType = 'arraybuffer'
  peer.send(text('grün'), binary(Buffer.from([0, 255])), text(''), close())
  const got: unknown[] = []
  for await (const message of socket) got.push(message)
  t.strictSame(got, ['grün', Buffer.from([0, 255]), ''])
})

t.test('a new loop continues where an earlier loop has stopped', async t => {
  const { socket, peer } = await connect(t)
  peer.send(...texts(10).map(data => text(data)))
  const got: unknown[] = []
  for await (const message of socket) if (got.push(message) === 3) break
  await roundTrip(t)
  for await (const message of socket) if (got.push(message) === 4) break
  for await (const message of socket) if (got.push(message) === 10) break
  t.strictSame(got, texts(10))
  peer.send(text('last'), close(1000))
  for await (const message of socket) got.push(message)
  t.equal(got[10], 'last')
  for await (const _ of socket) t.fail('no message after the close')
})

t.test('a loop that throws releases the connection', async t => {
  const { socket, peer } = await connect(t)
  peer.send(text('a'), text('b'))
  const loop = async (): Promise<void> => {
    for await (const message of socket) throw new Error(`at ${message}`)
  }
  await t.rejects(loop(), { message: 'at a' })
  const { value } = await socket[Symbol.asyncIterator]().next()
  t.equal(value, 'b')
})

t.test('a second iterator or stream at the same time throws and affects nothing else', async t => {
  const { socket, peer } = await connect(t)
  const iterator = socket[Symbol.asyncIterator]()
  const code = 'FST_UPGRADE_ALREADY_READ'
  t.throws(() => socket[Symbol.asyncIterator](), { code })
  t.throws(() => socket.stream(), { code })
  t.throws(() => socket.stream({ signal: AbortSignal.abort() }), { code })
  await t.rejects(
    (async () => {
      for await (const _ of socket) t.fail('no message')
    })(),
    { code }
  )
  await tick()
  peer.send(text('a'))
  t.strictSame(await iterator.next(), { done: false, value: 'a' })
  t.equal(socket.readyState, socket.OPEN)
})

t.test('nothing is read ahead: pings wait with the messages until the loop continues', async t => {
  const { socket, peer } = await connect(t)
  const iterator = socket[Symbol.asyncIterator]()
  peer.send(text('a'), ping('between'), text('b'), ping('behind'))
  await roundTrip(t)
  t.strictSame(peer.frames, [])
  t.equal((await iterator.next()).value, 'a')
  await roundTrip(t)
  t.strictSame(peer.frames, [])
  t.equal((await iterator.next()).value, 'b')
  t.equal(await peer.next(), 'pong between')
  const end = iterator.next()
  t.equal(await peer.next(), 'pong behind')
  await iterator.return?.()
  t.strictSame(await end, { done: true, value: undefined })
})

t.test('an iterator that is created while messages flow takes over immediately', async t => {
  const { socket, peer } = await connect(t)
  socket.readAlways()
  peer.send(ping('reading'))
  t.equal(await peer.next(), 'pong reading')
  // Both arrive in one piece: the first is delivered before the iterator exists.
  const created = new Promise<AsyncIterator<unknown>>(resolve => {
    socket.once('ping', () => resolve(socket[Symbol.asyncIterator]()))
  })
  peer.send(ping('now'), text('a'), text('b'))
  const iterator = await created
  await roundTrip(t)
  t.equal((await iterator.next()).value, 'a')
  t.equal((await iterator.next()).value, 'b')
})

t.test('messages that arrive while an iterator ends within a chunk are kept', async t => {
  const { socket, peer } = await connect(t)
  const iterator = socket[Symbol.asyncIterator]()
  socket.once('ping', () => void iterator.return?.())
  const first = iterator.next()
  peer.send(ping(), text('a'))
  t.strictSame(await first, { done: true, value: undefined })
  await roundTrip(t)
  t.equal((await socket[Symbol.asyncIterator]().next()).value, 'a')
})

t.test('concurrent calls of next are served in order', async t => {
  const { socket, peer } = await connect(t)
  const iterator = socket[Symbol.asyncIterator]()
  const results = Promise.all([iterator.next(), iterator.next(), iterator.next()])
  peer.send(text('a'), text('b'), close())
  t.strictSame(
    (await results).map(({ value }) => value),
    ['a', 'b', undefined]
  )
})

t.test('the loop ends when the connection is cut, on either side', async t => {
  for (const cut of ['reset', 'terminate', 'violation'] as const) {
    const { socket, peer } = await connect(t)
    peer.send(text('a'))
    const got: unknown[] = []
    for await (const message of socket) {
      got.push(message)
      if (cut === 'reset') peer.reset()
      else if (cut === 'terminate') socket.terminate()
      else peer.send(text('x', { rsv: 1 }))
    }
    t.strictSame(got, ['a'], cut)
    t.equal(socket.readyState, socket.CLOSED, cut)
  }
})

t.test('a loop that closes the connection still sees its end', async t => {
  const { socket, peer } = await connect(t, { closeTimeout: ms(10_000) })
  const closed = closing(socket)
  peer.send(text('a'), text('b'))
  const got: unknown[] = []
  for await (const message of socket) {
    if (got.push(message) === 1) socket.close(1000, 'enough')
    else {
      t.equal(await peer.next(), 'close 1000 enough')
      peer.send(close(1000))
    }
  }
  t.strictSame(got, ['a', 'b'])
  t.equal(await closed, '1000')
})

t.test('replies of a loop to messages that are buffered leave in one write', async t => {
  const { socket, stream, peer } = await connect(t)
  peer.send(...texts(50).map(data => text(data)))
  await roundTrip(t)
  let writes = 0
  const { _write } = stream
  stream._write = (...args) => {
    writes++
    Reflect.apply(_write, stream, args)
  }
  let count = 0
  for await (const message of socket) {
    socket.send(message)
    if (++count === 50) break
  }
  await peer.until(() => peer.frames.length === 50, 'the echo')
  t.strictSame(
    peer.frames,
    texts(50).map(data => `text ${data}`)
  )
  // The first message arrives in a read of its own.
  t.ok(writes <= 2, `${writes} writes`)
})

t.test('a client of ws that echoes in a loop and closes works', async t => {
  const { socket, client } = await connectWs(t)
  const echoed: string[] = []
  client.on('message', data => {
    if (echoed.push(String(data)) === 200) client.close(1000, 'done')
  })
  for (const data of texts(200)) client.send(data)
  const closed = closing(socket)
  for await (const message of socket) socket.send(message)
  t.strictSame(echoed, texts(200))
  t.equal(await closed, '1000 done')
})
