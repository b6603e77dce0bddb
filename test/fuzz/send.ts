import assert from 'node:assert/strict'
import fc from 'fast-check'
import { Connection, type ConnectionEvents, messageFrame, type Role } from '../../lib/protocol/connection.js'
import { bytes, decode, type WireFrame } from '../protocol/wire.js'
import { digest, mayBeSentAsCode } from './model.js'

/** The actions of an application on its side of a connection. */
export type Action =
  | {
      readonly do: 'send'
      readonly data: string | Buffer
      readonly binary: boolean
      readonly fin: boolean
      readonly compressed: boolean
    }
  /** A message whose compressed data is ready later, and the number of further actions until then. */
  | {
      readonly do: 'sendLater'
      readonly data: Buffer
      readonly binary: boolean
      readonly fin: boolean
      readonly after: number
    }
  /** A frame prepared for many receivers; servers only. */
  | { readonly do: 'sendFrame'; readonly data: string | Buffer; readonly binary: boolean }
  | { readonly do: 'ping' | 'pong'; readonly data: string | Buffer }
  | { readonly do: 'close'; readonly code: number | undefined; readonly reason: string }
  /** The pending output is taken. */
  | { readonly do: 'take' }

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }),
  // Lone surrogates, which have no encoding in UTF-8.
  fc.constantFrom('\ud800', 'a\udfffb', '\udc00\ud800', '€', '𝄞'.repeat(30)),
  fc.constantFrom(1364, 1365, 1366, 5000, 21_846).map(length => '€'.repeat(length))
)
const data = fc.oneof(
  fc.uint8Array({ maxLength: 200 }).map(array => Buffer.from(array)),
  fc
    .tuple(fc.constantFrom(0, 124, 125, 126, 4095, 4096, 4097, 65535, 65536, 65537), fc.nat(255))
    .map(([length, byte]) => Buffer.alloc(length, byte))
)
const short = fc.oneof(
  fc.uint8Array({ maxLength: 125 }).map(array => Buffer.from(array)),
  fc.string({ unit: 'binary', maxLength: 31 })
)
const finished = fc.oneof(
  { weight: 3, arbitrary: fc.constant(true) },
  { weight: 1, arbitrary: fc.constant(false) }
)
/** Codes that may be sent, and some that may not. */
const code = fc.oneof(
  fc.constantFrom(undefined, 1000, 1001, 1002, 1003, 1007, 1014, 3000, 4999),
  fc.constantFrom(0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 1000.5, Number.NaN, -1, 65536 + 1000)
)

export const ACTION: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('send' as const),
      data: fc.oneof(text, data),
      binary: fc.boolean(),
      fin: finished,
      compressed: fc.boolean()
    })
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('sendLater' as const),
      data,
      binary: fc.boolean(),
      fin: finished,
      after: fc.nat(6)
    })
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('sendFrame' as const),
      data: fc.oneof(text, data),
      binary: fc.boolean()
    })
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('ping' as const, 'pong' as const), data: short }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('close' as const),
      code,
      reason: fc.string({ unit: 'binary', maxLength: 50 })
    })
  },
  { weight: 2, arbitrary: fc.constant({ do: 'take' as const }) }
)

export interface SendCase {
  readonly role: Role
  readonly actions: readonly Action[]
  readonly keys: readonly number[]
}

/** The masking keys of a client may be any. */
export const KEYS = fc.array(fc.nat(2 ** 32 - 1), { minLength: 1, maxLength: 5 })

export const SEND_CASE: fc.Arbitrary<SendCase> = fc.record({
  role: fc.constantFrom<Role>('server', 'client'),
  actions: fc.array(ACTION, { maxLength: 25, size: 'max' }),
  keys: KEYS
})

const SILENT: ConnectionEvents = {
  onMessage() {},
  onCompressed() {},
  onPing() {},
  onPong() {},
  onClose() {},
  onFail() {}
}

const utf8 = new TextEncoder()
const octets = (value: string | Buffer): Uint8Array =>
  typeof value === 'string' ? utf8.encode(value) : value
const line = (first: number, payload: Uint8Array): string => `${first.toString(16)} ${digest(payload)}`
const lineOf = ({ fin, rsv, opcode, payload }: WireFrame): string =>
  line((fin ? 0x80 : 0) + rsv * 16 + opcode, payload)

/** The expected frames of the actions, RFC 6455 section 5.4 and RFC 7692 section 6.1. */
export class Frames {
  readonly lines: string[] = []
  isFragmented = false
  isClosed = false

  message(data: Uint8Array, binary: boolean, fin: boolean, compressed: boolean): void {
    const opcode = this.isFragmented ? 0 : (compressed ? 0x40 : 0) + (binary ? 2 : 1)
    this.lines.push(line((fin ? 0x80 : 0) + opcode, data))
    this.isFragmented = !fin
  }

  control(opcode: number, data: Uint8Array): void {
    this.lines.push(line(0x80 + opcode, data))
  }

  /** @returns whether the code and the reason may be sent. */
  close(code: number | undefined, reason: string): boolean {
    const body = utf8.encode(reason)
    if (code !== undefined && (!Number.isInteger(code) || !mayBeSentAsCode(code) || body.length > 123))
      return false
    if (!this.isClosed)
      this.control(8, code === undefined ? body.subarray(0, 0) : bytes(code >> 8, code & 255, body))
    this.isClosed = true
    return true
  }
}

/** Compares the output of a connection with the expected frames of its actions. */
export function checkSend({ role, actions, keys }: SendCase): void {
  const used: number[] = []
  const maskingKey = (): number => {
    used.push(keys[used.length % keys.length])
    return used[used.length - 1]
  }
  const connection = new Connection(
    { role, maxPayload: 10, maskingKey: role === 'client' ? maskingKey : undefined },
    SILENT
  )
  const expected = new Frames()
  const waiting: { left: number; fill: () => void }[] = []
  const taken: Buffer[] = []
  /** Data that was passed by reference must leave unchanged. */
  const given: { readonly data: Buffer; readonly copy: Buffer }[] = []
  const act = (action: Action): void => {
    switch (action.do) {
      case 'send':
        connection.output.send(action.data, action.binary, action.fin, action.compressed)
        expected.message(octets(action.data), action.binary, action.fin, action.compressed)
        return
      case 'sendLater': {
        const gap = connection.output.sendLater(action.binary, action.fin, action.data.length)
        waiting.push({ left: action.after, fill: () => connection.output.fillGap(gap, action.data) })
        expected.message(action.data, action.binary, action.fin, true)
        return
      }
      case 'sendFrame':
        if (role === 'client' || expected.isFragmented) return
        connection.output.append(messageFrame(action.data, action.binary, false))
        expected.message(octets(action.data), action.binary, true, false)
        return
      case 'ping':
      case 'pong':
        connection[action.do](action.data)
        expected.control(action.do === 'ping' ? 9 : 10, octets(action.data))
        return
    }
  }
  const take = (): void => {
    const before = connection.output.size
    const buffers = connection.dataToSend()
    const size = buffers.reduce((sum, { length }) => sum + length, 0)
    assert.equal(connection.output.size, before - size, 'bufferedAmount')
    if (connection.output.gaps === 0) assert.equal(connection.output.size, 0, 'everything is sent')
    taken.push(...buffers)
  }
  for (const action of actions) {
    if ('data' in action && Buffer.isBuffer(action.data))
      given.push({ data: action.data, copy: Buffer.from(action.data) })
    if (action.do === 'take') take()
    else if (action.do === 'close') {
      const close = (): void => connection.close(action.code, action.reason)
      if (expected.close(action.code, action.reason)) close()
      else assert.throws(close, /close code|Close frame/)
    } else if (!expected.isClosed) act(action)
    assert.equal(connection.isOpen, !expected.isClosed, 'isOpen')
    assert.equal(connection.output.sendsFragments, expected.isFragmented, 'sendsFragments')
    for (const one of waiting.filter(one => one.left-- === 0)) one.fill()
    assert.equal(
      connection.output.gaps > 0,
      waiting.some(one => one.left >= 0),
      'gaps'
    )
  }
  for (const one of waiting.toReversed()) if (one.left >= 0) one.fill()
  take()
  assert.equal(connection.output.size, 0, 'everything was sent')
  const frames = decode(Buffer.concat(taken))
  assert.deepEqual(frames.map(lineOf), expected.lines, 'the expected frames')
  const octetsOf = (key: number): number[] => [key >>> 24, (key >>> 16) & 255, (key >>> 8) & 255, key & 255]
  // Frames whose data is ready later are masked later: each key is used for one frame, in any order.
  const sorted = (list: readonly (number[] | undefined)[]): string[] => list.map(String).sort()
  const masks = role === 'client' ? used.map(octetsOf) : frames.map(() => undefined)
  assert.deepEqual(sorted(frames.map(({ key }) => key)), sorted(masks), 'masks')
  for (const { data, copy } of given) assert.ok(data.equals(copy), 'the data of the application is unchanged')
}
