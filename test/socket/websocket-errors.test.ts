import { AsyncLocalStorage } from 'node:async_hooks'
import t from 'tap'
import { ms } from '../helpers/timeout.js'
import {
  binary,
  close,
  closing,
  connect,
  connectWs,
  KINDS,
  nextEvent,
  ping,
  pong,
  roundTrip,
  text,
  tick,
  watchProcess
} from './harness.js'

const VIOLATIONS = [
  ['UNMASKED_FRAME', text('x', { key: null }), 'close 1002 frame not masked'],
  ['RESERVED_BITS', text('x', { rsv: 4 }), 'close 1002 reserved bits set'],
  ['INVALID_UTF8', text('x', {}).fill(0xff, 6), 'close 1007 text not UTF-8'],
  ['MESSAGE_TOO_BIG', binary(Buffer.alloc(1001)), 'close 1009 message too big'],
  ['INVALID_CLOSE_CODE', close(1006), 'close 1002 invalid close code']
] as const

for (const [code, wire, answer] of VIOLATIONS) {
  t.test(
    `${code}: earlier messages are delivered, then the error; the Close frame leaves, and TCP ends`,
    async t => {
      const { socket, peer, errors } = await connect(t, { maxPayload: 1000 })
      const order: unknown[] = []
      socket.on('message', data => order.push(String(data)))
      socket.on('error', error => order.push(Reflect.get(error, 'code'), socket.readyState))
      socket.on('close', (closeCode, reason) => order.push(closeCode, String(reason), socket.readyState))
      const closed = closing(socket)
      peer.send(text('good'), wire, text('behind'))
      t.equal(await peer.next(), answer)
      await peer.end()
      await closed
      t.strictSame(order, ['good', `FST_UPGRADE_${code}`, 2, 1006, '', 3])
      t.strictSame(errors, [])
      t.strictSame(peer.frames, [])
    }
  )
}

for (const over of KINDS) {
  t.test(`over ${over}: a violation without an error listener is not thrown`, async t => {
    const uncaught = watchProcess(t)
    const { socket, peer, errors } = await connect(t, { over })
    socket.readAlways()
    const closed = closing(socket)
    peer.send(text('x', { rsv: 1 }))
    t.equal(await peer.next(), 'close 1002 reserved bits set')
    await peer.end()
    t.equal(await closed, '1006')
    t.strictSame(errors, [])
    t.strictSame(uncaught, [])
  })
}

t.test('a violation behind pending messages is answered after them', async t => {
  const { socket, peer } = await connect(t, { lingers: true, closeTimeout: ms(50) })
  const failed = nextEvent(socket, 'error')
  const closed = closing(socket)
  peer.send(text('a'), text('x', { rsv: 1 }))
  const iterator = socket[Symbol.asyncIterator]()
  t.equal((await iterator.next()).value, 'a')
  await roundTrip(t)
  t.strictSame(peer.frames, [])
  t.strictSame(await iterator.next(), { done: true, value: undefined })
  t.equal(await peer.next(), 'close 1002 reserved bits set')
  t.match(await failed, [{ code: 'FST_UPGRADE_RESERVED_BITS' }])
  t.equal(await closed, '1006')
})

t.test('a violation after this side has closed is still an error', async t => {
  const { socket, peer } = await connect(t)
  const failed = nextEvent(socket, 'error')
  const closed = closing(socket)
  socket.close(1000)
  peer.send(text('x', { rsv: 1 }))
  t.match(await failed, [{ code: 'FST_UPGRADE_RESERVED_BITS' }])
  t.equal(await closed, '1006')
  t.strictSame(peer.frames, ['close 1000'])
})

t.test('after a violation the connection waits for the end, even when a listener pauses', async t => {
  const { socket, peer } = await connect(t, { lingers: true })
  socket.on('error', () => socket.pause())
  socket.readAlways()
  const closed = closing(socket)
  peer.send(text('x', { rsv: 1 }))
  t.equal(await peer.next(), 'close 1002 reserved bits set')
  await peer.end()
  for (let i = 0; i < 3; i++) {
    peer.send(binary(Buffer.alloc(100_000)))
    await roundTrip(t)
  }
  t.equal(socket.readyState, socket.CLOSING)
  peer.stream.end()
  t.equal(await closed, '1006')
})

t.test('an error listener may terminate or close', async t => {
  for (const method of ['terminate', 'close'] as const) {
    const { socket, peer } = await connect(t)
    socket.on('error', () => socket[method]())
    socket.readAlways()
    const closed = closing(socket)
    peer.send(text('x', { rsv: 1 }))
    t.equal(await closed, '1006')
    await peer.end()
    t.strictSame(peer.frames, method === 'close' ? ['close 1002 reserved bits set'] : [])
  }
})

const broken = new Error('broken')
const KINDS_OF_FAILURE = {
  throws: () => {
    throw broken
  },
  rejects: async () => {
    await tick()
    throw broken
  }
}

for (const [name, fail] of Object.entries(KINDS_OF_FAILURE)) {
  t.test(
    `a listener that fails (${name}) is reported to onError for every event, and the connection continues`,
    async t => {
      const uncaught = watchProcess(t)
      const { socket, stream, peer, errors } = await connect(t, {
        highWaterMark: 10,
        maxBufferedAmount: 1000
      })
      const closed = closing(socket)
      for (const event of ['message', 'ping', 'pong', 'drain', 'close', 'error'] as const) {
        socket.on(event, fail as () => void)
      }
      peer.send(text('a'), ping('p'), pong('q'), text('b'))
      t.equal(await peer.next(), 'pong p')
      socket.send('x'.repeat(20))
      await peer.next()
      await roundTrip(t)
      await tick()
      t.equal(errors.length, 5, 'two messages, ping, pong, drain')
      stream.cork()
      socket.send('x'.repeat(1000))
      socket.send('x'.repeat(1000))
      t.equal(await closed, '1006')
      await roundTrip(t)
      t.equal(errors.length, 7, 'error and close')
      t.ok(errors.every(error => error === broken))
      t.strictSame(uncaught, [])
    }
  )
}

t.test('a listener that returns a thenable which throws', async t => {
  const { socket, peer, errors } = await connect(t)
  const hostile = Object.defineProperty({}, 'then', {
    get() {
      throw broken
    }
  })
  socket.on('message', () => hostile)
  peer.send(text('a'), ping('p'))
  t.equal(await peer.next(), 'pong p')
  t.strictSame(errors, [broken])
})

t.test('a failing listener does not stop the delivery of later frames of the same chunk', async t => {
  const { socket, peer, errors } = await connect(t)
  const got: string[] = []
  socket.on('message', data => {
    got.push(String(data))
    throw broken
  })
  const closed = closing(socket)
  peer.send(text('a'), text('b'), ping('p'), close(1000))
  t.equal(await closed, '1000')
  t.strictSame(got, ['a', 'b'])
  t.strictSame(errors, [broken, broken])
  t.strictSame(peer.frames, ['pong p', 'close 1000'])
})

t.test('listeners run in the async context in which the WebSocket was created', async t => {
  const storage = new AsyncLocalStorage<string>()
  const seen: string[] = []
  const see =
    (what: string): (() => void) =>
    () =>
      void seen.push(`${what} ${storage.getStore()}`)
  const { socket, stream, peer } = await storage.run('own', () =>
    connect(t, { highWaterMark: 10, maxBufferedAmount: 1000 })
  )
  const closed = closing(socket)
  await storage.run('other', async () => {
    for (const event of ['message', 'ping', 'pong', 'drain', 'error', 'close'] as const)
      socket.on(event, see(event))
    socket.onmessage = see('attribute')
    peer.send(ping(), pong(), text('a'))
    await peer.next()
    socket.pause()
    peer.send(text('b'))
    await roundTrip(t)
    socket.resume()
    await nextEvent(socket, 'message')
    socket.send('x'.repeat(20), see('callback'))
    await nextEvent(socket, 'drain')
    stream.cork()
    socket.send('x'.repeat(1000), see('cut callback'))
    socket.send('x'.repeat(1000))
    socket.send('x', see('refused callback'))
  })
  await closed
  await tick()
  t.strictSame([...new Set(seen)].sort(), [
    'attribute own',
    'callback own',
    'close own',
    'cut callback own',
    'drain own',
    'error own',
    'message own',
    'ping own',
    'pong own',
    'refused callback own'
  ])
})

t.test('many misbehaving peers affect neither the process nor each other', async t => {
  const uncaught = watchProcess(t)
  const all = await Promise.all(Array.from({ length: 40 }, () => connect(t)))
  const results = all.map(async ({ socket, peer }, i) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
    const closed = closing(socket)
    peer.send(text(`${i}`))
    t.equal(await peer.next(), `text ${i}`)
    if (i % 4 === 0) peer.reset()
    else if (i % 4 === 1) peer.stream.end()
    else peer.send(i % 4 === 2 ? text('x', { rsv: 1 }) : close(1000))
    return closed
  })
  const codes = await Promise.all(results)
  t.ok(codes.every((code, i) => code === (i % 4 === 3 ? '1000' : '1006')))
  t.strictSame(uncaught, [])
})

t.test('a client of ws sees the code of a violation', async t => {
  const { socket, client } = await connectWs(t, { maxPayload: 10 })
  socket.readAlways()
  const closed = nextEvent(client, 'close')
  client.send('more than ten')
  t.strictSame(await closed, [1009, Buffer.from('message too big')])
})
