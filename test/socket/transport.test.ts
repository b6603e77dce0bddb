import { AsyncLocalStorage } from 'node:async_hooks'
import t from 'tap'
import { deadlinesAfter } from '../../lib/limits/deadline.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import { bytes, decode } from '../protocol/wire.js'
import {
  close,
  connect,
  KINDS,
  nextEvent,
  ping,
  roundTrip,
  spyOnWrites,
  text,
  texts,
  tick
} from './harness.js'

import { connectionOn, Log, ManualStream, make } from './manual.js'

const payloads = (data: Buffer): string[] => decode(data).map(({ payload }) => String(payload))

t.test('all frames of a tick leave in one write, in order, small and large', async t => {
  const { stream, send } = make(t)
  const large = 'x'.repeat(5000)
  send('a')
  send(large)
  send('b')
  await Promise.resolve()
  send('c')
  t.equal(stream.written.length, 0, 'not before the end of the tick')
  await tick()
  t.strictSame(stream.written.map(payloads), [['a', large, 'b', 'c']])
  send('d')
  await tick()
  stream.finish()
  t.strictSame(stream.written.slice(1).map(payloads), [['d']])
})

t.test('the bytes of many connections are not mixed', async t => {
  const all = texts(20).map(() => make(t))
  for (const round of ['1', '2', '3']) for (const [i, { send }] of all.entries()) send(`${i} ${round}`)
  await tick()
  for (const [i, { stream }] of all.entries()) {
    t.strictSame(stream.written.map(payloads), [[`${i} 1`, `${i} 2`, `${i} 3`]])
  }
})

t.test('messages that listeners send leave together after all readable sockets have been read', async t => {
  const { stream, log, send, read } = make(t)
  log.onMessage = data => send(`re ${data}`)
  read(true)
  stream.push(bytes(text('a'), ping('p'), text('b')))
  stream.push(text('c'))
  await nextEvent(stream, 'data')
  await new Promise(setImmediate)
  t.strictSame(payloads(stream.written[0] ?? Buffer.alloc(0)).sort(), ['p', 're a', 're b', 're c'])
  t.equal(stream.written.length, 1)
})

t.test('a stopped stream delivers one more chunk and is paused then', async t => {
  const { stream, log, read } = make(t)
  read(true)
  stream.push(text('a'))
  await nextEvent(stream, 'data')
  read(false)
  stream.push(text('b'))
  await tick()
  t.equal(stream.isPaused(), true)
  stream.push(text('c'))
  await tick()
  t.equal(stream.readableLength, text('c').length)
  t.strictSame(log.lines, ['message a'])
  read(true)
  t.strictSame(log.lines, ['message a', 'message b'], 'pending messages are delivered immediately')
  await tick()
  t.strictSame(log.lines, ['message a', 'message b', 'message c'])
})

t.test('no more is read while messages are pending and are taken one by one', async t => {
  const { stream, log, read } = make(t)
  log.onMessage = data => {
    log.lines.push(`message ${data}`)
    read(false)
  }
  read(true)
  stream.push(bytes(text('a'), text('b'), text('c'), text('d')))
  await tick()
  const large = Buffer.alloc(20_000)
  while (stream.push(large));
  const waiting = stream.readableLength
  for (const _ of 'bcd') {
    read(true)
    await tick()
    t.equal(stream.readableLength, waiting)
  }
  t.strictSame(log.lines, ['message a', 'message b', 'message c', 'message d'])
})

t.test('nothing more is delivered after terminate', async t => {
  const { stream, log, sender, read } = make(t)
  log.onMessage = data => {
    log.lines.push(`message ${data}`)
    sender.cut()
    read(false)
    read(true)
  }
  read(true)
  stream.push(bytes(text('a'), text('b'), ping('c'), close(1000)))
  await tick()
  await tick()
  t.strictSame(log.lines, ['message a', 'end'])
})

t.test('the deadline is set once, at the beginning of the end', async t => {
  const closeTimeout = ms(60) + 0.25
  for (const begin of ['close', 'peer close', 'waiting peer close', 'violation', 'end'] as const) {
    const { stream, log, send, lifecycle, read } = make(t, closeTimeout)
    // Never written, so the stream cannot end by itself.
    send('backlog')
    await tick()
    read(begin !== 'waiting peer close')
    if (begin === 'close') lifecycle.close(1000)
    else if (begin === 'violation') stream.push(text('x', { rsv: 1 }))
    else if (begin === 'end') stream.push(null)
    else stream.push(close(1000))
    if (begin === 'waiting peer close') {
      // The chunk has arrived, and its Close frame is not parsed yet.
      read(true)
      read(false)
      await tick()
      t.equal(deadlinesAfter(closeTimeout).size, 0)
      read(true)
    }
    await tick()
    t.equal(deadlinesAfter(closeTimeout).size, 1, begin)
    const since = performance.now()
    await new Promise(resolve => setTimeout(resolve, ms(30)))
    // A second reason does not move the deadline.
    lifecycle.close(1001)
    if (!stream.readableEnded) stream.push(null)
    stream.resume()
    await withDeadline(
      new Promise<void>(resolve => {
        log.onEnd = () => resolve()
      }),
      5000,
      'end'
    )
    t.ok(performance.now() - since < closeTimeout + ms(25), `${begin}: no longer than the deadline`)
    t.equal(deadlinesAfter(closeTimeout).size, 0)
  }
})

t.test('a stream may have ended or closed before the WebSocket was created', async t => {
  for (const gone of ['ended', 'closed', 'destroyed'] as const) {
    const stream = new ManualStream({ autoDestroy: gone !== 'ended' })
    const log = new Log()
    stream.on('error', () => {})
    if (gone === 'ended') {
      stream.push(null)
      stream.resume()
      await nextEvent(stream, 'end')
    } else stream.destroy(new Error('reset'))
    if (gone === 'closed') await tick()
    const { consumers, sender } = connectionOn(stream, log, { closeTimeout: ms(10_000) })
    consumers.readAlways()
    await tick()
    t.equal(sender.isOpen, false, gone)
    if (gone === 'ended') {
      t.ok(stream.writableEnded, 'this side ends, too')
      stream.destroy()
      await tick()
    }
    t.strictSame(log.lines, ['end'], gone)
  }
})

t.test('an error of the stream is never thrown, however late it is', async t => {
  const { stream, log } = make(t)
  stream.destroy(new Error('reset'))
  await tick()
  stream.emit('error', new Error('late'))
  t.strictSame(log.lines, ['end'])
})

t.test('all events are emitted in the async context in which the connection was created', async t => {
  const storage = new AsyncLocalStorage<string>()
  const seen: string[] = []
  const see = (what: string) => (): void => void seen.push(`${what} ${storage.getStore()}`)
  const stream = new ManualStream()
  const log = new Log()
  Object.assign(log, {
    onMessage: see('message'),
    onPing: see('ping'),
    onPong: see('pong'),
    onCallbackError: see('thrown'),
    onEnd: see('end')
  })
  const { connection, sender, consumers } = storage.run('own', () => connectionOn(stream, log))
  const send = (callback: () => void): void => {
    connection.output.send('x', false)
    sender.flushSoon(callback)
  }
  storage.run('other', () => {
    consumers.wanted()
    send(see('callback'))
    stream.push(bytes(text('a'), ping()))
  })
  await tick()
  storage.run('other', () => stream.finish())
  await tick()
  storage.run('other', () => {
    send(see('late'))
    sender.cut()
    sender.send('x', undefined, see('refused'))
    sender.send('x', undefined, () => {
      throw new Error('thrown')
    })
  })
  await tick()
  t.strictSame(
    seen.sort(),
    ['refused', 'thrown', 'message', 'ping', 'callback', 'late', 'end'].map(what => `${what} own`).sort()
  )
})

for (const over of KINDS) {
  t.test(`over ${over}: a burst reaches the stream as one write`, async t => {
    const { socket, stream, peer } = await connect(t, { over })
    const writes = spyOnWrites(stream)
    const data = [...texts(100, 'small '), 'x'.repeat(100_000), ...texts(100, 'more ')]
    for (const one of data) socket.send(one)
    await peer.until(() => peer.frames.length === data.length, 'all')
    t.strictSame(
      peer.frames,
      data.map(one => `text ${one}`)
    )
    // The in-memory pair takes one buffer at a time.
    if (over !== 'memory') t.equal(writes.length, 1)
  })
}

t.test('a client masks its frames, and waits for the server to end TCP', async t => {
  const { socket, peer } = await connect(t, { role: 'client', maskingKey: () => 0x01020304 })
  socket.on('message', data => socket.send(`re ${data}`))
  peer.send(text('a', { key: null }))
  t.equal(await peer.next(), 'text re a')
  t.strictSame(peer.raw[0]?.key, [1, 2, 3, 4])
  const closed = nextEvent(socket, 'close')
  socket.close(1000)
  t.equal(await peer.next(), 'close 1000')
  peer.send(bytes([0x88, 2, 3, 232]))
  await roundTrip(t)
  t.equal(peer.ended, false)
  t.equal(socket.readyState, socket.CLOSING)
  peer.stream.end()
  t.strictSame(await closed, [1000, Buffer.alloc(0)])
})
