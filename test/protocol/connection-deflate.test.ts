import t from 'tap'
import { Connection, type ConnectionEvents, type Role } from '../../lib/protocol/connection.js'
import * as violations from '../../lib/protocol/violation.js'
import { binary, CLIENT_KEY, closeFrame, Peer, ROLES, text } from './harness.js'
import { bytes, decode, describe } from './wire.js'

/** "Inflates" by reversing the bytes, synchronously or when the test runs the pending calls. */
function make(role: Role, { maxPayload = 2 ** 20, later = false } = {}) {
  const events: string[] = []
  const waiting: (() => void)[] = []
  const handlers: ConnectionEvents = {
    onMessage: (data, isBinary) => void events.push(isBinary ? binary(data) : text(data)),
    onCompressed: (data, isBinary) => onCompressed(data, isBinary),
    onPing: data => void events.push(`ping ${data}`),
    onPong: data => void events.push(`pong ${data}`),
    onClose: code => void events.push(`close ${code}`),
    onFail: error => void events.push(`fail ${error.code.replace('FST_UPGRADE_', '')} ${error.closeCode}`)
  }
  const onCompressed = (data: Buffer, isBinary: boolean): void => {
    const inflate = (): void => connection.receiveInflated(Buffer.from(data).reverse(), isBinary)
    if (!later) {
      inflate()
      return
    }
    connection.input.pause()
    waiting.push(inflate)
  }
  const maskingKey = role === 'client' ? () => Buffer.from(CLIENT_KEY).readUInt32BE() : undefined
  const connection: Connection = new Connection(
    { role, maxPayload, isCompressible: true, maskingKey },
    handlers
  )
  const receive = (...wire: Buffer[]): void => {
    for (const part of wire) connection.input.push(Buffer.from(part))
  }
  const sent = (): string[] => decode(bytes(...connection.dataToSend())).map(describe)
  return { connection, events, waiting, receive, sent }
}

const own = (role: Role, line: string): string =>
  role === 'client' ? line.replace(/ (\w*)$/, ' masked $1') : line
const hex = (data: string): string => Buffer.from(data).toString('hex')
const RSV1 = { rsv: 4 }

for (const role of ROLES) {
  const peer = new Peer(role)

  t.test(
    `RFC 7692 section 6.2: a ${role} receives compressed and other messages, however they are split`,
    t => {
      const wire = bytes(
        peer.frame(1, 'cba', RSV1),
        peer.frame(1, 'plain'),
        peer.frame(2, 'fed', RSV1),
        peer.frame(1, 'i', { rsv: 4, fin: false }),
        peer.frame(9, 'p'),
        peer.frame(0, 'h', { fin: false }),
        peer.frame(10, 'q'),
        peer.frame(0, 'g'),
        peer.frame(1, '', RSV1),
        peer.frame(1, 'a', { fin: false }),
        peer.frame(0, 'b')
      )
      const expected = [
        text('abc'),
        text('plain'),
        binary(Buffer.from('def')),
        'ping p',
        'pong q',
        text('ghi'),
        text(''),
        text('ab')
      ]
      const whole = make(role)
      whole.receive(wire)
      t.strictSame(whole.events, expected)
      for (let cut = 1; cut < wire.length; cut++) {
        const two = make(role)
        two.receive(wire.subarray(0, cut), wire.subarray(cut))
        t.strictSame(two.events, expected, `cut at ${cut}`)
      }
      t.end()
    }
  )

  t.test(`RFC 6455 section 8.1: a ${role} checks the inflated text, not the compressed bytes`, t => {
    const good = make(role)
    good.receive(peer.frame(1, Buffer.from('é').reverse(), RSV1))
    t.strictSame(good.events, [text('é')])
    for (const fin of [true, false]) {
      const bad = make(role)
      bad.receive(peer.frame(1, 'é', { rsv: 4, fin }))
      if (!fin) bad.receive(peer.frame(0, ''))
      bad.receive(peer.frame(1, 'too late'))
      t.strictSame(bad.events, ['fail INVALID_UTF8 1007'])
      t.strictSame(bad.sent(), [closeFrame(role, 1007, 'text not UTF-8')])
      t.equal(bad.connection.closeExpected, true)
    }
    const data = make(role)
    data.receive(peer.frame(2, 'é', RSV1))
    t.strictSame(data.events, [binary(Buffer.from('é').reverse())])
    t.end()
  })

  t.test(`RFC 7692 section 6: a ${role} refuses RSV1 on frames that must not have it`, t => {
    const fragment = peer.frame(1, 'a', { rsv: 4, fin: false })
    for (const [wire, before] of [
      [bytes(fragment, peer.frame(0, 'b', RSV1)), []],
      [peer.frame(9, 'p', RSV1), []],
      [peer.frame(10, 'p', RSV1), []],
      [peer.close(1000, '', RSV1), []],
      [bytes(peer.frame(1, 'a', RSV1), peer.frame(9, '', RSV1)), [text('a')]],
      [peer.frame(1, 'a', { rsv: 2 }), []],
      [peer.frame(1, 'a', { rsv: 5 }), []]
    ] as const) {
      const { receive, events, sent } = make(role)
      receive(wire, peer.frame(1, 'too late'))
      t.strictSame(events, [...before, 'fail RESERVED_BITS 1002'])
      t.strictSame(sent(), [closeFrame(role, 1002, 'reserved bits set')])
    }
    t.end()
  })

  t.test(`RFC 6455 section 10.4: a ${role} refuses a compressed message that cannot fit`, t => {
    // 100 bytes, an eighth more and 64; six more per fragment, for the flush that ends it.
    const most = 177
    const fits = make(role, { maxPayload: 100 })
    fits.receive(peer.frame(2, Buffer.alloc(most, 1), RSV1))
    fits.receive(
      peer.frame(2, Buffer.alloc(100, 1), { rsv: 4, fin: false }),
      peer.frame(9, 'p'),
      peer.frame(0, Buffer.alloc(77, 1))
    )
    const inFragments = make(role, { maxPayload: 100 })
    inFragments.receive(
      peer.frame(2, Buffer.alloc(100, 1), { rsv: 4, fin: false }),
      peer.frame(0, Buffer.alloc(83, 1))
    )
    t.strictSame(inFragments.events, [binary(Buffer.alloc(183, 1))])
    t.strictSame(fits.events, [binary(Buffer.alloc(most, 1)), 'ping p', binary(Buffer.alloc(most, 1))])
    const next = make(role, { maxPayload: 100 })
    next.receive(peer.frame(2, Buffer.alloc(most, 1), RSV1), peer.header(2, 101))
    t.strictSame(next.events.slice(1), ['fail MESSAGE_TOO_BIG 1009'], 'each message has its own limit')
    for (const wire of [
      peer.header(2, most + 1, RSV1),
      bytes(peer.frame(2, Buffer.alloc(100, 1), { rsv: 4, fin: false }), peer.header(0, 84)),
      bytes(peer.frame(2, 'a', { fin: false }), peer.header(0, 100))
    ]) {
      const { receive, events, sent } = make(role, { maxPayload: 100 })
      receive(wire)
      t.strictSame(events, ['fail MESSAGE_TOO_BIG 1009'])
      t.strictSame(sent(), [closeFrame(role, 1009, 'message too big')])
    }
    t.end()
  })

  t.test(`a ${role} that inflates a message asynchronously delivers later messages after it`, t => {
    const { connection, receive, events, waiting, sent } = make(role, { later: true })
    receive(
      bytes(peer.frame(1, 'cba', RSV1), peer.frame(9, 'p'), peer.frame(1, 'fed', RSV1), peer.close(1000))
    )
    t.strictSame(events, [])
    t.equal(connection.input.paused, true)
    waiting.shift()?.()
    t.strictSame(events, [text('abc')])
    connection.input.resume()
    t.strictSame(events, [text('abc'), 'ping p'])
    t.strictSame(sent(), [own(role, `pong ${hex('p')}`)])
    waiting.shift()?.()
    connection.input.resume()
    t.strictSame(events, [text('abc'), 'ping p', text('def'), 'close 1000'])
    t.end()
  })

  t.test(`RFC 7692 section 7.2.2: a ${role} fails when a message cannot be inflated`, t => {
    const { connection, receive, events, sent } = make(role, { later: true })
    receive(bytes(peer.frame(1, 'cba', RSV1), peer.frame(9, 'p'), peer.frame(1, 'too late')))
    connection.fail(violations.INVALID_DEFLATE)
    connection.input.resume()
    receive(peer.frame(1, 'too late'))
    t.strictSame(events, ['fail INVALID_DEFLATE 1007'])
    t.strictSame(sent(), [closeFrame(role, 1007, 'compressed data invalid')])
    t.strictSame([connection.isOpen, connection.closeExpected, connection.closeCode], [false, true, 1006])
    t.end()
  })

  t.test(`RFC 7692 section 6.1: a ${role} marks the first frame of a compressed message`, t => {
    const { connection, sent } = make(role)
    connection.output.send('a', false, true, true)
    connection.output.send('b', true, false, true)
    t.equal(connection.output.sendsFragments, true)
    connection.output.send('c', false, false, true)
    connection.ping('p')
    connection.output.send('d', false, true, true)
    t.equal(connection.output.sendsFragments, false)
    connection.output.send('e', false)
    t.strictSame(
      sent(),
      [
        'text rsv 4 61',
        'binary rsv 4 more 62',
        'continuation more 63',
        'ping 70',
        'continuation 64',
        'text 65'
      ].map(line => own(role, line))
    )
    t.end()
  })

  t.test(
    `a ${role} keeps the order of messages that are compressed asynchronously, and of the Close frame after them`,
    t => {
      const { connection, sent } = make(role)
      const first = connection.output.sendLater(false, false, 500)
      connection.ping('p')
      const second = connection.output.sendLater(true, true, 700)
      t.equal(connection.output.gaps, 2)
      t.equal(connection.output.sendsFragments, false)
      connection.output.send('e', false)
      connection.close(1000)
      t.equal(connection.output.size > 1200, true)
      t.strictSame(sent(), [])
      connection.output.fillGap(second, Buffer.from('b'))
      t.strictSame(sent(), [])
      connection.output.fillGap(first, Buffer.from('a'))
      t.equal(connection.output.gaps, 0)
      t.strictSame(
        sent(),
        ['text rsv 4 more 61', 'ping 70', 'continuation 62', 'text 65', 'close 03e8'].map(line =>
          own(role, line)
        )
      )
      t.equal(connection.output.size, 0)
      t.end()
    }
  )
}
