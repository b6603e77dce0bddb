import t from 'tap'
import { FrameParser } from '../../lib/protocol/frame-parser.js'
import type { Violation } from '../../lib/protocol/violation.js'
import { bytes, frame, header, hex } from './wire.js'

interface Recording {
  readonly parser: FrameParser
  readonly events: string[]
  readonly payloads: Buffer[]
}

/** A parser that records its events and calls `then` after each. It stops at a violation, as required. */
function record(
  masked = true,
  maxPayload = 1000,
  then?: (event: string, parser: FrameParser) => void
): Recording {
  const events: string[] = []
  const payloads: Buffer[] = []
  const tell = (event: string, payload?: Buffer): void => {
    events.push(event)
    if (payload !== undefined) payloads.push(payload)
    then?.(event, parser)
  }
  const messages = {
    onMessage: (data: Buffer, isBinary: boolean) =>
      tell(isBinary ? `binary ${data.toString('hex')}` : `text ${data.toString()}`, data),
    onCompressed: () => tell('compressed')
  }
  const parser: FrameParser = new FrameParser(masked, maxPayload, false, messages, {
    onControl: (opcode, payload) => tell(`${opcode} ${payload.toString('hex')}`, payload),
    onViolation: (violation: Violation) => {
      parser.stop()
      tell(violation.code.replace('FST_UPGRADE_', ''))
    }
  })
  return { parser, events, payloads }
}

const THREE = bytes(frame(1, 'one'), frame(9, 'two'), frame(2, hex('0300')))
const FOUND = ['text one', '9 74776f', 'binary 0300']

t.test('several frames in one chunk are reported in order', t => {
  const { parser, events } = record()
  t.equal(parser.masked, true)
  parser.push(bytes(THREE))
  t.strictSame(events, FOUND)
  t.equal(parser.hasUnread, false)
  t.end()
})

t.test('the same frames are reported however the input is split in three', t => {
  const wire = bytes(THREE, frame(1, 'a', { fin: false }), frame(8, hex('03e8')), frame(0, 'é'.repeat(100)))
  const expected = [...FOUND, '8 03e8', `text a${'é'.repeat(100)}`]
  const wrong: string[] = []
  for (let first = 0; first <= wire.length; first++) {
    for (let second = first; second <= wire.length; second++) {
      const { parser, events } = record()
      for (const piece of [wire.subarray(0, first), wire.subarray(first, second), wire.subarray(second)]) {
        parser.push(Buffer.from(piece))
      }
      if (String(events) !== String(expected)) wrong.push(`${first} ${second}: ${events}`)
    }
  }
  t.strictSame(wrong.slice(0, 3), [])
  t.end()
})

t.test('a whole frame is unmasked in place and reported without a copy', t => {
  const { parser, payloads } = record()
  const chunk = bytes(frame(1, 'first'), frame(2, Buffer.alloc(200, 7)), frame(10, 'x'))
  parser.push(chunk)
  t.strictSame(
    payloads.map(payload => payload.buffer === chunk.buffer),
    [true, true, true]
  )
  t.strictSame(
    payloads.map(payload => payload.byteOffset - chunk.byteOffset),
    [6, 6 + 5 + 8, 6 + 5 + 8 + 200 + 6]
  )
  t.end()
})

t.test('a frame in two chunks does not keep the chunks alive', t => {
  const { parser, payloads } = record()
  const wire = bytes(frame(1, 'split'), frame(9, 'also split'))
  const chunks = [wire.subarray(0, 8), wire.subarray(8, 19), wire.subarray(19)].map(part => Buffer.from(part))
  for (const chunk of chunks) {
    parser.push(chunk)
    chunk.fill(0)
  }
  t.strictSame(payloads.map(String), ['split', 'also split'])
  t.end()
})

t.test('RFC 6455 section 5.3: frames without a mask, and with a mask of zeros, are parsed', t => {
  const unmasked = record(false)
  t.equal(unmasked.parser.masked, false)
  const wire = bytes(frame(1, 'one', { key: null }), frame(2, Buffer.alloc(126, 1), { key: null }))
  unmasked.parser.push(wire.subarray(0, 50))
  unmasked.parser.push(wire.subarray(50))
  t.strictSame(unmasked.events, ['text one', `binary ${'01'.repeat(126)}`])
  const zeros = record()
  zeros.parser.push(frame(1, 'one', { key: [0, 0, 0, 0] }))
  t.strictSame(zeros.events, ['text one'])
  t.end()
})

t.test(
  'RFC 6455 section 5.4: the data of a message reduces the room that is left, and a control frame does not',
  t => {
    const { parser, events } = record(true, 10)
    t.equal(parser.room, 10)
    parser.push(frame(1, 'abc', { fin: false }))
    t.equal(parser.room, 7)
    t.equal(parser.fragmented, true)
    parser.push(frame(9, Buffer.alloc(100)).subarray(0, 50))
    t.equal(parser.room, 7)
    parser.push(Buffer.alloc(56))
    parser.push(frame(0, 'defg', { fin: false }).subarray(0, 8))
    t.equal(parser.room, 5)
    parser.push(frame(0, 'defg').subarray(8))
    t.equal(parser.room, 3)
    parser.push(frame(0, ''))
    t.equal(parser.room, 10)
    t.equal(parser.fragmented, false)
    t.equal(events.at(-1), 'text abcdefg')
    t.end()
  }
)

t.test('a paused parser reports nothing and loses nothing', t => {
  const { parser, events } = record()
  parser.pause()
  t.equal(parser.paused, true)
  for (const byte of THREE) parser.push(Buffer.from([byte]))
  t.strictSame(events, [])
  t.equal(parser.hasUnread, true)
  parser.resume()
  t.equal(parser.paused, false)
  t.strictSame(events, FOUND)
  t.equal(parser.hasUnread, false)
  parser.resume()
  t.strictSame(events, FOUND, 'a second resume changes nothing')
  t.end()
})

t.test('a handler that pauses receives one frame at a time', t => {
  const { parser, events } = record(true, 1000, (_event, parser) => parser.pause())
  parser.push(bytes(THREE))
  t.strictSame(events, FOUND.slice(0, 1))
  t.equal(parser.hasUnread, true)
  parser.push(frame(1, 'four'))
  t.strictSame(events, FOUND.slice(0, 1))
  parser.resume()
  t.strictSame(events, FOUND.slice(0, 2))
  parser.resume()
  t.strictSame(events, FOUND)
  parser.resume()
  t.strictSame(events, [...FOUND, 'text four'])
  t.equal(parser.hasUnread, false)
  t.equal(parser.paused, true)
  t.end()
})

t.test('a handler that pauses at the end of a chunk leaves nothing unread', t => {
  const { parser, events } = record(true, 1000, (_event, parser) => parser.pause())
  parser.push(frame(1, 'one'))
  t.equal(parser.hasUnread, false)
  parser.push(frame(1, 'two').subarray(0, 7))
  t.equal(parser.hasUnread, true)
  parser.resume()
  parser.push(frame(1, 'two').subarray(7))
  t.strictSame(events, ['text one', 'text two'])
  t.end()
})

t.test('a handler that pauses and resumes immediately is not called recursively', t => {
  let depth = 0
  let deepest = 0
  const { parser, events } = record(true, 1000, (_event, parser) => {
    deepest = Math.max(deepest, ++depth)
    parser.pause()
    parser.resume()
    depth--
  })
  parser.push(bytes(THREE))
  t.strictSame(events, FOUND)
  t.equal(deepest, 1)
  t.end()
})

t.test('data that a handler pushes is parsed after the current data', t => {
  const { parser, events } = record(true, 1000, (event, parser) => {
    if (event === 'text one') parser.push(frame(1, 'four'))
  })
  parser.push(bytes(THREE))
  t.strictSame(events, [...FOUND, 'text four'])
  t.end()
})

for (const [where, wire] of [
  ['a whole message', bytes(frame(1, 'stop'), THREE)],
  ['a split message', bytes(frame(1, 'st', { fin: false }), frame(0, 'op'), THREE)]
] as const) {
  t.test(`a handler that stops at ${where} receives nothing more`, t => {
    for (let cut = 0; cut <= wire.length; cut++) {
      const { parser, events } = record(true, 1000, (_event, parser) => parser.stop())
      parser.push(Buffer.from(wire.subarray(0, cut)))
      parser.push(Buffer.from(wire.subarray(cut)))
      parser.push(bytes(THREE))
      t.strictSame(events, ['text stop'])
      t.equal(parser.hasUnread, false)
    }
    t.end()
  })
}

t.test('stopping inside a frame discards the rest of it', t => {
  for (const begin of [header(1, 5), frame(9, 'abcdef').subarray(0, 8), frame(1, 'abcdef').subarray(0, 8)]) {
    const { parser, events } = record()
    parser.push(Buffer.from(begin))
    parser.stop()
    parser.push(bytes(THREE))
    t.strictSame(events, [])
    t.equal(parser.hasUnread, false)
  }
  t.end()
})

t.test('RFC 6455 section 7.1.7: nothing is reported after a violation', t => {
  for (const [bad, code] of [
    [hex('83'), 'INVALID_OPCODE'],
    [hex('8203'), 'UNMASKED_FRAME'],
    [frame(1, hex('ff')), 'INVALID_UTF8'],
    [frame(1, hex('e298')), 'INVALID_UTF8'],
    [bytes(frame(1, hex('e298'), { fin: false }), frame(0, 'a')), 'INVALID_UTF8'],
    [bytes(frame(1, hex('e298'), { fin: false }), frame(0, '')), 'INVALID_UTF8'],
    [header(2, 1001), 'MESSAGE_TOO_BIG']
  ] as const) {
    const wire = bytes(frame(1, 'good'), bad, THREE)
    for (let cut = 0; cut <= wire.length; cut++) {
      const { parser, events } = record()
      parser.push(Buffer.from(wire.subarray(0, cut)))
      parser.push(Buffer.from(wire.subarray(cut)))
      t.strictSame(events, ['text good', code])
    }
  }
  t.end()
})
