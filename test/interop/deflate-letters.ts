import { createHash } from 'node:crypto'
import type { DeflateSettings } from '../../lib/options/table.js'
import { randomNumbers } from '../protocol/wire.js'

/** The way in which a message is sent in one direction. */
export interface Passage {
  readonly compress: boolean
  /** The ends of its fragments, except the last one. */
  readonly cuts: readonly number[]
  /** The payload of the ping before each fragment. */
  readonly pings: readonly (string | undefined)[]
}

/** A message that goes to the other side and back. */
export interface Letter {
  readonly data: Buffer
  readonly isBinary: boolean
  readonly there: Passage
  readonly back: Passage
}

/** Numbers and choices from one seed. */
export class Dice {
  readonly #random: () => number

  constructor(random: () => number) {
    this.#random = random
  }

  /** An integer from `from` to `to`, inclusive. */
  int(from: number, to: number): number {
    return from + Math.floor(this.#random() * (to - from + 1))
  }

  flip(chance = 0.5): boolean {
    return this.#random() < chance
  }

  pick<Value>(values: readonly [Value, ...Value[]]): Value {
    return values[this.int(0, values.length - 1)] ?? values[0]
  }
}

const MIB = 2 ** 20
const LARGEST = MIB
const WIDE = 'é€🐎'

/** Twice the largest message of each kind of content, to take messages from; the same in every run. */
const NOISE = noise(2 * LARGEST)
const WIDE_TEXT = Buffer.alloc(2 * LARGEST, WIDE)
const ASCII: readonly [Buffer, ...Buffer[]] = [
  Buffer.alloc(2 * LARGEST, 'never gonna give you up, '),
  Buffer.from(NOISE.toString('base64')),
  Buffer.alloc(
    2 * LARGEST,
    JSON.stringify(
      Array.from({ length: 500 }, (_, i) => ({ id: i, name: `user ${i * 7919}`, tags: ['a', `${i % 7}`] }))
    )
  )
]

function noise(size: number): Buffer {
  const random = randomNumbers(1)
  const data = Buffer.alloc(size)
  for (let i = 0; i < size; i += 4) data.writeUInt32LE(Math.floor(random() * 2 ** 32), i)
  return data
}

/** Sizes around those at which a frame header, a threshold, a window or the way of compression changes. */
const EDGES: readonly [number, ...number[]] = [
  0, 1, 2, 125, 126, 512, 1024, 4096, 8192, 16_384, 32_768, 65_536
]

function sizeOf(dice: Dice): number {
  if (dice.flip(0.012)) return dice.int(200 * 1024, LARGEST)
  if (dice.flip(0.5)) return dice.int(0, 300)
  const edge = dice.pick(EDGES)
  return Math.max(0, edge + dice.int(-2, 2))
}

function contentOf(dice: Dice, size: number, isBinary: boolean): Buffer {
  if (isBinary && dice.flip()) return cutFrom(NOISE, dice, size)
  if (!dice.flip(0.2)) return cutFrom(dice.pick(ASCII), dice, size)
  const wide = size - (size % Buffer.byteLength(WIDE))
  return Buffer.concat([WIDE_TEXT.subarray(0, wide), Buffer.alloc(size - wide, 'x')])
}

function cutFrom(source: Buffer, dice: Dice, size: number): Buffer {
  const at = dice.int(0, source.length - size)
  return source.subarray(at, at + size)
}

function passageOf(dice: Dice, size: number, name: string): Passage {
  const count = dice.flip(0.3) ? dice.int(1, 5) : 0
  // Fragments may be empty, and may end within a character.
  const cuts = Array.from({ length: count }, () => dice.int(0, size)).sort((a, b) => a - b)
  const pings = Array.from({ length: count + 1 }, (_, i) => (dice.flip(0.15) ? `${name}.${i}` : undefined))
  return { compress: dice.flip(0.8), cuts, pings }
}

export function lettersOf(dice: Dice, count: number): Letter[] {
  return Array.from({ length: count }, (_, i) => {
    const size = sizeOf(dice)
    const isBinary = dice.flip()
    return {
      data: contentOf(dice, size, isBinary),
      isBinary,
      there: passageOf(dice, size, `there ${i}`),
      back: passageOf(dice, size, `back ${i}`)
    }
  })
}

/** The options of `ws`. */
export interface WsDeflate {
  readonly serverNoContextTakeover?: boolean
  readonly clientNoContextTakeover?: boolean
  readonly serverMaxWindowBits?: number
  readonly clientMaxWindowBits?: number
  readonly threshold: number
  readonly zlibDeflateOptions: { level: number; memLevel: number; strategy: number }
}

/** A set of parameters for both sides. */
export interface Setting {
  readonly ours: DeflateSettings
  readonly theirs: WsDeflate
}

const THRESHOLDS: readonly [number, ...number[]] = [0, 1, 100, 1024, 40_000]

/** @param ourRole limits the options of `ws`: it fails if they are not met, and this is not a test of negotiation. */
export function settingOf(dice: Dice, ourRole: 'client' | 'server'): Setting {
  const ours: DeflateSettings = {
    serverNoContextTakeover: dice.flip(0.4),
    clientNoContextTakeover: dice.flip(0.4),
    serverMaxWindowBits: dice.int(9, 15),
    clientMaxWindowBits: dice.int(9, 15),
    threshold: dice.pick(THRESHOLDS),
    level: dice.int(0, 9),
    memLevel: dice.int(1, 9),
    strategy: dice.flip(0.7) ? 0 : dice.int(1, 4)
  }
  const largest = ourRole === 'client' ? ours : { serverMaxWindowBits: 15, clientMaxWindowBits: 15 }
  return {
    ours,
    theirs: {
      ...(dice.flip(0.4) && { serverNoContextTakeover: true }),
      ...(dice.flip(0.4) && { clientNoContextTakeover: true }),
      ...(dice.flip() && { serverMaxWindowBits: dice.int(9, largest.serverMaxWindowBits) }),
      // A client of `ws` refuses a window above its own, and a server of this package answers none above it.
      ...(dice.flip() && { clientMaxWindowBits: dice.int(9, largest.clientMaxWindowBits) }),
      threshold: dice.pick(THRESHOLDS),
      zlibDeflateOptions: { level: dice.int(0, 9), memLevel: dice.int(1, 9), strategy: dice.int(0, 4) }
    }
  }
}

/** A message as one line. */
export function describe(data: Buffer, isBinary: boolean): string {
  const hash = createHash('md5').update(data).digest('base64').slice(0, 8)
  return `${isBinary ? 'binary' : 'text'} ${data.length} ${hash}`
}
