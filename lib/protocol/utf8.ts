import { isUtf8 } from 'node:buffer'

/**
 * Checks text that arrives in pieces (RFC 6455 section 8.1) and finds an error at the first byte that shows it,
 * also inside an unfinished character.
 */
export class Utf8Validator {
  /** Continuation bytes that the character under way still needs. */
  #needed = 0
  /** The range of the next continuation byte: narrower after E0, ED, F0 and F4 (RFC 3629 section 4). */
  #low = 0x80
  #high = 0xbf

  /** Whether `bytes` can follow the bytes that were pushed before. */
  push(bytes: Uint8Array): boolean {
    let start = 0
    while (this.#needed > 0 && start < bytes.length) {
      if (!this.#step(bytes[start++])) return false
    }
    const tail = lastBoundary(bytes, start)
    if (!isUtf8(bytes.subarray(start, tail))) return false
    for (let i = tail; i < bytes.length; i++) {
      if (!this.#step(bytes[i])) return false
    }
    return true
  }

  /** Whether the text may end here. */
  end(): boolean {
    return this.#needed === 0
  }

  #step(byte: number): boolean {
    if (this.#needed === 0) return this.#lead(byte)
    if (byte < this.#low || byte > this.#high) return false
    this.#needed--
    this.#low = 0x80
    this.#high = 0xbf
    return true
  }

  /** Never ASCII: `push` only processes the bytes after the last boundary. */
  #lead(byte: number): boolean {
    if (byte < 0xc2 || byte > 0xf4) return false
    this.#needed = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3
    if (byte === 0xe0) this.#low = 0xa0
    else if (byte === 0xed) this.#high = 0x9f
    else if (byte === 0xf0) this.#low = 0x90
    else if (byte === 0xf4) this.#high = 0x8f
    return true
  }
}

/** Where a character that `bytes` may leave unfinished begins; its end when none can be unfinished. */
function lastBoundary(bytes: Uint8Array, start: number): number {
  const earliest = Math.max(start, bytes.length - 3)
  for (let i = bytes.length - 1; i >= earliest; i--) {
    const byte = bytes[i]
    if (byte >= 0xc0) return i
    if (byte < 0x80) return i + 1
  }
  return bytes.length
}
