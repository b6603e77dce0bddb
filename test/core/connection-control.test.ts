import t from 'tap'
import { closeFrame, type Failure, ownFrame, Peer, ROLES, refuse, replay, Subject } from './harness.js'
import { bytes } from './wire.js'

const FRAGMENTED: Failure['violation'] = ['FRAGMENTED_CONTROL', 1002, 'fragmented control frame']
const LONG: Failure['violation'] = ['LONG_CONTROL', 1002, 'control frame over 125 bytes']

for (const role of ROLES) {
  const peer = new Peer(role)
  const pong = (payload: string | Uint8Array): string => ownFrame(role, 'pong', payload)

  t.test(`RFC 6455 section 5.5: a ${role} refuses a control frame that is not whole`, t => {
    const unfinished = peer.frame(2, 'a', { fin: false })
    for (const opcode of [8, 9, 10]) {
      refuse(t, role, peer.frame(opcode, 'x', { fin: false }), { violation: FRAGMENTED, at: 1 })
      refuse(t, role, bytes(unfinished, peer.frame(opcode, 'x', { fin: false })), {
        violation: FRAGMENTED,
        at: unfinished.length + 1
      })
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.5: a ${role} refuses a control frame of more than 125 bytes`, t => {
    for (const opcode of [8, 9, 10]) {
      for (const length of [126, 127, 65_535, 65_536]) {
        refuse(t, role, peer.header(opcode, length), { violation: LONG, at: 2 })
      }
      for (const form of [16, 64] as const) {
        refuse(t, role, peer.frame(opcode, 'x', { form }), { violation: LONG, at: 2 })
      }
    }
    t.end()
  })

  t.test(
    `RFC 6455 section 5.5: a ${role} takes a control frame of 125 bytes, however small its messages are`,
    t => {
      const data = Buffer.alloc(125, 0x61)
      const wire = bytes(peer.frame(10, data), peer.frame(9, data), peer.close(1000, 'a'.repeat(123)))
      const events = [
        `pong ${data.toString('hex')}`,
        `ping ${data.toString('hex')}`,
        `close 1000 "${'a'.repeat(123)}"`
      ]
      const sent = [pong(data), closeFrame(role, 1000, 'a'.repeat(123))]
      replay(t, role, wire, { events, sent }, { maxPayload: 0 })
      t.end()
    }
  )

  t.test(`RFC 6455 section 5.5.2: a ${role} answers a ping with its payload`, t => {
    for (const data of ['', 'a', 'Hello', 'x'.repeat(125)]) {
      const event = `ping ${Buffer.from(data).toString('hex')}`
      replay(t, role, peer.frame(9, data), { events: [event], sent: [pong(data)] })
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} answers the last of several pings of one read`, t => {
    const pings = ['a', 'b', 'c'].map(data => peer.frame(9, data))
    const wire = bytes(pings[0], peer.frame(1, 'between'), pings[1], pings[2], peer.frame(10, 'd'))
    const events = ['ping 61', 'text between', 'ping 62', 'ping 63', 'pong 64']
    replay(t, role, wire, { events, sent: [pong('c')] })
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} answers each ping that comes alone`, t => {
    const subject = new Subject(role).receive(peer.frame(9, 'a'), peer.frame(9, 'b'), peer.frame(1, 'c'))
    t.strictSame(subject.sent, [pong('a'), pong('b')])
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a flood of pings costs a ${role} one pong a read`, t => {
    const flood = bytes(...Array.from({ length: 10_000 }, () => peer.frame(9, 'x'.repeat(125))))
    const subject = new Subject(role)
    subject.connection.receiveData(flood)
    t.equal(subject.events.length, 10_000)
    t.equal(subject.connection.bufferedAmount, (role === 'client' ? 6 : 2) + 125)
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} answers a ping between fragments at once`, t => {
    const subject = new Subject(role).receive(peer.frame(1, 'a', { fin: false }), peer.frame(9, 'b'))
    t.strictSame(subject.sent, [pong('b')])
    subject.receive(peer.frame(0, 'c'))
    t.strictSame(subject.events, ['ping 62', 'text ac'])
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} answers a ping before the Close frame behind it`, t => {
    const wire = bytes(peer.frame(9, 'a'), peer.close(1000))
    const sent = [pong('a'), closeFrame(role, 1000)]
    replay(t, role, wire, { events: ['ping 61', 'close 1000 ""'], sent })
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} that sent a Close frame answers no ping`, t => {
    const subject = new Subject(role)
    subject.connection.close(1000)
    subject.flush().receive(peer.frame(9, 'a'), bytes(peer.frame(9, 'b'), peer.frame(1, 'c')))
    t.strictSame(subject.events, ['ping 61', 'ping 62', 'text c'])
    t.strictSame(subject.sent, [closeFrame(role, 1000)])
    const closing = new Subject(role, { after: (_event, connection) => connection.close(1001) })
    closing.receive(peer.frame(9, 'a'))
    t.strictSame(closing.sent, [closeFrame(role, 1001)], 'closed by the listener of the ping')
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} that fails answers no ping`, t => {
    const subject = new Subject(role).receive(bytes(peer.frame(9, 'a'), peer.frame(3, '')))
    t.strictSame(subject.events, ['ping 61', 'fail INVALID_OPCODE 1002'])
    t.strictSame(subject.sent, [closeFrame(role, 1002, 'unknown opcode')])
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} that pauses answers the ping it was told of`, t => {
    const subject = new Subject(role, { after: (_event, connection) => connection.pause() })
    subject.receive(bytes(peer.frame(9, 'a'), peer.frame(9, 'b')))
    t.strictSame([subject.events, subject.sent], [['ping 61'], [pong('a')]])
    subject.connection.resume()
    subject.flush()
    t.strictSame(subject.events, ['ping 61', 'ping 62'])
    t.strictSame(subject.sent, [pong('a'), pong('b')])
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} sends pings`, t => {
    const subject = new Subject(role)
    subject.connection.ping('a')
    subject.connection.ping(Buffer.alloc(125, 1))
    subject.connection.ping('')
    const sent = ['61', '01'.repeat(125), ''].map(data => ownFrame(role, 'ping', Buffer.from(data, 'hex')))
    t.strictSame(subject.flush().sent, sent)
    t.end()
  })

  t.test(
    `RFC 6455 section 5.5.3: a ${role} takes a pong that nobody asked for, and does not answer it`,
    t => {
      const wire = bytes(peer.frame(10, ''), peer.frame(10, 'abc'), peer.frame(1, 'x'))
      replay(t, role, wire, { events: ['pong ', 'pong 616263', 'text x'], sent: [] })
      t.end()
    }
  )

  t.test(`RFC 6455 section 5.5.3: a ${role} sends pongs that nobody asked for`, t => {
    const subject = new Subject(role)
    subject.connection.pong('')
    subject.connection.pong(Buffer.from('abc'))
    t.strictSame(subject.flush().sent, [pong(''), pong('abc')])
    t.end()
  })
}
