import t from 'tap'
import { closeFrame, type Failure, ownFrame, Peer, ROLES, refuse, replay, Subject } from './harness.js'
import { bytes, decode, hex } from './wire.js'

const BODY: Failure['violation'] = ['INVALID_CLOSE_BODY', 1002, 'close body of one byte']
const CODE: Failure['violation'] = ['INVALID_CLOSE_CODE', 1002, 'invalid close code']
const REASON: Failure['violation'] = ['INVALID_CLOSE_REASON', 1007, 'close reason not UTF-8']
const OPCODE: Failure['violation'] = ['INVALID_OPCODE', 1002, 'unknown opcode']

const VALID_CODES = [
  1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999
]
const INVALID_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]

for (const role of ROLES) {
  const peer = new Peer(role)
  const noise = bytes(peer.frame(1, 'too late'), peer.frame(9, 'too late'), peer.close(1001), hex('ffffffff'))

  t.test(`RFC 6455 section 5.5.1: a ${role} answers a Close frame once, with its code and reason`, t => {
    for (const reason of ['', 'bye', 'Grüße ☂', 'x'.repeat(123)]) {
      replay(t, role, peer.close(1001, reason), {
        events: [`close 1001 ${JSON.stringify(reason)}`],
        sent: [closeFrame(role, 1001, reason)]
      })
    }
    replay(t, role, peer.frame(8, ''), { events: ['close 1005 ""'], sent: [closeFrame(role)] })
    t.end()
  })

  t.test(`RFC 6455 section 5.5.1: a ${role} ignores everything after a Close frame`, t => {
    const events = ['text first', 'close 1000 "bye"']
    const wire = bytes(peer.frame(1, 'first'), peer.close(1000, 'bye'), noise)
    replay(t, role, wire, { events, sent: [closeFrame(role, 1000, 'bye')] })
    t.end()
  })

  t.test(`RFC 6455 section 5.5.1: a ${role} accepts a Close frame between fragments`, t => {
    const wire = bytes(peer.frame(1, 'a', { fin: false }), peer.close(1000), peer.frame(0, 'b'))
    replay(t, role, wire, { events: ['close 1000 ""'], sent: [closeFrame(role, 1000)] })
    t.end()
  })

  t.test(`RFC 6455 section 5.5.1: a ${role} may close between its fragments`, t => {
    const subject = new Subject(role)
    subject.connection.output.send('a', false, false)
    subject.receive(peer.close(1000))
    t.strictSame(subject.sent, [ownFrame(role, 'text more', 'a'), closeFrame(role, 1000)])
    t.end()
  })

  t.test(`RFC 6455 section 5.5.1: a ${role} refuses a Close body of one byte`, t => {
    refuse(t, role, peer.frame(8, hex('03')), { violation: BODY })
    refuse(t, role, bytes(peer.frame(2, 'a'), peer.frame(8, 'x')), { events: ['binary 61'], violation: BODY })
    t.end()
  })

  t.test(`RFC 6455 section 5.5.1: a ${role} refuses a reason that is not UTF-8`, t => {
    for (const reason of ['ff', 'c328', 'e298', 'eda080', '61f4908080']) {
      refuse(t, role, peer.close(1000, hex(reason)), { violation: REASON })
    }
    t.end()
  })

  t.test(`RFC 6455 section 7.4: a ${role} accepts every defined close code`, t => {
    for (const code of VALID_CODES) {
      const expected = { events: [`close ${code} ""`], sent: [closeFrame(role, code)] }
      replay(t, role, peer.close(code), expected)
    }
    t.end()
  })

  t.test(`RFC 6455 section 7.4: a ${role} refuses every other close code`, t => {
    for (const code of INVALID_CODES) {
      refuse(t, role, peer.close(code), { violation: CODE })
      refuse(t, role, peer.close(code, 'with a reason'), { violation: CODE })
    }
    t.end()
  })

  t.test(`RFC 6455 section 7.4: a ${role} never sends an undefined close code`, t => {
    for (const code of [...INVALID_CODES, -1, 1000.5, Number.NaN, Number.POSITIVE_INFINITY, 66_536]) {
      const { connection } = new Subject(role)
      t.throws(() => connection.close(code), TypeError)
      t.ok(connection.isOpen)
      t.equal(connection.output.size, 0)
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.5.1: a ${role} refuses to send a reason of more than 123 bytes`, t => {
    const { connection } = new Subject(role)
    t.throws(() => connection.close(1000, 'x'.repeat(124)), RangeError)
    t.throws(() => connection.close(1000, '☂'.repeat(42)), RangeError)
    t.ok(connection.isOpen)
    connection.close(1000, '☂'.repeat(41))
    t.notOk(connection.isOpen)
    t.throws(
      () => connection.close(1000, 'x'.repeat(124)),
      RangeError,
      'also when the connection is closed already'
    )
    t.end()
  })

  t.test(`RFC 6455 section 7.1.2: a ${role} begins the closing handshake`, t => {
    for (const [code, reason, frame] of [
      [1000, 'bye', closeFrame(role, 1000, 'bye')],
      [4321, '', closeFrame(role, 4321)],
      [undefined, '', closeFrame(role)]
    ] as const) {
      const subject = new Subject(role)
      t.ok(subject.connection.isOpen)
      t.notOk(subject.connection.closeExpected)
      subject.connection.close(code, reason)
      subject.connection.close(1001, 'again')
      subject.connection.close()
      t.notOk(subject.connection.isOpen)
      t.notOk(subject.connection.closeExpected, 'the peer has not answered yet')
      t.strictSame(subject.flush().sent, [frame], 'sent once')
      t.strictSame(subject.events, [])
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.5.1: a ${role} that has closed still receives messages until the answer`, t => {
    const subject = new Subject(role)
    subject.connection.close(1000, 'bye')
    subject
      .flush()
      .receive(peer.frame(1, 'late'), bytes(peer.frame(2, 'x'), peer.close(1000, 'bye'), noise), noise)
    t.strictSame(subject.events, ['text late', 'binary 78', 'close 1000 "bye"'])
    t.strictSame(subject.sent, [closeFrame(role, 1000, 'bye')], 'the answer is not answered')
    t.end()
  })

  t.test(`RFC 6455 section 7.1.5: the code of a ${role} is that of the first Close frame received`, t => {
    const { connection } = new Subject(role)
    t.equal(connection.closeCode, 1006)
    t.strictSame(connection.closeReason, Buffer.alloc(0))
    connection.close(4000, 'mine')
    t.equal(connection.closeCode, 1006)
    connection.input.push(bytes(peer.close(4001, 'yours'), peer.close(4002)))
    t.equal(connection.closeCode, 4001)
    t.equal(connection.closeReason.toString(), 'yours')
    t.end()
  })

  t.test(`RFC 6455 section 7.1.5: a Close frame without a code is reported as 1005 by a ${role}`, t => {
    const { connection } = new Subject(role)
    connection.input.push(peer.frame(8, ''))
    t.equal(connection.closeCode, 1005)
    t.equal(connection.closeReason.length, 0)
    t.end()
  })

  t.test(`RFC 6455 section 7.1.1: after both Close frames a ${role} knows which side ends TCP`, t => {
    const answering = new Subject(role).receive(peer.close(1000))
    t.equal(answering.connection.closeExpected, role === 'server')
    const beginning = new Subject(role)
    beginning.connection.close(1000)
    t.notOk(beginning.connection.closeExpected)
    beginning.receive(peer.close(1000))
    t.equal(beginning.connection.closeExpected, role === 'server')
    t.end()
  })

  t.test(`RFC 6455 section 7.1.1: a ${role} knows which side ends TCP when onClose is called`, t => {
    const known: boolean[] = []
    const subject = new Subject(role, {
      after: (_event, connection) => known.push(connection.closeExpected, connection.isOpen)
    })
    subject.receive(peer.close(1000))
    t.strictSame(known, [role === 'server', false])
    t.equal(subject.connection.closeCode, 1000)
    t.end()
  })

  t.test(
    `RFC 6455 section 7.1.7: a ${role} that fails delivers earlier messages, reports why and stops`,
    t => {
      const wire = bytes(peer.frame(1, 'good'), peer.frame(10, 'x'))
      const at = wire.length + 1
      refuse(t, role, bytes(wire, peer.frame(3, 'x'), noise), {
        events: ['text good', 'pong 78'],
        violation: OPCODE,
        at
      })
      const subject = new Subject(role).receive(bytes(wire, peer.frame(3, 'x')), noise)
      const { connection, errors } = subject
      t.ok(connection.closeExpected)
      t.notOk(connection.isOpen)
      t.notOk(connection.input.hasUnread)
      t.equal(connection.closeCode, 1006, 'no Close frame was received')
      t.match(errors, [{ name: 'ProtocolError', code: 'FST_UPGRADE_INVALID_OPCODE', closeCode: 1002 }])
      t.end()
    }
  )

  t.test(`RFC 6455 section 7.1.7: a ${role} that fails after closing sends no second Close frame`, t => {
    for (const bad of [peer.frame(3, ''), peer.close(1005), peer.frame(8, 'x'), peer.frame(1, hex('ff'))]) {
      const subject = new Subject(role)
      subject.connection.close(1000)
      subject.flush().receive(bytes(bad, noise), noise)
      t.strictSame(subject.sent, [closeFrame(role, 1000)])
      t.equal(subject.errors.length, 1)
      t.equal(subject.events.length, 1)
      t.ok(subject.connection.closeExpected)
    }
    t.end()
  })

  t.test(`RFC 6455 section 7.1.7: a ${role} that fails inside a message drops it`, t => {
    const wire = bytes(peer.frame(1, 'a', { fin: false }), peer.frame(9, ''))
    const bad = peer.frame(1, 'b')
    refuse(t, role, bytes(wire, bad), {
      events: ['ping '],
      sent: [ownFrame(role, 'pong', '')],
      violation: ['INTERLEAVED_MESSAGE', 1002, 'message inside a fragmented message'],
      at: wire.length + 1
    })
    t.end()
  })

  t.test(
    `RFC 6455 section 7.1.7: a ${role} sends the Close frame of a listener that closes before the failure`,
    t => {
      const subject = new Subject(role, { after: (_event, connection) => connection.close(4000, 'mine') })
      subject.receive(bytes(peer.frame(1, 'a'), peer.frame(3, '')))
      t.strictSame(subject.events, ['text a', 'fail INVALID_OPCODE 1002'])
      t.strictSame(subject.sent, [closeFrame(role, 4000, 'mine')])
      t.end()
    }
  )

  t.test(`RFC 6455 section 5.5.1: a ${role} sends nothing after its Close frame`, t => {
    const subject = new Subject(role)
    subject.connection.output.send('last', false)
    subject.receive(bytes(peer.frame(9, 'a'), peer.close(1000), noise), noise)
    const opcodes = subject.sent.map(line => line.split(' ')[0])
    t.strictSame(opcodes, ['text', 'pong', 'close'])
    t.strictSame(decode(bytes(...subject.connection.dataToSend())), [])
    t.end()
  })
}
