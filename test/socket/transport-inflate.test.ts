import { AsyncLocalStorage } from 'node:async_hooks'
import t, { type Test } from 'tap'
import { ms } from '../helpers/timeout.js'
import { bytes, decode, frame } from '../protocol/wire.js'
import { close, closing, connect, nextEvent, type Options, ping, roundTrip, text, tick } from './harness.js'
import { make } from './manual.js'
import { deflateOf, HeldRuns, noise, readMessages, Window, type Wishes, words } from './zlib-model.js'

const LARGE = noise(60_000).toString('latin1').replace(/\0/g, 'x')
const RSV1 = { rsv: 4 }

/** A transport whose thread pool the test controls, and messages of its peer. */
function hold(t: Test, wishes: Wishes = {}, options: Options = {}) {
  const runs = new HeldRuns(t)
  const made = make(t, ms(10_000), { deflate: deflateOf(wishes), ...options })
  const { stream, log } = made
  const window = new Window(wishes.peerTakesOver)
  log.onMessage = data => void log.lines.push(data.length < 100 ? `message ${data}` : `${data.length} bytes`)
  let read = 0
  return {
    ...made,
    runs,
    message: (data: string): Buffer => frame(1, window.deflate(data), RSV1),
    async push(...parts: (Buffer | null)[]): Promise<void> {
      for (const part of parts) {
        stream.push(part)
        await tick()
      }
      await tick()
    },
    /** The bytes written since the last call; all pending writes are ended. */
    async written(): Promise<string[]> {
      while (stream.pending.length > 0) {
        stream.finish()
        await tick()
      }
      const news = stream.written.slice(read)
      read += news.length
      return readMessages(decode(bytes(...news)), new Window())
    }
  }
}

const LARGE_LINE = `${Buffer.byteLength(LARGE)} bytes`

for (const peerTakesOver of [true, false]) {
  const it = (name: string, work: (t: Test, wishes: Wishes) => Promise<void>): void =>
    void t.test(`${name}, takeover ${peerTakesOver}`, t => work(t, { peerTakesOver }))

  it('RFC 7692 section 7.2.2: small messages are delivered immediately, in order with others', async (t, wishes) => {
    const { log, message, push, read } = hold(t, wishes)
    read(true)
    await push(bytes(message('Hello'), text('plain'), ping('p'), message('Hello'), message('')))
    t.strictSame(log.lines, ['message Hello', 'message plain', 'ping p', 'message Hello', 'message '])
  })

  it('RFC 7692 section 6.2: the fragments of a message are inflated together', async (t, wishes) => {
    const { log, push, read } = hold(t, wishes)
    read(true)
    await push(
      frame(1, Buffer.from('f248cd', 'hex'), { rsv: 4, fin: false }),
      ping('between'),
      bytes(frame(0, '', { fin: false }), frame(0, Buffer.from('c9c90700', 'hex'))),
      text('next')
    )
    t.strictSame(log.lines, ['ping between', 'message Hello', 'message next'])
  })

  it('frames behind a large message wait for it, control frames included', async (t, wishes) => {
    const { log, stream, message, push, runs, connection, read } = hold(t, wishes)
    read(true)
    t.equal(!connection.input.paused, true)
    await push(bytes(message('a'), message(LARGE), ping('p'), text('b'), message('c')))
    t.strictSame(log.lines, ['message a'])
    t.equal(!connection.input.paused, false)
    t.equal(stream.isPaused(), true, 'and the peer is slowed down')
    await push(bytes(message(LARGE), text('d')))
    await runs.release(0)
    const first = ['message a', LARGE_LINE, 'ping p', 'message b', 'message c']
    t.strictSame(log.lines, first)
    await runs.release(1)
    t.strictSame(log.lines, [...first, LARGE_LINE, 'message d'])
    t.equal(!connection.input.paused, true)
    t.equal(stream.isPaused(), false)
  })

  it('reading that stops meanwhile keeps the message', async (t, wishes) => {
    const { log, message, push, runs, connection, read } = hold(t, wishes)
    read(true)
    await push(bytes(message(LARGE), text('b')))
    read(false)
    t.equal(!connection.input.paused, false)
    read(true)
    read(false)
    await runs.release(0)
    t.strictSame(log.lines, [])
    read(true)
    await tick()
    t.strictSame(log.lines, [LARGE_LINE, 'message b'])
    t.equal(!connection.input.paused, true)
  })

  it('reading that stops and continues meanwhile changes nothing', async (t, wishes) => {
    const { log, message, push, runs, read } = hold(t, wishes)
    read(true)
    await push(bytes(message(LARGE), text('b')))
    read(false)
    read(true)
    t.strictSame(log.lines, [])
    await runs.release(0)
    t.strictSame(log.lines, [LARGE_LINE, 'message b'])
  })

  it('frames behind an inflated message wait when messages are taken one by one', async (t, wishes) => {
    const { log, message, push, runs, read } = hold(t, wishes)
    log.onMessage = data => {
      log.lines.push(`${data.length}`)
      read(false)
    }
    read(true)
    await push(bytes(message(LARGE), text('b'), message('cc')))
    await runs.release(0)
    const size = `${Buffer.byteLength(LARGE)}`
    t.strictSame(log.lines, [size])
    read(true)
    t.strictSame(log.lines, [size, '1'])
    read(true)
    t.strictSame(log.lines, [size, '1', '2'])
  })

  it("the peer's Close frame behind a message is answered after it", async (t, wishes) => {
    const { connection, log, stream, message, push, runs, written, sender, read } = hold(t, wishes)
    read(true)
    await push(bytes(message(LARGE), ping('p'), close(1001, 'x')))
    t.equal(sender.isOpen, true)
    await runs.release(0)
    t.strictSame(log.lines, [LARGE_LINE, 'ping p'])
    t.equal(connection.closeCode, 1001)
    t.strictSame(await written(), ['pong p', 'close 1001'])
    t.equal(stream.writableEnded, true)
  })

  it("the peer's end behind a message is seen after it", async (t, wishes) => {
    const { log, stream, message, push, runs, read } = hold(t, wishes)
    read(true)
    await push(bytes(message('a'), message(LARGE)))
    await push(text('b'), null)
    t.strictSame(log.lines, ['message a'])
    t.equal(stream.writableEnded, false)
    await runs.release(0)
    await tick()
    t.strictSame(log.lines, ['message a', LARGE_LINE, 'message b', 'end'])
  })

  it("pending messages are delivered before the peer's end, also when the end was read first", async (t, wishes) => {
    const { log, stream, message, push, runs, sender, read } = hold(t, wishes)
    read(true)
    await push(bytes(message(LARGE), text('b')))
    // The stream flows for another reason: its end has arrived during the work in the thread pool.
    stream.push(null)
    stream.resume()
    await nextEvent(stream, 'end')
    t.equal(sender.isOpen, false)
    read(false)
    await runs.release(0)
    t.strictSame(log.lines, [])
    t.equal(stream.writableEnded, false)
    read(true)
    await tick()
    await tick()
    t.strictSame(log.lines, [LARGE_LINE, 'message b', 'end'])
  })

  it('a message is kept for the next consumer when its consumer leaves and the peer ends meanwhile', async (t, wishes) => {
    const { socket, peer } = await connect(t, { deflate: deflateOf({ peerTakesOver }) })
    const runs = new HeldRuns(t)
    const first = (): void => void t.fail('the consumer has left')
    socket.on('message', first)
    peer.send(frame(1, new Window(wishes.peerTakesOver).deflate(LARGE), RSV1))
    while (runs.inputs.length === 0) await tick()
    socket.off('message', first)
    peer.stream.end()
    await runs.release(0)
    await roundTrip(t)
    t.equal(socket.readyState !== socket.CLOSED, true)
    const [data] = await nextEvent<[Buffer]>(socket, 'message')
    t.equal(String(data), LARGE)
    await nextEvent(socket, 'close')
  })

  it('nothing is delivered after the stream was destroyed during the inflation', async (t, wishes) => {
    const { log, message, push, runs, sender, read } = hold(t, wishes)
    read(true)
    await push(bytes(message(LARGE), text('b')))
    sender.cut()
    await tick()
    await runs.release(0)
    t.strictSame(log.lines, ['end'])
    read(false)
    read(true)
    t.strictSame(log.lines, ['end'])
  })

  it('nothing is delivered after a listener has destroyed the stream', async (t, wishes) => {
    const { log, stream, message, push, runs, sender, read } = hold(t, wishes)
    log.onMessage = data => {
      log.lines.push(`${data.length}`)
      sender.cut()
    }
    read(true)
    await push(bytes(message(LARGE), text('b'), ping('p')))
    await runs.release(0)
    t.strictSame(log.lines, [`${Buffer.byteLength(LARGE)}`, 'end'])
    t.strictSame(stream.written, [])
  })

  it('an inflated message without a consumer may be followed by the destruction of the stream', async (t, wishes) => {
    const { log, message, push, runs, sender, read } = hold(t, wishes)
    read(true)
    await push(bytes(message(LARGE), text('b')))
    read(false)
    await runs.release(0)
    sender.cut()
    await tick()
    read(true)
    t.strictSame(log.lines, ['end'])
  })

  it('a message is delivered after this side has closed, and then the Close frame', async (t, wishes) => {
    const { connection, log, message, push, runs, written, lifecycle, read } = hold(t, wishes)
    read(true)
    await push(message(LARGE))
    lifecycle.close(1000)
    await push(close(1000))
    t.strictSame(await written(), ['close 1000'])
    await runs.release(0)
    t.strictSame(log.lines, [LARGE_LINE])
    t.equal(connection.closeCode, 1000)
  })

  it('RFC 7692 section 7.2.2: data that cannot be inflated fails the connection', async (t, wishes) => {
    for (const broken of [
      Buffer.from('ffffff', 'hex'),
      bytes(new Window().deflate(LARGE), [0xff, 0xff, 0xff])
    ]) {
      const { log, stream, message, push, runs, written, sender, read } = hold(t, wishes)
      read(true)
      await push(bytes(message('a'), frame(2, broken, RSV1), text('too late'), ping()))
      if (broken.length > 3) await runs.release(0)
      t.strictSame(log.lines, ['message a', 'fail FST_UPGRADE_INVALID_DEFLATE'])
      t.strictSame(await written(), ['close 1007'])
      t.equal(stream.writableEnded, true)
      t.equal(sender.isOpen, false)
    }
  })

  it('RFC 6455 section 8.1: compressed text that is not UTF-8 fails the connection', async (t, wishes) => {
    for (const plain of [Buffer.from([0x61, 0xff]), bytes(noise(60_000), [0xff])]) {
      const { log, push, runs, written, read } = hold(t, wishes)
      read(true)
      await push(frame(1, new Window().deflate(plain), RSV1))
      if (plain.length > 2) await runs.release(0)
      t.strictSame(log.lines, ['fail FST_UPGRADE_INVALID_UTF8'])
      t.strictSame(await written(), ['close 1007'])
    }
  })

  it('RFC 6455 section 10.4: the limit applies to the inflated message', async (t, wishes) => {
    for (const size of [1001, 200_000]) {
      const { log, push, runs, written, read } = hold(t, wishes, { maxPayload: size - 1 })
      read(true)
      await push(frame(2, new Window().deflate(noise(size)), RSV1))
      if (size > 1001) await runs.release(0)
      t.strictSame(log.lines, ['fail FST_UPGRADE_MESSAGE_TOO_BIG'])
      t.strictSame(await written(), ['close 1009'])
    }
  })

  it('RFC 6455 section 7.1.7: a failure is answered without a consumer', async (t, wishes) => {
    const { log, stream, push, runs, written, read } = hold(t, wishes)
    read(true)
    await push(bytes(frame(2, Buffer.alloc(9000, 0xff), RSV1), text('too late')))
    read(false)
    await runs.release(0)
    t.strictSame(log.lines, ['fail FST_UPGRADE_INVALID_DEFLATE'])
    t.strictSame(await written(), ['close 1007'])
    t.equal(stream.writableEnded, true)
    read(true)
    await tick()
    t.strictSame(log.lines, ['fail FST_UPGRADE_INVALID_DEFLATE'], 'nothing more')
  })

  it('a message is delivered in the context of the connection', async (t, wishes) => {
    const storage = new AsyncLocalStorage<string>()
    const { log, stream, message, runs, read } = storage.run('connection', () => hold(t, wishes))
    const contexts: (string | undefined)[] = []
    log.onMessage = () => void contexts.push(storage.getStore())
    read(true)
    storage.run('other', () => stream.push(bytes(message('a'), message(LARGE), message('b'))))
    await tick()
    await runs.release(0)
    t.strictSame(contexts, ['connection', 'connection', 'connection'])
  })

  it('large and small messages are inflated over sockets', async (t, wishes) => {
    for (const over of ['net', 'tls', 'memory'] as const) {
      const { socket, peer } = await connect(t, { over, deflate: deflateOf({ peerTakesOver }) })
      const got: unknown[] = []
      socket.on('message', (data, isBinary) => got.push(isBinary ? data : data.toString()))
      const closed = closing(socket)
      const window = new Window(wishes.peerTakesOver)
      const expected: unknown[] = []
      for (let i = 0; i < 5; i++) {
        const texts = [words(20, i), words(90_000, i), 'x', LARGE]
        expected.push(...texts, noise(3000, i))
        for (const data of texts) peer.send(frame(1, window.deflate(data), RSV1))
        peer.send(frame(2, window.deflate(noise(3000, i)), RSV1), ping(`${i}`))
      }
      peer.send(close(1000))
      t.equal(await closed, '1000')
      t.strictSame(got, expected, over)
    }
  })
}

t.test('a peer whose message is being inflated does not count as silent', async t => {
  const runs = new HeldRuns(t)
  const heartbeat = { interval: ms(40), timeout: ms(20) }
  const { socket, peer } = await connect(t, { deflate: deflateOf(), heartbeat })
  const message = nextEvent(socket, 'message')
  peer.send(frame(2, new Window().deflate(noise(20_000)), RSV1))
  await peer.until(() => peer.frames.filter(line => line.startsWith('ping')).length > 3, 'pings')
  t.equal(socket.readyState, socket.OPEN)
  await runs.release(0)
  await message
  await roundTrip(t)
})

for (const peerTakesOver of [true, false]) {
  t.test(`nothing is inflated after a failed write, takeover ${peerTakesOver}`, async t => {
    const { log, stream, message, push, runs, read } = hold(t, { peerTakesOver })
    log.onMessage = data => {
      log.lines.push(`message ${data}`)
      // Writes of other connections may fail while a message is delivered, as all write together.
      stream.destroy(new Error('write ECONNRESET'))
    }
    read(true)
    // With one window, two inflations at once would make zlib abort the process.
    await push(bytes(message('go'), message(LARGE), message('small'), message(LARGE), text('plain')))
    t.equal(runs.inputs.length, 0)
    t.strictSame(log.lines, ['message go', 'end'])
  })
}
