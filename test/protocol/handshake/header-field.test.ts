import t from 'tap'
import { headerField, headerFields } from '../../../lib/protocol/handshake/header-field.js'

t.test('RFC 9110 section 5: a field is a name, a colon and a value on one line', t => {
  t.equal(headerField('X-Name', 'a value'), 'X-Name: a value\r\n')
  t.equal(headerField('x', ''), 'x: \r\n')
  t.equal(headerField('x', 'a\tb'), 'x: a\tb\r\n')
  t.equal(headerField('x', '\u00fc\u00ff'), 'x: \u00fc\u00ff\r\n')
  t.end()
})

t.test('RFC 9110 section 5.1: the name of a field is a token', t => {
  for (const name of ['', 'a b', 'a:', 'a\r\n', 'ä', '\u010d', ' a']) {
    t.throws(
      () => headerField(name, 'x'),
      { name: 'TypeError', message: JSON.stringify(name).slice(1, 2) },
      name
    )
  }
  t.end()
})

t.test('RFC 9110 section 5.5: a value has no control characters and no characters above one byte', t => {
  const refused: number[] = []
  for (let code = 0; code < 0x300; code++) {
    try {
      headerField('x', `a${String.fromCharCode(code)}b`)
    } catch (error) {
      t.type(error, TypeError)
      refused.push(code)
    }
  }
  const controls = Array.from({ length: 32 }, (_, code) => code).filter(code => code !== 9)
  t.strictSame(refused, [...controls, 0x7f, ...Array.from({ length: 0x200 }, (_, i) => 0x100 + i)])
  // In latin1 these would come out as CR and LF.
  t.throws(() => headerField('x', 'a\u010d\u010aset-cookie: b'), { message: '"x"' })
  t.throws(() => headerField('x', 'a\r\nset-cookie: b'), { message: '"x"' })
  t.throws(() => headerField('x', '\n'), { message: '"x"' })
  t.throws(() => headerField('x', 'a\r'), { message: '"x"' })
  t.end()
})

t.test('RFC 9110 section 5.3: a field with several values is written as several lines', t => {
  t.equal(headerFields({}), '')
  t.equal(
    headerFields({ a: 'b', 'Set-Cookie': ['c=1', 'd=2'], n: 5, none: undefined, empty: [] }),
    'a: b\r\nSet-Cookie: c=1\r\nSet-Cookie: d=2\r\nn: 5\r\n'
  )
  t.equal(
    headerFields(JSON.parse('{"__proto__":"1","constructor":"2"}')),
    '__proto__: 1\r\nconstructor: 2\r\n'
  )
  t.throws(() => headerFields({ a: ['b', 'c\r\nd'] }), TypeError)
  t.throws(() => headerFields({ 'a b': 'c' }), TypeError)
  t.end()
})

t.test('RFC 9110 section 7.6.1: fields of the connection, of a body and of the handshake are left out', t => {
  for (const name of [
    'Connection',
    'Content-Length',
    'Keep-Alive',
    'Proxy-Connection',
    'TE',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'Sec-WebSocket-Accept',
    'Sec-WebSocket-Protocol',
    'Sec-WebSocket-Extensions',
    'sec-websocket-',
    'SEC-WEBSOCKET-VERSION'
  ]) {
    for (const spelled of [name, name.toLowerCase(), name.toUpperCase()]) {
      t.equal(headerFields({ [spelled]: 'x', a: 'b' }), 'a: b\r\n', spelled)
    }
  }
  t.equal(headerFields({ 'sec-websocket': 'x' }), 'sec-websocket: x\r\n', 'no such field')
  t.equal(headerFields({ upgrades: 'x' }), 'upgrades: x\r\n')
  t.end()
})
