import t from 'tap'
import { acceptFields, acceptResponse } from '../../../lib/protocol/handshake/response.js'

/** The key of RFC 6455 section 1.2, and its accept value of section 1.3. */
const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
const HEAD =
  'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
  'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n'

t.test('RFC 6455 section 4.2.2: the response has its four fields and an empty line', t => {
  t.equal(acceptResponse({ key: KEY }), `${HEAD}\r\n`)
  t.equal(
    acceptResponse({ key: KEY, protocol: undefined, extensions: undefined, headers: undefined }),
    `${HEAD}\r\n`
  )
  t.end()
})

t.test('RFC 6455 section 4.2.2: negotiated fields come next, then further fields', t => {
  t.equal(
    acceptResponse({
      key: KEY,
      protocol: 'chat.v2',
      extensions: 'permessage-deflate; client_max_window_bits=10',
      headers: { 'Set-Cookie': ['a=1', 'b=ü'], 'X-Count': 3 }
    }),
    `${HEAD}Sec-WebSocket-Protocol: chat.v2\r\n` +
      'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=10\r\n' +
      'Set-Cookie: a=1\r\nSet-Cookie: b=ü\r\nX-Count: 3\r\n\r\n'
  )
  t.end()
})

t.test('RFC 6455 section 4.2.2: fields of the handshake itself cannot be set', t => {
  const headers = {
    Upgrade: 'h2c',
    Connection: 'close',
    'sec-websocket-accept': 'x',
    'Sec-WebSocket-Protocol': 'x',
    'Sec-WebSocket-Extensions': 'x',
    'Content-Length': 3,
    'Transfer-Encoding': 'chunked'
  }
  t.equal(acceptResponse({ key: KEY, headers }), `${HEAD}\r\n`)
  t.end()
})

t.test('RFC 9110 section 5.5: no value can add another response', t => {
  for (const evil of ['a\r\n\r\nHTTP/1.1 200 OK', 'a\rb', 'a\nb', 'a\0', 'a\u010d\u010ab']) {
    t.throws(() => acceptResponse({ key: KEY, headers: { a: evil } }), TypeError)
    t.throws(() => acceptResponse({ key: KEY, headers: { a: ['b', evil] } }), TypeError)
    t.throws(() => acceptResponse({ key: KEY, headers: { [evil]: 'a' } }), TypeError)
    t.throws(() => acceptResponse({ key: KEY, protocol: evil }), TypeError)
    t.throws(() => acceptResponse({ key: KEY, extensions: evil }), TypeError)
  }
  t.end()
})

t.test('RFC 8441 section 5.1: over HTTP/2 there are only the choices and further fields', t => {
  t.strictSame({ ...acceptFields({ key: '' }) }, {})
  const headers = {
    'Set-Cookie': ['a=1', 'b=2', 'c=3'],
    'X-Count': 3,
    Upgrade: 'x',
    'keep-alive': 'x',
    'HTTP2-Settings': 'x'
  }
  t.strictSame(
    { ...acceptFields({ key: '', protocol: 'chat', extensions: 'permessage-deflate', headers }) },
    {
      'set-cookie': ['a=1', 'b=2', 'c=3'],
      'x-count': '3',
      'sec-websocket-protocol': 'chat',
      'sec-websocket-extensions': 'permessage-deflate'
    }
  )
  for (const evil of ['a\r\nb', 'a\0', 'a\u010d'])
    for (const wrong of [{ headers: { a: evil } }, { headers: { [evil]: 'a' } }, { protocol: evil }])
      t.throws(() => acceptFields({ key: '', ...wrong }), TypeError)
  t.end()
})
