import { createHash } from 'node:crypto'
import type { Test } from 'tap'
import { Connection, type ConnectionEvents, type Role } from '../../lib/protocol/connection.js'
import type { ProtocolError } from '../../lib/protocol/violation.js'
import { bytes, decode, describe, type FrameShape, frame, header, KEY } from './wire.js'

export const ROLES: readonly Role[] = ['server', 'client']

/** The masking key of the tested client, in wire order. */
export const CLIENT_KEY = [0xde, 0xad, 0xbe, 0xef]

export interface Options {
  maxPayload?: number
  /** Called after each event, inside the event handler. */
  after?: (event: string, connection: Connection) => void
}

/** A connection that records its events and the frames that it sends. */
export class Subject {
  readonly events: string[] = []
  readonly errors: ProtocolError[] = []
  readonly sent: string[] = []
  readonly connection: Connection

  constructor(role: Role, { maxPayload = 2 ** 20, after }: Options = {}) {
    const tell = (event: string): void => {
      this.events.push(event)
      after?.(event, this.connection)
    }
    const events: ConnectionEvents = {
      onMessage: (data, isBinary) => tell(isBinary ? binary(data) : text(data)),
      onCompressed: () => {},
      onPing: data => tell(`ping ${data.toString('hex')}`),
      onPong: data => tell(`pong ${data.toString('hex')}`),
      onClose: (code, reason) => tell(`close ${code} ${JSON.stringify(reason.toString())}`),
      onFail: error => {
        this.errors.push(error)
        tell(`fail ${error.code.replace('FST_UPGRADE_', '')} ${error.closeCode}`)
      }
    }
    const masking = role === 'client' ? { maskingKey: () => Buffer.from(CLIENT_KEY).readUInt32BE() } : {}
    this.connection = new Connection({ role, maxPayload, ...masking }, events)
  }

  /** Passes copies to the connection, as it overwrites its input. */
  receive(...pieces: readonly Uint8Array[]): this {
    for (const piece of pieces) {
      this.connection.input.push(Buffer.from(piece))
      this.flush()
    }
    return this
  }

  /** Moves the frames that the connection has sent to `sent`. */
  flush(): this {
    for (const one of decode(bytes(...this.connection.dataToSend()))) this.sent.push(describe(one))
    return this
  }
}

export function text(data: string | Uint8Array): string {
  return `text ${Buffer.from(data).toString()}`
}

export function binary(data: Uint8Array): string {
  // A long message is compared hundreds of times, so it is shortened to a hash.
  if (data.length > 1000)
    return `binary ${data.length} bytes ${createHash('sha1').update(data).digest('hex')}`
  return `binary ${Buffer.from(data).toString('hex')}`
}

/** A Close frame of the tested side, as `describe` prints it. */
export function closeFrame(role: Role, code?: number, reason = ''): string {
  const body = code === undefined ? [] : bytes(code >> 8, code & 255, reason)
  return ownFrame(role, 'close', body)
}

export function ownFrame(role: Role, what: string, payload: string | Uint8Array | readonly number[]): string {
  return `${what}${role === 'client' ? ' masked' : ''} ${bytes(payload).toString('hex')}`
}

/** Builds the peer's frames: masked when the tested side is the server. */
export class Peer {
  readonly #key: readonly number[] | null

  constructor(role: Role) {
    this.#key = role === 'server' ? KEY : null
  }

  frame(opcode: number, payload: string | Uint8Array = '', shape: FrameShape = {}): Buffer {
    return frame(opcode, payload, { key: this.#key, ...shape })
  }

  header(opcode: number, length: number | bigint, shape: FrameShape = {}): Buffer {
    return header(opcode, length, { key: this.#key, ...shape })
  }

  close(code: number, reason: string | Uint8Array = '', shape: FrameShape = {}): Buffer {
    return this.frame(8, bytes(code >> 8, code & 255, reason), shape)
  }
}

/** The number of bytes, received one at a time, after which the connection failed. */
export function failedAfter(role: Role, wire: Uint8Array, options?: Options): number | undefined {
  const subject = new Subject(role, options)
  for (let i = 0; i < wire.length; i++) {
    subject.receive(wire.subarray(i, i + 1))
    if (subject.errors.length > 0) return i + 1
  }
  return undefined
}

/** Every position in a short fixture; in a long one, both ends and some positions between. */
function cuts(length: number): number[] {
  const positions: number[] = []
  for (let i = 1; i < length; i++) {
    if (length <= 1024 || i < 40 || i > length - 40 || i % 1021 === 0) positions.push(i)
  }
  return positions
}

/**
 * Receives the bytes in one piece and checks the events and the frames sent, then again split in two at every position,
 * and one byte at a time.
 */
export function replay(
  t: Test,
  role: Role,
  wire: Uint8Array,
  expected: { events: readonly string[]; sent: readonly string[] },
  options?: Options
): void {
  const whole = new Subject(role, options).receive(wire)
  t.strictSame(whole.events, expected.events, 'events')
  t.strictSame(whole.sent, expected.sent, 'frames sent')
  const different: unknown[] = []
  const compare = (where: string, subject: Subject): void => {
    const same =
      String(subject.events) === String(expected.events) && String(subject.sent) === String(expected.sent)
    if (!same) different.push({ where, events: subject.events, sent: subject.sent })
  }
  for (const at of cuts(wire.length)) {
    compare(`cut at ${at}`, new Subject(role, options).receive(wire.subarray(0, at), wire.subarray(at)))
  }
  const single = new Subject(role, options)
  for (let i = 0; i < wire.length; i++) single.connection.input.push(Buffer.from(wire.subarray(i, i + 1)))
  single.flush()
  compare('one byte at a time', single)
  t.strictSame(different.slice(0, 3), [], 'the same however the bytes are split')
}

/** A failure of a connection. */
export interface Failure {
  /** The events before the failure. */
  events?: readonly string[]
  /** The frames sent before the failure. */
  sent?: readonly string[]
  /** Code, close code and reason of the violation. */
  violation: readonly [code: string, closeCode: number, reason: string]
  /** The number of bytes after which the connection fails; all of them by default. */
  at?: number
}

/** Receives bytes that break a rule, and a valid message after them that must not be reported. */
export function refuse(t: Test, role: Role, wire: Uint8Array, failure: Failure, options?: Options): void {
  const { events = [], sent = [], violation, at = wire.length } = failure
  const [code, closeCode, reason] = violation
  const expected = {
    events: [...events, `fail ${code} ${closeCode}`],
    sent: [...sent, closeFrame(role, closeCode, reason)]
  }
  replay(t, role, bytes(wire, new Peer(role).frame(1, 'too late')), expected, options)
  t.equal(failedAfter(role, wire, options), at, 'refused at the first byte that breaks the rule')
}
