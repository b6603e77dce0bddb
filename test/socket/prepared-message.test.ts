import t from 'tap'
import { BufferBudget } from '../../lib/limits/buffer-budget.js'
import { PreparedMessage, prepare } from '../../lib/socket/prepared-message.js'
import { withDeadline } from '../helpers/timeout.js'
import { bytes, decode, describe, KEY } from '../protocol/wire.js'
import {
  Calls,
  closing,
  connect,
  extensionOf,
  MIB,
  NOT_OPEN,
  nextEvent,
  ping,
  texts,
  tick
} from './harness.js'
import { deflateOf, HeldRuns, noise, readMessages, show, Window, words } from './zlib-model.js'

const maskingKey = (): number => Buffer.from(KEY).readUInt32BE()
const LARGE = words(50_000)

t.test('a prepared string is text and other data is binary, unless the option says otherwise', t => {
  const view = new DataView(new Uint8Array([0, 1, 2, 3]).buffer, 1, 2)
  const cases: [Parameters<typeof prepare>, string][] = [
    [['é'], '8102c3a9'],
    [[12], '81023132'],
    [[''], '8100'],
    [[Buffer.from([1, 2])], '82020102'],
    [[view], '82020102'],
    [[new Uint8Array([1, 2]).buffer], '82020102'],
    [['é', { binary: true }], '8202c3a9'],
    [[Buffer.from('a'), { binary: false }], '810161'],
    [['a', {}], '810161']
  ]
  for (const [args, frame] of cases) {
    const message = prepare(...args)
    t.ok(message instanceof PreparedMessage)
    t.equal(message.frame.toString('hex'), frame)
    t.equal(message.frame, message.frame, 'made once')
    t.equal(message.size, (frame.length - 4) / 2)
  }
  t.equal(prepare('a').compress, true)
  t.equal(prepare('a', { compress: false }).compress, false)
  t.throws(() => prepare(Object(null)), { code: 'FST_UPGRADE_INVALID_DATA' })
  t.end()
})

t.test(
  'bytes that are not UTF-8 cannot be sent as text, for which each peer would close its connection',
  t => {
    for (const data of [
      Buffer.from([0xc3]),
      new Uint8Array([0x61, 0xff]),
      new DataView(new Uint8Array([0xed, 0xa0, 0x80]).buffer)
    ]) {
      t.throws(() => prepare(data, { binary: false }), { code: 'FST_UPGRADE_INVALID_TEXT' })
      t.equal(prepare(data).isBinary, true)
    }
    t.equal(prepare(Buffer.from('é\0'), { binary: false }).isBinary, false)
    t.equal(
      prepare('\ud800').frame.toString('hex'),
      '8103efbfbd',
      'characters that UTF-8 cannot encode become U+FFFD'
    )
    t.end()
  }
)

t.test('the data may be changed afterwards', t => {
  for (const size of [10, 5000]) {
    const data = Buffer.alloc(size, 1)
    const message = prepare(data)
    data.fill(2)
    t.ok(message.frame.subarray(-size).equals(Buffer.alloc(size, 1)))
  }
  t.end()
})

t.test('a small message is compressed once for each set of settings', t => {
  const message = prepare('Hello Hello Hello')
  const [one, other] = [6, 0].map(level => {
    const deflate = deflateOf()
    return extensionOf('server', { ...deflate, settings: { ...deflate.settings, level } }).compressor
  })
  const frame = message.compressedFrame(one)
  t.notOk(frame instanceof Promise)
  t.equal(message.compressedFrame(one), frame)
  t.equal(message.compressedFrame(other), message.frame, 'stored, it would be longer')
  const [{ rsv, opcode, payload }] = decode(bytes(frame instanceof Promise ? '' : frame))
  t.strictSame([rsv, opcode, String(new Window().inflate(payload))], [4, 1, 'Hello Hello Hello'])
  t.not(bytes(payload).subarray(-4).toString('hex'), '0000ffff', 'RFC 7692 section 7.2.1: without its tail')
  const even = prepare('hello hello')
  t.equal(even.compressedFrame(one), even.frame, 'not without reason')
  t.end()
})

t.test(
  'a large message is compressed once for several sockets, including those that join during the compression',
  async t => {
    const runs = new HeldRuns(t)
    const subjects = await Promise.all(texts(3).map(() => connect(t, { deflate: deflateOf() })))
    const [first, second, third] = subjects
    const message = prepare(LARGE)
    const noisy = prepare(noise(50_000))
    for (const { socket } of [first, second]) {
      socket.send(message)
      socket.send('next')
      socket.send(noisy)
      socket.send('last')
    }
    await runs.release(0)
    await runs.release(1)
    t.equal(runs.inputs.length, 2)
    third.socket.send(message)
    third.socket.send('next')
    third.socket.send(noisy)
    third.socket.send('last')
    for (const { peer } of subjects) await peer.until(() => peer.frames.includes('text last'), 'all')
    t.equal(runs.inputs.length, 2, 'once')
    for (const { peer } of subjects) {
      const [one, next, two, last] = readMessages(peer.raw, new Window())
      t.strictSame([one, next, last], [`text ${show(LARGE, true)}`, 'text next', 'text last'])
      t.match(two, show(noise(50_000), false))
    }
    t.equal(third.peer.raw[2].rsv, 0, 'known not to become smaller')
  }
)

t.test('a failed compression is retried for the next socket', async t => {
  const runs = new HeldRuns(t)
  const { compressor } = extensionOf('server', deflateOf())
  const message = prepare(LARGE)
  const failed = Promise.resolve(message.compressedFrame(compressor)).catch(String)
  await runs.release(0, new Error('no memory'))
  t.equal(await failed, 'Error: no memory')
  const again = Promise.resolve(message.compressedFrame(compressor)).catch(String)
  await tick()
  if (runs.inputs.length > 1) await runs.release(1)
  t.type(await again, Buffer)
})

const MATRIX = [
  { role: 'server', deflate: undefined },
  { role: 'server', deflate: deflateOf() },
  { role: 'server', deflate: deflateOf({ takesOver: true }) },
  { role: 'client', deflate: undefined },
  { role: 'client', deflate: deflateOf({ role: 'client' }) },
  { role: 'client', deflate: deflateOf({ role: 'client', takesOver: true }) }
] as const

for (const { role, deflate } of MATRIX) {
  const takesOver =
    deflate !== undefined && !deflate.parameters[`${role}NoContextTakeover`] && deflate !== undefined
  const how = deflate === undefined ? 'uncompressed' : `compressed, takeover ${takesOver}`
  t.test(`a ${role} sends a prepared message among others, ${how}`, async t => {
    const masking = role === 'client' ? { maskingKey } : {}
    const { socket, peer } = await connect(t, { role, deflate, ...masking })
    const small = 'small '.repeat(5)
    const messages = [
      prepare(small),
      prepare(LARGE),
      prepare(Buffer.from(LARGE)),
      prepare(small, { compress: false }),
      prepare(small)
    ]
    for (const message of messages) {
      socket.send(message)
      socket.ping('p')
    }
    socket.send('be', { fin: false })
    socket.send(prepare(small))
    socket.send('twe', { fin: false })
    socket.send(prepare(LARGE))
    socket.send('en')
    socket.send('last', { compress: false })
    await peer.until(() => peer.frames.includes('text last'), 'all')
    const compressed = deflate !== undefined
    t.strictSame(readMessages(peer.raw, new Window(takesOver)), [
      `text ${show(small, compressed)}`,
      'ping p',
      `text ${show(LARGE, compressed)}`,
      'ping p',
      `binary ${show(LARGE, compressed)}`,
      'ping p',
      `text ${show(small, false)}`,
      'ping p',
      `text ${show(small, compressed)}`,
      'ping p',
      `text in 3 ${show('between', compressed)}`,
      `text ${show(small, compressed)}`,
      `text ${show(LARGE, compressed)}`,
      'text last'
    ])
    t.ok(
      peer.raw.every(({ key }) => (key !== undefined) === (role === 'client')),
      'RFC 6455 section 5.1: clients mask prepared messages'
    )
  })
}

t.test('below the threshold a prepared message is sent uncompressed', async t => {
  const { socket, peer } = await connect(t, { deflate: deflateOf({ threshold: 31 }) })
  socket.send(prepare('a'.repeat(30)))
  socket.send(prepare('a'.repeat(31)))
  await peer.until(() => peer.raw.length === 2, 'both')
  t.strictSame(
    peer.raw.map(({ rsv }) => rsv),
    [0, 4]
  )
  t.match(describe(peer.raw[0]), /^text (61){30}$/)
})

t.test(
  'a message that is queued until a fragmented message ends counts as buffered, and its callback is pending, too',
  async t => {
    const { socket, peer } = await connect(t)
    const calls = new Calls()
    socket.send('a', { fin: false }, calls.note('a'))
    const { bufferedAmount } = socket
    socket.send(prepare('held'), calls.note('held'))
    t.equal(socket.bufferedAmount, bufferedAmount + 6, 'with its header')
    t.equal(await peer.next(), 'text more a')
    await tick()
    t.strictSame(calls.lines, ['a'])
    t.equal(socket.bufferedAmount, 6)
    t.equal(socket.traffic.messagesSent, 0)
    socket.send('b', calls.note('b'))
    t.strictSame([await peer.next(), await peer.next()], ['continuation b', 'text held'])
    await tick()
    t.strictSame(calls.lines, ['a', 'b', 'held'])
    t.equal(socket.bufferedAmount, 0)
    t.equal(socket.traffic.messagesSent, 2)
  }
)

t.test('a connection may end before the fragmented message does', async t => {
  for (const end of ['close', 'terminate'] as const) {
    const { socket } = await connect(t, { closeTimeout: 20 })
    const calls = new Calls()
    const closed = closing(socket)
    socket.on('close', () => calls.note('close')())
    socket.send('a', { fin: false })
    socket.send(prepare('held'), calls.note('held'))
    socket.send(prepare('held'))
    socket[end]()
    await closed
    await tick()
    t.strictSame(calls.lines, [`held ${NOT_OPEN}`, 'close'], end)
    t.equal(socket.bufferedAmount, 0)
  }
})

t.test(
  'sending fragments does not wait for the messages that are queued until the last fragment',
  async t => {
    const { socket, peer } = await connect(t, { highWaterMark: 500 })
    socket.send('a', { fin: false })
    socket.send(prepare('x'.repeat(400)))
    socket.send(prepare('x'.repeat(400)))
    await withDeadline(socket.drained(), 5000, 'drained')
    t.equal(socket.send('b', { fin: false }), true)
    const drained = nextEvent(socket, 'drain')
    t.equal(socket.send('c'.repeat(600), { fin: false }), false)
    await drained
    t.equal(socket.send('d'), false, 'now they wait for the peer')
    await withDeadline(socket.drained(), 5000, 'drained')
    await peer.until(() => peer.raw.length === 6, 'all')
    t.equal(socket.bufferedAmount, 0)
  }
)

t.test(
  'drop: messages queued behind a fragmented message do not get a peer that pings disconnected',
  async t => {
    const settings = { backpressure: 'drop', maxBufferedAmount: 1000, highWaterMark: 500 } as const
    const { socket, peer } = await connect(t, settings)
    socket.readAlways()
    socket.send('a', { fin: false })
    socket.send(prepare('x'.repeat(990)))
    t.equal(await peer.next(), 'text more a')
    peer.send(ping('x'.repeat(100)))
    t.match(await peer.next(), /^pong/)
    t.equal(socket.send(prepare('x'.repeat(990))), false, 'no more than the limit')
    socket.send('b')
    t.strictSame([await peer.next(), await peer.next()], ['continuation b', `text ${'x'.repeat(990)}`])
  }
)

t.test('messages queued behind a fragmented message are released from the shared budget', async t => {
  const budget = new BufferBudget(MIB)
  for (const end of ['send', 'close', 'terminate'] as const) {
    const { socket } = await connect(t, { budget, highWaterMark: 1000, closeTimeout: 20 })
    socket.send('a', { fin: false })
    socket.send(prepare('x'.repeat(100_000)))
    t.ok(budget.used > 100_000)
    if (end === 'send') {
      socket.send('b')
      await withDeadline(socket.drained(), 5000, 'drained')
    } else {
      const closed = closing(socket)
      socket[end]()
      await closed
    }
    t.equal(budget.used, 0, end)
  }
})

t.test('a fragmented message that is never finished queues no more than maxBufferedAmount', async t => {
  const { socket } = await connect(t, { maxBufferedAmount: 1000, highWaterMark: 500 })
  const reason = new Promise<unknown>(resolve => socket.on('close', (_code, _text, why) => resolve(why)))
  socket.send('a', { fin: false })
  const message = prepare('x'.repeat(400))
  t.strictSame([socket.send(message), socket.send(message), socket.send(message)], [true, true, false])
  t.match(await reason, { code: 'FST_UPGRADE_BUFFER_OVERFLOW' })
  const { socket: other } = await connect(t, { maxBufferedAmount: 1000 })
  other.send('a', { fin: false })
  const empty = prepare('')
  let sent = 0
  while (sent < 1000 && other.send(empty)) sent++
  t.ok(sent < 500, 'empty messages count, too')
})

t.test(
  'the rest of a dropped message stays dropped, although prepared messages are sent meanwhile',
  async t => {
    const { socket, stream, peer } = await connect(t, { backpressure: 'drop', maxBufferedAmount: 1000 })
    stream.cork()
    socket.send('z'.repeat(500))
    t.equal(socket.send('x'.repeat(2000), { fin: false }), false)
    t.equal(socket.send(prepare('to many')), true)
    t.equal(socket.send(prepare('y'.repeat(2000))), false)
    t.equal(socket.send('the rest'), false)
    t.equal(socket.send('last'), true)
    stream.uncork()
    await peer.until(() => peer.frames.length === 3, 'three messages')
    t.strictSame(peer.frames.slice(1), ['text to many', 'text last'])
    t.equal(socket.dropped, 2)
  }
)
