import t from 'tap'
import { Utf8Validator } from '../../lib/protocol/utf8.js'
import { randomNumbers } from './wire.js'

type Range = readonly [low: number, high: number]

const TAIL: Range = [0x80, 0xbf]

/** The grammar of RFC 3629 section 4, one line each. */
const CHARACTERS: readonly (readonly Range[])[] = [
  [[0x00, 0x7f]],
  [[0xc2, 0xdf], TAIL],
  [[0xe0, 0xe0], [0xa0, 0xbf], TAIL],
  [[0xe1, 0xec], TAIL, TAIL],
  [[0xed, 0xed], [0x80, 0x9f], TAIL],
  [[0xee, 0xef], TAIL, TAIL],
  [[0xf0, 0xf0], [0x90, 0xbf], TAIL, TAIL],
  [[0xf1, 0xf3], TAIL, TAIL, TAIL],
  [[0xf4, 0xf4], [0x80, 0x8f], TAIL, TAIL]
]

/** The position of the first invalid byte, or -1, and whether the text may end there. */
function model(bytes: Uint8Array): { bad: number; whole: boolean } {
  let open: (readonly Range[])[] = []
  for (const [at, byte] of bytes.entries()) {
    open = (open.length === 0 ? CHARACTERS : open)
      .filter(([[low, high]]) => byte >= low && byte <= high)
      .map(([, ...rest]) => rest)
    if (open.length === 0) return { bad: at, whole: false }
    open = open.filter(rest => rest.length > 0)
  }
  return { bad: -1, whole: open.length === 0 }
}

/** The same result from the validator, with one byte at a time. */
function measured(bytes: Uint8Array): { bad: number; whole: boolean } {
  const validator = new Utf8Validator()
  for (let i = 0; i < bytes.length; i++) {
    if (!validator.push(bytes.subarray(i, i + 1))) return { bad: i, whole: false }
  }
  return { bad: -1, whole: validator.end() }
}

function isSame(bytes: Uint8Array): boolean {
  const expected = model(bytes)
  const found = measured(bytes)
  return expected.bad === found.bad && expected.whole === found.whole
}

t.test('RFC 6455 section 8.1: every pair of bytes fails at its first invalid byte', t => {
  const wrong: string[] = []
  for (let first = 0; first < 256; first++) {
    for (let second = 0; second < 256; second++) {
      const pair = Buffer.from([first, second])
      if (!isSame(pair)) wrong.push(pair.toString('hex'))
    }
  }
  t.strictSame(wrong, [])
  t.end()
})

const EDGES = [
  0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef,
  0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff
]

t.test(
  'RFC 6455 section 8.1: four bytes from the edges of all ranges are checked in one piece and one by one',
  t => {
    const wrong: string[] = []
    for (const first of EDGES) {
      for (const second of EDGES) {
        for (const third of EDGES) {
          for (const fourth of EDGES) {
            const bytes = Buffer.from([first, second, third, fourth])
            const { bad, whole } = model(bytes)
            const validator = new Utf8Validator()
            const taken = validator.push(bytes)
            if (taken !== (bad === -1) || (taken && validator.end() !== whole))
              wrong.push(bytes.toString('hex'))
            if (!isSame(bytes)) wrong.push(`${bytes.toString('hex')} one by one`)
          }
        }
      }
    }
    t.strictSame(wrong, [])
    t.end()
  }
)

t.test('RFC 6455 section 8.1: valid text is accepted however it is split', t => {
  const text = Buffer.from('aß☂𝄞\u{10ffff}\u0000\u07ff\u0800\ud7ff\ue000\uffff\u{10000}ende')
  const wrong: string[] = []
  for (let first = 0; first <= text.length; first++) {
    for (let second = first; second <= text.length; second++) {
      const validator = new Utf8Validator()
      const pieces = [text.subarray(0, first), text.subarray(first, second), text.subarray(second)]
      if (!pieces.every(piece => validator.push(piece)) || !validator.end()) wrong.push(`${first} ${second}`)
    }
  }
  t.strictSame(wrong, [])
  t.end()
})

t.test('RFC 6455 section 8.1: an invalid byte is detected in its own piece', t => {
  const random = randomNumbers(8)
  const text = Buffer.from('Käse ☂ und 𝄞 noch mehr Text, damit die Stücke lang werden')
  const wrong: string[] = []
  for (let round = 0; round < 3000; round++) {
    const bytes = Buffer.from(text)
    bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256)
    const { bad } = model(bytes)
    const cut = Math.floor(random() * bytes.length)
    const validator = new Utf8Validator()
    const found = !validator.push(bytes.subarray(0, cut)) ? 0 : !validator.push(bytes.subarray(cut)) ? 1 : -1
    const expected = bad === -1 ? -1 : bad < cut ? 0 : 1
    if (found !== expected) wrong.push(`${bytes.toString('hex')} ${cut}`)
  }
  t.strictSame(wrong, [])
  t.end()
})

t.test('RFC 6455 section 8.1: text may not end inside a character', t => {
  const validator = new Utf8Validator()
  t.ok(validator.end(), 'no text')
  const ends = [...Buffer.from('☂a')].map(byte => validator.push(Buffer.from([byte])) && validator.end())
  t.strictSame(ends, [false, false, true, true])
  t.ok(validator.push(Buffer.from([0xf0])))
  t.ok(validator.push(Buffer.alloc(0)), 'an empty piece')
  t.notOk(validator.end())
  t.end()
})

t.test('RFC 6455 section 8.1: the narrow range after E0, ED, F0 and F4 applies to one byte only', t => {
  for (const character of ['ࠀ', '퟿', '\u{10000}', '\u{10ffff}']) {
    const validator = new Utf8Validator()
    for (const byte of Buffer.from(`${character}é\u{ffff}`)) t.ok(validator.push(Buffer.from([byte])))
    t.ok(validator.end())
  }
  t.end()
})
