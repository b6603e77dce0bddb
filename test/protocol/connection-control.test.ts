import t from 'tap'
import type { Connection } from '../../lib/protocol/connection.js'
import { closeFrame, type Failure, ownFrame, Peer, ROLES, refuse, replay, Subject } from './harness.js'
import { bytes, decode, describe } from './wire.js'

const FRAGMENTED: Failure['violation'] = ['FRAGMENTED_CONTROL', 1002, 'fragmented control frame']
const LONG: Failure['violation'] = ['LONG_CONTROL', 1002, 'control frame over 125 bytes']

for (const role of ROLES) {
  const peer = new Peer(role)
  const pong = (payload: string | Uint8Array): string => ownFrame(role, 'pong', payload)

  t.test(`RFC 6455 section 5.5: a ${role} refuses a fragmented control frame`, t => {
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
    `RFC 6455 section 5.5: a ${role} accepts a control frame of 125 bytes, however small maxPayload is`,
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

  t.test(`RFC 6455 section 5.5.2: a ${role} answers a ping with the same payload`, t => {
    for (const data of ['', 'a', 'Hello', 'x'.repeat(125)]) {
      const event = `ping ${Buffer.from(data).toString('hex')}`
      replay(t, role, peer.frame(9, data), { events: [event], sent: [pong(data)] })
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} answers several pings of one read each, in order`, t => {
    const pings = ['a', 'b', 'c'].map(data => peer.frame(9, data))
    const wire = bytes(pings[0], peer.frame(1, 'between'), pings[1], pings[2], peer.frame(10, 'd'))
    const events = ['ping 61', 'text between', 'ping 62', 'ping 63', 'pong 64']
    replay(t, role, wire, { events, sent: [pong('a'), pong('b'), pong('c')] })
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} keeps pongs in order with the frames that it sends`, t => {
    const echo = (event: string, connection: Connection): void => {
      if (event.startsWith('text ')) connection.output.send(event.slice(5), false)
    }
    const wire = bytes(
      peer.frame(9, '1'),
      peer.frame(1, 'a', { fin: false }),
      peer.frame(9, '2'),
      peer.frame(0, 'b'),
      peer.frame(9, '3'),
      peer.frame(1, 'c')
    )
    const events = ['ping 31', 'ping 32', 'text ab', 'ping 33', 'text c']
    const sent = [pong('1'), pong('2'), ownFrame(role, 'text', 'ab'), pong('3'), ownFrame(role, 'text', 'c')]
    replay(t, role, wire, { events, sent }, { after: echo })
    t.end()
  })

  t.test(`RFC 6455 section 5.4: a ${role} answers a ping between the fragments that it sends`, t => {
    const subject = new Subject(role)
    subject.connection.output.send('a', false, false)
    subject.receive(peer.frame(9, 'p'))
    subject.connection.output.send('b', false)
    t.strictSame(subject.flush().sent, [
      ownFrame(role, 'text more', 'a'),
      pong('p'),
      ownFrame(role, 'continuation', 'b')
    ])
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} answers each ping that arrives alone`, t => {
    const subject = new Subject(role).receive(peer.frame(9, 'a'), peer.frame(9, 'b'), peer.frame(1, 'c'))
    t.strictSame(subject.sent, [pong('a'), pong('b')])
    t.end()
  })

  t.test(
    `RFC 6455 section 5.5.3: a ${role} answers a flood of pings with 64 pongs and the last one per read`,
    t => {
      const flood = bytes(...Array.from({ length: 10_000 }, (_, i) => peer.frame(9, `${i}`.padEnd(125))))
      const subject = new Subject(role)
      subject.connection.input.push(flood)
      t.equal(subject.events.length, 10_000)
      t.equal(subject.connection.output.size, 64 * ((role === 'client' ? 6 : 2) + 125))
      const answered = [...Array.from({ length: 64 }, (_, i) => i), 9_999]
      const pongs = answered.map(i => pong(`${i}`.padEnd(125)))
      t.strictSame(subject.flush().sent, pongs)
      t.notOk(subject.connection.hasOutput)
      t.end()
    }
  )

  t.test(`RFC 6455 section 5.5.3: a ${role} answers all of 64 or 65 pings of one read`, t => {
    for (const count of [64, 65]) {
      const data = Array.from({ length: count }, (_, i) => `${i}`)
      const subject = new Subject(role).receive(bytes(...data.map(one => peer.frame(9, one))))
      t.strictSame(subject.sent, data.map(pong))
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.5.3: a ${role} whose output is not written has at most 64 pending pongs`, t => {
    const subject = new Subject(role)
    const { connection } = subject
    const take = (isWritten: boolean): string[] =>
      decode(bytes(...connection.dataToSend(isWritten))).map(describe)
    const receive = (from: number, to: number): void => {
      for (let i = from; i < to; i++) connection.input.push(peer.frame(9, `${i}`))
    }
    receive(0, 40)
    t.equal(take(false).length, 40)
    receive(40, 100)
    t.equal(take(false).length, 24)
    receive(100, 1000)
    t.strictSame([connection.holdsPong, connection.hasOutput, connection.output.size], [true, true, 0])
    t.strictSame(take(false), [], 'while nothing is written')
    connection.output.send('x', false)
    t.strictSame(take(true), [ownFrame(role, 'text', 'x'), pong('999')])
    t.strictSame([connection.holdsPong, connection.hasOutput], [false, false])
    receive(1000, 1064)
    t.equal(take(false).length, 64, 'as many as before')
    receive(1064, 1065)
    t.equal(connection.holdsPong, true)
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} answers a pending ping before its Close frame`, t => {
    const wire = bytes(...Array.from({ length: 100 }, (_, i) => peer.frame(9, `${i}`)))
    for (const end of [peer.close(1000), peer.frame(3, ''), undefined]) {
      const subject = new Subject(role)
      subject.connection.input.push(bytes(wire, end ?? []))
      if (end === undefined) subject.connection.close(1001)
      const { sent } = subject.flush()
      t.equal(sent.length, 66)
      t.strictSame([sent.at(-2), sent.at(-1)?.split(' ')[0]], [pong('99'), 'close'])
    }
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} sends a pong after a message that is being compressed`, t => {
    const subject = new Subject(role)
    const { connection } = subject
    const gap = connection.output.sendLater(false, true, 1000)
    for (let i = 0; i < 100; i++) {
      connection.input.push(peer.frame(9, `${i}`))
      t.strictSame(subject.flush().sent, [])
    }
    connection.output.fillGap(gap, Buffer.from('x'))
    const { sent } = subject.flush()
    t.equal(sent.length, 66)
    t.match(sent[0], /^text rsv 4/)
    t.strictSame([sent[1], sent[64], sent[65]], [pong('0'), pong('63'), pong('99')])
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} answers a ping between fragments immediately`, t => {
    const subject = new Subject(role).receive(peer.frame(1, 'a', { fin: false }), peer.frame(9, 'b'))
    t.strictSame(subject.sent, [pong('b')])
    subject.receive(peer.frame(0, 'c'))
    t.strictSame(subject.events, ['ping 62', 'text ac'])
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} answers a ping that precedes a Close frame`, t => {
    const wire = bytes(peer.frame(9, 'a'), peer.close(1000))
    const sent = [pong('a'), closeFrame(role, 1000)]
    replay(t, role, wire, { events: ['ping 61', 'close 1000 ""'], sent })
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} that has sent a Close frame answers no ping`, t => {
    const subject = new Subject(role)
    subject.connection.close(1000)
    subject.flush().receive(peer.frame(9, 'a'), bytes(peer.frame(9, 'b'), peer.frame(1, 'c')))
    t.strictSame(subject.events, ['ping 61', 'ping 62', 'text c'])
    t.strictSame(subject.sent, [closeFrame(role, 1000)])
    const closing = new Subject(role, { after: (_event, connection) => connection.close(1001) })
    closing.receive(peer.frame(9, 'a'))
    t.strictSame(closing.sent, [pong('a'), closeFrame(role, 1001)], 'closed by the listener of the ping')
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} that closes answers earlier pings`, t => {
    const after = (event: string, connection: Connection): void => {
      if (event.startsWith('text')) connection.close(1000)
    }
    const subject = new Subject(role, { after })
    subject.receive(bytes(peer.frame(9, 'a'), peer.frame(1, 'x'), peer.frame(9, 'b')))
    t.strictSame(subject.events, ['ping 61', 'text x', 'ping 62'])
    t.strictSame(subject.sent, [pong('a'), closeFrame(role, 1000)])
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} that fails answers earlier pings`, t => {
    const subject = new Subject(role).receive(bytes(peer.frame(9, 'a'), peer.frame(3, '')))
    t.strictSame(subject.events, ['ping 61', 'fail INVALID_OPCODE 1002'])
    t.strictSame(subject.sent, [pong('a'), closeFrame(role, 1002, 'unknown opcode')])
    t.end()
  })

  t.test(`RFC 6455 section 5.5.2: a ${role} that pauses answers the ping that it has reported`, t => {
    const subject = new Subject(role, { after: (_event, connection) => connection.input.pause() })
    subject.receive(bytes(peer.frame(9, 'a'), peer.frame(9, 'b')))
    t.strictSame([subject.events, subject.sent], [['ping 61'], [pong('a')]])
    subject.connection.input.resume()
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

  t.test(`RFC 6455 section 5.5.3: a ${role} accepts an unsolicited pong and does not answer it`, t => {
    const wire = bytes(peer.frame(10, ''), peer.frame(10, 'abc'), peer.frame(1, 'x'))
    replay(t, role, wire, { events: ['pong ', 'pong 616263', 'text x'], sent: [] })
    t.end()
  })

  t.test(`RFC 6455 section 5.5.3: a ${role} sends unsolicited pongs`, t => {
    const subject = new Subject(role)
    subject.connection.pong('')
    subject.connection.pong(Buffer.from('abc'))
    t.strictSame(subject.flush().sent, [pong(''), pong('abc')])
    t.end()
  })
}
