import t from 'tap'
import {
  checkHeader,
  FIN,
  type FrameContext,
  headerSize,
  isControl,
  MAX_HEADER_SIZE,
  maskingKey,
  opcodeOf,
  payloadLength,
  sizeOfHeader,
  writeHeader
} from '../../lib/protocol/frame-header.js'
import { bytes, header, hex, KEY } from './wire.js'

const OPEN: FrameContext = { masked: true, compressible: false, fragmented: false, room: 2 ** 53 - 1 }
const LENGTHS = [0, 1, 125, 126, 127, 128, 65_535, 65_536, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]

const BEFORE = hex('ffff')
const BEHIND = hex('ffffffffffffffffffff')

/** The code of the violation in the first `available` bytes, which have other bytes around them. */
function check(
  head: Uint8Array,
  context: Partial<FrameContext> = {},
  available = head.length
): string | undefined {
  const around = bytes(BEFORE, head.subarray(0, available), BEHIND)
  const violation = checkHeader(around, 2, available, { ...OPEN, ...context })
  return violation?.code.replace('FST_UPGRADE_', '')
}

t.test('RFC 6455 section 5.2: a header is parsed to its size and its fields', t => {
  t.equal(MAX_HEADER_SIZE, 14)
  t.equal(FIN, 0x80)
  for (const length of LENGTHS) {
    for (const key of [KEY, [0xff, 0xff, 0xff, 0xff], [0x80, 0, 0, 1], null]) {
      const head = header(2, length, { key })
      const around = bytes(hex('ffffff'), head, hex('ffff'))
      const name = `${length} ${key}`
      t.equal(headerSize(around, 3), head.length, name)
      t.equal(payloadLength(around, 3), length, name)
      t.equal(maskingKey(around, 3, head.length), key === null ? 0 : Buffer.from(key).readUInt32BE(), name)
    }
  }
  t.end()
})

t.test('RFC 6455 section 5.2: a header is written in its shortest form', t => {
  for (const length of LENGTHS) {
    for (const key of [KEY, [0xff, 0xff, 0xff, 0xff], [0, 0, 0, 0], null]) {
      for (const [first, opcode, fin] of [
        [0x82, 2, true],
        [0x01, 1, false]
      ] as const) {
        const expected = header(opcode, length, { key, fin })
        const target = Buffer.alloc(20, 0xee)
        const number = key === null ? undefined : Buffer.from(key).readInt32BE()
        t.equal(sizeOfHeader(length, key !== null), expected.length)
        t.equal(writeHeader(target, 3, first, length, number), 3 + expected.length)
        const untouched = Buffer.alloc(17 - expected.length, 0xee)
        t.strictSame(target, bytes(hex('eeeeee'), expected, untouched), `${length} ${key}`)
      }
    }
  }
  t.end()
})

t.test('RFC 6455 section 5.2: the opcode is in the lower half of the first byte', t => {
  for (let first = 0; first < 256; first++) {
    t.equal(opcodeOf(first), first % 16)
    t.equal(isControl(first), first % 16 > 7)
  }
  t.end()
})

/**
 * The rules of RFC 6455 sections 5.1, 5.2, 5.4 and 5.5 and RFC 7692 section 6, for a frame with a length of up to 127.
 */
function model(
  first: number,
  second: number | undefined,
  { masked, compressible, fragmented, room }: FrameContext
): string[] {
  const opcode = first % 16
  const isFinal = first >= 128
  const reserved = Math.floor(first / 16) % 8
  const compressed = reserved === 4
  const data = [1, 2].includes(opcode)
  const control = [8, 9, 10].includes(opcode)
  const broken = [
    reserved !== 0 && !(compressed && data && compressible) && 'RESERVED_BITS',
    !(opcode === 0 || data || control) && 'INVALID_OPCODE',
    control && !isFinal && 'FRAGMENTED_CONTROL',
    opcode === 0 && !fragmented && 'UNEXPECTED_CONTINUATION',
    data && fragmented && 'INTERLEAVED_MESSAGE'
  ]
  if (second !== undefined) {
    const length = second % 128
    broken.push(
      masked && second < 128 && 'UNMASKED_FRAME',
      !masked && second >= 128 && 'MASKED_FRAME',
      control && length > 125 && 'LONG_CONTROL',
      !control && length < 126 && length > (compressed ? 9 * (room / 8) + 64 : room) && 'MESSAGE_TOO_BIG'
    )
  }
  return broken.filter(code => code !== false)
}

t.test('RFC 6455 section 5.2: every first and second byte is checked in every state', t => {
  const wrong: string[] = []
  const expect = (context: FrameContext, ...head: [number, number?]): void => {
    const [first, second] = head
    const expected = model(first, second, context)
    const found = check(Buffer.from(second === undefined ? [first] : [first, second]), context)
    const right = found === undefined ? expected.length === 0 : expected.includes(found)
    if (!right) wrong.push(`${head} ${JSON.stringify(context)}: ${found} instead of ${expected}`)
  }
  for (const masked of [true, false]) {
    for (const compressible of [true, false]) {
      for (const fragmented of [true, false]) {
        for (const room of [0, 48, 104, 2 ** 30]) {
          const context = { masked, compressible, fragmented, room }
          for (let first = 0; first < 256; first++) {
            expect(context, first)
            for (let second = 0; second < 256; second++) expect(context, first, second)
          }
        }
      }
    }
  }
  t.strictSame(wrong.slice(0, 5), [])
  t.end()
})

t.test('RFC 6455 section 5.1: the mask bit is checked before the length', t => {
  t.equal(check(hex('827f'), { masked: true }), 'UNMASKED_FRAME')
  t.equal(check(hex('82ff'), { masked: false }), 'MASKED_FRAME')
  t.equal(check(hex('89 7e'), { masked: true }), 'UNMASKED_FRAME')
  t.equal(check(hex('82 05'), { masked: true, room: 0 }), 'UNMASKED_FRAME')
  t.end()
})

/** The number of bytes after which the header is refused, and the code. */
function shown(head: Uint8Array, context?: Partial<FrameContext>): string {
  for (let available = 1; available <= head.length; available++) {
    const code = check(head, context, available)
    if (code !== undefined) return `${available} ${code}`
  }
  return 'good'
}

for (const [head, expected, room] of [
  ['82fe 007d', '4 NON_MINIMAL_LENGTH'],
  ['82fe 0000', '4 NON_MINIMAL_LENGTH'],
  ['82fe 007e', 'good'],
  ['82fe ffff', 'good'],
  ['82fe 0100', 'good', 256],
  ['82fe 0101', '4 MESSAGE_TOO_BIG', 256],
  ['82fe 007e', '4 MESSAGE_TOO_BIG', 125],
  ['82ff 0000 0000 0000 0000', '8 NON_MINIMAL_LENGTH'],
  ['82ff 0000 0000 0000 ffff', '8 NON_MINIMAL_LENGTH'],
  ['82ff 0000 0000 0001 0000', 'good'],
  ['82ff 0000 0000 0001 0000', 'good', 65_536],
  ['82ff 0000 0000 0001 0001', '10 MESSAGE_TOO_BIG', 65_536],
  ['82ff 0000 0001 0000 0000', 'good'],
  ['82ff 0000 0001 0000 0000', 'good', 2 ** 32],
  ['82ff 0000 0001 0000 0001', '10 MESSAGE_TOO_BIG', 2 ** 32],
  ['82ff 0000 0001 0000 0000', '6 MESSAGE_TOO_BIG', 2 ** 32 - 1],
  ['82ff 0000 0001 0000 0000', '6 MESSAGE_TOO_BIG', 2 ** 20],
  ['82ff 001f ffff ffff ffff', 'good'],
  ['82ff 0020 0000 0000 0000', '6 MESSAGE_TOO_BIG'],
  ['82ff 0020 0000 0000 0001', '6 MESSAGE_TOO_BIG'],
  ['82ff 7fff ffff ffff ffff', '6 MESSAGE_TOO_BIG'],
  ['82ff 8000 0000 0000 0000', '3 INVALID_LENGTH'],
  ['82ff 8000 0000 0000 0000', '3 INVALID_LENGTH', 0],
  ['82ff ffff ffff ffff ffff', '3 INVALID_LENGTH'],
  ['82fd', '2 MESSAGE_TOO_BIG', 124],
  ['82fd', 'good', 125],
  ['8280', 'good', 0],
  ['8281', '2 MESSAGE_TOO_BIG', 0],
  ['89fd', 'good', 0],
  ['88fe 007e', '2 LONG_CONTROL', 0]
] as const) {
  t.test(`RFC 6455 section 5.2: ${head} with room for ${room ?? 'all'}: ${expected}`, t => {
    const full = bytes(hex(head), KEY)
    t.equal(shown(full, room === undefined ? {} : { room }), expected)
    t.end()
  })
}
