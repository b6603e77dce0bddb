import { randomNumbers } from '../protocol/wire.js'
import { CORPUS, type Conversation } from './corpus.js'

/** The ways in which a client disconnects. */
const ENDINGS = ['wait', 'half-close', 'reset', 'reset after an answer', 'destroy', 'deaf'] as const
const USUAL = [...ENDINGS, 'wait', 'wait', 'wait', 'half-close', 'reset after an answer'] as const

/** The data that an attacker writes, piece by piece, and how it disconnects afterwards. */
export interface Attack {
  readonly pieces: readonly Buffer[]
  /** Milliseconds before each piece; 0 is the next turn of the event loop. */
  readonly delay: number
  readonly ending: (typeof ENDINGS)[number]
}

/** The format of fixtures. */
export function writeAttack({ pieces, delay, ending }: Attack): string {
  return JSON.stringify({ pieces: pieces.map(piece => piece.toString('hex')), delay, ending })
}

export function readAttack(fixture: unknown): Attack {
  const read = (key: string): unknown => Reflect.get(Object(fixture), key)
  const pieces = read('pieces')
  const ending = ENDINGS.find(one => one === read('ending'))
  if (!Array.isArray(pieces) || ending === undefined) throw new TypeError('not an attack')
  return {
    pieces: pieces.map(piece => Buffer.from(String(piece), 'hex')),
    delay: Number(read('delay')),
    ending
  }
}

/** The attack with a number: the same for the same seed, whatever was generated before. */
export function attackOf(seed: number, number: number): Attack {
  const random = new Random((Math.imul(seed, 1_000_003) + number) | 0)
  const { head, rest } = random.pick(CORPUS)
  // Most pass the handshake, as most of the code comes after it.
  const isHeadChanged = random.chance(0.3)
  const tail = random.chance(0.7) ? mutateFrames(rest, random) : rest
  const flat = Buffer.concat(tail)
  const wire = isHeadChanged
    ? mutate(Buffer.concat([head, flat]), random)
    : Buffer.concat([head, random.chance(0.8) ? mutate(flat, random) : flat])
  return { pieces: cut(wire, random), delay: random.pick([0, 0, 0, 1, 3]), ending: random.pick(USUAL) }
}

/** The data unchanged, in one piece, or in single bytes around the end of the head. */
export function plainAttacks(conversation: Conversation): Attack[] {
  const { head, rest } = conversation
  const flat = Buffer.concat(rest)
  return [
    { pieces: [Buffer.concat([head, flat])], delay: 0, ending: 'wait' },
    {
      pieces: [head.subarray(0, -1), head.subarray(-1), flat.subarray(0, 1), flat.subarray(1)],
      delay: 1,
      ending: 'half-close'
    }
  ]
}

class Random {
  readonly #next: () => number

  constructor(seed: number) {
    this.#next = randomNumbers(seed)
  }

  /** From 0, below `end`. */
  below(end: number): number {
    return Math.floor(this.#next() * end)
  }

  chance(probability: number): boolean {
    return this.#next() < probability
  }

  pick<Value>(values: readonly Value[]): Value {
    return values[this.below(values.length)]
  }

  bytes(most: number): Buffer {
    return Buffer.from(Array.from({ length: this.below(most + 1) }, () => this.below(256)))
  }

  /** A part of a buffer; short parts are more frequent than long ones. */
  range(length: number, most = length): [start: number, end: number] {
    const start = this.below(length + 1)
    const size = Math.floor(Math.min(most, length - start) * this.#next() ** 3)
    return [start, start + size]
  }
}

/** Whole frames reordered, repeated, removed, or taken from another conversation. */
function mutateFrames(frames: readonly Buffer[], random: Random): Buffer[] {
  const result = [...frames]
  for (let i = random.below(4); i > 0; i--) {
    const at = random.below(result.length + 1)
    const change = random.below(4)
    if (change === 0) result.splice(at, 1)
    else if (change === 1) result.splice(at, 0, ...random.pick(CORPUS).rest.slice(0, 1 + random.below(3)))
    else if (change === 2 && at < result.length) {
      const repeated = result[at]
      const most = repeated.length > 1000 ? 3 : 40
      result.splice(at, 0, ...Array.from({ length: random.below(most) }, () => repeated))
    } else result.push(...result.splice(0, at))
  }
  return result
}

const INTERESTING = [
  0, 1, 0x7d, 0x7e, 0x7f, 0x80, 0x81, 0x88, 0x89, 0xc1, 0xfe, 0xff, 0x0a, 0x0d, 0x20, 0x2c, 0x3a
]
const WORDS = [
  '\r\n',
  '\r\n\r\n',
  'Upgrade: websocket\r\n',
  'Connection: close\r\n',
  'Content-Length: 10\r\n'
]
const MORE = [
  'Transfer-Encoding: chunked\r\n',
  'Expect: 100-continue\r\n',
  '\0',
  'x: y\r\n'.repeat(90),
  '%',
  '%2',
  '/..'
]

function mutate(wire: Buffer, random: Random): Buffer {
  let result = Buffer.from(wire)
  for (let i = random.pick([0, 1, 1, 1, 2, 3, 6]); i > 0; i--) result = mutateOnce(result, random)
  return result
}

function mutateOnce(wire: Buffer, random: Random): Buffer<ArrayBuffer> {
  const at = random.below(wire.length + 1)
  const [start, end] = random.range(wire.length)
  const insert = (position: number, ...parts: readonly Uint8Array[]): Buffer<ArrayBuffer> =>
    Buffer.concat([wire.subarray(0, position), ...parts, wire.subarray(position)])
  switch (random.below(8)) {
    case 0: {
      const changed = Buffer.from(wire)
      if (at < wire.length) changed[at] ^= 1 << random.below(8)
      return changed
    }
    case 1: {
      const changed = Buffer.from(wire)
      if (at < wire.length) changed[at] = random.pick(INTERESTING)
      return changed
    }
    case 2:
      return insert(at, random.bytes(12))
    case 3:
      return insert(at, Buffer.from(random.pick([...WORDS, ...MORE])))
    case 4:
      return Buffer.concat([wire.subarray(0, start), wire.subarray(end)])
    case 5: {
      const [from, to] = random.range(wire.length, 2000)
      return insert(at, wire.subarray(from, to))
    }
    case 6:
      return Buffer.from(wire.subarray(0, at))
    default: {
      const other = random.pick(CORPUS)
      const all = Buffer.concat([other.head, ...other.rest])
      return Buffer.concat([wire.subarray(0, at), all.subarray(random.below(all.length))])
    }
  }
}

function cut(wire: Buffer, random: Random): Buffer[] {
  const cuts = Array.from({ length: random.pick([0, 0, 1, 2, 5, 12]) }, () => random.below(wire.length + 1))
  const ends = [...cuts.sort((a, b) => a - b), wire.length]
  return ends.map((end, i) => wire.subarray(ends[i - 1] ?? 0, end)).filter(({ length }) => length > 0)
}
