import t from 'tap'
import { mask } from '../../lib/protocol/mask.js'
import { randomNumbers, xor } from './wire.js'

t.test('RFC 6455 section 5.3: octet i is XORed with octet i mod 4 of the key', t => {
  const data = Buffer.from('Hello')
  mask(data, 0, data.length, 0x37fa213d, 0)
  t.equal(data.toString('hex'), '7f9f4d5158')
  mask(data, 0, data.length, 0x37fa213d, 0)
  t.equal(data.toString(), 'Hello', 'masking twice restores the data')
  t.end()
})

const KEYS: [number, number[]][] = [
  [0x37fa213d, [0x37, 0xfa, 0x21, 0x3d]],
  [0xffffffff, [0xff, 0xff, 0xff, 0xff]],
  [0x80000001, [0x80, 0x00, 0x00, 0x01]],
  [0x00010203, [0x00, 0x01, 0x02, 0x03]]
]

t.test(
  'RFC 6455 section 5.3: masking works for every alignment, offset and length, and changes nothing outside the range',
  t => {
    const random = randomNumbers(1)
    const source = Buffer.from(Array.from({ length: 300 }, () => Math.floor(random() * 256)))
    const lengths = [
      ...Array(20).keys(),
      ...[60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71, 127, 128, 255, 256]
    ]
    const wrong: string[] = []
    for (const [key, octets] of KEYS) {
      for (let base = 0; base < 4; base++) {
        for (let start = 0; start < 4; start++) {
          for (let offset = 0; offset < 9; offset++) {
            for (const length of lengths) {
              // A view that begins `base` bytes into its memory.
              const view = new Uint8Array(new ArrayBuffer(320), base, 300)
              view.set(source)
              mask(view, start, start + length, key, offset)
              const rotated = octets.map((_, i) => octets[(offset + i) % 4])
              const expected = Buffer.from(source)
              expected.set(xor(source.subarray(start, start + length), rotated), start)
              if (!expected.equals(view)) wrong.push(`${key} ${base} ${start} ${offset} ${length}`)
            }
          }
        }
      }
    }
    t.strictSame(wrong, [])
    t.end()
  }
)

t.test('RFC 6455 section 5.3: masking in pieces equals masking at once', t => {
  const source = Buffer.from(Array.from({ length: 500 }, (_, i) => i % 251))
  const expected = xor(source, [0x80, 0x00, 0x00, 0x01])
  const wrong: number[] = []
  for (let cut = 0; cut <= source.length; cut++) {
    const copy = Buffer.from(source)
    mask(copy, 0, cut, 0x80000001, 0)
    mask(copy, cut, copy.length, 0x80000001, cut)
    if (!copy.equals(expected)) wrong.push(cut)
  }
  t.strictSame(wrong, [])
  t.end()
})

t.test(
  'RFC 6455 section 5.3: masking works for lengths around rounds of eight words, at every alignment',
  t => {
    const source = Buffer.from(Array.from({ length: 400 }, (_, i) => (i * 7) % 256))
    const octets = [0xde, 0xad, 0xbe, 0xef]
    const wrong: string[] = []
    for (let start = 0; start < 32; start++) {
      for (const round of [2, 3, 4, 8]) {
        for (let length = 32 * round - 9; length <= 32 * round + 9; length++) {
          const copy = new Uint8Array(new ArrayBuffer(400))
          copy.set(source)
          mask(copy, start, start + length, 0xdeadbeef, 0)
          const expected = Buffer.from(source)
          expected.set(xor(source.subarray(start, start + length), octets), start)
          if (!expected.equals(copy)) wrong.push(`${start} ${length}`)
        }
      }
    }
    t.strictSame(wrong, [])
    t.end()
  }
)
