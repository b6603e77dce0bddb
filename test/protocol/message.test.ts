import t from 'tap'
import { Message } from '../../lib/protocol/message.js'
import { setTransfer } from '../helpers/transfer.js'
import { hex } from './wire.js'

/** The memory that a message holds. */
function memory(message: Message): number {
  return message.take().buffer.byteLength
}

t.test('RFC 6455 section 5.4: a message consists of its pieces in order', t => {
  const message = new Message(true)
  t.equal(message.isBinary, true)
  t.equal(message.length, 0)
  t.ok(message.append(hex('00ff'), 1, false))
  t.ok(message.append(hex('80'), 0, false))
  t.ok(message.append(hex(''), 0, false))
  t.ok(message.append(hex('c0c1'), 0, true))
  t.equal(message.length, 5)
  t.ok(message.isComplete(), 'binary data may have any bytes')
  t.equal(message.take().toString('hex'), '00ff80c0c1')
  t.end()
})

t.test('RFC 6455 section 5.4: a message of empty fragments is empty and takes no memory', t => {
  const message = new Message(false)
  for (let i = 0; i < 100_000; i++) message.append(hex(''), 0, i === 99_999)
  t.ok(message.isComplete())
  t.equal(message.take().length, 0)
  t.equal(memory(message), 0)
  t.end()
})

t.test('RFC 6455 section 5.4: the pieces are copied, so that their memory can be freed', t => {
  const message = new Message(true)
  const piece = hex('010203')
  message.append(piece, 0, true)
  piece.fill(0)
  t.equal(message.take().toString('hex'), '010203')
  t.end()
})

t.test('RFC 6455 section 8.1: text is checked across its pieces', t => {
  const message = new Message(false)
  t.equal(message.isBinary, false)
  t.ok(message.append(hex('61e2'), 0, false))
  t.notOk(message.isComplete())
  t.ok(message.append(hex('98'), 0, false))
  t.notOk(message.isComplete())
  t.ok(message.append(hex('82'), 0, true))
  t.ok(message.isComplete())
  t.equal(message.take().toString(), 'a☂')
  t.end()
})

t.test('RFC 6455 section 8.1: an invalid piece is refused and not kept', t => {
  const message = new Message(false)
  t.ok(message.append(hex('61e2'), 0, false))
  t.notOk(message.append(hex('61'), 0, true))
  t.equal(message.length, 2)
  t.end()
})

t.test(
  'RFC 6455 section 10.4: memory grows with the bytes that arrived, not with the announced length',
  t => {
    for (const last of [false, true]) {
      const message = new Message(true)
      message.append(Buffer.alloc(1), 2 ** 30 - 1, last)
      t.ok(memory(message) <= 1024, 'after one byte of 1 GiB')
      message.append(Buffer.alloc(10_000), 2 ** 30 - 10_001, last)
      t.ok(memory(message) <= 4 * 10_001, 'after 10 001 bytes of 1 GiB')
    }
    t.end()
  }
)

t.test('RFC 6455 section 10.4: the last frame uses no more memory than it announced', t => {
  const message = new Message(true)
  message.append(Buffer.alloc(3), 2, true)
  t.equal(memory(message), 5)
  message.append(Buffer.alloc(2), 0, true)
  t.equal(memory(message), 5)
  t.end()
})

t.test('RFC 6455 section 10.4: tiny fragments do not each cause a copy of the message', t => {
  const message = new Message(true)
  const buffers = new Set<ArrayBufferLike>()
  for (let i = 0; i < 100_000; i++) {
    message.append(Buffer.from([i % 251]), 0, false)
    buffers.add(message.take().buffer)
  }
  t.ok(buffers.size <= 8, `${buffers.size} buffers`)
  t.ok(memory(message) <= 2 * 100_000 + 1024)
  t.ok(message.take().every((byte, i) => byte === i % 251))
  t.end()
})

t.test('RFC 6455 section 10.4: fragments that announce four times their data cause no further copies', t => {
  const message = new Message(true)
  const buffers = new Set<ArrayBufferLike>()
  for (let i = 0; i < 20_000; i++) {
    message.append(Buffer.from([1]), 2, false)
    message.append(Buffer.from([2, 3]), 0, false)
    buffers.add(message.take().buffer)
  }
  t.ok(buffers.size <= 8, `${buffers.size} buffers`)
  t.equal(message.take().subarray(-3).toString('hex'), '010203')
  t.end()
})

t.test('large pieces are copied once, when the message is complete', t => {
  const message = new Message(true)
  const pieces = [1, 2, 3].map(byte => Buffer.alloc(65_536, byte))
  for (const piece of pieces) message.append(piece, 2 ** 20, true)
  t.equal(message.capacity, 3 * 65_536, 'no memory of its own')
  t.equal(message.length, 3 * 65_536)
  t.ok(message.take().equals(Buffer.concat(pieces)))
  t.end()
})

t.test('small and large pieces stay in order', t => {
  const message = new Message(false)
  const large = 'L'.repeat(5000)
  for (const piece of ['a', 'b', large, 'c', large, large, 'd']) message.append(Buffer.from(piece), 0, false)
  t.equal(String(message.take()), `ab${large}c${large}${large}d`)
  t.equal(message.length, 4 + 3 * 5000)
  t.end()
})

t.test('a large piece is copied when it is a small part of its chunk', t => {
  const message = new Message(true)
  const chunk = Buffer.alloc(65_536, 1)
  message.append(chunk.subarray(0, 5000), 0, false)
  t.ok(message.capacity <= 4 * 5000, `${message.capacity} bytes`)
  t.not(message.take().buffer, chunk.buffer)
  t.end()
})

t.test('RFC 6455 section 10.4: the memory of a message is at most twice that of its pieces', t => {
  const message = new Message(true)
  const chunk = (): Buffer => Buffer.alloc(8192)
  for (let i = 0; i < 100; i++) {
    message.append(chunk().subarray(0, 4096), 0, false)
    message.append(Buffer.alloc(1), 0, false)
  }
  t.ok(message.capacity <= 2 * message.length + 100 * 1024, `${message.capacity} bytes for ${message.length}`)
  t.end()
})

t.test('a buffer that reaches its final size at once takes all pieces', t => {
  const message = new Message(true)
  message.append(Buffer.alloc(40_000, 1), 60_000, true)
  t.equal(message.capacity, 100_000)
  message.append(Buffer.alloc(60_000, 2), 0, true)
  t.equal(message.capacity, 100_000)
  t.ok(message.take().equals(Buffer.concat([Buffer.alloc(40_000, 1), Buffer.alloc(60_000, 2)])))
  t.end()
})

const chunks = (): Buffer[] => [1, 2, 3, 4].map(byte => Buffer.alloc(65_536, byte))

t.test('chunks that nothing else uses are freed once the message is complete', t => {
  setTransfer(t, true)
  const message = new Message(true)
  const pieces = chunks()
  for (const piece of pieces) message.append(piece, 2 ** 20, true, true)
  const expected = Buffer.concat(chunks())
  t.ok(message.take().equals(expected))
  t.strictSame(
    pieces.map(({ length }) => length),
    [0, 0, 0, 65_536],
    'the last one is still being parsed'
  )
  t.end()
})

t.test('chunks that something else may use stay', t => {
  setTransfer(t, true)
  for (const [name, isSole, cut] of [
    ['other listeners of the stream', [true, false, true, true], 0],
    ['other frames in the chunk', [true, true, true, true], 1]
  ] as const) {
    const message = new Message(true)
    const pieces = chunks()
    for (const [i, piece] of pieces.entries()) message.append(piece.subarray(cut), 2 ** 20, true, isSole[i])
    t.ok(message.take().equals(Buffer.concat(chunks().map(chunk => chunk.subarray(cut)))), name)
    t.ok(Buffer.concat(pieces).equals(Buffer.concat(chunks())), name)
  }
  t.end()
})

t.test('without the method `transfer`, chunks are left to the garbage collection', t => {
  setTransfer(t, false)
  const message = new Message(true)
  const pieces = chunks()
  for (const piece of pieces) message.append(piece, 2 ** 20, true, true)
  t.ok(message.take().equals(Buffer.concat(pieces)))
  t.end()
})

t.test('a buffer that something else may use stays, also when later pieces are the only use of theirs', t => {
  setTransfer(t, true)
  const [first = Buffer.alloc(0), ...others] = chunks()
  const message = new Message(true, false, first)
  message.append(first, 0, false, false)
  for (const piece of others) message.append(piece, 2 ** 20, true, true)
  t.ok(message.take().equals(Buffer.concat(chunks())))
  t.equal(first.length, 65_536)
  t.end()
})
