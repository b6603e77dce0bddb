// The messages of the soak. The numbers of a connection and a message determine each byte, so both sides know the data to
// expect without storing it.
import { mix, Random } from './random.js'

const POOL = 524_288
const HEAD = 17
const WORDS =
  'the frame mask ping pong close route echo socket server client message upgrade 0123456789 {"id":7}'
const LETTERS = ['é', 'ß', 'ж', 'λ', 'ñ', 'ø']

const random = new Random(1)
const ASCII = fill(() => `${random.pick(WORDS.split(' '))} `)
/** Two bytes per letter, so that it may be split at every second byte. */
const UTF8 = fill(() => random.pick(LETTERS))
const BYTES = Buffer.from(Array.from({ length: POOL }, () => random.between(0, 255)))

/** @param {() => string} next */
function fill(next) {
  let text = ''
  while (text.length < POOL) text += next()
  return Buffer.from(text).subarray(0, POOL)
}

/** The number of messages in a thousand up to each length. */
const SIZES = [
  { of: 700, size: 200 },
  { of: 950, size: 4_000 },
  { of: 990, size: 40_000 },
  { of: 998, size: 100_000 },
  { of: 1000, size: 300_000 }
]

/**
 * @param {number} id the connection's.
 * @param {number} seq counted from 0.
 */
function parts(id, seq) {
  const hash = mix(mix(id) + seq)
  const pool = [ASCII, UTF8, BYTES][hash % 3]
  const share = (hash >>> 4) % 1000
  const limit = SIZES.find(({ of }) => share < of)?.size ?? 0
  const size = (mix(hash) % limit) & ~1
  const offset = (mix(hash + 1) % (POOL - size)) & ~1
  return { isBinary: pool === BYTES, head: headOf('e', id, seq), body: pool.subarray(offset, offset + size) }
}

/**
 * @param {'e' | 'b'} kind of an echo, or of a broadcast.
 * @param {number} id
 * @param {number} seq
 */
function headOf(kind, id, seq) {
  return kind + hex(id) + hex(seq)
}

/** @param {number} n */
const hex = n => n.toString(16).padStart(8, '0')

/**
 * @param {number} id
 * @param {number} seq
 */
export function makeMessage(id, seq) {
  const { isBinary, head, body } = parts(id, seq)
  return { isBinary, data: Buffer.concat([Buffer.from(head), body]) }
}

/** @param {number} seq */
export function makeBroadcast(seq) {
  const size = seq % 4 === 0 ? 3000 : 100
  return Buffer.from(headOf('b', 0, seq) + ASCII.toString('latin1', 0, size))
}

/** @param {Buffer} data */
export function readHead(data) {
  const head = data.toString('latin1', 0, HEAD)
  const [, kind, id, seq] = /^([eb])([0-9a-f]{8})([0-9a-f]{8})$/.exec(head) ?? []
  return { kind, id: Number.parseInt(id, 16), seq: Number.parseInt(seq, 16) }
}

/**
 * @param {Buffer} data
 * @param {boolean} isBinary
 * @param {number} id
 * @param {number} seq
 */
export function isIntact(data, isBinary, id, seq) {
  const expected = parts(id, seq)
  return expected.isBinary === isBinary && data.subarray(HEAD).equals(expected.body)
}
