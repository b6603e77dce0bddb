import t, { type Test } from 'tap'
import { ZlibStream } from '../../lib/compression/zlib-stream.js'
import { prepare } from '../../lib/socket/prepared-message.js'
import { withDeadline } from '../helpers/timeout.js'
import { bytes, decode, describe } from '../protocol/wire.js'
import { tick } from './harness.js'
import { make as makeConnection } from './manual.js'
import { deflateOf, HeldRuns, noise, readMessages, show, Window, type Wishes, words } from './zlib-model.js'

/** A connection with compression, and the frames that it has sent. */
function make(t: Test, wishes: Wishes = {}) {
  const { role = 'server', takesOver = false } = wishes
  const { stream, log, connection, sender } = makeConnection(t, undefined, {
    role,
    deflate: deflateOf(wishes),
    ...(role === 'client' && { maskingKey: () => 0xdeadbeef })
  })
  const window = new Window(takesOver)
  let taken = 0
  /** The bytes that were sent since the last call, written or not. */
  const sent = (): Buffer => {
    while (stream.pending.length > 0) stream.finish()
    const written = stream.written.slice(taken)
    taken = stream.written.length
    return bytes(...written, ...connection.dataToSend())
  }
  const read = (): string[] => readMessages(decode(sent()), window)
  const hex = (): string => sent().toString('hex')
  const allFilled = async (): Promise<void> => {
    const wait = async (): Promise<void> => {
      while (connection.output.gaps > 0) await tick()
    }
    await withDeadline(wait(), 10_000, 'all compressed')
  }
  const send = (data: string | Uint8Array, { fin = true, compress = true, isBinary = false } = {}): void =>
    void sender.send(data, { binary: isBinary, fin, compress }, undefined)
  return { connection, sender, log, send, sent, read, hex, allFilled }
}

const LARGE = words(50_000)
const LARGER = words(300_000, 2)

t.test('RFC 7692 section 7.2.3.2: RSV1 marks a compressed message', t => {
  const { send, hex } = make(t, { takesOver: true })
  send('Hello')
  t.equal(hex(), 'c107f248cdc9c90700')
  send(Buffer.from('Hello'), { isBinary: true })
  t.equal(hex(), 'c205f200110000')
  send('')
  t.equal(hex(), 'c10100')
  t.end()
})

t.test('RFC 6455 section 5.3: a client masks compressed data', async t => {
  const { send, sent, allFilled } = make(t, { role: 'client', takesOver: true })
  send('Hello')
  t.equal(sent().toString('hex'), 'c187deadbeef2ce5732617aabe')
  send(LARGE)
  await allFilled()
  const [frame] = decode(sent())
  t.strictSame([frame.rsv, frame.key], [4, [0xde, 0xad, 0xbe, 0xef]])
  const window = new Window()
  window.inflate(Buffer.from('f248cdc9c90700', 'hex'))
  t.equal(String(window.inflate(frame.payload)), LARGE)
})

t.test('without takeover a message that does not become smaller is sent uncompressed', t => {
  const { send, hex, read } = make(t)
  send('Hello')
  t.equal(hex(), '810548656c6c6f', 'seven bytes compressed')
  send('hello hello')
  t.equal(hex(), '810b68656c6c6f2068656c6c6f', 'as many characters compressed')
  send(Buffer.from('abcdefg'), { isBinary: true })
  t.equal(hex(), '820761626364656667')
  send(noise(20_000).toString('latin1').slice(0, 5000), { isBinary: true })
  send(noise(20_000), { isBinary: true })
  send('')
  t.strictSame(
    read().map(line => line.split(' ').slice(0, 2)),
    [
      ['binary', 'z'],
      ['binary', '20000'],
      ['text', '']
    ]
  )
  t.end()
})

t.test('with takeover such a message is sent compressed, as the windows must not diverge', t => {
  const { send, read } = make(t, { takesOver: true })
  const data = noise(20_000)
  send(data, { isBinary: true })
  send(data, { isBinary: true })
  t.strictSame(read(), Array(2).fill(`binary ${show(data, true)}`))
  t.end()
})

t.test('a message below the threshold is sent uncompressed, unless messages refer to earlier ones', t => {
  for (const takesOver of [true, false]) {
    const { send, read } = make(t, { threshold: 10, takesOver })
    for (const length of [0, 9, 10, 11]) send('a'.repeat(length))
    send('é'.repeat(5))
    t.strictSame(
      read().map(line => line.split(' ')[1] === 'z'),
      takesOver ? [true, true, true, true, true] : [false, false, true, true, true],
      'bytes count, not characters'
    )
  }
  t.end()
})

t.test('a message with compress: false is sent uncompressed', t => {
  for (const takesOver of [true, false]) {
    const { send, read } = make(t, { takesOver })
    const data = 'a'.repeat(30)
    for (const compress of [true, false, true, false, true]) send(data, { compress })
    t.strictSame(read(), [
      `text z ${data}`,
      `text ${data}`,
      `text z ${data}`,
      `text ${data}`,
      `text z ${data}`
    ])
  }
  t.end()
})

t.test('RFC 7692 section 6.1: the first fragment decides for its message, and no threshold applies', t => {
  for (const takesOver of [true, false]) {
    const { connection, send, read } = make(t, { takesOver, threshold: 1000 })
    send('a', { fin: false })
    send('b', { fin: false, compress: false })
    connection.ping('between')
    send('', { fin: false })
    send('c', { compress: false })
    send('a', { fin: false, compress: false })
    connection.ping('again')
    send('b'.repeat(2000), { fin: false })
    send('c')
    send('', { fin: false })
    send('')
    send('d', { compress: false })
    const last = `${'a'}${'b'.repeat(2000)}c`
    t.strictSame(read(), [
      'ping between',
      'text in 4 z abc',
      'ping again',
      `text in 3 ${show(last, false)}`,
      'text in 2 z ',
      'text d'
    ])
  }
  t.end()
})

t.test('RFC 7692 section 7.2.1: large fragments, small ones and control frames stay in order', async t => {
  for (const takesOver of [true, false]) {
    for (const role of ['server', 'client'] as const) {
      const { connection, send, read, allFilled } = make(t, { takesOver, role })
      send(LARGE, { fin: false })
      connection.ping('p')
      send('small', { fin: false })
      t.equal(connection.output.sendsFragments, true)
      send(LARGER)
      t.equal(connection.output.sendsFragments, false)
      send('next')
      t.equal(connection.output.gaps, takesOver ? 4 : 2, 'one per promise')
      await allFilled()
      t.strictSame(read(), [
        'ping p',
        `text in 3 ${show(`${LARGE}small${LARGER}`, true)}`,
        takesOver ? 'text z next' : 'text next'
      ])
    }
  }
})

t.test('all kinds of frames alternate, and the peer receives them in order', async t => {
  for (const takesOver of [true, false]) {
    for (const role of ['server', 'client'] as const) {
      const { connection, sender, send, read, allFilled } = make(t, { takesOver, role, threshold: 50 })
      const expected: string[] = []
      const small = 'x'.repeat(60)
      for (let i = 0; i < 3; i++) {
        send(LARGE)
        send(`small ${i}`, { compress: false })
        connection.ping(`ping ${i}`)
        send(Buffer.from(LARGER), { isBinary: true })
        send(small)
        connection.pong(`${i}`)
        if (role === 'server') sender.send(prepare(LARGE), undefined, undefined)
        else send(LARGE)
        expected.push(
          `text ${show(LARGE, true)}`,
          `text small ${i}`,
          `ping ping ${i}`,
          `binary ${show(LARGER, true)}`,
          `text ${show(small, true)}`,
          `pong ${i}`,
          `text ${show(LARGE, true)}`
        )
      }
      connection.close(1000)
      await allFilled()
      t.strictSame(read(), [...expected, 'close 1000'], `${role}, takeover ${takesOver}`)
      t.equal(connection.output.size, 0)
    }
  }
})

t.test(
  'without takeover messages may finish compression in any order, and leave in the order of the calls',
  async t => {
    const runs = new HeldRuns(t)
    const { connection, send, read } = make(t)
    send('before')
    for (const data of [LARGE, LARGER, LARGE]) send(data)
    send('behind')
    t.equal(connection.output.gaps, 3)
    t.ok(connection.output.size > LARGE.length * 2 + LARGER.length, 'they count as buffered')
    await Promise.resolve()
    t.strictSame(
      runs.inputs.map(input => input.length),
      [50_000, 300_000, 50_000]
    )
    t.strictSame(read(), ['text before'])
    await runs.release(1)
    await runs.release(2)
    t.strictSame(read(), [])
    t.equal(connection.output.gaps, 3, 'the first holds the others back')
    await runs.release(0)
    t.strictSame(read(), [LARGE, LARGER, LARGE].map(data => `text ${show(data, true)}`).concat('text behind'))
    t.equal(connection.output.gaps, 0)
    t.equal(connection.output.size, 0)
  }
)

t.test('with takeover the compression of a message begins after the previous one has finished', async t => {
  const runs = new HeldRuns(t)
  const { connection, send, read } = make(t, { takesOver: true })
  send(LARGE)
  send('small')
  send('plain', { compress: false })
  send(LARGER)
  await runs.release(0)
  t.strictSame(runs.inputs.map(String), [LARGE, 'small'])
  t.strictSame(read(), [`text ${show(LARGE, true)}`])
  await runs.release(1)
  t.strictSame(read(), ['text z small', 'text plain'])
  send('last')
  await runs.release(2)
  await runs.release(3)
  t.strictSame(read(), [`text ${show(LARGER, true)}`, 'text z last'])
  t.equal(connection.output.gaps, 0)
})

t.test('a failed compression is reported', async t => {
  for (const takesOver of [true, false]) {
    t.intercept(ZlibStream.prototype, 'run', { value: () => Promise.reject(new Error('no memory')) })
    const { send, sender, log } = make(t, { takesOver })
    send(LARGE)
    sender.send(prepare(LARGER), undefined, undefined)
    await new Promise(setImmediate)
    t.strictSame(log.lines, ['callback Error: no memory', 'end'])
  }
})

t.test('RFC 7692 section 7.2.1: fragments have the expected bytes on the wire', t => {
  const { send, sent } = make(t, { takesOver: true })
  send('Hel', { fin: false })
  send('lo')
  t.strictSame(decode(sent()).map(describe), ['text rsv 4 more f248cd01000000ffff', 'continuation cac90700'])
  t.end()
})
