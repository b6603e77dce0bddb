import t from 'tap'
import { messageFrame } from '../../lib/protocol/connection.js'
import { FrameWriter, frameOf, type Gap } from '../../lib/protocol/frame-writer.js'
import { bytes, decode, describe, frame, KEY, randomNumbers } from './wire.js'

const TEXT = 0x81
const COMPRESSED = 0xc1
const PING = 0x89
const masks = (): number => Buffer.from(KEY).readUInt32BE()

/** The frames that may be sent, as text. */
function taken(writer: FrameWriter): string[] {
  return decode(bytes(...writer.take())).map(
    ({ opcode, rsv, payload }) => `${opcode}${rsv === 4 ? 'z' : ''} ${payload}`
  )
}

for (const key of [null, KEY]) {
  const side = key === null ? 'a server' : 'a client'
  const make = (): FrameWriter => new FrameWriter(key === null ? undefined : masks)

  t.test(`${side}: frames behind a gap are held back until it is filled`, t => {
    const writer = make()
    writer.write(TEXT, 'a')
    const gap = writer.leaveGap(COMPRESSED, 100)
    t.equal(writer.gaps, 1)
    writer.write(PING, 'p')
    writer.write(TEXT, 'b')
    t.strictSame(taken(writer), ['1 a'])
    t.strictSame(taken(writer), [])
    writer.fillGap(gap, Buffer.from('filled'))
    t.equal(writer.gaps, 0)
    writer.write(TEXT, 'c')
    t.strictSame(taken(writer), ['1z filled', '9 p', '1 b', '1 c'])
    t.strictSame(taken(writer), [])
    t.end()
  })

  t.test(`${side}: gaps may be filled in any order, and frames leave in their own order`, t => {
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 0, 2],
      [2, 0, 1]
    ]) {
      const writer = make()
      const gaps = [0, 1, 2].map(i => {
        const gap = writer.leaveGap(COMPRESSED, 10)
        writer.write(TEXT, `behind ${i}`)
        return gap
      })
      const expected = [0, 1, 2].flatMap(i => [`1z gap ${i}`, `1 behind ${i}`])
      const filled = new Set<number>()
      const left: string[] = []
      for (const i of order) {
        writer.fillGap(gaps[i], Buffer.from(`gap ${i}`))
        filled.add(i)
        const closed = [0, 1, 2].findIndex(one => !filled.has(one))
        t.equal(writer.gaps, closed === -1 ? 0 : 3 - closed)
        left.push(...taken(writer))
        t.strictSame(left, expected.slice(0, closed === -1 ? 6 : 2 * closed), `${order} up to ${i}`)
      }
      t.equal(writer.size, 0)
    }
    t.end()
  })

  t.test(`${side}: the size counts the frames, and the announced size of each gap`, t => {
    const header = key === null ? 2 : 6
    const writer = make()
    const gap = writer.leaveGap(COMPRESSED, 100)
    const second = writer.leaveGap(COMPRESSED, 1000)
    t.equal(writer.size, 1100)
    writer.write(TEXT, 'abc')
    t.equal(writer.size, 1103 + header)
    t.strictSame(writer.take(), [])
    t.equal(writer.size, 1103 + header)
    writer.fillGap(second, Buffer.from('12345'))
    t.equal(writer.size, 108 + 2 * header)
    writer.fillGap(gap, Buffer.alloc(5000))
    t.equal(writer.size, 5008 + 2 * header + header + 2)
    t.equal(bytes(...writer.take()).length, 5010 + 3 * header)
    t.equal(writer.size, 0)
    t.end()
  })

  t.test(`${side}: frames and gaps in random order match a simple list of frames`, t => {
    const random = randomNumbers(7)
    const writer = make()
    const list: { line: string; size: number; gap: Gap | undefined }[] = []
    const wrong: string[] = []
    const got: string[] = []
    const expected: string[] = []
    const lengthOf = (payload: string): number => frame(1, payload, { key }).length
    for (let round = 0; round < 3000; round++) {
      const payload = `${round} `.repeat(1 + Math.floor(random() ** 6 * 1500))
      const choice = random()
      const open = list.filter(({ gap }) => gap !== undefined)
      if (choice < 0.5) {
        writer.write(TEXT, payload)
        list.push({ line: `1 ${payload}`, size: lengthOf(payload), gap: undefined })
      } else if (choice < 0.65) {
        list.push({ line: '', size: round, gap: writer.leaveGap(COMPRESSED, round) })
      } else if (choice < 0.85 && open.length > 0) {
        const one = open[Math.floor(random() * open.length)]
        if (one.gap !== undefined) writer.fillGap(one.gap, Buffer.from(payload))
        Object.assign(one, { line: `1z ${payload}`, size: lengthOf(payload), gap: undefined })
      } else if (choice < 0.9) {
        got.push(...taken(writer))
        while (list.length > 0 && list[0].gap === undefined) expected.push(list.shift()?.line ?? '')
      }
      if (writer.size !== list.reduce((sum, { size }) => sum + size, 0)) wrong.push(`size in ${round}`)
      const first = list.findIndex(({ gap }) => gap !== undefined)
      const gaps = list.slice(first === -1 ? list.length : first).filter(({ line }) => !line.startsWith('1 '))
      if (writer.gaps !== gaps.length) wrong.push(`gaps in ${round}`)
    }
    t.strictSame(wrong, [])
    t.ok(expected.length > 300)
    t.strictSame(got, expected)
    t.end()
  })
}

t.test('frames in a buffer are passed on by reference, in order, and behind gaps', t => {
  const writer = new FrameWriter()
  const whole = messageFrame('whole', false, false)
  writer.append(whole)
  writer.write(TEXT, 'a')
  writer.append(whole)
  t.equal(writer.size, 17)
  const buffers = writer.take()
  t.equal(buffers[0], whole)
  t.equal(buffers.length, 3)
  t.equal(String(bytes(...buffers)), '\x81\x05whole\x81\x01a\x81\x05whole'.replace(/\x81/g, '\ufffd'))
  const gap = writer.leaveGap(COMPRESSED, 1)
  writer.append(whole)
  t.strictSame(taken(writer), [])
  t.equal(writer.size, 8)
  writer.fillGap(gap, Buffer.from('gap'))
  t.strictSame(taken(writer), ['1z gap', '1 whole'])
  t.end()
})

t.test('writers share slabs, and gaps keep their frames apart', t => {
  const writers = [new FrameWriter(), new FrameWriter(masks)]
  const gaps = writers.map(writer => writer.leaveGap(COMPRESSED, 0))
  for (let i = 0; i < 100; i++) for (const [w, writer] of writers.entries()) writer.write(TEXT, `${w} ${i}`)
  for (const [w, writer] of writers.entries()) writer.fillGap(gaps[w], Buffer.from(`gap ${w}`))
  for (const [w, writer] of writers.entries()) {
    t.strictSame(taken(writer), [`1z gap ${w}`, ...Array.from({ length: 100 }, (_, i) => `1 ${w} ${i}`)])
  }
  t.end()
})

t.test('RFC 6455 section 5.2: a frame for many recipients has memory of its own', t => {
  for (const payload of [
    '',
    'é'.repeat(10),
    'x'.repeat(126),
    Buffer.alloc(70_000, 7),
    new Uint8Array([1, 2])
  ]) {
    const made = frameOf(0x82, payload)
    t.strictSame(made, frame(2, payload, { key: null }))
    t.equal(made.buffer.byteLength, made.length)
  }
  t.end()
})

t.test('RFC 7692 section 6: a frame for many recipients says whether the message is compressed', t => {
  const shapes = [
    [false, false],
    [false, true],
    [true, false],
    [true, true]
  ] as const
  t.strictSame(
    shapes.map(([isBinary, isCompressed]) => decode(messageFrame('a', isBinary, isCompressed)).map(describe)),
    [['text 61'], ['text rsv 4 61'], ['binary 61'], ['binary rsv 4 61']]
  )
  t.end()
})
