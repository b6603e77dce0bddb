import t from 'tap'
import { bytes, decode, frame } from '../protocol/wire.js'
import { close, closing, connect, KINDS, MIB, ping, stalled, text, texts, tick } from './harness.js'
import { make } from './manual.js'
import { deflateOf, words } from './zlib-model.js'

for (const over of KINDS) {
  t.test(`over ${over}: a ping between fragments is answered before the echo of the message`, async t => {
    const { socket, peer } = await connect(t, { over })
    socket.on('message', data => socket.send(String(data)))
    peer.send(ping('1'), text('a', { fin: false }), ping('2'), frame(0, 'b'), ping('3'))
    await peer.until(() => peer.frames.length === 4, 'four frames')
    t.strictSame(peer.frames, ['pong 1', 'pong 2', 'text ab', 'pong 3'])
  })

  t.test(`over ${over}: each of ten pings in one chunk is answered, in order`, async t => {
    const { socket, peer } = await connect(t, { over })
    socket.on('message', () => {})
    peer.send(...texts(10).map(ping))
    await peer.until(() => peer.frames.length === 10, 'ten pongs')
    t.strictSame(peer.frames, texts(10, 'pong '))
  })

  t.test(`over ${over}: a ping is answered before the Close frame of a listener that closes`, async t => {
    const { socket, peer } = await connect(t, { over })
    const closed = closing(socket)
    socket.on('message', () => socket.close(1000))
    peer.send(ping('p'), text('a'), ping('too late'))
    await peer.until(() => peer.frames.length === 2, 'a pong and a Close frame')
    t.strictSame(peer.frames, ['pong p', 'close 1000'])
    peer.send(close(1000))
    t.equal(await closed, '1000')
  })

  t.test(`over ${over}: a peer that pings and does not read causes at most 65 pongs`, async t => {
    const subject = await connect(t, { over, maxBufferedAmount: 64 * MIB })
    const { socket, peer } = subject
    let pings = 0
    socket.on('ping', () => {
      pings++
      peer.emit('news')
    })
    await stalled(subject, 16 * MIB)
    const backlog = socket.bufferedAmount
    const sent = texts(1000, 'x'.repeat(100))
    for (const [i, data] of sent.entries()) {
      peer.send(ping(data))
      // One at a time, a few at a time, then all that remain.
      if (i < 200 || (i < 400 && i % 10 === 0)) await peer.until(() => pings === i + 1, 'the ping')
    }
    await peer.until(() => pings === sent.length, 'all pings')
    t.ok(socket.bufferedAmount > backlog, 'pongs count')
    t.ok(socket.bufferedAmount <= backlog + 64 * 127, `${socket.bufferedAmount - backlog} bytes`)
    t.equal(socket.readyState, socket.OPEN)
    peer.stream.resume()
    const pongs = (): string[] => peer.frames.filter(frame => frame.startsWith('pong'))
    await peer.until(() => pongs().at(-1) === `pong ${sent.at(-1)}`, 'the last pong')
    t.strictSame(
      pongs(),
      [...sent.slice(0, 64), sent.at(-1)].map(data => `pong ${data}`)
    )
    // The peer reads again, and every ping is answered again.
    peer.frames.length = 0
    peer.send(...texts(64).map(ping))
    await peer.until(() => peer.frames.length === 64, 'the pongs')
    t.strictSame(peer.frames, texts(64, 'pong '))
  })
}

t.test('a peer that reads receives an answer to each of 500 pings in one chunk', async t => {
  const { socket, peer } = await connect(t, { over: 'net' })
  socket.on('message', () => {})
  peer.send(...texts(500).map(ping))
  await peer.until(() => peer.frames.length === 500, 'the pongs')
  t.strictSame(peer.frames, texts(500, 'pong '))
})

t.test('pings are answered while more data is always pending', async t => {
  const { stream, send, read } = make(t)
  const pongs = (): number => decode(bytes(...stream.written)).filter(({ opcode }) => opcode === 10).length
  read(true)
  send('first')
  await tick()
  for (let i = 1; i <= 200; i++) {
    stream.push(ping(`${i}`))
    send('more')
    await tick()
    // The oldest write ends while another one is in progress.
    stream.finish()
    await tick()
    t.equal(stream.writableLength > 0, true)
  }
  t.equal(pongs() >= 190, true, `${pongs()} pongs`)
})

t.test('answers to pings behind a message that is being compressed are sent after it', async t => {
  const { socket, peer } = await connect(t, { deflate: deflateOf() })
  socket.on('message', () => socket.send(words(200_000)))
  peer.send(ping('before'), text('a'), ...texts(100).map(ping))
  await peer.until(() => peer.frames.at(-1) === 'pong 99', 'the last pong')
  t.strictSame(
    [peer.frames[0], ...peer.frames.slice(2)],
    ['pong before', ...texts(63, 'pong '), 'pong 99'],
    'the maximum of pending pongs, and the last one'
  )
  t.equal(peer.raw[1]?.opcode, 1)
})
