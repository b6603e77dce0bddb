/** A peer of RFC 7692 with the one-shot functions of node:zlib, which keep no state between calls. */
import { createHash } from 'node:crypto'
import { constants, deflateRawSync, inflateRawSync, type ZlibOptions } from 'node:zlib'
import type { Test } from 'tap'
import { ZlibStream } from '../../lib/compression/zlib-stream.js'
import { withDeadline } from '../helpers/timeout.js'
import { bytes, randomNumbers, type WireFrame } from '../protocol/wire.js'
import { type Deflate, tick } from './harness.js'

const finishFlush = constants.Z_SYNC_FLUSH

/** RFC 7692 section 7.2.1: the end of each message, which is not sent. */
export const TAIL = Buffer.from('0000ffff', 'hex')

/** A window of 32 KiB that is kept between messages if `takesOver`; it is passed to zlib as a dictionary. */
export class Window {
  readonly #takesOver: boolean
  #seen: Buffer = Buffer.alloc(0)

  constructor(takesOver = true) {
    this.#takesOver = takesOver
  }

  /** The payload of a message or, with `fin` false, of a fragment. */
  deflate(data: string | Uint8Array, fin = true): Buffer {
    const plain = bytes(data)
    const deflated = deflateRawSync(plain, { ...this.#dictionary(), finishFlush })
    this.#see(plain)
    return fin ? deflated.subarray(0, -4) : deflated
  }

  inflate(payload: Uint8Array): Buffer {
    const plain = inflateRawSync(bytes(payload, TAIL), { ...this.#dictionary(), finishFlush })
    this.#see(plain)
    return plain
  }

  #dictionary(): ZlibOptions {
    return this.#seen.length === 0 ? {} : { dictionary: this.#seen }
  }

  #see(plain: Buffer): void {
    if (this.#takesOver) this.#seen = bytes(this.#seen, plain).subarray(-32_768)
  }
}

export interface Wishes {
  /** Whether the tested side refers to earlier messages. */
  readonly takesOver?: boolean
  /** Whether its peer does. */
  readonly peerTakesOver?: boolean
  readonly threshold?: number
  readonly role?: 'server' | 'client'
}

/** The negotiated parameters of the tested side. */
export function deflateOf(wishes: Wishes = {}): Deflate {
  const { takesOver = false, peerTakesOver = false, threshold = 0, role = 'server' } = wishes
  const [server, client] = role === 'server' ? [takesOver, peerTakesOver] : [peerTakesOver, takesOver]
  const parameters = {
    serverNoContextTakeover: !server,
    clientNoContextTakeover: !client,
    serverMaxWindowBits: 15,
    clientMaxWindowBits: 15
  }
  return { parameters, settings: { ...parameters, threshold, level: 6, memLevel: 8, strategy: 0 } }
}

/** Bytes that cannot be compressed. */
export function noise(length: number, seed = 1): Buffer {
  const random = randomNumbers(seed)
  return Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)))
}

/** Text that repeats itself at some distance, so that a window helps. */
export function words(length: number, seed = 1): string {
  const random = randomNumbers(seed)
  let text = ''
  while (text.length < length) text += `${Math.floor(random() * 1000)} `
  return text.slice(0, length)
}

const RUN = ZlibStream.prototype.run

/** The runs of the thread pool, each of which waits until the test continues it. */
export class HeldRuns {
  readonly inputs: Buffer[] = []
  readonly #gates: ((error?: Error) => void)[] = []
  readonly #done: Promise<unknown>[] = []

  constructor(t: Test) {
    const held = this
    t.intercept(ZlibStream.prototype, 'run', {
      value(this: ZlibStream, input: Buffer, limit: number): Promise<Buffer> {
        held.inputs.push(input)
        const gate = new Promise<void>((resolve, reject) => {
          held.#gates.push(error => (error ? reject(error) : resolve()))
        })
        const output: Promise<Buffer> = gate.then(() => Reflect.apply(RUN, this, [input, limit]))
        held.#done.push(output.catch(() => {}))
        return output
      }
    })
  }

  /** Continues or fails run number `i`. All synchronous consequences have happened when this returns. */
  async release(i: number, error?: Error): Promise<void> {
    for (let ticks = 0; ticks < 100 && this.#gates.length <= i; ticks++) await tick()
    if (this.#gates.length <= i) throw new Error(`Run ${i} was not begun.`)
    this.#gates[i](error)
    await withDeadline(this.#done[i], 10_000, 'thread pool')
    await tick()
    await tick()
  }
}

/** Frames as messages and control frames: `text z Hello` was compressed. Long payloads are shown as length and hash. */
export function readMessages(frames: readonly WireFrame[], window: Window): string[] {
  const lines: string[] = []
  let message: { words: string[]; compressed: boolean; parts: Buffer[] } | undefined
  for (const { fin, rsv, opcode, payload } of frames) {
    if (opcode > 7) {
      const name = { 8: 'close', 9: 'ping', 10: 'pong' }[opcode]
      lines.push(
        `${name}${rsv === 0 ? '' : ' reserved'} ${opcode === 8 ? payload.readUInt16BE() : payload.toString()}`
      )
      continue
    }
    if (opcode !== 0) {
      if (message !== undefined) lines.push('interleaved')
      message = { words: [opcode === 1 ? 'text' : 'binary'], compressed: rsv === 4, parts: [] }
    }
    if (message === undefined || (rsv !== 0 && (opcode === 0 || rsv !== 4))) {
      lines.push('reserved bits')
      continue
    }
    message.parts.push(payload)
    if (!fin) continue
    const whole = bytes(...message.parts)
    const { words, parts, compressed } = message
    if (parts.length > 1) words.push(`in ${parts.length}`)
    lines.push([...words, show(compressed ? window.inflate(whole) : whole, compressed)].join(' '))
    message = undefined
  }
  if (message !== undefined) lines.push('unfinished')
  return lines
}

export function show(data: string | Uint8Array, compressed: boolean): string {
  const plain = bytes(data)
  const short =
    plain.length < 40
      ? plain.toString()
      : `${plain.length} ${createHash('sha1').update(plain).digest('hex').slice(0, 8)}`
  return compressed ? `z ${short}` : short
}
