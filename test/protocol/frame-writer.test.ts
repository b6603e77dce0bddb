import t from 'tap'
import { FrameWriter } from '../../lib/protocol/frame-writer.js'
import { bytes, decode, describe, frame, hex, KEY, randomNumbers } from './wire.js'

const TEXT = 0x81
const BINARY = 0x82
const unmasked = { key: null }
const masks = (): number => Buffer.from(KEY).readUInt32BE()

t.test('a new writer has nothing pending', t => {
  const writer = new FrameWriter()
  t.equal(writer.size, 0)
  t.strictSame(writer.take(), [])
  t.end()
})

t.test('RFC 6455 section 5.1: a server writes frames without a mask, and a client with a mask', t => {
  for (const length of [0, 1, 125, 126, 4095, 4096, 5000, 65_535, 65_536, 100_000]) {
    for (const payload of ['x'.repeat(length), Buffer.alloc(length, 0x9e)]) {
      for (const key of [null, KEY]) {
        const writer = new FrameWriter(key === null ? undefined : masks)
        const expected = frame(1, bytes(payload), { key })
        writer.write(TEXT, payload)
        t.equal(writer.size, expected.length)
        t.ok(bytes(...writer.take()).equals(expected), `${length} bytes, ${typeof payload}, key ${key}`)
        t.equal(writer.size, 0)
        t.strictSame(writer.take(), [])
      }
    }
  }
  t.end()
})

t.test('text is counted and written in UTF-8', t => {
  const texts = ['é'.repeat(100), '☂'.repeat(2000), '𝄞', 'a\u0000b']
  const writer = new FrameWriter()
  for (const text of texts) writer.write(TEXT, text)
  const expected = bytes(...texts.map(text => frame(1, text, unmasked)))
  t.equal(writer.size, expected.length)
  t.strictSame(bytes(...writer.take()), expected)
  t.end()
})

t.test('RFC 6455 section 5.6: a lone surrogate is written as U+FFFD', t => {
  const writer = new FrameWriter()
  writer.write(TEXT, 'a\ud800')
  writer.write(TEXT, `${'a'.repeat(4096)}\udc00`)
  t.strictSame(
    decode(bytes(...writer.take())).map(one => one.payload.subarray(-4).toString('hex')),
    ['61efbfbd', '61efbfbd']
  )
  t.end()
})

t.test('only the bytes of a view are written, not the memory around it', t => {
  const around = new Uint8Array(10_000).fill(0xee)
  const small = around.subarray(10, 13).fill(1)
  const large = around.subarray(1000, 6000).fill(2)
  const buffer = Buffer.from(around.buffer, 7000, 5).fill(3)
  for (const key of [null, KEY]) {
    const writer = new FrameWriter(key === null ? undefined : masks)
    for (const payload of [small, large, buffer]) writer.write(BINARY, payload)
    const expected = [small, large, buffer].map(payload => frame(2, payload, { key }))
    t.ok(bytes(...writer.take()).equals(bytes(...expected)))
  }
  t.end()
})

t.test('RFC 6455 section 5.3: masking does not change the data of the application', t => {
  const writer = new FrameWriter(masks)
  const payloads = [Buffer.alloc(10, 1), Buffer.alloc(5000, 1), new Uint8Array(5000).fill(1)]
  for (const payload of payloads) writer.write(BINARY, payload)
  t.ok(payloads.every(payload => payload.every(byte => byte === 1)))
  t.end()
})

t.test('RFC 6455 section 10.3: every frame has a new masking key', t => {
  let calls = 0
  const writer = new FrameWriter(() => 0x80000000 + calls++)
  for (const payload of ['', 'a', 'b'.repeat(5000), 'c']) writer.write(TEXT, payload)
  t.equal(calls, 4)
  const frames = decode(bytes(...writer.take()))
  t.strictSame(
    frames.map(one => one.key),
    [0, 1, 2, 3].map(last => [0x80, 0, 0, last])
  )
  t.strictSame(
    frames.map(one => one.payload.length),
    [0, 1, 5000, 1]
  )
  t.end()
})

t.test('small frames leave in one buffer', t => {
  const writer = new FrameWriter()
  for (let i = 0; i < 1000; i++) writer.write(TEXT, `${i}`)
  const buffers = writer.take()
  t.ok(buffers.length <= 2, `${buffers.length} buffers`)
  t.strictSame(
    decode(bytes(...buffers)).map(one => one.payload.toString()),
    Array.from({ length: 1000 }, (_, i) => `${i}`)
  )
  t.end()
})

t.test('a payload of 4 KiB is passed on by reference, and a smaller one is copied', t => {
  const writer = new FrameWriter()
  const large = Buffer.alloc(4096, 1)
  const array = new Uint8Array(5000).fill(2)
  const small = Buffer.alloc(4095, 3)
  writer.write(TEXT, 'before')
  for (const payload of [large, array, small]) writer.write(BINARY, payload)
  const expected = bytes(
    frame(1, 'before', unmasked),
    ...[large, array, small].map(one => frame(2, one, unmasked))
  )
  t.equal(writer.size, expected.length)
  const buffers = writer.take()
  t.ok(bytes(...buffers).equals(expected))
  t.ok(buffers.includes(large))
  t.ok(buffers.some(buffer => buffer.buffer === array.buffer && buffer.length === 5000))
  t.notOk(buffers.some(buffer => buffer.buffer === small.buffer))
  t.end()
})

t.test('a buffer that was taken is not written to again', t => {
  const writer = new FrameWriter()
  writer.write(TEXT, 'first')
  const first = writer.take()
  writer.write(TEXT, 'second')
  const second = writer.take()
  t.strictSame(bytes(...first), frame(1, 'first', unmasked))
  t.strictSame(bytes(...second), frame(1, 'second', unmasked))
  t.end()
})

t.test('writers that alternate keep their frames apart', t => {
  const random = randomNumbers(3)
  const writers = Array.from({ length: 5 }, (_, i) => ({
    writer: new FrameWriter(i % 2 === 0 ? masks : undefined),
    key: i % 2 === 0 ? KEY : null,
    waiting: [] as Buffer[],
    taken: [] as Buffer[],
    expected: [] as string[]
  }))
  const wrong: number[] = []
  for (let round = 0; round < 3000; round++) {
    const one = writers[Math.floor(random() * writers.length)]
    if (random() < 0.1) {
      one.taken.push(...one.writer.take())
      one.waiting = []
    }
    const payload = Buffer.alloc(Math.floor(random() ** 4 * 6000), round % 256)
    one.writer.write(random() < 0.5 ? TEXT : BINARY, round % 2 === 0 ? payload : `${round} ${payload.length}`)
    const written = round % 2 === 0 ? payload : Buffer.from(`${round} ${payload.length}`)
    one.expected.push(written.toString('hex'))
    one.waiting.push(frame(1, written, { key: one.key }))
    if (one.writer.size !== bytes(...one.waiting).length) wrong.push(round)
  }
  t.strictSame(wrong, [], 'sizes')
  for (const { writer, taken, expected } of writers) {
    const frames = decode(bytes(...taken, ...writer.take()))
    t.strictSame(
      frames.map(one => one.payload.toString('hex')),
      expected
    )
  }
  t.end()
})

t.test('frames fill more than one slab', t => {
  const writer = new FrameWriter()
  const payload = Buffer.alloc(4000)
  for (let i = 0; i < 50; i++) writer.write(BINARY, payload.fill(i))
  const expected = bytes(...Array.from({ length: 50 }, (_, i) => frame(2, Buffer.alloc(4000, i), unmasked)))
  const buffers = writer.take()
  t.ok(bytes(...buffers).equals(expected))
  t.ok(buffers.length <= 5, `${buffers.length} buffers`)
  t.end()
})

t.test('RFC 6455 section 5.2: the first byte is written as given', t => {
  const writer = new FrameWriter()
  writer.write(0x89, hex('0102'))
  writer.write(0x01, 'part')
  t.strictSame(decode(bytes(...writer.take())).map(describe), ['ping 0102', 'text more 70617274'])
  t.end()
})

t.test('a header that begins a new slab precedes its large payload', t => {
  const payload = Buffer.alloc(4096, 7)
  const headers = new Set<string>()
  // Each header has four bytes, and there are more headers than fit into a slab.
  for (let i = 0; i < 20_000; i++) {
    const writer = new FrameWriter()
    writer.write(BINARY, payload)
    headers.add(writer.take()[0]?.toString('hex') ?? '')
  }
  t.strictSame([...headers], ['827e1000'])
  t.end()
})
