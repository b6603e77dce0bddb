import { isUtf8 } from 'node:buffer'
import { bench, do_not_optimize, group } from 'mitata'
import { BINARY_FRAME, makeParser, makeWriter, maskBytes, TEXT_FRAME, validate } from './core.js'
import { bytes } from './workloads.js'

/**
 * Masking turns ASCII into ASCII under this key. So a chunk that a parser has unmasked in place, and unmasks again the
 * next time, is always text, and need not be copied.
 */
const KEY = 0x12345678

const CHUNK = 65_536
const SIZES = [16, 64, 256, 1024, 16_384, 65_536, 1_048_576]
const ASCII = 'the quick brown fox jumps over the lazy dog '
const MIXED = 'Grüße, 你好, привет, 🦊 and plain words '

export function addCases() {
  group('FrameParser', addParser)
  group('mask', addMask)
  group('UTF-8', addUtf8)
  group('FrameWriter', addWriter)
}

function addParser() {
  const frame = maskedFrame(TEXT_FRAME, filled(64, ASCII))
  const chunk = Buffer.concat(Array.from({ length: Math.floor(CHUNK / frame.length) }, () => frame))
  const parse = makeParser()
  bench(`${parse(chunk)} text frames of 64 B in a chunk of 64 KiB`, () => do_not_optimize(parse(chunk)))

  const pieces = chunksOf(maskedFrame(BINARY_FRAME, filled(1_048_576, ASCII)), CHUNK)
  const parseLarge = makeParser()
  bench('a binary frame of 1 MiB in chunks of 64 KiB', () => {
    for (const piece of pieces) do_not_optimize(parseLarge(piece))
  })
}

function addMask() {
  for (const size of SIZES) {
    const memory = Buffer.alloc(size + 4)
    for (const offset of [0, 1]) {
      const part = memory.subarray(offset, offset + size)
      bench(`${bytes(size)}, ${offset === 0 ? 'aligned' : 'unaligned'}`, () => maskBytes(part, KEY))
    }
  }
}

function addUtf8() {
  for (const [name, text] of [
    ['ASCII', ASCII],
    ['mixed', MIXED]
  ]) {
    for (const size of [64, 1024, 65_536]) {
      const whole = characters(size, text)
      bench(`isUtf8, ${name}, ${bytes(size)}`, () => do_not_optimize(isUtf8(whole)))
      bench(`Utf8Validator, ${name}, ${bytes(size)}`, () => do_not_optimize(validate(whole)))
    }
  }
}

function addWriter() {
  const text = filled(64, ASCII).toString()
  addWrites(TEXT_FRAME, text, 'text of 64 B')
  addWrites(BINARY_FRAME, filled(1024, ASCII), 'binary of 1 KiB')
  addWrites(BINARY_FRAME, filled(65_536, ASCII), 'binary of 64 KiB')
}

/**
 * @param {number} first
 * @param {string | Buffer} payload
 * @param {string} name
 */
function addWrites(first, payload, name) {
  const write = makeWriter(first)
  bench(`1 × ${name}`, () => do_not_optimize(write(payload, 1)))
  bench(`16 × ${name}`, () => do_not_optimize(write(payload, 16)))
}

/**
 * @param {number} size
 * @param {string} text
 */
function filled(size, text) {
  return Buffer.alloc(size, text)
}

/**
 * Text of at most so many bytes that does not break off inside a character.
 * @param {number} size
 * @param {string} text
 */
function characters(size, text) {
  let whole = filled(size, text)
  while (!isUtf8(whole)) whole = whole.subarray(0, -1)
  return whole
}

/**
 * A client's frame.
 * @param {number} first
 * @param {Buffer} payload
 */
function maskedFrame(first, payload) {
  const masked = Buffer.from(payload)
  maskBytes(masked, KEY)
  const key = Buffer.alloc(4)
  key.writeUInt32BE(KEY)
  return Buffer.concat([Buffer.from([first]), maskedLength(payload.length), key, masked])
}

/** @param {number} length */
function maskedLength(length) {
  if (length < 126) return Buffer.from([0x80 | length])
  const bytes = Buffer.alloc(9)
  bytes[0] = 0xff
  bytes.writeBigUInt64BE(BigInt(length), 1)
  return bytes
}

/**
 * @param {Buffer} buffer
 * @param {number} size
 */
function chunksOf(buffer, size) {
  return Array.from({ length: Math.ceil(buffer.length / size) }, (_, i) =>
    buffer.subarray(i * size, (i + 1) * size)
  )
}
