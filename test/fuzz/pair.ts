import assert from 'node:assert/strict'
import fc from 'fast-check'
import { Connection, type Role } from '../../lib/protocol/connection.js'
import { closeEvent, digest } from './model.js'
import { ACTION, type Action, KEYS } from './send.js'

type Step =
  | { readonly side: Role; readonly action: Action }
  /** A number of bytes arrives, at most all that are in transit. */
  | { readonly side: Role; readonly bytes: number }
  /** Reading pauses or resumes. */
  | { readonly side: Role; readonly paused: boolean }

export interface PairCase {
  readonly steps: readonly Step[]
  readonly keys: readonly number[]
}

const SIDE = fc.constantFrom<Role>('server', 'client')

export const PAIR_CASE: fc.Arbitrary<PairCase> = fc.record({
  steps: fc.array(
    fc.oneof(
      { weight: 4, arbitrary: fc.record({ side: SIDE, action: ACTION }) },
      {
        weight: 4,
        arbitrary: fc.record({
          side: SIDE,
          bytes: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 100_000 }))
        })
      },
      { weight: 1, arbitrary: fc.record({ side: SIDE, paused: fc.boolean() }) }
    ),
    { maxLength: 60, size: 'max' }
  ),
  keys: KEYS
})

/** One end, its events, and the events that the other end must emit for it. */
class End {
  readonly role: Role
  readonly events: string[] = []
  /** The data sent by this end, as events of the other end; without pongs that answer pings. */
  readonly expected: string[] = []
  readonly connection: Connection
  /** Bytes in transit to this end. */
  inbox: Buffer = Buffer.alloc(0)
  #message: { readonly binary: boolean; readonly parts: Uint8Array[] } | undefined

  constructor(role: Role, keys: readonly number[]) {
    this.role = role
    let frames = 0
    const maskingKey = role === 'client' ? () => keys[frames++ % keys.length] : undefined
    this.connection = new Connection(
      { role, maxPayload: 2 ** 22, maskingKey },
      {
        onMessage: (data, isBinary) => this.events.push(`${isBinary ? 'binary' : 'text'} ${digest(data)}`),
        onCompressed: () => {},
        onPing: data => this.events.push(`ping ${digest(data)}`),
        onPong: data => this.events.push(`pong ${digest(data)}`),
        onClose: (code, reason) => this.events.push(`close ${code} ${digest(reason)}`),
        onFail: error => this.events.push(`fail ${error.code}`)
      }
    )
  }

  act(action: Action): void {
    const { connection } = this
    if (action.do === 'close') this.close(action.code, action.reason)
    if (!connection.isOpen) return
    switch (action.do) {
      case 'ping':
      case 'pong': {
        // Otherwise an unsolicited pong could not be distinguished from an answer.
        const mark = action.do === 'pong' ? 'own' : ''
        const data = Buffer.concat([Buffer.from(mark), Buffer.from(action.data)]).subarray(0, 125)
        connection[action.do](data)
        this.expected.push(`${action.do} ${digest(data)}`)
        return
      }
      case 'send': {
        // Fragments of a text may split characters, but the whole must be valid.
        const isText = this.#message === undefined ? !action.binary : !this.#message.binary
        const data = isText && typeof action.data !== 'string' ? action.data.toString('latin1') : action.data
        connection.output.send(data, action.binary, action.fin)
        this.#message ??= { binary: action.binary, parts: [] }
        this.#message.parts.push(Buffer.from(data))
        if (action.fin) this.#events()
      }
    }
  }

  #events(): void {
    if (this.#message === undefined) return
    const { binary, parts } = this.#message
    this.expected.push(`${binary ? 'binary' : 'text'} ${digest(Buffer.concat(parts))}`)
    this.#message = undefined
  }

  close(code: number | undefined, reason: string): void {
    const wasOpen = this.connection.isOpen
    try {
      this.connection.close(code, reason)
    } catch {
      return
    }
    if (!wasOpen) return
    const head = code === undefined ? [] : [code >> 8, code & 255]
    this.expected.push(
      closeEvent(Buffer.concat([Buffer.from(head), Buffer.from(code === undefined ? '' : reason)]))
    )
  }

  receive(size: number): void {
    const chunk = this.inbox.subarray(0, size)
    this.inbox = this.inbox.subarray(chunk.length)
    // A copy, as it is overwritten.
    if (chunk.length > 0) this.connection.input.push(Buffer.from(chunk))
  }
}

/** Everything that one end sent before its Close frame is delivered by the other end, in order; then both are closed. */
export function checkPair({ steps, keys }: PairCase): void {
  const ends = { client: new End('client', keys), server: new End('server', keys) }
  const move = (): void => {
    ends.server.inbox = Buffer.concat([ends.server.inbox, ...ends.client.connection.dataToSend()])
    ends.client.inbox = Buffer.concat([ends.client.inbox, ...ends.server.connection.dataToSend()])
  }
  for (const step of steps) {
    const end = ends[step.side]
    if ('action' in step) end.act(step.action)
    else if ('bytes' in step) end.receive(step.bytes)
    else if (step.paused) end.connection.input.pause()
    else end.connection.input.resume()
    move()
  }
  ends.client.connection.input.resume()
  ends.server.connection.input.resume()
  ends.client.close(1000, 'done')
  for (let round = 0; round < 3; round++) {
    move()
    for (const end of Object.values(ends)) end.receive(Infinity)
  }
  assert.equal(ends.client.inbox.length + ends.server.inbox.length, 0)
  for (const [here, there] of [
    [ends.client, ends.server],
    [ends.server, ends.client]
  ] as const) {
    checkTold(here, there)
    assert.equal(here.connection.isOpen, false)
    assert.equal(here.connection.closeExpected, here.role === 'server')
  }
}

/** @param sender the end whose data the receiver has delivered. */
function checkTold(receiver: End, sender: End): void {
  const pings = receiver.expected.filter(event => event.startsWith('ping ')).map(event => event.slice(5))
  // Unsolicited pongs of the sender are among those that answer.
  const events = [...receiver.events]
  const answers: string[] = []
  const rest: string[] = []
  let next = 0
  for (const event of events) {
    const isExpected = event === sender.expected[next]
    if (isExpected) next++
    if (!isExpected && event.startsWith('pong ')) answers.push(event.slice(5))
    else rest.push(event)
  }
  const own = sender.expected.some(event => event.startsWith('close'))
  const closing = rest.at(-1)
  assert.deepEqual(own ? rest : rest.slice(0, -1), sender.expected, 'everything is delivered, in order')
  if (!own) assert.equal(closing, receiver.expected.at(-1), 'the code is echoed')
  let at = 0
  for (const answer of answers) {
    at = pings.indexOf(answer, at) + 1
    assert.ok(at > 0, 'an answer to a ping')
  }
}
