import assert from 'node:assert/strict'
import { isUtf8 } from 'node:buffer'
import fc from 'fast-check'
import { decode, type WireFrame } from '../protocol/wire.js'
import { digest, interpret, type Situation } from './model.js'
import { AT_ONCE, cutsOf, type Delivery, type Step, Subject } from './subject.js'

/** The data that a peer sends to a connection, and how it is delivered. */
export class ReceiveCase {
  readonly situation: Situation
  readonly wire: Buffer
  readonly delivery: Delivery

  constructor(situation: Situation, wire: Buffer, delivery: Delivery) {
    this.situation = situation
    this.wire = wire
    this.delivery = delivery
  }

  /** @param fixture the output of `toString`. */
  static from(fixture: unknown): ReceiveCase {
    if (!isFixture(fixture)) throw new TypeError('not a case')
    const { situation, wire, ...delivery } = fixture
    return new ReceiveCase(situation, Buffer.from(wire, 'hex'), delivery)
  }

  /** The fixture format, as fast-check prints it. */
  [fc.toStringMethod](): string {
    return JSON.stringify({ situation: this.situation, wire: this.wire.toString('hex'), ...this.delivery })
  }
}

type Fixture = Delivery & { readonly situation: Situation; readonly wire: string }

function isFixture(value: unknown): value is Fixture {
  const keys = ['situation', 'wire', 'cuts', 'offset', 'pauses', 'closeAt']
  return typeof value === 'object' && value !== null && keys.every(key => key in value)
}

/** Compares the events of a connection with those of the model, for whole, split and paused input. */
export async function checkReceive({ situation, wire, delivery }: ReceiveCase): Promise<void> {
  const whole = await new Subject(situation, AT_ONCE).receive(wire)
  checkEvents(whole.events, wire, situation)
  checkEnd(whole)
  checkWritten(whole, situation)

  const cut = await new Subject(situation, { ...delivery, pauses: [], closeAt: null }).receive(wire)
  for (const { given, events } of cut.steps) {
    checkEvents(cut.events.slice(0, events), wire.subarray(0, given), situation)
  }
  assert.deepEqual(cut.events, whole.events, 'the same events however the bytes are split')
  checkEnd(cut)
  checkWritten(cut, situation)
  assert.deepEqual(withoutPongs(cut), withoutPongs(whole), 'the same output however the bytes are split')

  const paused = await new Subject(situation, { ...delivery, closeAt: null }).receive(wire)
  assert.deepEqual(paused.events, whole.events, 'the same events with pauses')
  checkEnd(paused)
  checkWritten(paused, situation)
  assert.deepEqual(withoutPongs(paused), withoutPongs(whole), 'the same output with pauses')

  if (delivery.closeAt === null || delivery.closeAt >= cutsOf(wire.length, delivery.cuts).length) return
  const closing = await new Subject(situation, delivery).receive(wire)
  assert.deepEqual(closing.events, whole.events, 'receiving continues until the peer closes')
  checkClosing(closing)
}

/** 5.5.1: whichever side closes first, this side sends one Close frame and nothing after it. */
function checkClosing({ steps, faults, connection }: Subject): void {
  assert.deepEqual(faults, [])
  const frames = framesOf(steps)
  assert.equal(frames.filter(({ opcode }) => opcode === 8).length, 1, 'one Close frame')
  assert.equal(frames.at(-1)?.opcode, 8, 'nothing after the Close frame')
  assert.equal(connection.isOpen, false)
}

function checkEvents(events: readonly string[], wire: Buffer, situation: Situation): void {
  const expected = interpret(wire, situation)
  const last = events.at(-1)
  const failure = last?.startsWith('fail ') ? last.slice(5) : undefined
  assert.deepEqual(
    failure === undefined ? events : events.slice(0, -1),
    expected.events,
    `the events after ${wire.length} bytes`
  )
  if (failure !== undefined) assert.ok(expected.broken.includes(failure), `${failure}: ${expected.broken}`)
  else assert.equal(expected.isDue, false, `fails with ${expected.broken} after ${wire.length} bytes`)
}

function checkEnd({ connection, events, faults }: Subject): void {
  assert.deepEqual(faults, [])
  const last = events.at(-1) ?? ''
  const [what, code] = last.split(' ')
  const ended = what === 'fail' || what === 'close'
  assert.equal(connection.isOpen, !ended, 'isOpen')
  assert.equal(connection.input.hasUnread, false, 'hasUnread')
  assert.equal(connection.output.size, 0, 'bufferedAmount')
  assert.equal(connection.closeCode, what === 'close' ? Number(code) : 1006, 'closeCode')
  if (what === 'close') {
    assert.equal(last, `close ${connection.closeCode} ${digest(connection.closeReason)}`, 'closeReason')
  }
}

const withoutPongs = ({ steps }: Subject): Buffer[] =>
  framesOf(steps)
    .filter(({ opcode }) => opcode !== 10)
    .map(({ payload }) => payload)

const framesOf = (steps: readonly Step[]): WireFrame[] => steps.flatMap(({ written }) => decode(written))

/** 5.5.1, 5.5.2: pongs, and one Close frame at the end. */
function checkWritten(subject: Subject, { role }: Situation): void {
  const { steps, events, keys, connection } = subject
  const frames = framesOf(steps)
  assert.deepEqual(
    frames.map(({ key }) => key),
    role === 'client' ? keys : frames.map(() => undefined),
    'masked with a fresh key a frame by clients only'
  )
  for (const { fin, rsv, opcode } of frames) {
    assert.ok(fin && rsv === 0 && (opcode === 8 || opcode === 10), 'whole control frames')
  }
  const closes = frames.filter(({ opcode }) => opcode === 8)
  const last = events.at(-1) ?? ''
  const failed = last.startsWith('fail ')
  const closed = last.startsWith('close ')
  assert.equal(closes.length, failed || closed ? 1 : 0, 'one Close frame when it ends')
  if (failed || closed) {
    assert.equal(frames.at(-1), closes[0], 'nothing after the Close frame')
    checkClose(closes[0].payload, last)
  }
  assert.equal(connection.closeExpected, failed || (closed && role === 'server'), 'closeExpected')
  checkPongs(steps, events)
}

function checkClose(body: Buffer, last: string): void {
  const [what, ...words] = last.split(' ')
  const code = body.length === 0 ? 1005 : body.readUInt16BE(0)
  if (what === 'close')
    assert.equal(`${code} ${digest(body.subarray(2))}`, words.join(' '), 'the code is echoed')
  else {
    assert.equal(code, Number(words.at(-1)), 'the code of the failure')
    assert.match(body.toString('utf8', 2), /^[A-Za-z0-9 -]{3,40}$/, 'a short reason')
    assert.ok(isUtf8(body.subarray(2)))
  }
}

/** The number of pings of one read that are answered; of more pings, the last one is, too (5.5.3). */
const PENDING_PONGS = 64

/** 5.5.2: every ping is answered, in order, in the output of the read. */
function checkPongs(steps: readonly Step[], events: readonly string[]): void {
  let before = 0
  for (const step of steps) {
    const pings = events.slice(before, step.events).filter(event => event.startsWith('ping '))
    before = step.events
    const answered = pings.filter((_, i) => i < PENDING_PONGS || i === pings.length - 1)
    const pongs = decode(step.written).filter(({ opcode }) => opcode === 10)
    assert.deepEqual(
      pongs.map(({ payload }) => `ping ${digest(payload)}`),
      answered,
      'every ping is answered'
    )
  }
}
