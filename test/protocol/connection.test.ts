import t from 'tap'
import { Connection } from '../../lib/protocol/connection.js'
import { binary, CLIENT_KEY, ownFrame, Peer, ROLES, replay, Subject } from './harness.js'
import { bytes, decode, describe, hex, randomNumbers } from './wire.js'

t.test('RFC 6455 section 5.7: a server receives the examples', t => {
  const hello = hex('81 85 37 fa 21 3d 7f 9f 4d 51 58')
  replay(t, 'server', hello, { events: ['text Hello'], sent: [] })
  const pong = hex('8a 85 37 fa 21 3d 7f 9f 4d 51 58')
  replay(t, 'server', pong, { events: ['pong 48656c6c6f'], sent: [] })
  t.end()
})

t.test('RFC 6455 section 5.7: a client receives the examples', t => {
  replay(t, 'client', hex('81 05 48 65 6c 6c 6f'), { events: ['text Hello'], sent: [] })
  replay(t, 'client', hex('01 03 48 65 6c  80 02 6c 6f'), { events: ['text Hello'], sent: [] })
  const pong = ownFrame('client', 'pong', 'Hello')
  replay(t, 'client', hex('89 05 48 65 6c 6c 6f'), { events: ['ping 48656c6c6f'], sent: [pong] })
  const data = Buffer.alloc(65_536, 0xab)
  const short = bytes(hex('82 7e 0100'), data.subarray(0, 256))
  replay(t, 'client', short, { events: [binary(data.subarray(0, 256))], sent: [] })
  const long = bytes(hex('82 7f 0000000000010000'), data)
  replay(t, 'client', long, { events: [binary(data)], sent: [] })
  t.end()
})

t.test('RFC 6455 section 5.7: the examples are sent as in the RFC', t => {
  const server = new Subject('server').connection
  server.output.send('Hello', false)
  server.output.send('Hel', false, false)
  server.output.send('lo', false)
  server.ping('Hello')
  const expected = hex('81 05 48656c6c6f  01 03 48656c  80 02 6c6f  89 05 48656c6c6f')
  t.strictSame(bytes(...server.dataToSend()), expected)
  const client = new Connection(
    { role: 'client', maxPayload: 0, maskingKey: () => 0x37fa213d },
    { onMessage() {}, onCompressed() {}, onPing() {}, onPong() {}, onClose() {}, onFail() {} }
  )
  client.output.send('Hello', false)
  client.pong('Hello')
  t.strictSame(bytes(...client.dataToSend()), hex('81 85 37fa213d 7f9f4d5158  8a 85 37fa213d 7f9f4d5158'))
  t.end()
})

t.test('RFC 6455 section 5.1: a client masks every frame, and a server masks none', t => {
  for (const role of ROLES) {
    const { connection } = new Subject(role)
    connection.output.send('a', false)
    connection.output.send(Buffer.alloc(5000), true)
    connection.ping('b')
    connection.pong('c')
    connection.close(1000, 'd')
    const keys = decode(bytes(...connection.dataToSend())).map(({ key }) => key)
    t.strictSame(keys, Array(5).fill(role === 'client' ? CLIENT_KEY : undefined))
  }
  t.end()
})

t.test('RFC 6455 section 10.3: a client uses a new key for every frame', t => {
  let calls = 0
  const client = new Connection(
    { role: 'client', maxPayload: 100, maskingKey: () => calls++ },
    { onMessage() {}, onCompressed() {}, onPing() {}, onPong() {}, onClose() {}, onFail() {} }
  )
  client.output.send('a', false)
  client.input.push(hex('89 00'))
  client.input.push(hex('88 00'))
  t.strictSame(
    decode(bytes(...client.dataToSend())).map(({ opcode, key }) => [opcode, key?.at(-1)]),
    [
      [1, 0],
      [10, 1],
      [8, 2]
    ]
  )
  t.end()
})

for (const role of ROLES) {
  const peer = new Peer(role)

  t.test(`RFC 6455 section 5.6: a ${role} sends text and binary data of every length`, t => {
    for (const length of [0, 1, 125, 126, 127, 4095, 4096, 65_535, 65_536, 70_000]) {
      const { connection } = new Subject(role)
      const data = Buffer.alloc(length, 0x61)
      connection.output.send(data, true)
      connection.output.send(data, false)
      connection.output.send(data.toString(), false)
      connection.output.send(data.toString(), true)
      const expected = ['binary', 'text', 'text', 'binary'].map(what => ownFrame(role, what, data))
      const overhead = (role === 'client' ? 4 : 0) + (length < 126 ? 2 : length < 65_536 ? 4 : 10)
      t.equal(connection.output.size, 4 * (overhead + length))
      t.ok(
        String(decode(bytes(...connection.dataToSend())).map(describe)) === String(expected),
        `${length} bytes`
      )
      t.equal(connection.output.size, 0)
    }
    t.end()
  })

  t.test(`a paused ${role} reports nothing until it resumes`, t => {
    const subject = new Subject(role)
    const { connection } = subject
    t.notOk(connection.input.paused)
    connection.input.pause()
    t.ok(connection.input.paused)
    t.notOk(connection.input.hasUnread)
    subject.receive(peer.frame(9, 'a'), peer.frame(1, 'b'), peer.close(1000))
    t.strictSame([subject.events, subject.sent], [[], []])
    t.ok(connection.input.hasUnread)
    t.ok(connection.isOpen)
    connection.input.resume()
    t.notOk(connection.input.paused)
    t.notOk(connection.input.hasUnread)
    t.strictSame(subject.events, ['ping 61', 'text b', 'close 1000 ""'])
    t.equal(subject.flush().sent.length, 2)
    t.end()
  })

  t.test(`a ${role} that a listener pauses reports no further event`, t => {
    const subject = new Subject(role, { after: (_event, connection) => connection.input.pause() })
    subject.receive(bytes(peer.frame(1, 'a'), peer.frame(1, 'b'), peer.frame(1, 'c', { fin: false })))
    t.strictSame(subject.events, ['text a'])
    t.ok(subject.connection.input.hasUnread)
    subject.connection.input.resume()
    t.strictSame(subject.events, ['text a', 'text b'])
    subject.connection.input.resume()
    t.strictSame(subject.events, ['text a', 'text b'])
    t.notOk(subject.connection.input.hasUnread)
    subject.receive(peer.frame(0, 'd'))
    t.strictSame(subject.events, ['text a', 'text b', 'text cd'])
    t.end()
  })

  t.test(`a listener of a ${role} may answer synchronously, and the answers keep their order`, t => {
    const subject = new Subject(role, {
      after: (event, connection) => {
        if (event.startsWith('text')) connection.output.send(event.slice(5), false)
      }
    })
    subject.receive(bytes(peer.frame(1, 'a'), peer.frame(9, 'b'), peer.frame(1, 'c'), peer.close(1000)))
    const kinds = subject.sent.map(line => line.split(' ')[0])
    t.strictSame(kinds, ['text', 'pong', 'text', 'close'])
    t.end()
  })

  t.test(`a ${role} overwrites only the chunk that it received`, t => {
    const memory = Buffer.alloc(100, 0xee)
    const wire = peer.frame(1, 'abc')
    wire.copy(memory, 10)
    const subject = new Subject(role)
    subject.connection.input.push(memory.subarray(10, 10 + wire.length))
    t.strictSame(subject.events, ['text abc'])
    t.ok(memory.subarray(0, 10).every(byte => byte === 0xee))
    t.ok(memory.subarray(10 + wire.length).every(byte => byte === 0xee))
    t.end()
  })

  t.test(`data that a ${role} has reported does not change when more arrives`, t => {
    const kept: Buffer[] = []
    const keep = (data: Buffer): void => {
      kept.push(data)
    }
    const connection = new Connection(
      { role, maxPayload: 1000, maskingKey: () => 1 },
      {
        onMessage: keep,
        onCompressed() {},
        onPing: keep,
        onPong: keep,
        onClose: (_code, reason) => keep(reason),
        onFail() {}
      }
    )
    const wire = bytes(
      peer.frame(1, 'one'),
      peer.frame(9, 'two'),
      peer.frame(10, 'three'),
      peer.close(1000, 'four')
    )
    const half = wire.length >> 1
    for (const piece of [wire.subarray(0, half), wire.subarray(half)])
      connection.input.push(Buffer.from(piece))
    connection.dataToSend()
    t.strictSame(kept.map(String), ['one', 'two', 'three', 'four'])
    t.end()
  })

  t.test(`a ${role} reports the same events however the input is split`, t => {
    const random = randomNumbers(role.length)
    const below = (limit: number): number => Math.floor(random() * limit)
    for (let round = 0; round < 10; round++) {
      const wire: Buffer[] = []
      const events: string[] = []
      for (let i = 0; i < 10; i++) {
        const data = Buffer.from(
          Array.from({ length: below(3) === 0 ? below(300) : below(8) }, () => below(256))
        )
        if (below(4) === 0) {
          wire.push(peer.frame(10, data.subarray(0, 125)))
          events.push(`pong ${data.subarray(0, 125).toString('hex')}`)
        } else {
          const cut = below(data.length + 1)
          if (below(2) === 0) wire.push(peer.frame(2, data))
          else
            wire.push(peer.frame(2, data.subarray(0, cut), { fin: false }), peer.frame(0, data.subarray(cut)))
          events.push(binary(data))
        }
      }
      replay(t, role, bytes(...wire), { events, sent: [] })
    }
    t.end()
  })
}

t.test('RFC 6455 sections 5 to 7: a client and a server exchange messages and close', t => {
  const client = new Subject('client')
  const server = new Subject('server', {
    after: (event, connection) => {
      if (event.startsWith('text')) connection.output.send(event.slice(5).toUpperCase(), false)
    }
  })
  const pass = (): void => {
    for (const data of client.connection.dataToSend()) server.connection.input.push(Buffer.from(data))
    for (const data of server.connection.dataToSend()) client.connection.input.push(Buffer.from(data))
  }
  client.connection.output.send('hello', false)
  client.connection.output.send('a'.repeat(5000), false)
  client.connection.ping('p')
  pass()
  server.connection.close(1001, 'bye')
  pass()
  pass()
  t.strictSame(server.events, ['text hello', `text ${'a'.repeat(5000)}`, 'ping 70', 'close 1001 "bye"'])
  t.strictSame(client.events, ['text HELLO', `text ${'A'.repeat(5000)}`, 'pong 70', 'close 1001 "bye"'])
  t.ok(server.connection.closeExpected)
  t.notOk(client.connection.closeExpected)
  t.end()
})
