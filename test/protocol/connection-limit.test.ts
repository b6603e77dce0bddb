import t from 'tap'
import { binary, closeFrame, type Failure, Peer, ROLES, refuse, replay, Subject } from './harness.js'
import { bytes } from './wire.js'

const TOO_BIG: Failure['violation'] = ['MESSAGE_TOO_BIG', 1009, 'message too big']

for (const role of ROLES) {
  const peer = new Peer(role)

  t.test(`RFC 6455 section 10.4: a ${role} accepts messages up to its limit`, t => {
    for (const maxPayload of [0, 1, 125, 126, 65_535, 65_536]) {
      const data = Buffer.alloc(maxPayload, 7)
      const half = maxPayload >> 1
      const wire = bytes(
        peer.frame(2, data),
        peer.frame(2, data.subarray(0, half), { fin: false }),
        peer.frame(0, data.subarray(half), { fin: false }),
        peer.frame(0, ''),
        peer.frame(2, data)
      )
      const events = [binary(data), binary(data), binary(data)]
      replay(t, role, wire, { events, sent: [] }, { maxPayload })
    }
    t.end()
  })

  t.test(`RFC 6455 section 10.4: a ${role} refuses a longer message at its header, before any payload`, t => {
    for (const [maxPayload, at] of [
      [0, 2],
      [124, 2],
      [125, 4],
      [126, 4],
      [65_534, 4],
      [65_535, 10],
      [65_536, 10],
      [2 ** 20, 10]
    ] as const) {
      const head = peer.header(2, maxPayload + 1)
      refuse(t, role, head, { violation: TOO_BIG, at }, { maxPayload })
      const subject = new Subject(role, { maxPayload }).receive(head.subarray(0, at))
      t.strictSame(subject.events, ['fail MESSAGE_TOO_BIG 1009'])
      t.strictSame(subject.sent, [closeFrame(role, 1009, 'message too big')])
    }
    t.end()
  })

  t.test(`RFC 6455 section 10.4: a ${role} refuses huge lengths without arithmetic on them`, t => {
    for (const length of [2n ** 32n, 2n ** 32n + 5n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n - 1n]) {
      refuse(t, role, peer.header(1, length), { violation: TOO_BIG, at: 6 })
      refuse(
        t,
        role,
        peer.header(1, length, { fin: false }),
        { violation: TOO_BIG, at: 6 },
        { maxPayload: 5 }
      )
    }
    refuse(t, role, peer.header(1, 2n ** 32n - 1n), { violation: TOO_BIG, at: 10 })
    // 2^53 and above are not exact as numbers; the greatest limit is below them.
    const maxPayload = Number.MAX_SAFE_INTEGER
    refuse(t, role, peer.header(1, 2n ** 53n + 1n), { violation: TOO_BIG, at: 6 }, { maxPayload })
    const waiting = new Subject(role, { maxPayload }).receive(peer.header(1, 2n ** 53n - 1n))
    t.strictSame(waiting.events, [])
    t.end()
  })

  t.test(`RFC 6455 section 10.4: the limit of a ${role} counts all fragments of a message`, t => {
    const options = { maxPayload: 10 }
    for (const sizes of [
      [5, 6],
      [10, 1],
      [0, 11],
      [1, 1, 1, 1, 1, 1, 1, 1, 1, 2],
      [10, 0, 0, 1]
    ]) {
      const frames = sizes.map((size, i) => peer.frame(i === 0 ? 2 : 0, Buffer.alloc(size), { fin: false }))
      const before = bytes(...frames.slice(0, -1))
      refuse(t, role, bytes(...frames), { violation: TOO_BIG, at: before.length + 2 }, options)
    }
    const wire = bytes(
      peer.frame(2, Buffer.alloc(10), { fin: false }),
      peer.frame(9, Buffer.alloc(100)),
      peer.frame(0, ''),
      peer.frame(2, Buffer.alloc(10))
    )
    const zeros = binary(Buffer.alloc(10))
    const subject = new Subject(role, options).receive(wire)
    t.strictSame(subject.events, [`ping ${'00'.repeat(100)}`, zeros, zeros], 'control frames do not count')
    t.end()
  })

  t.test(`RFC 6455 section 10.4: a ${role} accepts a message of many empty fragments`, t => {
    const { connection, events } = new Subject(role)
    connection.input.push(peer.frame(1, 'a', { fin: false }))
    const empty = peer.frame(0, '', { fin: false })
    const many = Buffer.concat(Array.from({ length: 1000 }, () => empty))
    for (let i = 0; i < 69; i++) connection.input.push(Buffer.from(many))
    connection.input.push(peer.frame(0, 'b'))
    t.strictSame(events, ['text ab'])
    t.end()
  })

  t.test(`RFC 6455 section 10.4: a ${role} accepts a message of many fragments of one byte`, t => {
    const count = 69_000
    const { connection, events, sent } = new Subject(role)
    connection.input.push(peer.frame(2, '', { fin: false }))
    const one = peer.frame(0, Buffer.from([0x5a]), { fin: false })
    const many = Buffer.concat(Array.from({ length: 1000 }, () => one))
    for (let i = 0; i < count / 1000; i++) connection.input.push(Buffer.from(many))
    connection.input.push(peer.frame(0, ''))
    t.ok(events.length === 1 && events[0] === binary(Buffer.alloc(count, 0x5a)))
    t.strictSame(sent, [])
    t.end()
  })

  t.test(
    `RFC 6455 section 10.4: a ${role} refuses a message with more fragments than maxPayload allows`,
    t => {
      // 4096, and another for each 16 bytes of maxPayload.
      for (const [maxPayload, most] of [
        [2 ** 20, 4096 + 65_536],
        [10, 4096]
      ] as const) {
        for (const piece of ['', 'x']) {
          const subject = new Subject(role, { maxPayload })
          const fragment = peer.frame(0, piece, { fin: false })
          if (piece.length * most > maxPayload) continue
          subject.connection.input.push(peer.frame(1, '', { fin: false }))
          const many = Buffer.concat(Array.from({ length: most - 1 }, () => fragment))
          subject.connection.input.push(many)
          t.strictSame(subject.events, [])
          subject.connection.input.push(bytes(fragment, peer.frame(0, '')))
          t.strictSame(subject.events, ['fail TOO_MANY_FRAGMENTS 1009'])
        }
      }
      t.end()
    }
  )

  t.test(`RFC 6455 section 10.4: a ${role} accepts a large message one byte at a time`, t => {
    const data = Buffer.from(Array.from({ length: 100_000 }, (_, i) => i % 251))
    const { connection, events } = new Subject(role)
    for (const byte of peer.frame(2, data)) connection.input.push(Buffer.from([byte]))
    t.ok(events.length === 1 && events[0] === binary(data))
    t.end()
  })
}
