import t from 'tap'
import { withDeadline } from '../helpers/timeout.js'
import { close, closing, connect, MIB, nextEvent, roundTrip, text, texts, tick } from './harness.js'

/** Asynchronous listeners that end when the test ends them. */
class Work {
  readonly begun: string[] = []
  readonly #done: (() => void)[] = []

  readonly listener = (data: Buffer): Promise<void> => {
    this.begun.push(String(data))
    return new Promise(resolve => this.#done.push(resolve))
  }

  async finish(count: number): Promise<void> {
    for (const done of this.#done.splice(0, count)) done()
    await tick()
    await tick()
  }
}

t.test(
  'no more messages are read than maxPendingMessages while asynchronous listeners are pending',
  async t => {
    const { socket, peer } = await connect(t, { maxPendingMessages: 3 })
    const work = new Work()
    socket.on('message', work.listener)
    peer.send(...texts(10).map(data => text(data)))
    await roundTrip(t)
    t.strictSame(work.begun, texts(3))
    await work.finish(1)
    t.strictSame(work.begun, texts(4))
    await work.finish(2)
    await roundTrip(t)
    t.strictSame(work.begun, texts(6))
    for (let i = 0; i < 4; i++) await work.finish(3)
    t.strictSame(work.begun, texts(10))
  }
)

t.test('meanwhile TCP slows the peer down', async t => {
  const { socket, peer } = await connect(t, { maxPendingMessages: 1 })
  socket.on('message', new Work().listener)
  const frame = text('x'.repeat(60_000))
  let sent = 0
  while (sent < 64 * MIB && peer.send(frame)) {
    sent += frame.length
    await tick()
  }
  t.ok(sent < 64 * MIB, `${sent} bytes`)
})

t.test('a listener that rejects is no longer pending, and its error is reported', async t => {
  const { socket, peer, errors } = await connect(t, { maxPendingMessages: 1 })
  const seen: string[] = []
  const all = new Promise<void>(resolve => {
    socket.on('message', async data => {
      if (seen.push(String(data)) === 3) resolve()
      throw new Error(`no ${data}`)
    })
  })
  peer.send(...texts(3).map(data => text(data)))
  await withDeadline(all, 15_000, 'all')
  await roundTrip(t)
  t.strictSame(seen, texts(3))
  t.strictSame(errors.map(String), ['Error: no 0', 'Error: no 1', 'Error: no 2'])
})

t.test('listeners without promises, and maxPendingMessages false, do not stop the reading', async t => {
  for (const maxPendingMessages of [1, false] as const) {
    const { socket, peer } = await connect(t, { maxPendingMessages })
    const work = new Work()
    const seen: string[] = []
    if (maxPendingMessages === false) socket.on('message', work.listener)
    socket.on('message', data => void seen.push(String(data)))
    peer.send(...texts(100).map(data => text(data)))
    await roundTrip(t)
    t.strictSame(seen, texts(100))
  }
})

t.test('a closing connection reads to its end, however many listeners are pending', async t => {
  const { socket, peer } = await connect(t, { maxPendingMessages: 1 })
  socket.on('message', new Work().listener)
  peer.send(text('one'), text('two'))
  await roundTrip(t)
  const closed = closing(socket)
  socket.close(1000)
  t.equal(await peer.next(), 'close 1000')
  peer.send(close(1000))
  t.equal(await withDeadline(closed, 5000, 'close'), '1000')
})

t.test('listeners are found and removed as they were added', async t => {
  const { socket, peer } = await connect(t, { maxPendingMessages: 1 })
  const work = new Work()
  socket.on('message', work.listener)
  t.strictSame(socket.listeners('message'), [work.listener])
  socket.off('message', work.listener)
  t.equal(socket.listenerCount('message'), 0)
  socket.once('message', work.listener)
  t.strictSame(socket.listeners('message'), [work.listener])
  socket.off('message', work.listener)
  t.equal(socket.listenerCount('message'), 0)
  socket.once('message', work.listener)
  const message = nextEvent(socket, 'message')
  peer.send(text('one'))
  await message
  t.equal(socket.listenerCount('message'), 0)
  socket.prependListener('message', work.listener)
  socket.removeAllListeners()
  t.equal(socket.listenerCount('message'), 0)
  t.throws(() => Reflect.apply(socket.on, socket, ['message', 'no function']), {
    code: 'ERR_INVALID_ARG_TYPE'
  })
})

t.test('a replaced `emit` receives the messages', async t => {
  const { socket, peer } = await connect(t, { maxPendingMessages: 1 })
  const seen: unknown[][] = []
  const emit = socket.emit
  Object.assign(socket, {
    emit(...args: unknown[]) {
      seen.push(args)
      return Reflect.apply(emit, socket, args)
    }
  })
  const message = nextEvent(socket, 'message')
  peer.send(text('one'))
  await message
  t.strictSame(seen, [['message', Buffer.from('one'), false]])
})

t.test('listeners may be added and removed while a message is delivered', async t => {
  const { socket, peer } = await connect(t)
  const seen: string[] = []
  const late = (data: Buffer): void => void seen.push(`late ${data}`)
  const removed = (data: Buffer): void => void seen.push(`removed ${data}`)
  socket.on('message', data => {
    seen.push(`first ${data}`)
    socket.off('message', removed)
    if (String(data) === '0') socket.on('message', late)
  })
  socket.on('message', removed)
  socket.once('message', data => void seen.push(`once ${data}`))
  peer.send(...texts(2).map(data => text(data)))
  await roundTrip(t)
  t.strictSame(seen, ['first 0', 'removed 0', 'once 0', 'first 1', 'late 1'])
})

t.test('a listener that throws stops the listeners after it, and its error is reported', async t => {
  const { socket, peer, errors } = await connect(t)
  const seen: string[] = []
  socket.on('message', data => {
    if (String(data) === '0') throw new Error(`no ${data}`)
  })
  socket.on('message', data => void seen.push(String(data)))
  peer.send(...texts(2).map(data => text(data)))
  await roundTrip(t)
  t.strictSame(errors.map(String), ['Error: no 0'])
  t.strictSame(seen, ['1'])
})
