import { Inflater } from '../../lib/compression/inflater.js'
import { Connection, type ConnectionEvents } from '../../lib/protocol/connection.js'
import type { Violation } from '../../lib/protocol/violation.js'
import { digest, type Situation } from './model.js'

/** How the bytes of a case are delivered. */
export interface Delivery {
  /** The positions at which the wire is split; taken modulo its length. */
  readonly cuts: readonly number[]
  /** The number of bytes before each chunk in its memory: masks are applied by the word. */
  readonly offset: number
  /** The places where reading is paused: before a chunk, or inside an event. It is resumed that many chunks later. */
  readonly pauses: readonly {
    readonly at: 'chunk' | 'event'
    readonly number: number
    readonly chunks: number
  }[]
  /** The chunk before which this side starts to close, if it does. */
  readonly closeAt: number | null
}

export const AT_ONCE: Delivery = { cuts: [], offset: 0, pauses: [], closeAt: null }

/** The state after a chunk. */
export interface Step {
  /** The number of bytes so far. */
  readonly given: number
  /** The number of events so far. */
  readonly events: number
  /** The output of the read of this chunk. */
  readonly written: Buffer
}

/** Positions in order, without duplicates, within a wire. */
export function cutsOf(length: number, cuts: readonly number[]): number[] {
  const inside = new Set(cuts.map(cut => cut % Math.max(length, 1)))
  inside.delete(0)
  return [...inside].sort((a, b) => a - b).concat(length)
}

/** The close code of this side. */
const OWN_CODE = 3333

const GUARD = 0xa5

/** A connection that receives a wire as a delivery describes, and records its events and output. */
export class Subject {
  readonly events: string[] = []
  readonly steps: Step[] = []
  /** The masking keys that were requested, as octets. */
  readonly keys: number[][] = []
  /** Events that must never happen. */
  readonly faults: string[] = []
  readonly connection: Connection
  readonly #situation: Situation
  readonly #delivery: Delivery
  readonly #inflater: Inflater
  /** The delivered data, to check later that it was not changed. */
  readonly #delivered: { readonly data: Buffer; readonly copy: Buffer }[] = []
  readonly #chunks: { readonly memory: Buffer; readonly length: number }[] = []
  #pausedFor = 0
  #job: Promise<void> | undefined

  constructor(situation: Situation, delivery: Delivery) {
    this.#situation = situation
    this.#delivery = delivery
    this.#inflater = new Inflater(15, situation.deflate === 'takeover')
    const events: ConnectionEvents = {
      onMessage: (data, isBinary) => this.#record(isBinary ? 'binary' : 'text', data),
      onCompressed: (data, isBinary) => this.#inflate(data, isBinary),
      onPing: data => this.#record('ping', data),
      onPong: data => this.#record('pong', data),
      onClose: (code, reason) => this.#record(`close ${code}`, reason),
      onFail: error =>
        this.#record(`fail ${error.code.replace('FST_UPGRADE_', '')} ${error.closeCode}`, undefined)
    }
    const { role, maxPayload, deflate } = situation
    this.connection = new Connection(
      {
        role,
        maxPayload,
        isCompressible: deflate !== 'none',
        maskingKey: role === 'client' ? () => this.#nextKey() : undefined
      },
      events
    )
  }

  async receive(wire: Buffer): Promise<this> {
    let from = 0
    const ends = cutsOf(wire.length, this.#delivery.cuts)
    for (const [i, end] of ends.entries()) {
      this.#pauseAt('chunk', i)
      if (i === this.#delivery.closeAt) this.connection.close(OWN_CODE)
      this.connection.input.push(this.#chunk(wire.subarray(from, end)))
      if (this.#job !== undefined) await this.#finishJobs()
      if (this.#pausedFor > 0 && --this.#pausedFor === 0) this.#resume()
      this.#step(end)
      from = end
    }
    while (this.connection.input.paused || this.#job !== undefined) {
      if (this.#job !== undefined) await this.#finishJobs()
      this.#pausedFor = 0
      this.#resume()
    }
    this.#step(wire.length)
    this.#inflater.close()
    this.#checkMemory()
    return this
  }

  #nextKey(): number {
    const number = Math.imul(this.keys.length + 1, 0x9e3779b1) >>> 0
    this.keys.push([number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255])
    return number
  }

  #record(event: string, data: Buffer | undefined): void {
    if (this.connection.input.paused) this.faults.push(`event while paused: ${event}`)
    if (data !== undefined) this.#delivered.push({ data, copy: Buffer.from(data) })
    this.events.push(data === undefined ? event : `${event} ${digest(data)}`)
    this.#pauseAt('event', this.events.length)
  }

  #pauseAt(at: 'chunk' | 'event', number: number): void {
    const pause = this.#delivery.pauses.find(one => one.at === at && one.number === number)
    if (pause === undefined) return
    this.connection.input.pause()
    this.#pausedFor = Math.max(this.#pausedFor, pause.chunks, 1)
  }

  #resume(): void {
    if (this.#pausedFor === 0 && this.#job === undefined) this.connection.input.resume()
  }

  #inflate(data: Buffer, isBinary: boolean): void {
    const result = this.#inflater.decompress(data, this.#situation.maxPayload)
    if (!(result instanceof Promise)) {
      this.#inflated(result, isBinary)
      return
    }
    this.connection.input.pause()
    this.#job = result.then(message => {
      this.#job = undefined
      this.#whilePaused(() => this.#inflated(message, isBinary))
      this.#resume()
    })
  }

  /** The pending message is delivered while reading is paused. */
  #whilePaused(emit: () => void): void {
    const before = this.faults.length
    emit()
    this.faults.length = before
  }

  #inflated(message: Buffer | Violation, isBinary: boolean): void {
    if (Buffer.isBuffer(message)) this.connection.receiveInflated(message, isBinary)
    else this.connection.fail(message)
  }

  async #finishJobs(): Promise<void> {
    while (this.#job !== undefined) await this.#job
  }

  #step(given: number): void {
    const written = Buffer.concat(this.connection.dataToSend())
    const { events } = this
    this.steps.push({ given, events: events.length, written })
  }

  /** A copy in memory of its own, with other bytes around it. */
  #chunk(bytes: Buffer): Buffer {
    const { offset } = this.#delivery
    const memory = Buffer.from(new ArrayBuffer(offset + bytes.length + 8)).fill(GUARD)
    memory.set(bytes, offset)
    this.#chunks.push({ memory, length: bytes.length })
    return memory.subarray(offset, offset + bytes.length)
  }

  #checkMemory(): void {
    const { offset } = this.#delivery
    for (const { memory, length } of this.#chunks) {
      const around = [...memory.subarray(0, offset), ...memory.subarray(offset + length)]
      if (around.some(byte => byte !== GUARD)) this.faults.push('bytes around a chunk were overwritten')
    }
    for (const { data, copy } of this.#delivered) {
      if (!data.equals(copy)) this.faults.push(`delivered data has changed: ${digest(copy)}`)
    }
  }
}
