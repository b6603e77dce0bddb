/** Below this many bytes the set-up of whole words costs more than it saves. */
const WORDS_PAY_FROM = 64

/** One word as bytes, so that a rotated key is right in either byte order. */
const word = new Int32Array(1)
const wordBytes = new Uint8Array(word.buffer)

/**
 * Masks or unmasks `bytes[start, end)` in place, RFC 6455 section 5.3. The key's first byte is its top one.
 * @param offset how many bytes of the same frame came before `start`.
 */
export function mask(bytes: Uint8Array, start: number, end: number, key: number, offset: number): void {
  if (end - start < WORDS_PAY_FROM) {
    maskBytes(bytes, start, end, key, offset)
    return
  }
  const aligned = start + ((4 - ((bytes.byteOffset + start) & 3)) & 3)
  maskBytes(bytes, start, aligned, key, offset)
  const rotated = offset + aligned - start
  for (let i = 0; i < 4; i++) wordBytes[i] = key >>> shiftOf(rotated + i)
  const keyWord = word[0]
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + aligned, (end - aligned) >> 2)
  maskWords(words, keyWord)
  const rest = aligned + (words.length << 2)
  maskBytes(bytes, rest, end, key, offset + rest - start)
}

/** Eight words a round: twice as fast as one (`npm run bench:micro`). */
function maskWords(words: Int32Array, key: number): void {
  const { length } = words
  let i = 0
  for (; i + 7 < length; i += 8) {
    words[i] ^= key
    words[i + 1] ^= key
    words[i + 2] ^= key
    words[i + 3] ^= key
    words[i + 4] ^= key
    words[i + 5] ^= key
    words[i + 6] ^= key
    words[i + 7] ^= key
  }
  for (; i < length; i++) words[i] ^= key
}

function maskBytes(bytes: Uint8Array, start: number, end: number, key: number, offset: number): void {
  let shift = shiftOf(offset)
  for (let i = start; i < end; i++) {
    // The store keeps the low eight bits.
    bytes[i] ^= key >>> shift
    shift = (shift - 8) & 31
  }
}

/** The shift of the key byte for a payload offset: 24, 16, 8 or 0. */
function shiftOf(offset: number): number {
  return 24 - ((offset & 3) << 3)
}
