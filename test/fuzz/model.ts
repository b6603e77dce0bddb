/**
 * The expected behaviour of a connection for the bytes of its peer, according to RFC 6455 and RFC 7692. It is slow and
 * simple on purpose and uses nothing of lib: it parses all bytes anew each time, and numbers are BigInt where the wire
 * has 64 bits.
 */
import { isUtf8 } from 'node:buffer'
import { hash } from 'node:crypto'
import { constants, inflateRawSync } from 'node:zlib'
import { xor } from '../protocol/wire.js'

export interface Situation {
  readonly role: 'server' | 'client'
  readonly maxPayload: number
  /** Whether permessage-deflate is in use, and with which parameters of the peer. */
  readonly deflate: 'none' | 'each' | 'takeover'
}

/** The expected state after some bytes have arrived. */
export interface Expected {
  /** The events, one line each, without the failure. */
  readonly events: readonly string[]
  /** `CODE closeCode` of the rules that the bytes break: the failure may report any of them. */
  readonly broken: readonly string[]
  /** Whether the failure must be reported without further bytes. */
  readonly isDue: boolean
}

const NOTHING_BROKEN = { broken: [], isDue: false }
const due = (...broken: readonly string[]) => ({ broken, isDue: true })

/** The content of a message, short enough to be compared and printed. */
export function digest(data: Uint8Array): string {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
  return bytes.length <= 64 ? `<${bytes.toString('hex')}>` : `<${bytes.length} bytes ${hash('sha1', bytes)}>`
}

interface Unfinished {
  readonly isText: boolean
  readonly isCompressed: boolean
  readonly data: Buffer
  /** Frames that have ended without ending the message. */
  readonly fragments: number
}

export function interpret(wire: Buffer, situation: Situation): Expected {
  const events: string[] = []
  const inflation = new Inflation(situation.deflate === 'takeover')
  let message: Unfinished | undefined
  let at = 0
  while (at < wire.length) {
    const header = readHeader(wire.subarray(at), situation, message)
    if (header.isDue || !header.isComplete) return { events, broken: header.broken, isDue: header.isDue }
    at += header.size
    const masked = wire.subarray(at, at + Number(header.length))
    const payload = xor(masked, header.key)
    const isWhole = BigInt(masked.length) === header.length
    at += masked.length
    if (header.opcode >= 8) {
      if (!isWhole) break
      if (header.opcode !== 8) events.push(`${header.opcode === 9 ? 'ping' : 'pong'} ${digest(payload)}`)
      else {
        const broken = closeFaults(payload)
        if (broken.length > 0) return { events, ...due(...broken) }
        events.push(closeEvent(payload))
        return { events, ...NOTHING_BROKEN }
      }
      continue
    }
    const { isText, isCompressed, data, fragments }: Unfinished = message ?? {
      isText: header.opcode === 1,
      isCompressed: header.isCompressed,
      data: Buffer.alloc(0),
      fragments: 0
    }
    const ends = isWhole && header.fin
    const count = isWhole && !header.fin ? fragments + 1 : fragments
    message = { isText, isCompressed, data: Buffer.concat([data, payload]), fragments: count }
    // 8.1, and as early as the bytes allow.
    if (isText && !isCompressed && !(ends ? isUtf8(message.data) : mayBecomeUtf8(message.data))) {
      return { events, ...due('INVALID_UTF8 1007') }
    }
    // 10.4: input that costs time although it needs no memory.
    if (count > fragments && count > fragmentsFor(situation.maxPayload)) {
      return { events, ...due('TOO_MANY_FRAGMENTS 1009') }
    }
    if (!ends) continue
    const content = isCompressed ? inflation.inflate(message.data, situation.maxPayload) : message.data
    if (Array.isArray(content)) return { events, ...due(...content) }
    if (isText && !isUtf8(content)) return { events, ...due('INVALID_UTF8 1007') }
    events.push(`${isText ? 'text' : 'binary'} ${digest(content)}`)
    message = undefined
  }
  return { events, ...NOTHING_BROKEN }
}

interface Header {
  readonly isComplete: boolean
  readonly broken: readonly string[]
  readonly isDue: boolean
  readonly fin: boolean
  readonly isCompressed: boolean
  readonly opcode: number
  readonly length: bigint
  readonly key: readonly number[]
  readonly size: number
}

/** Section 5.2, octet by octet. */
function readHeader(bytes: Buffer, situation: Situation, message: Unfinished | undefined): Header {
  const [fin, rsv1, rsv2, rsv3] = [0x80, 0x40, 0x20, 0x10].map(bit => Math.floor(bytes[0] / bit) % 2 === 1)
  const opcode = bytes[0] % 16
  const isCompressed = rsv1
  const none = { isComplete: false, fin, isCompressed, opcode, length: 0n, key: [0, 0, 0, 0], size: 0 }

  const first: string[] = []
  const mayBeCompressed = situation.deflate !== 'none' && (opcode === 1 || opcode === 2)
  if (rsv2 || rsv3 || (rsv1 && !mayBeCompressed)) first.push('RESERVED_BITS 1002')
  if ((opcode >= 3 && opcode <= 7) || opcode >= 11) first.push('INVALID_OPCODE 1002')
  if (opcode >= 8 && !fin) first.push('FRAGMENTED_CONTROL 1002')
  if (opcode === 0 && message === undefined) first.push('UNEXPECTED_CONTINUATION 1002')
  if (opcode >= 1 && opcode <= 7 && message !== undefined) first.push('INTERLEAVED_MESSAGE 1002')
  if (first.length > 0) return { ...none, ...due(...first) }
  if (bytes.length < 2) return { ...none, ...NOTHING_BROKEN }

  const second: string[] = []
  const isMasked = bytes[1] >= 128
  const short = bytes[1] % 128
  if (isMasked && situation.role === 'client') second.push('MASKED_FRAME 1002')
  if (!isMasked && situation.role === 'server') second.push('UNMASKED_FRAME 1002')
  const room = opcode >= 8 ? 125n : roomFor(situation.maxPayload, message, isCompressed)
  if (opcode >= 8 && short > 125) second.push('LONG_CONTROL 1002')
  else if (short < 126 && BigInt(short) > room) second.push('MESSAGE_TOO_BIG 1009')
  if (second.length > 0) return { ...none, ...due(...second) }

  const octets = short === 126 ? 2 : short === 127 ? 8 : 0
  if (octets === 8 && bytes.length > 2 && bytes[2] >= 128) return { ...none, ...due('INVALID_LENGTH 1002') }
  const broken = new Set<string>()
  let length = octets === 0 ? BigInt(short) : 0n
  for (let i = 1; i <= octets && 1 + i < bytes.length; i++) {
    length = length * 256n + BigInt(bytes[1 + i])
    const unit = 256n ** BigInt(octets - i)
    // The minimum and maximum length that the octets so far allow.
    if (length * unit > room) broken.add('MESSAGE_TOO_BIG 1009')
    if ((length + 1n) * unit <= (octets === 2 ? 126n : 65536n)) broken.add('NON_MINIMAL_LENGTH 1002')
  }
  if (bytes.length < 2 + octets) return { ...none, broken: [...broken], isDue: false }
  if (broken.size > 0) return { ...none, ...due(...broken) }

  const size = 2 + octets + (isMasked ? 4 : 0)
  if (bytes.length < size) return { ...none, ...NOTHING_BROKEN }
  const key = isMasked ? [...bytes.subarray(size - 4, size)] : none.key
  return { ...none, isComplete: true, length, key, size, ...NOTHING_BROKEN }
}

/**
 * 10.4. Incompressible data takes at most nine bits per byte in DEFLATE, and the flush that ends each fragment except
 * the last on an octet takes five octets more and a few bits (RFC 7692 section 7.2.1); a compressed message may have as
 * many.
 */
export function compressedRoom(maxPayload: number, fragments: number): number {
  return maxPayload + Math.ceil(maxPayload / 8) + 64 + 6 * fragments
}

/** 10.4: the number of frames of a message before its last one, as documented in docs/reference/api.md. */
function fragmentsFor(maxPayload: number): number {
  return 4096 + Math.floor(maxPayload / 16)
}

function roomFor(maxPayload: number, message: Unfinished | undefined, isCompressed: boolean): bigint {
  const all =
    (message?.isCompressed ?? isCompressed) ? compressedRoom(maxPayload, message?.fragments ?? 0) : maxPayload
  return BigInt(all - (message?.data.length ?? 0))
}

/** 5.5.1 and 7.4. */
function closeFaults(body: Buffer): string[] {
  if (body.length === 0) return []
  if (body.length === 1) return ['INVALID_CLOSE_BODY 1002']
  const faults: string[] = []
  if (!mayBeSentAsCode(body[0] * 256 + body[1])) faults.push('INVALID_CLOSE_CODE 1002')
  if (!isUtf8(body.subarray(2))) faults.push('INVALID_CLOSE_REASON 1007')
  return faults
}

/** 7.4.1, 7.4.2, and the codes that IANA has registered since. */
export function mayBeSentAsCode(code: number): boolean {
  const registered = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014]
  return registered.includes(code) || (code >= 3000 && code < 5000)
}

/** 7.1.5: a body without a code means 1005. */
export function closeEvent(body: Buffer): string {
  const code = body.length === 0 ? 1005 : body[0] * 256 + body[1]
  return `close ${code} ${digest(body.subarray(2))}`
}

/** After every lead byte, one of these endings completes the character, if any can (RFC 3629 section 4). */
const ENDINGS = ['', '80', '8080', 'bf80', '808080', 'bf8080'].map(hex => Buffer.from(hex, 'hex'))

function mayBecomeUtf8(bytes: Buffer): boolean {
  return ENDINGS.some(ending => isUtf8(Buffer.concat([bytes, ending])))
}

const TAIL = Buffer.from([0, 0, 0xff, 0xff])

/** RFC 7692 section 7.2.2: the data of all messages is one DEFLATE stream, or each message is its own. */
class Inflation {
  readonly #takesOver: boolean
  /** The stream so far, and the length of the inflated data that was delivered. */
  #stream: Buffer = Buffer.alloc(0)
  #delivered = 0

  constructor(takesOver: boolean) {
    this.#takesOver = takesOver
  }

  /** @returns the message, or the rules that it breaks. */
  inflate(data: Buffer, limit: number): Buffer | string[] {
    if (!this.#takesOver) this.#begin()
    let rest = Buffer.concat([data, TAIL])
    let message: Buffer = Buffer.alloc(0)
    while (rest.length > TAIL.length || data.length === 0) {
      const input = Buffer.concat([this.#stream, rest])
      const { output, taken, isValid } = inflate(input)
      message = Buffer.concat([message, output.subarray(this.#delivered)])
      // An inflater that stops at the limit does not see the data after it.
      if (!isValid) return [...tooBig(message, limit), 'INVALID_DEFLATE 1007']
      if (taken === input.length) {
        this.#stream = input
        this.#delivered = output.length
        break
      }
      // 7.2.3.4: a block with BFINAL ends a stream, and another may follow in the same message.
      rest = input.subarray(taken)
      this.#begin()
    }
    return message.length > limit ? tooBig(message, limit) : message
  }

  #begin(): void {
    this.#stream = Buffer.alloc(0)
    this.#delivered = 0
  }
}

const tooBig = (message: Buffer, limit: number): string[] =>
  message.length > limit ? ['MESSAGE_TOO_BIG 1009'] : []

/** The result of zlib for a stream, which may be invalid from some byte on. */
function inflate(input: Buffer): { output: Buffer; taken: number; isValid: boolean } {
  const once = (part: Buffer) => {
    // With `info` the result is an object, which the types do not declare.
    const result: unknown = inflateRawSync(part, { finishFlush: constants.Z_SYNC_FLUSH, info: true })
    const output: unknown = Reflect.get(Object(result), 'buffer')
    const taken: unknown = Reflect.get(Object(Reflect.get(Object(result), 'engine')), 'bytesWritten')
    if (!Buffer.isBuffer(output) || typeof taken !== 'number') throw new TypeError('zlib.inflateRawSync')
    return { output, taken }
  }
  try {
    return { ...once(input), isValid: true }
  } catch (error) {
    if (error instanceof TypeError) throw error
  }
  // The longest valid prefix: validity can only be lost.
  let [good, bad] = [0, input.length]
  while (bad - good > 1) {
    const middle = (good + bad) >> 1
    try {
      once(input.subarray(0, middle))
      good = middle
    } catch {
      bad = middle
    }
  }
  return { ...once(input.subarray(0, good)), isValid: false }
}
