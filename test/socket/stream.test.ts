import { AsyncLocalStorage } from 'node:async_hooks'
import { once } from 'node:events'
import { type Duplex, PassThrough, Readable, Transform, Writable } from 'node:stream'
import { finished, pipeline } from 'node:stream/promises'
import t from 'tap'
import { deadlinesAfter } from '../../lib/limits/deadline.js'
import { NotOpenError } from '../../lib/socket/error.js'
import type { SendCallback } from '../../lib/socket/sender.js'
import { type Sink, WebSocketStream } from '../../lib/socket/stream.js'
import { WebSocket } from '../../lib/socket/websocket.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import {
  binary,
  close,
  closing,
  connect,
  connectWs,
  endlessText,
  KINDS,
  MIB,
  nextEvent,
  ping,
  roundTrip,
  type Subject,
  stalled,
  text,
  texts,
  tick,
  watchProcess
} from './harness.js'

class FakeSink implements Sink {
  readonly calls: unknown[] = []
  callback: SendCallback = () => {}
  readyState: number = WebSocket.OPEN
  sendBytes(data: unknown, callback: SendCallback): boolean {
    this.calls.push(data)
    this.callback = callback
    return true
  }
  close(code: number): void {
    this.calls.push(`close ${code}`)
  }
  terminate(): void {
    this.calls.push('terminate')
  }
  reportError(error: unknown): void {
    this.calls.push(error)
  }
}

const PATIENCE = ms(5000)

const source = { wanted: (): void => {}, release: (): void => {} }

t.test('the unit delivers a chunk at a time, ends at the close, and cuts when it is destroyed', async t => {
  const sink = new FakeSink()
  const stream = new WebSocketStream(source, sink, PATIENCE)
  stream.write('a')
  stream.write('b')
  t.strictSame(sink.calls, [Buffer.from('a')])
  sink.callback()
  t.strictSame(sink.calls, [Buffer.from('a'), Buffer.from('b')])
  sink.callback()
  stream.end()
  await tick()
  t.equal(sink.calls.at(-1), 'close 1000')
  t.equal(stream.writableFinished, false, 'not finished before the connection is closed')
  stream.onEnd(undefined, true)
  await nextEvent(stream, 'finish')
  stream.resume()
  await nextEvent(stream, 'close')
  t.notOk(sink.calls.includes('terminate'))
})

t.test('the unit is destroyed by text that is too long for a string', async t => {
  const sink = new FakeSink()
  const stream = new WebSocketStream(source, sink, PATIENCE, { readableObjectMode: true })
  const failed = once(stream, 'error')
  stream.onMessage(endlessText(), false)
  t.match(await failed, [{ message: 'ERR_STRING_TOO_LONG' }])
  t.strictSame(sink.calls, ['terminate'])
})

t.test('the unit closes nothing when it is ended after the connection was closed', async t => {
  const sink = new FakeSink()
  const stream = new WebSocketStream(source, sink, PATIENCE)
  stream.onEnd(undefined, true)
  stream.resume().end()
  await nextEvent(stream, 'close')
  t.strictSame(sink.calls, [])
})

t.test('the unit stops reading when its buffer is full and continues when it is read', async t => {
  let wants = 0
  const stream = new WebSocketStream(
    { wanted: () => void wants++, release: () => {} },
    new FakeSink(),
    PATIENCE,
    {
      readableHighWaterMark: 4
    }
  )
  t.equal(stream.wantsMore, true)
  stream.onMessage(Buffer.from('abc'), true)
  t.equal(stream.wantsMore, true)
  stream.onMessage(Buffer.from('de'), true)
  t.equal(stream.wantsMore, false)
  // Node 26 returns one chunk at a time, earlier versions return everything.
  let read = ''
  for (let chunk: unknown = stream.read(); chunk !== null; chunk = stream.read()) read += chunk
  t.equal(read, 'abcde')
  t.equal(stream.wantsMore, true)
  t.ok(wants > 0)
})

for (const over of KINDS) {
  t.test(`over ${over}: a stream is piped both ways`, async t => {
    const { socket, peer } = await connect(t, { over })
    const stream = socket.stream()
    stream.pipe(stream)
    const big = Buffer.alloc(100_000, 'x')
    peer.send(text('a'), binary(big), text(''))
    t.equal(await peer.next(), `binary ${Buffer.from('a').toString('hex')}`)
    await peer.until(
      () => Buffer.concat(peer.raw.map(({ payload }) => payload)).length === 100_001,
      'the echo'
    )
    const closed = closing(socket)
    peer.send(close(1000, 'bye'))
    t.equal(await closed, '1000 bye')
  })

  t.test(
    `over ${over}: a file sent through pipeline arrives whole, and the end closes with 1000`,
    async t => {
      const { socket, peer } = await connect(t, { over })
      const closed = closing(socket)
      const chunks = texts(40).map(i => Buffer.alloc(65_536, i))
      const sent = pipeline(Readable.from(chunks), socket.stream())
      await peer.until(() => peer.frames.at(-1)?.startsWith('close') === true, 'close')
      t.equal(peer.frames.at(-1), 'close 1000')
      t.ok(Buffer.concat(chunks).equals(Buffer.concat(peer.raw.slice(0, -1).map(({ payload }) => payload))))
      peer.send(close(1000))
      t.equal(await closed, '1000')
      await withDeadline(sent, 5000, 'pipeline')
    }
  )
}

t.test('a stream without a reader answers pings and sees the close', async t => {
  const { socket, peer } = await connect(t)
  const stream = socket.stream()
  peer.send(text('unread'), ping('p'))
  t.equal(await peer.next(), 'pong p')
  stream.end('last')
  t.equal(await peer.next(), `binary ${Buffer.from('last').toString('hex')}`)
  t.equal(await peer.next(), 'close 1000')
  const closed = closing(socket)
  peer.send(close(1000))
  t.equal(await closed, '1000')
  t.equal(String(stream.read()), 'unread')
})

t.test('nothing is delivered before stream() has returned', async t => {
  const { socket, peer } = await connect(t)
  socket.on('message', () => {})
  socket.pause()
  peer.send(ping('a'), text('b'))
  await roundTrip(t)
  socket.removeAllListeners('message')
  socket.resume()
  await tick()
  const order: string[] = []
  socket.on('ping', () => order.push('ping'))
  const stream = socket.stream()
  order.push('returned')
  t.equal(String((await nextEvent(stream, 'data'))[0]), 'b')
  t.strictSame(order, ['returned', 'ping'])
})

t.test('a reader that stops slows the peer down', async t => {
  const { socket, stream: bytes, peer } = await connect(t)
  const stream = socket.stream()
  const message = binary(Buffer.alloc(65_536))
  let sent = 0
  const flood = async (): Promise<void> => {
    while (sent < 64 * MIB) {
      sent += message.length
      if (!peer.send(message)) {
        const drained = await Promise.race([
          once(peer.stream, 'drain'),
          tick()
            .then(tick)
            .then(() => false)
        ])
        if (drained === false) break
      }
    }
  }
  for (let i = 0; i < 4; i++) {
    await flood()
    await roundTrip(t)
  }
  t.ok(peer.stream.writableLength > 0, 'the peer has a backlog')
  t.ok(stream.readableLength <= 2 * 65_536)
  t.ok(bytes.readableLength <= 2 * 65_536)
  let read = 0
  for await (const chunk of stream) {
    read += chunk.length
    if (read === (sent / message.length) * 65_536) break
  }
  t.equal(peer.stream.writableLength, 0)
})

t.test('a peer that does not read slows down the source', async t => {
  const { socket, peer } = await connect(t, { maxBufferedAmount: 64 * MIB })
  peer.stream.pause()
  const stream = socket.stream()
  let produced = 0
  const endless = new Readable({
    read() {
      this.push(Buffer.alloc(65_536))
      produced += 65_536
    }
  })
  endless.pipe(stream)
  const amounts: number[] = []
  while (amounts.length < 3 || amounts.at(-1) !== amounts.at(-3)) {
    await roundTrip(t)
    amounts.push(produced)
  }
  t.ok(socket.bufferedAmount > 0)
  t.ok(socket.bufferedAmount <= 2 * 65_536 + 100, `${socket.bufferedAmount} bytes are buffered`)
  const stalled = produced
  peer.stream.resume()
  await peer.until(() => produced > stalled + 4 * MIB, 'more')
  endless.destroy()
})

t.test('destroy cuts the connection without an error of its own', async t => {
  const { socket, peer } = await connect(t)
  const stream = socket.stream()
  const closed = closing(socket)
  stream.destroy()
  t.equal(await closed, '1006')
  await peer.end()
  t.strictSame(peer.frames, [])
})

t.test('a stream that is destroyed with an error emits it, and the socket does not', async t => {
  const { socket } = await connect(t)
  socket.on('error', () => t.fail('error event'))
  const stream = socket.stream()
  const closed = closing(socket)
  stream.destroy(new Error('mine'))
  const [error] = await nextEvent(stream, 'error')
  t.match(error, { message: 'mine' })
  t.equal(await closed, '1006')
})

t.test('a reset ends and closes the stream, and later writes fail without an error event', async t => {
  const uncaught = watchProcess(t)
  const { socket, peer, errors } = await connect(t)
  const stream = socket.stream()
  const closed = nextEvent(stream.resume(), 'close')
  peer.reset()
  await closed
  stream.on('error', () => t.fail('an error event'))
  const written = new Promise<unknown>(resolve => stream.write('late', resolve))
  t.match(await written, { code: 'ERR_STREAM_DESTROYED' })
  t.strictSame(errors, [])
  t.strictSame(uncaught, [])
})

t.test('a pipeline from a connection ends with it, and a pipeline to it rejects', async t => {
  const { socket, peer } = await connect(t)
  const stream = socket.stream()
  const got: string[] = []
  const sink = new Writable({
    write(chunk, _encoding, callback) {
      got.push(String(chunk))
      callback()
    }
  })
  const endless = new PassThrough()
  const [out, into] = [pipeline(stream, sink), pipeline(endless, stream)]
  const results = Promise.allSettled([out, into])
  peer.send(text('a'), text('b'), close(1001))
  await nextEvent(socket, 'close')
  endless.write('x')
  const [outcome, income] = await results
  t.strictSame(got, ['a', 'b'])
  t.equal(outcome?.status, 'fulfilled')
  t.match(income, { status: 'rejected', reason: { code: 'FST_UPGRADE_NOT_OPEN' } })
})

for (const [name, bytes, code] of [
  ['breaks the protocol', text('b', { rsv: 4 }), 'FST_UPGRADE_RESERVED_BITS'],
  ['sends too much', text('x'.repeat(101)), 'FST_UPGRADE_MESSAGE_TOO_BIG'],
  [
    'ends within a message',
    Buffer.concat([text('b', { fin: false }), text('c')]),
    'FST_UPGRADE_INTERLEAVED_MESSAGE'
  ]
] as const) {
  t.test(`a peer that ${name} does not let the reader end as if the data were complete`, async t => {
    const { socket, peer } = await connect(t, { maxPayload: 100 })
    const got: string[] = []
    const piped = pipeline(socket.stream(), async chunks => {
      for await (const chunk of chunks) got.push(String(chunk))
    })
    const closed = closing(socket)
    peer.send(text('a'), bytes)
    await t.rejects(piped, { code })
    await closed
    t.match(peer.frames.at(-1), /^close 10/, 'the peer receives the reason')
    t.strictSame(got, ['a'])
    await t.rejects(pipeline(socket.stream(), new PassThrough().resume()), { code }, 'created too late')
  })
}

for (const way of ['iterator', 'pipe', 'events'] as const) {
  t.test(`a slow reader receives all data before a violation of the peer, by ${way}`, async t => {
    const { socket, peer } = await connect(t)
    const stream = socket.stream({ readableObjectMode: true })
    const got: string[] = []
    const take = async (chunk: unknown): Promise<void> => {
      got.push(String(chunk))
      // The violation arrives while there is more to read.
      await closed
    }
    const closed = closing(socket)
    peer.send(text('a'), text('b'), text('c'), text('d', { rsv: 4 }))
    const sink = new Writable({
      highWaterMark: 1,
      write: (chunk, _encoding, callback) => void take(chunk).then(() => callback())
    })
    const failed = {
      iterator: async () => {
        for await (const chunk of stream) await take(chunk)
      },
      pipe: () => pipeline(stream, sink),
      events: async () => {
        stream.on('data', async chunk => {
          stream.pause()
          await take(chunk)
          stream.resume()
        })
        await once(stream, 'end')
      }
    }[way]()
    await t.rejects(withDeadline(failed, 5000, 'failed'), { code: 'FST_UPGRADE_RESERVED_BITS' })
    t.equal(got.join(''), 'abc')
  })
}

t.test('a peer that does not read does not let the reader end as if the data were complete', async t => {
  const { socket, stream: bytes, errors } = await connect(t, { maxBufferedAmount: 1000 })
  const piped = pipeline(socket.stream(), new PassThrough().resume())
  bytes.cork()
  socket.send('x'.repeat(2000))
  socket.send('x'.repeat(2000))
  await t.rejects(withDeadline(piped, 5000, 'the end'), { code: 'FST_UPGRADE_BUFFER_OVERFLOW' })
  t.strictSame(errors, [])
})

t.test('writes after a violation of the peer fail with the violation', async t => {
  const { socket, peer, errors } = await connect(t)
  const stream = socket.stream()
  const closed = closing(socket)
  stream.once('data', () => stream.pause())
  peer.send(text('a'), text('b'), text('c', { rsv: 4 }))
  await closed
  const ended = nextEvent(stream, 'close')
  t.match(await new Promise(resolve => stream.write('late', resolve)), { code: 'FST_UPGRADE_RESERVED_BITS' })
  await ended
  t.strictSame(errors, [])
})

t.test('a violation of the peer fails a stream without a reader immediately', async t => {
  const { socket, peer } = await connect(t)
  const stream = socket.stream()
  peer.send(text('a'), text('d', { rsv: 4 }))
  const [error] = await withDeadline(once(stream, 'error'), 5000, 'error')
  t.match(error, { code: 'FST_UPGRADE_RESERVED_BITS' })
})

t.test(
  'a violation of the peer without an error listener is not reported as an application error',
  async t => {
    const uncaught = watchProcess(t)
    const { socket, peer, errors } = await connect(t)
    const closed = nextEvent(socket.stream().resume(), 'close')
    peer.send(text('b', { rsv: 4 }))
    await closed
    await tick()
    t.strictSame(errors, [])
    t.strictSame(uncaught, [])
  }
)

t.test('with decodeStrings false and readableObjectMode, strings are text in both directions', async t => {
  const { socket, peer } = await connect(t)
  const stream = socket.stream({ decodeStrings: false, readableObjectMode: true })
  stream.write('grün')
  stream.write(Buffer.from([1]))
  t.equal(await peer.next(), 'text grün')
  t.equal(await peer.next(), 'binary 01')
  peer.send(text('a'), text(''), binary(Buffer.from([2])), close())
  const got: unknown[] = []
  for await (const message of stream) got.push(message)
  t.strictSame(got, ['a', '', Buffer.from([2])])
})

t.test('data that cannot be sent is an error of the stream and is not thrown to the writer', async t => {
  const { socket } = await connect(t)
  const closed = closing(socket)
  const stream: Duplex = socket.stream({ objectMode: true })
  const failed = nextEvent(stream, 'error')
  stream.write({ not: 'sendable' })
  t.match((await failed)[0], { code: 'FST_UPGRADE_INVALID_DATA' })
  t.equal(await closed, '1006')
})

t.test('a stream of a closed connection has ended', async t => {
  const { socket, peer } = await connect(t)
  peer.stream.end()
  await nextEvent(socket, 'close')
  const stream = socket.stream()
  stream.on('data', () => t.fail('data'))
  await nextEvent(stream, 'end')
})

t.test('end waits for the closing handshake, at most until the deadline', async t => {
  const { socket, peer } = await connect(t, { closeTimeout: ms(30) })
  const stream = socket.stream()
  const finished = nextEvent(stream, 'finish')
  stream.end()
  t.equal(await peer.next(), 'close 1000')
  t.equal(stream.writableFinished, false)
  await finished
  t.equal(socket.readyState, socket.CLOSED)
})

t.test('after a stream is destroyed on an open connection there is nothing more to read', async t => {
  const { socket } = await connect(t)
  socket.stream().destroy()
  for await (const _ of socket) t.fail('message')
  t.equal(socket.readyState, socket.CLOSED)
})

t.test('messages of a client of ws are piped through', async t => {
  const { socket, client } = await connectWs(t)
  const stream = socket.stream({ decodeStrings: false, readableObjectMode: true })
  stream.pipe(stream)
  const echoed: unknown[] = []
  client.on('message', (data, isBinary) => {
    echoed.push(isBinary ? data : String(data))
    if (echoed.length === 3) client.close(1000)
  })
  const closed = closing(socket)
  client.send('text')
  client.send(Buffer.from([1, 2]))
  client.send('end')
  t.equal(await closed, '1000')
  t.strictSame(echoed, ['text', Buffer.from([1, 2]), 'end'])
})

t.test('writing to a disconnected peer without an error listener does not end the process', async t => {
  for (const leave of ['reset', 'close'] as const) {
    const uncaught = watchProcess(t)
    const { socket, peer, errors } = await connect(t)
    const stream = socket.stream()
    const closed = nextEvent(socket, 'close')
    if (leave === 'reset') peer.reset()
    else peer.send(close(1000))
    await closed
    stream.write('late')
    await nextEvent(stream, 'close')
    stream.write('later')
    await tick()
    t.strictSame(uncaught, [])
    t.match(errors, [{ code: 'FST_UPGRADE_NOT_OPEN' }], 'onError is called once')
  }
})

t.test('an echo by pipe survives a peer that resets after many messages', async t => {
  const uncaught = watchProcess(t)
  const { socket, peer } = await connect(t)
  const stream = socket.stream()
  stream.pipe(stream)
  const closed = nextEvent(stream, 'close')
  peer.send(...Array.from({ length: 200 }, () => binary(Buffer.alloc(5000))))
  peer.reset()
  await closed
  await tick()
  t.strictSame(uncaught, [])
})

t.test('a stream listener that throws or rejects is reported to onError, and reading continues', async t => {
  const uncaught = watchProcess(t)
  const { socket, peer, errors } = await connect(t)
  const got: string[] = []
  socket.stream().on('data', data => {
    got.push(String(data))
    if (got.length === 1) throw new Error('thrown')
    return got.length === 2 ? Promise.reject(new Error('rejected')) : undefined
  })
  for (const data of ['a', 'b', 'c']) {
    peer.send(text(data), ping(data))
    t.equal(await peer.next(), `pong ${data}`)
  }
  await tick()
  t.strictSame(got, ['a', 'b', 'c'])
  t.strictSame(
    errors.map(error => Reflect.get(Object(error), 'message')),
    ['thrown', 'rejected']
  )
  t.strictSame(uncaught, [])
})

t.test('a quiet source that is piped into a connection is released when the peer disconnects', async t => {
  const { socket, peer } = await connect(t)
  const quiet = new Readable({ read() {} })
  const done = pipeline(quiet, socket.stream()).then(
    () => 'ended',
    error => Reflect.get(error, 'code')
  )
  peer.reset()
  await nextEvent(socket, 'close')
  t.equal(await withDeadline(done, 5000, 'pipeline'), 'ERR_STREAM_PREMATURE_CLOSE')
  t.ok(quiet.destroyed)
})

t.test('a write that comes too late does not cut a connection whose Close is still pending', async t => {
  for (const [readyState, error, terminations] of [
    [WebSocket.CLOSING, new NotOpenError(), 0],
    [WebSocket.CLOSING, new Error('the application had enough'), 1],
    // An error of another connection that this one is piped into.
    [WebSocket.OPEN, new NotOpenError(), 1]
  ] as const) {
    let terminated = 0
    const sink = {
      readyState,
      sendBytes: (_data: unknown, callback: (error?: Error) => void) => {
        process.nextTick(callback, error)
        return false
      },
      close: () => {},
      terminate: () => terminated++,
      reportError: () => {}
    }
    const stream = new WebSocketStream({ wanted: () => {}, release: () => {} }, sink, PATIENCE)
    stream.write('late')
    await nextEvent(stream, 'close')
    t.equal(terminated, terminations)
  }
})

/** Echoes in different ways. */
const ECHOES: Readonly<Record<string, (stream: Duplex) => Promise<void>>> = {
  'a transform': stream => pipeline(stream, new PassThrough(), stream),
  'the stream itself': stream => pipeline(stream, stream),
  'a generator': stream =>
    pipeline(
      stream,
      async function* (chunks) {
        for await (const chunk of chunks) yield chunk
      },
      stream
    ),
  'a transform that ends late': stream =>
    pipeline(
      stream,
      new Transform({
        transform: (chunk, _encoding, callback) => callback(null, chunk),
        flush: callback => void setImmediate(() => setImmediate(callback))
      }),
      stream
    )
}

for (const over of KINDS) {
  t.test(`over ${over}: a pipeline resolves when the peer closes`, async t => {
    for (const [name, echo] of Object.entries(ECHOES)) {
      for (const code of [1000, 1001, undefined, 4000]) {
        const { socket, peer, errors } = await connect(t, { over })
        const stream = socket.stream()
        const echoed = echo(stream)
        const ended = finished(stream)
        peer.send(binary(Buffer.from('a')))
        t.equal(await peer.next(), 'binary 61')
        peer.send(close(code))
        await withDeadline(Promise.all([echoed, ended]), ms(5000), `${name}, ${code}`)
        t.equal(stream.destroyed, true, `${name}, ${code}`)
        t.strictSame(errors, [])
      }
    }
  })
}

t.test('a stream that is only piped into closes when the peer closes', async t => {
  const { socket, peer, errors } = await connect(t)
  const stream = socket.stream()
  const source = new PassThrough()
  source.pipe(stream)
  const ended = finished(stream)
  peer.send(close(1000))
  await peer.until(() => peer.frames.length === 1, 'the answer')
  source.end()
  await withDeadline(ended, ms(5000), 'the end of the stream')
  t.equal(stream.closed, true)
  t.strictSame(errors, [])
})

t.test('finished() resolves at a clean end of a stream that is read, in any way of reading', async t => {
  const ways: Readonly<Record<string, (stream: Duplex) => unknown>> = {
    resume: stream => stream.resume(),
    data: stream => stream.on('data', () => {}),
    pipe: stream => stream.pipe(new PassThrough()).resume(),
    loop: async stream => {
      for await (const _ of stream);
    },
    pipeline: stream => pipeline(stream, new PassThrough().resume())
  }
  for (const [name, read] of Object.entries(ways)) {
    for (const allowHalfOpen of [true, false]) {
      const { socket, peer } = await connect(t)
      const stream = socket.stream({ allowHalfOpen })
      const events: string[] = []
      for (const event of ['end', 'finish', 'close']) stream.on(event, () => events.push(event))
      const done = finished(stream)
      const reading = read(stream)
      peer.send(text('a'), close(1000))
      await withDeadline(done, ms(5000), name)
      if (reading instanceof Promise) await withDeadline(reading, ms(5000), name)
      t.strictSame(events, ['end', 'finish', 'close'], name)
    }
  }
})

t.test('finished() resolves for a stream that is created after a clean end', async t => {
  const { socket, peer } = await connect(t)
  const closed = closing(socket)
  peer.send(close(1000))
  await closed
  await withDeadline(finished(socket.stream().resume()), ms(5000), 'finished')
  await withDeadline(ECHOES['a transform']?.(socket.stream()) ?? t.fail(), ms(5000), 'pipeline')
})

for (const reads of [true, false]) {
  const which = reads ? 'a stream that is read' : 'a stream that nobody reads'

  t.test(`${which}: a source that ends after a clean end is no error`, async t => {
    const { socket, peer } = await connect(t)
    const stream = socket.stream()
    if (reads) stream.resume()
    const source = new PassThrough()
    const sent = pipeline(source, stream)
    const closed = closing(socket)
    peer.send(close(1000))
    t.equal(await closed, '1000')
    await roundTrip(t)
    source.end()
    await withDeadline(sent, ms(5000), 'pipeline')
  })

  t.test(`${which}: a source that still has data after a clean end fails`, async t => {
    const { socket, peer } = await connect(t)
    const stream = socket.stream()
    if (reads) stream.resume()
    const source = new PassThrough()
    const sent = pipeline(source, stream)
    const closed = closing(socket)
    peer.send(close(1000))
    t.equal(await closed, '1000')
    await roundTrip(t)
    source.write('x')
    await t.rejects(withDeadline(sent, ms(5000), 'pipeline'), { code: 'FST_UPGRADE_NOT_OPEN' })
  })

  t.test(`${which}: a source that neither ends nor writes is released after closeTimeout`, async t => {
    // The timer belongs to another context.
    deadlinesAfter(20).set({ onDeadline: () => {} })
    const context = new AsyncLocalStorage<string>()
    const { socket, peer } = await context.run('mine', () => connect(t, { closeTimeout: 20 }))
    const stream = socket.stream()
    stream.on('close', () => t.equal(context.getStore(), 'mine'))
    if (reads) stream.resume()
    const quiet = new Readable({ read() {} })
    const sent = pipeline(quiet, stream)
    peer.send(close(1000))
    await t.rejects(withDeadline(sent, ms(5000), 'pipeline'), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
    t.ok(quiet.destroyed)
  })
}

t.test('a stream that was ended in time is not affected by the deadline for its source', async t => {
  const { socket, peer } = await connect(t, { closeTimeout: 20 })
  const stream = socket.stream()
  const source = new PassThrough()
  const sent = pipeline(source, stream)
  peer.send(text('unread'), close(1000))
  await nextEvent(socket, 'close')
  source.end()
  await withDeadline(sent, ms(5000), 'pipeline')
  // Set later, so it fires later.
  await new Promise<void>(resolve => deadlinesAfter(20).set({ onDeadline: resolve }))
  t.equal(stream.destroyed, false)
  t.equal(String(stream.read()), 'unread')
})

t.test('an unclean end is an error for the writer', async t => {
  const ends: Readonly<Record<string, (subject: Subject) => unknown>> = {
    reset: ({ peer }) => peer.reset(),
    'an end of TCP without a Close frame': ({ peer }) => peer.stream.end(),
    terminate: ({ socket }) => socket.terminate()
  }
  for (const [name, end] of Object.entries(ends)) {
    for (const [way, echo] of Object.entries(ECHOES)) {
      const subject = await connect(t)
      const echoed = echo(subject.socket.stream())
      await tick()
      end(subject)
      const expected = way === 'the stream itself' ? undefined : 'ERR_STREAM_PREMATURE_CLOSE'
      const outcome = await withDeadline(Promise.allSettled([echoed]), ms(5000), name)
      t.equal(Reflect.get(Object(Reflect.get(outcome[0], 'reason')), 'code'), expected, `${name}, ${way}`)
    }
  }
})

t.test('a peer that closes without reading earlier data is cut, which is no clean end', async t => {
  const subject = await connect(t, { closeTimeout: 50, maxBufferedAmount: false })
  const { socket, peer } = subject
  const stream = socket.stream()
  const echoed = ECHOES['a transform']?.(stream) ?? Promise.resolve()
  const outcome = t.rejects(withDeadline(echoed, ms(15_000), 'pipeline'), {
    code: 'ERR_STREAM_PREMATURE_CLOSE'
  })
  await stalled(subject, 16 * MIB)
  const closed = nextEvent(socket, 'close')
  peer.send(close(1000))
  t.match(await closed, [1000, Buffer.alloc(0), { code: 'FST_UPGRADE_CLOSE_TIMEOUT' }])
  await outcome
})

t.test(
  'a loop that breaks cuts the connection, and a loop that has read everything leaves the stream to its writer',
  async t => {
    const broken = await connect(t)
    const closed = closing(broken.socket)
    broken.peer.send(text('a'), text('b'))
    for await (const _ of broken.socket.stream()) break
    t.equal(await closed, '1006')

    const { socket, peer } = await connect(t)
    const stream = socket.stream()
    stream.on('drain', () => {})
    peer.send(text('a'), close(1000))
    for await (const _ of stream);
    t.equal(stream.destroyed, false)
    const ended = finished(stream)
    stream.end()
    await withDeadline(ended, ms(5000), 'finished')
  }
)
