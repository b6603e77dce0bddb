import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import t, { type Test } from 'tap'
import { ByteStream, ignoreErrors } from '../../lib/socket/byte-stream.js'
import { bytes } from '../protocol/wire.js'
import { KINDS, type Kind, MIB, type Peer, roundTrip, streamOf, watchProcess } from './harness.js'
import { ManualStream } from './manual.js'

/** A stream without a WebSocket, and the events of its owner. */
async function own(t: Test, over: Kind, lead = '') {
  const { stream, peer } = await streamOf(t, over)
  const chunks: Buffer[] = []
  const soles = new Set<boolean>()
  const lines: string[] = []
  stream.pause()
  if (lead !== '') stream.unshift(Buffer.from(lead))
  new ByteStream(stream).start({
    onChunk: (chunk, isSole) => {
      chunks.push(chunk)
      soles.add(isSole)
    },
    onStreamEnd: () => void lines.push('end'),
    onStreamClose: () => void lines.push('close')
  })
  const text = (): string => bytes(...chunks).toString()
  const until = async (length: number): Promise<void> => {
    while (text().length < length) await roundTrip(t, over)
  }
  return { stream, peer, chunks, soles, lines, text, until }
}

/** Counts the chunks that left the stream's own queue. */
function countQueued(stream: Duplex): () => number {
  let count = 0
  stream.on('data', () => count++)
  return () => count
}

const write = (peer: Peer, data: string): boolean => peer.stream.write(data)

for (const over of KINDS) {
  t.test(`over ${over}: nothing is delivered before the stream flows, then everything in order`, async t => {
    const { stream, peer, chunks, lines, text, until } = await own(t, over, 'head ')
    write(peer, 'one ')
    await roundTrip(t, over)
    t.strictSame(chunks, [])
    stream.resume()
    write(peer, 'two ')
    await until(13)
    t.equal(text(), 'head one two ')
    peer.stream.end('three')
    await once(stream, 'end')
    t.equal(text(), 'head one two three')
    t.strictSame(lines, ['end'])
    const closed = once(stream, 'close')
    stream.destroy()
    await closed
    t.strictSame(lines, ['end', 'close'])
  })

  t.test(`over ${over}: repeated pause and resume neither loses nor repeats data`, async t => {
    const { stream, peer, text } = await own(t, over)
    let sent = ''
    for (let i = 0; i < 30; i++) {
      const part = `${i} `.repeat(i * 40)
      sent += part
      write(peer, part)
      if (i % 3 === 0) stream.pause()
      if (i % 3 === 2) stream.resume()
      if (i % 5 === 0) await roundTrip(t, over)
    }
    peer.stream.end()
    stream.resume()
    await once(stream, 'end')
    t.equal(text(), sent)
  })

  t.test(`over ${over}: a paused stream takes no more than its buffer holds`, async t => {
    const { stream, peer, text, until } = await own(t, over)
    stream.resume()
    write(peer, 'a')
    await until(1)
    t.equal(text(), 'a')
    stream.pause()
    while (peer.stream.write(Buffer.alloc(MIB, 'x')));
    await roundTrip(t, over)
    t.equal(text(), 'a', 'nothing is delivered')
    t.ok(stream.readableLength <= MIB, `${stream.readableLength} bytes`)
  })
}

t.test(
  'chunks of a flowing socket bypass its queue, and those of a paused socket pass through it',
  async t => {
    const { stream, peer, soles, text, until } = await own(t, 'net')
    const queued = countQueued(stream)
    stream.pause()
    stream.resume()
    write(peer, 'flowing')
    await until(7)
    t.equal(queued(), 0)
    t.strictSame([...soles], [true], 'no other listener gets the chunk')
    soles.clear()
    stream.pause()
    write(peer, ' paused')
    await roundTrip(t, 'net')
    t.equal(text(), 'flowing')
    stream.resume()
    await until(14)
    const before = queued()
    t.ok(before > 0)
    t.strictSame([...soles], [false], 'other listeners may have the chunk')
    write(peer, ' again')
    await until(20)
    t.equal(queued(), before)
    t.equal(text(), 'flowing paused again')
  }
)

for (const over of ['memory', 'tls'] as const)
  t.test(`over ${over}: all chunks pass through the queue`, async t => {
    const { stream, peer, soles, text, until } = await own(t, over)
    const queued = countQueued(stream)
    stream.pause()
    stream.resume()
    write(peer, 'flowing')
    await until(7)
    t.equal(text(), 'flowing')
    t.equal(queued(), 1)
    t.strictSame([...soles], [false])
  })

t.test('where Node does not call the own push of a socket, all chunks pass through its queue', async t => {
  const { stream, peer, text, until } = await own(t, 'net')
  Reflect.deleteProperty(stream, 'push')
  const queued = countQueued(stream)
  stream.resume()
  write(peer, 'flowing')
  await until(7)
  t.ok(queued() > 0)
  stream.pause()
  write(peer, ' paused')
  await roundTrip(t, 'net')
  t.equal(text(), 'flowing')
  stream.resume()
  await until(14)
  t.equal(text(), 'flowing paused')
})

t.test('an error of the stream is never thrown, with or without a listener', async t => {
  const uncaught = watchProcess(t)
  const stream = new ManualStream()
  ignoreErrors(stream)
  ignoreErrors(stream)
  t.equal(stream.listenerCount('error'), 1, 'once')
  const closed = new Promise(resolve => stream.once('close', resolve))
  stream.destroy(new Error('reset'))
  await closed
  t.strictSame(uncaught, [])
})
