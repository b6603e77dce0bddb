import t from 'tap'
import { binary, type Failure, ownFrame, Peer, ROLES, refuse, replay, Subject, text } from './harness.js'
import { bytes, decode, frame, hex } from './wire.js'

const RESERVED: Failure['violation'] = ['RESERVED_BITS', 1002, 'reserved bits set']
const OPCODE: Failure['violation'] = ['INVALID_OPCODE', 1002, 'unknown opcode']
const NOT_MINIMAL: Failure['violation'] = ['NON_MINIMAL_LENGTH', 1002, 'length not minimal']
const TOP_BIT: Failure['violation'] = ['INVALID_LENGTH', 1002, 'length with the top bit set']
const UNMASKED: Failure['violation'] = ['UNMASKED_FRAME', 1002, 'frame not masked']
const MASKED: Failure['violation'] = ['MASKED_FRAME', 1002, 'frame masked']
const NO_MESSAGE: Failure['violation'] = ['UNEXPECTED_CONTINUATION', 1002, 'continuation of no message']
const INTERLEAVED: Failure['violation'] = ['INTERLEAVED_MESSAGE', 1002, 'message inside a fragmented message']
const NOT_UTF8: Failure['violation'] = ['INVALID_UTF8', 1007, 'text not UTF-8']

const KNOWN_OPCODES = [0, 1, 2, 8, 9, 10]
const UNKNOWN_OPCODES = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]

t.test('RFC 6455 section 5.1: a server refuses a frame without a mask', t => {
  for (const opcode of [1, 2, 8, 9, 10]) {
    refuse(t, 'server', frame(opcode, 'ab', { key: null }), { violation: UNMASKED, at: 2 })
    refuse(t, 'server', frame(opcode, '', { key: null }), { violation: UNMASKED })
  }
  refuse(t, 'server', frame(2, Buffer.alloc(70_000), { key: null }), { violation: UNMASKED, at: 2 })
  const second = bytes(frame(1, 'good'), frame(1, 'bad', { key: null }))
  refuse(t, 'server', second, { events: ['text good'], violation: UNMASKED, at: 12 })
  t.end()
})

t.test('RFC 6455 section 5.1: a client refuses a frame with a mask', t => {
  for (const opcode of [1, 2, 8, 9, 10]) {
    refuse(t, 'client', frame(opcode, 'ab'), { violation: MASKED, at: 2 })
    refuse(t, 'client', frame(opcode, 'ab', { key: [0, 0, 0, 0] }), { violation: MASKED, at: 2 })
  }
  t.end()
})

for (const role of ROLES) {
  const peer = new Peer(role)
  const unfinished = peer.frame(1, 'a', { fin: false })

  t.test(`RFC 6455 section 5.2: a ${role} refuses reserved bits that were not negotiated`, t => {
    for (let rsv = 1; rsv < 8; rsv++) {
      for (const opcode of [1, 2, 8, 9, 10, 3]) {
        refuse(t, role, peer.frame(opcode, '', { rsv }), { violation: RESERVED, at: 1 })
      }
      const continued = bytes(unfinished, peer.frame(0, 'b', { rsv }))
      refuse(t, role, continued, { violation: RESERVED, at: unfinished.length + 1 })
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.2: a ${role} refuses unknown opcodes`, t => {
    for (const opcode of UNKNOWN_OPCODES) {
      for (const fin of [true, false])
        refuse(t, role, peer.frame(opcode, 'x', { fin }), { violation: OPCODE, at: 1 })
      const inside = bytes(unfinished, peer.frame(opcode, ''))
      refuse(t, role, inside, { violation: OPCODE, at: unfinished.length + 1 })
    }
    t.strictSame(
      [...KNOWN_OPCODES, ...UNKNOWN_OPCODES].sort((a, b) => a - b),
      [...Array(16).keys()]
    )
    t.end()
  })

  t.test(`RFC 6455 section 5.2: a ${role} refuses lengths that are not minimal`, t => {
    for (const length of [0, 1, 124, 125]) {
      refuse(t, role, peer.frame(2, Buffer.alloc(length), { form: 16 }), { violation: NOT_MINIMAL, at: 4 })
      const bad = peer.frame(0, Buffer.alloc(length), { form: 16 })
      refuse(t, role, bytes(unfinished, bad), { violation: NOT_MINIMAL, at: unfinished.length + 4 })
    }
    for (const length of [0, 125, 126, 65_535]) {
      refuse(t, role, peer.header(2, length, { form: 64 }), { violation: NOT_MINIMAL, at: 8 })
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.2: a ${role} refuses 64-bit lengths with the top bit set`, t => {
    for (const length of [2n ** 63n, 2n ** 63n + 5n, 2n ** 64n - 1n]) {
      refuse(t, role, peer.header(2, length), { violation: TOP_BIT, at: 3 })
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.2: a ${role} accepts every length in its shortest form`, t => {
    for (const length of [0, 1, 2, 125, 126, 127, 128, 255, 256, 65_535, 65_536, 65_537, 100_000]) {
      const data = Buffer.from(Array.from({ length }, (_, i) => (i * 7) % 256))
      replay(t, role, peer.frame(2, data), { events: [binary(data)], sent: [] })
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.3: a ${role} unmasks frames with any key`, t => {
    const data = bytes('Grüße, ☂ und 𝄞', hex('00'), 'x'.repeat(150))
    const keys =
      role === 'server'
        ? [
            [0, 0, 0, 0],
            [0xff, 0xff, 0xff, 0xff],
            [0x80, 0, 0, 1]
          ]
        : [null]
    for (const key of keys) {
      const wire = bytes(peer.frame(1, data, { key }), peer.frame(1, data, { key, fin: false }))
      const sent = bytes(wire, peer.frame(0, data, { key }))
      replay(t, role, sent, { events: [text(data), text(bytes(data, data))], sent: [] })
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.4: a ${role} joins the fragments of a message`, t => {
    for (const [opcode, tell] of [
      [1, text],
      [2, binary]
    ] as const) {
      for (const parts of [
        ['Hel', 'lo'],
        ['H', 'e', 'l', 'l', 'o'],
        ['', 'Hello'],
        ['Hello', ''],
        ['', '', 'Hello', '', '']
      ]) {
        const frames = parts.map((part, i) =>
          peer.frame(i === 0 ? opcode : 0, part, { fin: i === parts.length - 1 })
        )
        const wire = bytes(...frames, ...frames, peer.frame(1, 'next'))
        const event = tell(Buffer.from('Hello'))
        replay(t, role, wire, { events: [event, event, 'text next'], sent: [] })
      }
      replay(
        t,
        role,
        bytes(peer.frame(opcode, '', { fin: false }), peer.frame(0, '', { fin: false }), peer.frame(0, '')),
        { events: [tell(Buffer.alloc(0))], sent: [] }
      )
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.4: a ${role} joins fragments of all sizes`, t => {
    const sizes = [1, 125, 126, 5000, 0, 65_536, 3]
    const data = Buffer.from(Array.from({ length: sizes.reduce((a, b) => a + b) }, (_, i) => (i * 11) % 256))
    let at = 0
    const frames = sizes.map((size, i) => {
      const part = data.subarray(at, at + size)
      at += size
      return peer.frame(i === 0 ? 2 : 0, part, { fin: i === sizes.length - 1 })
    })
    replay(t, role, bytes(...frames), { events: [binary(data)], sent: [] })
    t.end()
  })

  t.test(`RFC 6455 section 5.4: a ${role} accepts control frames between fragments`, t => {
    const wire = bytes(
      peer.frame(1, 'a', { fin: false }),
      peer.frame(9, 'ping'),
      peer.frame(0, 'b', { fin: false }),
      peer.frame(10, ''),
      peer.frame(0, 'c'),
      peer.frame(1, 'd')
    )
    const events = ['ping 70696e67', 'pong ', 'text abc', 'text d']
    replay(t, role, wire, { events, sent: [ownFrame(role, 'pong', 'ping')] })
    t.end()
  })

  t.test(`RFC 6455 section 5.4: a ${role} refuses a continuation without a message`, t => {
    for (const fin of [true, false]) {
      refuse(t, role, peer.frame(0, 'x', { fin }), { violation: NO_MESSAGE, at: 1 })
    }
    const first = peer.frame(1, 'whole')
    const behind = bytes(first, peer.frame(0, 'x'))
    refuse(t, role, behind, { events: ['text whole'], violation: NO_MESSAGE, at: first.length + 1 })
    const fragmented = bytes(unfinished, peer.frame(0, 'b'))
    refuse(t, role, bytes(fragmented, peer.frame(0, '')), {
      events: ['text ab'],
      violation: NO_MESSAGE,
      at: fragmented.length + 1
    })
    t.end()
  })

  t.test(`RFC 6455 section 5.4: a ${role} refuses a message inside another message`, t => {
    for (const first of [unfinished, peer.frame(2, '', { fin: false })]) {
      for (const opcode of [1, 2]) {
        for (const fin of [true, false]) {
          const wire = bytes(first, peer.frame(opcode, 'x', { fin }))
          refuse(t, role, wire, { violation: INTERLEAVED, at: first.length + 1 })
        }
      }
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.4: a ${role} sends a message in fragments`, t => {
    for (const isBinary of [true, false]) {
      const { connection } = new Subject(role)
      connection.output.send('a', isBinary, false)
      connection.ping('between')
      connection.output.send('', !isBinary, false)
      connection.output.send('b', isBinary)
      connection.output.send('next', !isBinary)
      t.strictSame(
        decode(bytes(...connection.dataToSend())).map(({ fin, opcode, payload }) => [
          fin,
          opcode,
          payload.toString()
        ]),
        [
          [false, isBinary ? 2 : 1, 'a'],
          [true, 9, 'between'],
          [false, 0, ''],
          [true, 0, 'b'],
          [true, isBinary ? 1 : 2, 'next']
        ]
      )
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.6: a ${role} distinguishes text from binary data`, t => {
    const wire = bytes(peer.frame(1, 'é'), peer.frame(2, hex('ff00c3')), peer.frame(1, ''), peer.frame(2, ''))
    replay(t, role, wire, { events: ['text é', 'binary ff00c3', 'text ', 'binary '], sent: [] })
    t.end()
  })

  const BAD_TEXTS: [bad: string, shown: number][] = [
    ['ff', 1],
    ['61 80', 2],
    ['c0 af', 1],
    ['c1 bf', 1],
    ['e0 80 80', 2],
    ['e0 9f bf', 2],
    ['ed a0 80', 2],
    ['ed bf bf', 2],
    ['f0 80 80 80', 2],
    ['f0 8f bf bf', 2],
    ['f4 90 80 80', 2],
    ['f5 80 80 80', 1],
    ['c3 28', 2],
    ['e2 98 61', 3],
    ['f0 9d 84 61', 4],
    ['ce ba e1 bd b9 cf 83 ce bc ce b5 ed a0 80 65 64 69 74 65 64', 13]
  ]

  t.test(`RFC 6455 section 8.1: a ${role} refuses text that is not UTF-8 at the first invalid byte`, t => {
    for (const [bad, shown] of BAD_TEXTS) {
      const wire = peer.frame(1, hex(bad))
      const headSize = wire.length - hex(bad).length
      refuse(t, role, wire, { violation: NOT_UTF8, at: headSize + shown })
      const long = peer.frame(1, bytes('x'.repeat(300), hex(bad)))
      const behind = long.length - hex(bad).length
      refuse(t, role, long, { violation: NOT_UTF8, at: behind + shown })
    }
    t.end()
  })

  t.test(`RFC 6455 section 8.1: a ${role} refuses invalid text across fragments, too`, t => {
    for (const [bad, shown] of BAD_TEXTS) {
      const frames = [...hex(bad)].map((byte, i) =>
        peer.frame(i === 0 ? 1 : 0, Buffer.from([byte]), { fin: false })
      )
      const size = peer.frame(0, 'x').length
      const wire = bytes(...frames, peer.frame(0, ''))
      refuse(t, role, wire, { violation: NOT_UTF8, at: shown * size })
    }
    t.end()
  })

  t.test(`RFC 6455 section 8.1: a ${role} refuses text that ends inside a character`, t => {
    for (const bad of ['c3', 'e2', 'e298', 'f0', 'f09d', 'f09d84', '61e298']) {
      refuse(t, role, peer.frame(1, hex(bad)), { violation: NOT_UTF8 })
      const first = peer.frame(1, hex(bad), { fin: false })
      refuse(t, role, bytes(first, peer.frame(0, '')), { violation: NOT_UTF8 })
      const ping = bytes(first, peer.frame(9, ''), peer.frame(0, 'x'))
      const sent = [ownFrame(role, 'pong', '')]
      refuse(t, role, ping, { events: ['ping '], sent, violation: NOT_UTF8 })
    }
    t.end()
  })

  t.test(`RFC 6455 section 8.1: a ${role} accepts characters that are split between fragments`, t => {
    const data = Buffer.from('aé☂𝄞\u0000\ud7ff\ue000\u{10ffff}')
    for (let cut = 0; cut <= data.length; cut++) {
      const frames = [
        peer.frame(1, data.subarray(0, cut), { fin: false }),
        peer.frame(0, '', { fin: false }),
        peer.frame(9, ''),
        peer.frame(0, data.subarray(cut))
      ]
      replay(t, role, bytes(...frames), { events: ['ping ', text(data)], sent: [ownFrame(role, 'pong', '')] })
    }
    t.end()
  })

  t.test(`RFC 6455 section 8.1: a ${role} accepts any bytes as binary data`, t => {
    for (const [bad] of BAD_TEXTS) {
      const data = hex(bad)
      const wire = bytes(peer.frame(2, data), peer.frame(2, data, { fin: false }), peer.frame(0, ''))
      replay(t, role, wire, { events: [binary(data), binary(data)], sent: [] })
    }
    t.end()
  })
}
