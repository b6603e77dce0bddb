import { AsyncLocalStorage } from 'node:async_hooks'
import t, { type Test } from 'tap'
import { prepare } from '../../lib/socket/prepared-message.js'
import { ms } from '../helpers/timeout.js'
import { bytes, decode } from '../protocol/wire.js'
import {
  Calls,
  close,
  closing,
  connect,
  NOT_OPEN,
  nextEvent,
  type Options,
  roundTrip,
  spyOnWrites,
  tick,
  watchProcess
} from './harness.js'
import { make } from './manual.js'
import { deflateOf, HeldRuns, readMessages, show, Window, type Wishes, words } from './zlib-model.js'

const LARGE = words(50_000)
const LARGER = words(300_000, 2)

/** A transport whose thread pool and writes the test controls. */
function hold(t: Test, wishes: Wishes = {}, options: Options = {}) {
  const runs = new HeldRuns(t)
  const made = make(t, ms(10_000), { deflate: deflateOf(wishes), ...options })
  const { stream, note, sender } = made
  const window = new Window(wishes.takesOver)
  let read = 0
  return {
    ...made,
    runs,
    /** Sends with a callback of that name. */
    send(name: string, data: string, fin = true): void {
      sender.send(data, { fin: fin }, undefined)
      sender.flushSoon(note(name))
    },
    /** The bytes written since the last call. */
    written(): string[] {
      const news = stream.written.slice(read)
      read += news.length
      return readMessages(decode(bytes(...news)), window)
    },
    /** Ends the pending writes. */
    async finish(): Promise<void> {
      while (stream.pending.length > 0) {
        stream.finish()
        await tick()
      }
    }
  }
}

for (const takesOver of [true, false]) {
  t.test(
    `callbacks wait for their frames, and each runs once and in order, takeover ${takesOver}`,
    async t => {
      const { log, send, written, finish, runs } = hold(t, { takesOver })
      for (const [name, data] of [
        ['a', 'a'],
        ['b', LARGE],
        ['c', 'c'],
        ['d', LARGER],
        ['e', 'e']
      ]) {
        send(name, data)
      }
      await tick()
      t.equal(written().length, 1)
      t.strictSame(log.lines, [], 'not before the write')
      await finish()
      t.strictSame(log.lines, ['a'])
      await runs.release(0)
      t.equal(written().length, takesOver ? 1 : 2)
      t.strictSame(log.lines, ['a'], 'not before the write')
      await finish()
      if (takesOver) {
        t.strictSame(log.lines, ['a', 'b'])
        await runs.release(1)
        await finish()
        t.equal(written().length, 1)
      }
      t.strictSame(log.lines, ['a', 'b', 'c'])
      send('f', 'f')
      await tick()
      t.strictSame(written(), [])
      if (takesOver) for (const i of [2, 3, 4]) await runs.release(i)
      else await runs.release(1)
      await finish()
      t.equal(written().length, 3)
      t.strictSame(log.lines, ['a', 'b', 'c', 'd', 'e', 'f'])
      send('g', 'g')
      await tick()
      await finish()
      t.strictSame(log.lines, ['a', 'b', 'c', 'd', 'e', 'f', 'g'])
    }
  )

  t.test(`a gap may close and another may open before the flush, takeover ${takesOver}`, async t => {
    const { log, send, written, finish, runs } = hold(t, { takesOver })
    send('a', LARGE)
    await tick()
    const released = runs.release(0)
    send('b', LARGER)
    send('c', 'c')
    await released
    await finish()
    t.strictSame(written(), [`text ${show(LARGE, true)}`])
    t.strictSame(log.lines, ['a'])
    await runs.release(1)
    if (takesOver) await runs.release(2)
    await finish()
    t.strictSame(written(), [`text ${show(LARGER, true)}`, takesOver ? 'text z c' : 'text c'])
    t.strictSame(log.lines, ['a', 'b', 'c'])
  })

  t.test(
    `terminate during work in the thread pool calls all callbacks once, takeover ${takesOver}`,
    async t => {
      const { log, send, stream, runs, sender } = hold(t, { takesOver })
      send('a', 'a')
      await tick()
      send('b', LARGE)
      send('c', 'c')
      send('d', LARGER)
      sender.cut()
      await tick()
      const expected = ['a', 'b', 'c', 'd'].map(name => `${name} ${NOT_OPEN}`)
      t.strictSame(log.lines, [...expected, 'end'])
      const writes = stream.written.length
      await runs.release(0)
      if (!takesOver) await runs.release(1)
      t.strictSame(log.lines, [...expected, 'end'], 'nothing follows')
      t.equal(stream.written.length, writes)
      t.equal(sender.bufferedAmount >= 0, true)
    }
  )

  t.test(
    `close during work in the thread pool sends the Close frame last, takeover ${takesOver}`,
    async t => {
      const { log, send, stream, written, finish, runs, sender, lifecycle, read } = hold(t, { takesOver })
      read(true)
      send('a', LARGE)
      lifecycle.close(1000)
      t.equal(sender.isOpen, false)
      await tick()
      // RFC 6455 section 7.1.1 requires the server to end TCP now, but its own Close frame is not sent yet.
      stream.push(close(1000))
      await tick()
      await tick()
      t.strictSame(stream.written, [])
      t.equal(stream.writableEnded, false)
      await runs.release(0)
      t.equal(stream.writableEnded, true)
      await finish()
      t.strictSame(written(), [`text ${show(LARGE, true)}`, 'close 1000'])
      stream.push(null)
      await tick()
      await tick()
      t.strictSame(log.lines, ['a', 'end'])
    }
  )

  t.test(
    `the peer's Close frame during work in the thread pool is answered after pending messages, takeover ${takesOver}`,
    async t => {
      const { connection, log, send, stream, written, finish, runs, read } = hold(t, { takesOver })
      read(true)
      send('a', LARGE)
      send('b', 'b')
      stream.push(close(1001))
      await tick()
      await tick()
      t.equal(stream.writableEnded, false)
      t.strictSame(log.lines, [])
      t.equal(connection.closeCode, 1001)
      await runs.release(0)
      if (takesOver) await runs.release(1)
      t.equal(stream.writableEnded, true)
      await finish()
      t.strictSame(written(), [`text ${show(LARGE, true)}`, takesOver ? 'text z b' : 'text b', 'close 1001'])
      t.strictSame(log.lines, ['a', 'b'])
    }
  )

  t.test(
    `a violation of the peer during work in the thread pool closes after pending messages, takeover ${takesOver}`,
    async t => {
      const { log, send, stream, written, finish, runs, read } = hold(t, { takesOver })
      read(true)
      send('a', LARGE)
      stream.push(Buffer.from([0x83, 0x80]))
      await tick()
      await tick()
      t.equal(stream.writableEnded, false)
      await runs.release(0)
      t.equal(stream.writableEnded, true)
      await finish()
      t.strictSame(written(), [`text ${show(LARGE, true)}`, 'close 1002'])
      t.strictSame(log.lines, ['fail FST_UPGRADE_INVALID_OPCODE', 'a'])
    }
  )

  t.test(
    `messages sent before the peer's end still leave after their compression, takeover ${takesOver}`,
    async t => {
      const { log, send, stream, written, finish, runs, sender, read } = hold(t, { takesOver })
      read(true)
      send('a', LARGE)
      send('b', 'b')
      stream.push(null)
      await tick()
      await tick()
      t.equal(sender.isOpen, false)
      await runs.release(0)
      if (takesOver) await runs.release(1)
      await finish()
      t.strictSame(written(), [`text ${show(LARGE, true)}`, takesOver ? 'text z b' : 'text b'])
      t.equal(stream.writableEnded, true)
      await tick()
      t.strictSame(log.lines, ['a', 'b', 'end'])
    }
  )

  t.test(
    `a failed job is reported in the context of the connection, which is cut, takeover ${takesOver}`,
    async t => {
      const storage = new AsyncLocalStorage<string>()
      const { log, runs, note, sender } = storage.run('connection', () => hold(t, { takesOver }))
      const contexts: (string | undefined)[] = []
      log.onCallbackError = error => {
        contexts.push(storage.getStore())
        log.lines.push(`failed ${error}`)
      }
      storage.run('sender', () => {
        sender.send(LARGE, { fin: true }, undefined)
        sender.flushSoon(note('a'))
      })
      await tick()
      await runs.release(0, new Error('no memory'))
      t.strictSame(log.lines, ['failed Error: no memory', `a ${NOT_OPEN}`, 'end'])
      t.strictSame(contexts, ['connection'])
    }
  )
}

t.test('a job that fails after the connection has ended is not reported', async t => {
  const { log, runs, send, sender } = hold(t)
  send('a', LARGE)
  sender.cut()
  await tick()
  await runs.release(0, new Error('no memory'))
  t.strictSame(log.lines, [`a ${NOT_OPEN}`, 'end'])
})

t.test('a gap and the frames behind it count as buffered', async t => {
  const { send, finish, runs, sender } = hold(t)
  send('a', LARGE)
  t.equal(sender.bufferedAmount, 50_000)
  send('b', 'b')
  t.equal(sender.bufferedAmount, 50_003)
  await tick()
  t.equal(sender.bufferedAmount, 50_003)
  await runs.release(0)
  t.ok(sender.bufferedAmount < 30_000 && sender.bufferedAmount > 1000)
  await finish()
  t.equal(sender.bufferedAmount, 0)
})

t.test('compressed and prepared messages, pings and the close arrive in order over sockets', async t => {
  for (const over of ['net', 'tls', 'memory'] as const) {
    for (const takesOver of [true, false]) {
      const { socket, peer, errors } = await connect(t, { over, deflate: deflateOf({ takesOver }) })
      t.equal(socket.extensions, 'permessage-deflate')
      const calls = new Calls()
      const closed = closing(socket)
      const ready = prepare(LARGE)
      const window = new Window(takesOver)
      for (let i = 0; i < 3; i++) {
        socket.send(LARGER, calls.note('larger'))
        socket.ping(`${i}`, false, calls.note('ping'))
        socket.send('plain', { compress: false }, calls.note('plain'))
        socket.send(ready, calls.note('ready'))
        socket.send('Hel', { fin: false }, calls.note('Hel'))
        socket.send('lo', { fin: true }, calls.note('lo'))
      }
      socket.close(1000)
      await peer.until(() => peer.raw.some(({ opcode }) => opcode === 8), 'a Close frame')
      const round = [
        `text ${show(LARGER, true)}`,
        'text plain',
        `text ${show(LARGE, true)}`,
        'text in 2 z Hello'
      ]
      const [first, ...others] = round
      const expected = [0, 1, 2].flatMap(i => [first, `ping ${i}`, ...others])
      t.strictSame(readMessages(peer.raw, window), [...expected, 'close 1000'], over)
      peer.send(close(1000))
      t.equal(await closed, '1000')
      t.strictSame(
        calls.lines,
        [0, 1, 2].flatMap(() => ['larger', 'ping', 'plain', 'ready', 'Hel', 'lo'])
      )
      t.strictSame(errors, [])
    }
  }
})

t.test('terminate during pending compressions causes no uncaught exception', async t => {
  const uncaught = watchProcess(t)
  for (const takesOver of [true, false]) {
    const { socket, stream, errors } = await connect(t, { deflate: deflateOf({ takesOver }) })
    const writes = spyOnWrites(stream)
    const calls = new Calls()
    for (let i = 0; i < 20; i++) socket.send(LARGER, calls.note(`${i}`))
    const closed = nextEvent(socket, 'close')
    socket.terminate()
    await closed
    await roundTrip(t)
    t.strictSame(
      calls.lines,
      Array.from({ length: 20 }, (_, i) => `${i} ${NOT_OPEN}`)
    )
    t.equal(writes.length, 0)
    t.strictSame(errors, [])
  }
  t.strictSame(uncaught, [])
})
