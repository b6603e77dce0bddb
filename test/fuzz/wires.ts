import { constants, deflateRawSync } from 'node:zlib'
import fc from 'fast-check'
import { bytes, frame, header } from '../protocol/wire.js'
import type { Situation } from './model.js'
import { ReceiveCase } from './receive.js'
import type { Delivery } from './subject.js'

/** A size near a boundary of the implementation. */
type Size = { readonly near: number | 'maxPayload'; readonly by: number }

type Content =
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | { readonly kind: 'filled'; readonly size: Size; readonly byte: number }

interface Compression {
  readonly level: number
  readonly windowBits: number
  readonly strategy: number
  /** How the data is compressed into one or more streams or blocks. */
  readonly style:
    | 'plain'
    | 'flushed'
    | 'final'
    | 'final without more'
    | 'two streams'
    | 'broken'
    | 'padded'
    | 'refers'
  readonly at: number
}

interface RawFrame {
  readonly first: number
  readonly masked: 'right' | 'wrong'
  readonly form: 7 | 16 | 64 | undefined
  readonly lie: bigint | undefined
  readonly content: Content
}

type Part =
  | {
      readonly kind: 'message'
      readonly binary: boolean
      readonly content: Content
      readonly cuts: readonly number[]
      readonly between: readonly RawFrame[]
      readonly compression: Compression | undefined
    }
  | { readonly kind: 'frame'; readonly frame: RawFrame }
  | { readonly kind: 'bytes'; readonly bytes: Buffer }

/** Larger contents take as much time as many small ones. */
const MOST = 70_000

const buffer = (max: number) =>
  fc.uint8Array({ maxLength: max, size: 'max' }).map(array => Buffer.from(array))

const TEXT = fc.string({ unit: 'binary', maxLength: 12 }).map(text => Buffer.from(text))

/** Boundaries of RFC 3629: valid, invalid, complete and incomplete. */
const UTF8 = fc
  .array(
    fc.constantFrom(
      ...['24', 'c2a3', 'e282ac', 'f0908d88', 'efbfbf', 'ed9fbf', 'ee8080', 'f48fbfbf', 'c280', 'e0a080'],
      ...[
        'c0',
        'c1bf',
        'e080',
        'e09f',
        'eda080',
        'f08f',
        'f490',
        'f5',
        'ff',
        '80',
        'e282',
        'f0908d',
        'c2',
        'f48fbf'
      ]
    ),
    { maxLength: 5 }
  )
  .map(parts => Buffer.from(parts.join(''), 'hex'))

const GOOD_UTF8 = fc
  .array(fc.constantFrom('24', 'c2a3', 'e282ac', 'f0908d88', 'ed9fbf', 'ee8080', 'f48fbfbf', 'e0a080'), {
    maxLength: 12
  })
  .map(parts => Buffer.from(parts.join(''), 'hex'))

const size = (by: readonly number[]): fc.Arbitrary<Size> =>
  fc.record({
    near: fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom<Size['near']>(2, 64, 125, 'maxPayload') },
      { weight: 1, arbitrary: fc.constantFrom<Size['near']>(16384, 65535) }
    ),
    by: fc.constantFrom(...by)
  })

const filled = (by: readonly number[], bytes: readonly number[]): fc.Arbitrary<Content> =>
  fc.record({ kind: fc.constant('filled' as const), size: size(by), byte: fc.constantFrom(...bytes) })

const asBytes = (from: fc.Arbitrary<Buffer>): fc.Arbitrary<Content> =>
  from.map(bytes => ({ kind: 'bytes', bytes }))

const GOOD_TEXT: fc.Arbitrary<Content> = fc.oneof(
  { weight: 3, arbitrary: asBytes(TEXT) },
  { weight: 3, arbitrary: asBytes(GOOD_UTF8) },
  { weight: 2, arbitrary: filled([-2, -1, 0], [0x61, 0]) }
)

const GOOD_DATA: fc.Arbitrary<Content> = fc.oneof(
  { weight: 3, arbitrary: asBytes(buffer(200)) },
  { weight: 2, arbitrary: filled([-2, -1, 0], [0, 0xff]) }
)

const CONTENT: fc.Arbitrary<Content> = fc.oneof(
  asBytes(UTF8),
  asBytes(buffer(200)),
  filled([-1, 0, 1, 1, 2, 100], [0, 0x61, 0x80])
)

const CLOSE_BODY = fc.oneof(
  fc.constant(Buffer.alloc(0)),
  buffer(4),
  fc
    .tuple(
      fc.constantFrom(
        ...[1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999],
        ...[0, 999, 1004, 1005, 1006, 1015, 2999, 5000]
      ),
      fc.oneof(GOOD_UTF8, TEXT, UTF8)
    )
    .map(([code, reason]) => bytes(code >> 8, code & 255, reason))
)

const frameOf = (
  first: fc.Arbitrary<number>,
  content: fc.Arbitrary<Content>,
  masked: RawFrame['masked'] = 'right'
): fc.Arbitrary<RawFrame> =>
  fc.record({
    first,
    masked: fc.constant(masked),
    form: fc.constant(undefined),
    lie: fc.constant(undefined),
    content
  })

const FULL: Content = { kind: 'filled', size: { near: 125, by: 0 }, byte: 0x80 }

const PING_OR_PONG = frameOf(
  fc.constantFrom(0x89, 0x89, 0x8a),
  fc.oneof({ weight: 5, arbitrary: asBytes(buffer(8)) }, { weight: 1, arbitrary: fc.constant(FULL) })
)

const CLOSE = frameOf(fc.constant(0x88), asBytes(CLOSE_BODY))

/** Any first byte, length form and length. */
const ANY_FRAME: fc.Arbitrary<RawFrame> = fc.record({
  first: fc.oneof(
    fc.nat(255),
    fc.constantFrom(0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x08, 0x09, 0x88, 0x89, 0x8a, 0xc1, 0x41, 0xc0, 0xc9)
  ),
  masked: fc.constantFrom('right', 'right', 'right', 'right', 'wrong'),
  form: fc.constantFrom(undefined, undefined, undefined, 7, 16, 64),
  lie: fc.option(
    fc.oneof(
      fc.bigInt({ min: 0n, max: 300n }),
      fc.bigInt({ min: 65530n, max: 65600n }),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.constantFrom(2n ** 31n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n)
    ),
    { nil: undefined, freq: 3 }
  ),
  content: CONTENT
})

/** Lengths in the wrong form, and lengths beyond the data. */
const ANY_LENGTH: fc.Arbitrary<RawFrame> = fc
  .tuple(fc.constantFrom(0x02, 0x82), fc.constantFrom<RawFrame['form']>(16, 64), ANY_FRAME)
  .map(([first, form, raw]) => ({ ...raw, first, form, masked: 'right' }))

const compression = (styles: readonly Compression['style'][]): fc.Arbitrary<Compression> =>
  fc.record({
    level: fc.constantFrom(0, 1, 6, 9),
    windowBits: fc.constantFrom(9, 12, 15, 15),
    strategy: fc.constantFrom(0, 0, constants.Z_HUFFMAN_ONLY, constants.Z_FIXED, constants.Z_RLE),
    style: fc.constantFrom(...styles),
    at: fc.nat()
  })

const GOOD_COMPRESSION = fc.option(
  compression(['plain', 'plain', 'plain', 'flushed', 'final', 'final without more', 'two streams']),
  { nil: undefined, freq: 2 }
)

const message = (
  binary: fc.Arbitrary<boolean>,
  content: fc.Arbitrary<Content>,
  between: fc.Arbitrary<RawFrame>,
  style: fc.Arbitrary<Compression | undefined>
): fc.Arbitrary<Part> =>
  fc.record({
    kind: fc.constant('message' as const),
    binary,
    content,
    cuts: fc.oneof(fc.constant([]), fc.array(fc.nat(), { maxLength: 5 })),
    between: fc.array(between, { maxLength: 3 }),
    compression: style
  })

const asFrame = (from: fc.Arbitrary<RawFrame>): fc.Arbitrary<Part> =>
  from.map(raw => ({ kind: 'frame', frame: raw }))

const GOOD_PART: fc.Arbitrary<Part> = fc.oneof(
  { weight: 3, arbitrary: message(fc.constant(false), GOOD_TEXT, PING_OR_PONG, GOOD_COMPRESSION) },
  { weight: 3, arbitrary: message(fc.constant(true), GOOD_DATA, PING_OR_PONG, GOOD_COMPRESSION) },
  { weight: 3, arbitrary: asFrame(PING_OR_PONG) }
)

/** Frames that end a connection, or may end it. */
const ENDING: fc.Arbitrary<Part> = fc.oneof(
  { weight: 4, arbitrary: asFrame(CLOSE) },
  { weight: 4, arbitrary: asFrame(ANY_FRAME) },
  { weight: 3, arbitrary: asFrame(ANY_LENGTH) },
  { weight: 1, arbitrary: asFrame(frameOf(fc.constantFrom(0x81, 0x89, 0x88), asBytes(TEXT), 'wrong')) },
  {
    weight: 4,
    arbitrary: message(
      fc.boolean(),
      CONTENT,
      fc.oneof(PING_OR_PONG, CLOSE, ANY_FRAME),
      fc.option(compression(['plain', 'broken', 'broken', 'padded', 'flushed', 'refers']), {
        nil: undefined,
        freq: 6
      })
    )
  },
  { weight: 3, arbitrary: message(fc.constant(false), GOOD_TEXT, ANY_FRAME, GOOD_COMPRESSION) },
  { weight: 1, arbitrary: buffer(16).map(junk => ({ kind: 'bytes' as const, bytes: junk })) }
)

/** A conversation, mostly with a frame in it that ends it. */
const PARTS = fc
  .tuple(
    fc.array(GOOD_PART, { maxLength: 8 }),
    fc.oneof(
      { weight: 1, arbitrary: fc.constant([]) },
      { weight: 3, arbitrary: fc.array(ENDING, { minLength: 1, maxLength: 3 }) }
    ),
    fc.array(GOOD_PART, { maxLength: 2 })
  )
  .map(parts => parts.flat())

const DELIVERY: fc.Arbitrary<Delivery> = fc.record({
  cuts: fc.oneof(
    fc.array(fc.nat(70_000), { maxLength: 12 }),
    fc.array(fc.nat(40), { maxLength: 12 }),
    // Every byte of a short wire.
    fc.constant(Array.from({ length: 400 }, (_, i) => i))
  ),
  offset: fc.nat(8),
  pauses: fc.array(
    fc.record({
      at: fc.constantFrom('chunk' as const, 'event' as const),
      number: fc.nat(8),
      chunks: fc.nat(6)
    }),
    { maxLength: 4 }
  ),
  closeAt: fc.option(fc.nat(8), { nil: null, freq: 2 })
})

const SITUATION = (deflate: fc.Arbitrary<Situation['deflate']>): fc.Arbitrary<Situation> =>
  fc.record({
    role: fc.constantFrom<Situation['role']>('server', 'client'),
    maxPayload: fc.constantFrom(2, 125, 126, 200, 1000, 1000, 1000, 20_000, 65535, 65536, 2 ** 20, 2 ** 20),
    deflate
  })

/** Changes of single bits, mostly none. */
const FLIPS = fc.oneof(
  { weight: 4, arbitrary: fc.constant<number[]>([]) },
  { weight: 1, arbitrary: fc.array(fc.nat(), { maxLength: 3 }) }
)

export function receiveCases(deflate: fc.Arbitrary<Situation['deflate']>): fc.Arbitrary<ReceiveCase> {
  return fc
    .record({
      situation: SITUATION(deflate),
      parts: PARTS,
      flips: FLIPS,
      /** The number of bytes that are missing at the end. */
      missing: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(30) }),
      key: fc.array(fc.nat(255), { minLength: 4, maxLength: 4 }),
      delivery: DELIVERY
    })
    .map(({ situation, parts, flips, missing, key, delivery }) => {
      const wire = new Wire(situation, key).write(parts)
      for (const flip of flips) if (wire.length > 0) wire[flip % wire.length] ^= 1 << (flip % 8)
      // The model parses everything anew after each chunk.
      const cuts = delivery.cuts.slice(0, wire.length > 2000 ? 30 : Infinity)
      const rest = wire.subarray(0, Math.max(0, wire.length - missing))
      return new ReceiveCase(situation, rest, { ...delivery, cuts })
    })
}

/** Writes the peer's bytes. */
class Wire {
  readonly #situation: Situation
  readonly #key: readonly number[]
  /** The data compressed in the stream so far: with takeover, later messages refer to it. */
  #dictionary: Buffer = Buffer.alloc(0)
  readonly #parts: Buffer[] = []

  constructor(situation: Situation, key: readonly number[]) {
    this.#situation = situation
    this.#key = key
  }

  write(parts: readonly Part[]): Buffer {
    for (const part of parts) {
      if (part.kind === 'bytes') this.#parts.push(part.bytes)
      else if (part.kind === 'frame') this.#frame(part.frame)
      else this.#message(part)
    }
    return Buffer.concat(this.#parts)
  }

  #frame({ first, masked, form, lie, content }: RawFrame): void {
    const payload = this.#content(content)
    const shape = {
      fin: first >= 128,
      rsv: (first >> 4) & 7,
      key: (this.#situation.role === 'server') === (masked === 'right') ? this.#key : null,
      ...(form === undefined ? {} : { form })
    }
    // A length of 126 or 127 in seven bits announces more octets; unstructured bytes cover that.
    const most = form === 7 ? 125n : form === 16 ? 0xffffn : 2n ** 64n - 1n
    const length = BigInt(lie ?? payload.length)
    const body = frame(first & 15, payload, { key: shape.key }).subarray(-payload.length || Infinity)
    this.#parts.push(header(first & 15, length > most ? most : length, shape), body)
  }

  #message({ binary, content, cuts, between, compression }: Extract<Part, { kind: 'message' }>): void {
    const data = this.#content(content)
    const isCompressed = compression !== undefined && this.#situation.deflate !== 'none'
    const payload = isCompressed ? this.#compress(data, compression) : data
    const inside = cuts.map(cut => cut % (payload.length + 1)).sort((a, b) => a - b)
    const ends = [...inside, payload.length]
    const key = this.#situation.role === 'server' ? this.#key : null
    let from = 0
    for (const [i, end] of ends.entries()) {
      const shape = { fin: i === ends.length - 1, rsv: isCompressed && i === 0 ? 4 : 0, key }
      this.#parts.push(frame(i > 0 ? 0 : binary ? 2 : 1, payload.subarray(from, end), shape))
      const control = i < ends.length - 1 ? between.at(i) : undefined
      if (control !== undefined) this.#frame(control)
      from = end
    }
  }

  /** RFC 7692 section 7.2.1, and the other forms that section 7.2.3 allows. */
  #compress(data: Buffer, { level, windowBits, strategy, style, at }: Compression): Buffer {
    // A peer that refers to earlier messages although each message must stand alone.
    const takesOver = this.#situation.deflate === 'takeover' || style === 'refers'
    const deflate = (part: Buffer, finishFlush: number): Buffer => {
      const dictionary = this.#dictionary.subarray(-(2 ** windowBits - 262))
      const options = { level, windowBits, strategy, finishFlush }
      const refers = takesOver && dictionary.length > 0
      const result = deflateRawSync(part, refers ? { ...options, dictionary } : options)
      this.#dictionary = Buffer.concat([this.#dictionary, part])
      return result
    }
    const flushed = (part: Buffer): Buffer => deflate(part, constants.Z_SYNC_FLUSH)
    const finished = (part: Buffer): Buffer => {
      const result = deflate(part, constants.Z_FINISH)
      this.#dictionary = Buffer.alloc(0)
      return result
    }
    const middle = at % (data.length + 1)
    const [start, end] = [data.subarray(0, middle), data.subarray(middle)]
    switch (style) {
      case 'plain':
      case 'refers':
        return flushed(data).subarray(0, -4)
      case 'flushed':
        return bytes(flushed(start), flushed(end).subarray(0, -4))
      case 'final':
        return bytes(finished(data), 0)
      case 'final without more':
        return finished(data)
      case 'two streams':
        return bytes(finished(start), flushed(end).subarray(0, -4))
      case 'padded':
        // Empty blocks, which contain nothing and take four bytes each.
        return bytes(
          Buffer.alloc(5 * (at % 40), Buffer.from([0, 0, 0, 0xff, 0xff])),
          flushed(data).subarray(0, -4)
        )
      case 'broken': {
        const result = flushed(data)
        result[at % result.length] ^= 1 << (at % 8)
        return result.subarray(0, result.length - (at % 6))
      }
    }
  }

  #content(content: Content): Buffer {
    if (content.kind === 'bytes') return content.bytes
    const { near, by } = content.size
    const size = (near === 'maxPayload' ? this.#situation.maxPayload : near) + by
    return Buffer.alloc(Math.min(Math.max(size, 0), MOST), content.byte)
  }
}
