import t from 'tap'
import {
  AlreadyReadError,
  BufferOverflowError,
  InvalidDataError,
  NotOpenError,
  PingTooLongError
} from '../../lib/socket/error.js'

for (const [error, code, kind, message] of [
  [new NotOpenError(), 'NOT_OPEN', Error, /closing or closed/],
  [new BufferOverflowError(42), 'BUFFER_OVERFLOW', Error, /^More than 42 bytes .*maxBufferedAmount/],
  [new PingTooLongError(126), 'PING_TOO_LONG', RangeError, /^A ping or pong of 126 bytes .*125/],
  [new InvalidDataError('number', 'a string'), 'INVALID_DATA', TypeError, /^A value of type number /],
  [new AlreadyReadError(), 'ALREADY_READ', Error, /iterator or stream/]
] as const) {
  t.test(code, async t => {
    t.equal(error.code, `FST_UPGRADE_${code}`)
    t.ok(error instanceof kind)
    t.match(error.message, message)
  })
}
