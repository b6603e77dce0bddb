import t from 'tap'
import * as opcode from '../../lib/protocol/opcode.js'

t.test('RFC 6455 section 11.8: the opcodes have the registered numbers', t => {
  t.strictSame({ ...opcode }, { CONTINUATION: 0, TEXT: 1, BINARY: 2, CLOSE: 8, PING: 9, PONG: 10 })
  t.end()
})
