import t from 'tap'
import { Connection, type Role } from '../../lib/protocol/connection.js'
import { Peer, ROLES, Subject } from './harness.js'
import { bytes, randomNumbers } from './wire.js'

const random = randomNumbers(5)
const letters = (length: number): Buffer =>
  Buffer.from(Array.from({ length }, () => 97 + Math.floor(random() * 26)))

for (const role of ROLES) {
  const peer = new Peer(role)

  for (const opcode of [1, 2]) {
    t.test(`a ${role} completes a message of opcode ${opcode} whose last bytes arrive later`, t => {
      for (const length of [16_383, 16_384, 16_385, 65_535, 65_536, 100_000]) {
        const before = [letters(10), letters(200), letters(20_000)]
        const data = letters(length)
        const behind = letters(30)
        const wire = bytes(
          ...before.map(one => peer.frame(opcode, one)),
          peer.frame(opcode, data),
          peer.frame(opcode, behind)
        )
        const end = wire.length - peer.frame(opcode, behind).length
        for (let missing = 0; missing <= 20; missing++) {
          const cuts = [[end - missing], [end - missing, end - (missing >> 1)]]
          for (const positions of cuts) {
            const messages = collect(role, pieces(wire, positions))
            const right = [...before, data, behind].every((one, i) => messages[i]?.equals(one))
            if (!right || messages.length !== 5) t.fail(`${length} bytes, ${missing} missing, ${positions}`)
          }
        }
      }
      t.pass('all of them')
      t.end()
    })
  }

  t.test(`RFC 6455 section 5.4: a ${role} completes large fragments whose last bytes arrive later`, t => {
    for (const missing of [0, 1, 4, 8, 14, 15]) {
      const [first, second] = [letters(20_000), letters(30_000)]
      const head = bytes(peer.frame(1, 'before'), peer.frame(1, first, { fin: false }))
      const wire = bytes(head, peer.frame(9, 'p'), peer.frame(0, second), peer.frame(1, 'next'))
      const end = wire.length - peer.frame(1, 'next').length
      const messages = collect(role, pieces(wire, [head.length - missing, end - missing]))
      t.strictSame(
        messages.map(one => one.length),
        [6, 50_000, 4]
      )
      t.ok(messages[1].equals(bytes(first, second)), `${missing} missing`)
    }
    t.end()
  })

  t.test(`RFC 6455 section 8.1: a ${role} detects invalid UTF-8 in the last bytes, too`, t => {
    for (const [tail, isGood] of [
      ['é', true],
      ['☂', true],
      [[0xff], false],
      [[0xc3], false],
      [[0xe2, 0x98], false]
    ] as const) {
      const wire = peer.frame(1, bytes(letters(20_000), tail))
      for (let missing = 1; missing <= 5; missing++) {
        const subject = new Subject(role)
        subject.receive(wire.subarray(0, -missing), wire.subarray(wire.length - missing))
        t.equal(subject.errors[0]?.code, isGood ? undefined : 'FST_UPGRADE_INVALID_UTF8')
        t.equal(subject.events.length, 1)
      }
    }
    t.end()
  })
}

function pieces(wire: Buffer, positions: readonly number[]): Buffer[] {
  const cuts = [0, ...positions, wire.length]
  return cuts.slice(1).map((end, i) => wire.subarray(cuts[i], end))
}

/** Returns the messages after all chunks have arrived, so that a message that was changed since is found. */
function collect(role: Role, chunks: readonly Buffer[]): Buffer[] {
  const messages: Buffer[] = []
  const ignore = (): void => {}
  const maskingKey = role === 'client' ? () => 0 : undefined
  const connection = new Connection(
    { role, maxPayload: 2 ** 20, maskingKey },
    {
      onMessage: data => void messages.push(data),
      onCompressed: () => {},
      onPing: ignore,
      onPong: ignore,
      onClose: ignore,
      onFail: error => {
        throw error
      }
    }
  )
  // Each chunk has memory of its own, as it is overwritten.
  for (const chunk of chunks) connection.input.push(Buffer.from(chunk))
  return messages
}
