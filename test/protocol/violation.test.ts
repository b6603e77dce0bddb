import t from 'tap'
import * as violations from '../../lib/protocol/violation.js'

const { ProtocolError, ...table } = violations

t.test('every violation has its code, close code and section', t => {
  t.strictSame(
    Object.entries(table)
      .map(([name, { code, closeCode, section }]) => [name, code, closeCode, section].join(' '))
      .sort(),
    [
      'CONTROL_FLOOD FST_UPGRADE_CONTROL_FLOOD 1008 10.4',
      'FRAGMENTED_CONTROL FST_UPGRADE_FRAGMENTED_CONTROL 1002 5.5',
      'INTERLEAVED_MESSAGE FST_UPGRADE_INTERLEAVED_MESSAGE 1002 5.4',
      'INVALID_CLOSE_BODY FST_UPGRADE_INVALID_CLOSE_BODY 1002 5.5.1',
      'INVALID_CLOSE_CODE FST_UPGRADE_INVALID_CLOSE_CODE 1002 7.4',
      'INVALID_CLOSE_REASON FST_UPGRADE_INVALID_CLOSE_REASON 1007 5.5.1',
      'INVALID_DEFLATE FST_UPGRADE_INVALID_DEFLATE 1007 RFC 7692 section 7.2.2',
      'INVALID_LENGTH FST_UPGRADE_INVALID_LENGTH 1002 5.2',
      'INVALID_OPCODE FST_UPGRADE_INVALID_OPCODE 1002 5.2',
      'INVALID_UTF8 FST_UPGRADE_INVALID_UTF8 1007 8.1',
      'LONG_CONTROL FST_UPGRADE_LONG_CONTROL 1002 5.5',
      'MASKED_FRAME FST_UPGRADE_MASKED_FRAME 1002 5.1',
      'MESSAGE_TIMEOUT FST_UPGRADE_MESSAGE_TIMEOUT 1008 10.4',
      'MESSAGE_TOO_BIG FST_UPGRADE_MESSAGE_TOO_BIG 1009 10.4',
      'NON_MINIMAL_LENGTH FST_UPGRADE_NON_MINIMAL_LENGTH 1002 5.2',
      'OVERLOADED FST_UPGRADE_OVERLOADED 1013 10.4',
      'RATE_EXCEEDED FST_UPGRADE_RATE_EXCEEDED 1008 10.4',
      'RESERVED_BITS FST_UPGRADE_RESERVED_BITS 1002 5.2',
      'TOO_MANY_FRAGMENTS FST_UPGRADE_TOO_MANY_FRAGMENTS 1009 10.4',
      'UNEXPECTED_CONTINUATION FST_UPGRADE_UNEXPECTED_CONTINUATION 1002 5.4',
      'UNMASKED_FRAME FST_UPGRADE_UNMASKED_FRAME 1002 5.1'
    ]
  )
  t.end()
})

t.test('RFC 6455 section 5.5: every reason fits into a Close frame and cannot be changed', t => {
  for (const [name, violation] of Object.entries(table)) {
    t.match(violation.reason, /^[a-z][a-zA-Z0-9 -]*$/, name)
    t.ok(violation.reason.length <= 123, name)
    t.ok(Object.isFrozen(violation), name)
  }
  t.end()
})

t.test('a ProtocolError names the broken rule', t => {
  const error = new ProtocolError(violations.UNMASKED_FRAME)
  t.type(error, Error)
  t.equal(error.name, 'ProtocolError')
  t.equal(error.code, 'FST_UPGRADE_UNMASKED_FRAME')
  t.equal(error.closeCode, 1002)
  t.equal(error.message, 'The peer broke RFC 6455 section 5.1: frame not masked.')
  t.equal(
    new ProtocolError(violations.INVALID_DEFLATE).message,
    'The peer broke RFC 7692 section 7.2.2: compressed data invalid.'
  )
  t.end()
})
