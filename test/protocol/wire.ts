/** Frames built and read according to RFC 6455 section 5.2 without code of lib, so that lib never checks itself. */

/** The masking key of RFC 6455 section 5.7. */
export const KEY = [0x37, 0xfa, 0x21, 0x3d]

export interface FrameShape {
  fin?: boolean
  /** The three reserved bits as a number from 0 to 7. */
  rsv?: number
  /** The masking key; `null` sends the frame without a mask. */
  key?: readonly number[] | null
  /** The length form; the shortest by default. */
  form?: 7 | 16 | 64
  /** The length in the header; that of the payload by default. */
  length?: number | bigint
}

export function bytes(...parts: readonly (string | number | Uint8Array | readonly number[])[]): Buffer {
  return Buffer.concat(
    parts.map(part => {
      if (typeof part === 'string') return Buffer.from(part, 'utf8')
      return typeof part === 'number' ? Buffer.from([part]) : Buffer.from(part)
    })
  )
}

export function hex(text: string): Buffer {
  return Buffer.from(text.replace(/\s/g, ''), 'hex')
}

/** Simple on purpose: one octet at a time, as in section 5.3. */
export function xor(payload: Uint8Array, key: readonly number[]): Buffer {
  return Buffer.from(payload.map((octet, i) => octet ^ key[i % 4]))
}

export function header(opcode: number, length: number | bigint, shape: FrameShape = {}): Buffer {
  const { fin = true, rsv = 0, key = KEY } = shape
  const size = BigInt(length)
  const form = shape.form ?? (size <= 125n ? 7 : size <= 0xffffn ? 16 : 64)
  const head = [(fin ? 0x80 : 0) + rsv * 16 + opcode]
  const maskBit = key === null ? 0 : 0x80
  if (form === 7) head.push(maskBit + Number(size))
  else {
    const octets = form / 8
    head.push(maskBit + (form === 16 ? 126 : 127))
    for (let i = octets - 1; i >= 0; i--) head.push(Number((size >> BigInt(8 * i)) & 0xffn))
  }
  return bytes(head, key ?? [])
}

export function frame(opcode: number, payload: string | Uint8Array, shape: FrameShape = {}): Buffer {
  const { key = KEY } = shape
  const body = bytes(payload)
  return bytes(header(opcode, shape.length ?? body.length, shape), key === null ? body : xor(body, key))
}

export interface WireFrame {
  fin: boolean
  rsv: number
  opcode: number
  key: number[] | undefined
  payload: Buffer
}

/** Reads whole frames; throws when bytes are left over or a length is not minimal. */
export function decode(data: Uint8Array): WireFrame[] {
  const frames: WireFrame[] = []
  const source = Buffer.from(data)
  let at = 0
  while (at < source.length) {
    const first = source.readUInt8(at)
    const second = source.readUInt8(at + 1)
    at += 2
    let length = second % 128
    if (length === 126) {
      length = source.readUInt16BE(at)
      at += 2
      if (length < 126) throw new Error(`length ${length} in 16 bits`)
    } else if (length === 127) {
      const wide = source.readBigUInt64BE(at)
      at += 8
      if (wide < 65536n) throw new Error(`length ${wide} in 64 bits`)
      length = Number(wide)
    }
    let key: number[] | undefined
    if (second >= 128) {
      key = [...source.subarray(at, at + 4)]
      at += 4
    }
    if (at + length > source.length) throw new Error('incomplete frame')
    const payload = Buffer.from(source.subarray(at, at + length))
    at += length
    frames.push({
      fin: first >= 128,
      rsv: Math.floor(first / 16) % 8,
      opcode: first % 16,
      key,
      payload: key === undefined ? payload : xor(payload, key)
    })
  }
  return frames
}

const NAMES: Record<number, string> = {
  0: 'continuation',
  1: 'text',
  2: 'binary',
  8: 'close',
  9: 'ping',
  10: 'pong'
}

/** A frame as one line: its type, whether it is masked or not final, and its payload in hex. */
export function describe({ fin, rsv, opcode, key, payload }: WireFrame): string {
  const words = [NAMES[opcode] ?? `opcode ${opcode}`]
  if (rsv !== 0) words.push(`rsv ${rsv}`)
  if (!fin) words.push('more')
  if (key !== undefined) words.push('masked')
  words.push(payload.toString('hex'))
  return words.join(' ')
}

/** A small seeded generator, so that a random test can be repeated. */
export function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
