import { isTokenChar, isWhitespace } from './handshake/token.js'
import type { Violation } from './violation.js'

/** Compresses the payloads of messages, in the order in which they are sent. */
export interface Compressor {
  /** Whether a message may refer to earlier messages: then the compressor belongs to one connection. */
  readonly takesOver: boolean
  /**
   * @param data with 4 KiB or more it must not be changed before the promise has settled.
   * @param fin false for a fragment that others follow.
   */
  compress(data: string | Uint8Array, fin: boolean): Buffer | Promise<Buffer>
}

/** Decompresses the payloads of messages, one at a time. */
export interface Decompressor {
  /** @param limit bytes that the message may have. */
  decompress(data: Buffer, limit: number): Buffer | Violation | Promise<Buffer | Violation>
}

/**
 * A per-message compression extension that a connection uses, RFC 7692 sections 4 to 6. RSV1 in the first frame of a message
 * says that the message is compressed. Every extension that is registered for WebSocket is of this kind.
 */
export interface CompressionExtension {
  /** The name in `Sec-WebSocket-Extensions`. */
  readonly name: string
  readonly compressor: Compressor
  readonly decompressor: Decompressor
  /** Bytes from which on a message is compressed. */
  readonly threshold: number
  /** Frees the resources that belong to this connection only. */
  close(): void
}

/** One element of `Sec-WebSocket-Extensions`, RFC 6455 section 9.1. */
export interface ExtensionOffer {
  readonly name: string
  /** In order and with repetitions; a parameter without a value has `undefined`. */
  readonly parameters: readonly (readonly [name: string, value: string | undefined])[]
}

/**
 * Reads `Sec-WebSocket-Extensions` in one pass. Empty elements do not count.
 * @returns undefined when the header does not follow its grammar.
 */
export function parseExtensions(text: string): ExtensionOffer[] | undefined {
  const reader = new Reader(text)
  const offers: ExtensionOffer[] = []
  while (!reader.atEnd()) {
    if (reader.take(',')) continue
    const offer = readOffer(reader)
    if (offer === undefined || !(reader.atEnd() || reader.take(','))) return undefined
    offers.push(offer)
  }
  return offers
}

function readOffer(reader: Reader): ExtensionOffer | undefined {
  const name = reader.token()
  if (name === undefined) return undefined
  const parameters: [string, string | undefined][] = []
  while (reader.take(';')) {
    const parameter = reader.token()
    if (parameter === undefined) return undefined
    if (!reader.take('=')) parameters.push([parameter, undefined])
    else {
      const value = reader.token() ?? reader.quotedToken()
      if (value === undefined) return undefined
      parameters.push([parameter, value])
    }
  }
  return { name, parameters }
}

/** A position in a header; every method skips white space first and moves only past the text that it takes. */
class Reader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  atEnd(): boolean {
    this.#skip()
    return this.#at === this.#text.length
  }

  take(char: string): boolean {
    this.#skip()
    if (this.#text[this.#at] !== char) return false
    this.#at++
    return true
  }

  token(): string | undefined {
    this.#skip()
    const start = this.#at
    while (isTokenChar(this.#text.charCodeAt(this.#at))) this.#at++
    return this.#at === start ? undefined : this.#text.slice(start, this.#at)
  }

  /** A quoted string that is a token once unescaped, as RFC 6455 section 9.1 asks. */
  quotedToken(): string | undefined {
    if (!this.take('"')) return undefined
    let value = ''
    while (this.#at < this.#text.length) {
      let char = this.#text[this.#at++]
      if (char === '"') return value === '' ? undefined : value
      if (char === '\\') char = this.#text[this.#at++]
      if (char === undefined || !isTokenChar(char.charCodeAt(0))) return undefined
      value += char
    }
    return undefined
  }

  #skip(): void {
    while (isWhitespace(this.#text.charCodeAt(this.#at))) this.#at++
  }
}
