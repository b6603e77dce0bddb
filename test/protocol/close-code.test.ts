import t from 'tap'
import * as closeCode from '../../lib/protocol/close-code.js'
import { bytes } from './wire.js'

const { closeBody, isValidCloseCode, parseCloseBody } = closeCode

t.test('RFC 6455 section 7.4.1: the named close codes have their registered numbers', t => {
  t.equal(closeCode.NORMAL_CLOSURE, 1000)
  t.equal(closeCode.GOING_AWAY, 1001)
  t.equal(closeCode.NO_STATUS_RECEIVED, 1005)
  t.equal(closeCode.ABNORMAL_CLOSURE, 1006)
  t.equal(closeCode.INTERNAL_ERROR, 1011)
  t.equal(closeCode.MAX_CONTROL_PAYLOAD, 125)
  t.end()
})

t.test('RFC 6455 section 7.4: only the defined close codes are valid', t => {
  const valid: number[] = []
  for (let code = 0; code < 65536; code++) if (isValidCloseCode(code)) valid.push(code)
  const named = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014]
  const free = Array.from({ length: 2000 }, (_, i) => 3000 + i)
  t.strictSame(valid, [...named, ...free])
  t.end()
})

t.test('RFC 6455 section 7.1.5: an empty Close body is read as 1005', t => {
  t.strictSame(parseCloseBody(Buffer.alloc(0)), { code: 1005, reason: Buffer.alloc(0) })
  t.end()
})

t.test('RFC 6455 section 5.5.1: a Close body is read as a code and a reason in UTF-8', t => {
  t.strictSame(parseCloseBody(bytes(3, 232)), { code: 1000, reason: Buffer.alloc(0) })
  t.strictSame(parseCloseBody(bytes(0x0f, 0xa0, 'gone ☂')), { code: 4000, reason: Buffer.from('gone ☂') })
  t.match(parseCloseBody(bytes(3)), { closeCode: 1002, section: '5.5.1' }, 'one byte')
  t.match(parseCloseBody(bytes(3, 237)), { closeCode: 1002, section: '7.4' }, '1005')
  t.match(parseCloseBody(bytes(3, 232, [0xc3, 0x28])), { closeCode: 1007, section: '5.5.1' }, 'not UTF-8')
  t.match(parseCloseBody(bytes(3, 232, [0xe2, 0x98])), { closeCode: 1007 }, 'an incomplete character')
  t.end()
})

t.test(
  'RFC 6455 section 5.5.1: a Close body is written as the code in network byte order and the reason',
  t => {
    t.equal(closeBody().toString('hex'), '')
    t.equal(closeBody(1000).toString('hex'), '03e8')
    t.equal(closeBody(4999, 'bye').toString('hex'), '1387627965')
    t.equal(closeBody(1001, '☂').toString('hex'), '03e9e29882')
    t.equal(closeBody(1001, new Uint8Array([0x61, 0x62])).toString('hex'), '03e96162')
    t.end()
  }
)

for (const code of [
  0,
  999,
  1004,
  1005,
  1006,
  1015,
  1016,
  2999,
  5000,
  65535,
  66536,
  -1000,
  1000.5,
  Number.NaN
]) {
  t.test(`RFC 6455 section 7.4: code ${code} is not written`, t => {
    t.throws(() => closeBody(code), { name: 'TypeError', message: String(code) })
    t.end()
  })
}

t.test('RFC 6455 section 5.5: a reason has at most 123 bytes of UTF-8', t => {
  t.equal(closeBody(1000, 'a'.repeat(123)).length, 125)
  t.equal(closeBody(1000, '☂'.repeat(41)).length, 125)
  t.throws(() => closeBody(1000, 'a'.repeat(124)), { name: 'RangeError', message: '124 bytes' })
  t.throws(() => closeBody(1000, '☂'.repeat(42)), { name: 'RangeError', message: '126 bytes' })
  t.throws(() => closeBody(1000, Buffer.alloc(124, 'a')), { name: 'RangeError' })
  t.end()
})
