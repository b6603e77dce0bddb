import t from 'tap'
import {
  type ClientHandshake,
  checkResponse,
  handshakeRequest
} from '../../../lib/protocol/handshake/client-handshake.js'

/** The key of RFC 6455 section 1.2, and its accept value of section 1.3. */
const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='
const HANDSHAKE: ClientHandshake = { host: 'example.com:8080', key: KEY }

const DEFLATE = {
  serverNoContextTakeover: false,
  clientNoContextTakeover: true,
  serverMaxWindowBits: 12,
  clientMaxWindowBits: 15
}

t.test('RFC 6455 section 4.1: a client writes its request', t => {
  t.equal(
    handshakeRequest(HANDSHAKE).toString('latin1'),
    'GET / HTTP/1.1\r\nHost: example.com:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Key: ${KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n`
  )
  t.equal(
    handshakeRequest({
      ...HANDSHAKE,
      path: '/chat?a=%20b',
      protocols: ['chat', 'superchat'],
      headers: { Cookie: 'a=1', Origin: 'http://ü.example', Upgrade: 'h2c', 'Sec-WebSocket-Version': 8 }
    }).toString('latin1'),
    'GET /chat?a=%20b HTTP/1.1\r\nHost: example.com:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Key: ${KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat, superchat\r\n` +
      'Cookie: a=1\r\nOrigin: http://ü.example\r\n\r\n'
  )
  t.equal(
    handshakeRequest({ ...HANDSHAKE, protocols: [] })
      .toString('latin1')
      .includes('Protocol'),
    false,
    'an empty list offers none'
  )
  t.end()
})

t.test('RFC 7692 section 7.1: the request offers permessage-deflate when it is enabled', t => {
  const offering = {
    ...HANDSHAKE,
    protocols: ['chat'],
    deflate: DEFLATE,
    headers: { Cookie: 'a=1', 'Sec-WebSocket-Extensions': 'permessage-foo' }
  }
  t.equal(
    handshakeRequest(offering).toString('latin1'),
    'GET / HTTP/1.1\r\nHost: example.com:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Key: ${KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n` +
      'Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_max_window_bits=12; ' +
      'client_max_window_bits\r\nCookie: a=1\r\n\r\n'
  )
  t.equal(
    handshakeRequest({ ...HANDSHAKE, deflate: undefined })
      .toString('latin1')
      .includes('Extensions'),
    false
  )
  t.end()
})

t.test('RFC 9110 section 5.5: no part of a handshake can add another request', t => {
  for (const evil of ['a\r\n\r\nGET / HTTP/1.1', 'a\rb', 'a\nb', 'a\0', 'a\u010d\u010ab']) {
    t.throws(() => handshakeRequest({ ...HANDSHAKE, host: evil }), TypeError)
    t.throws(() => handshakeRequest({ ...HANDSHAKE, path: `/${evil}` }), TypeError)
    t.throws(() => handshakeRequest({ ...HANDSHAKE, key: evil }), TypeError)
    t.throws(() => handshakeRequest({ ...HANDSHAKE, protocols: ['chat', evil] }), TypeError)
    t.throws(() => handshakeRequest({ ...HANDSHAKE, headers: { a: evil } }), TypeError)
    t.throws(() => handshakeRequest({ ...HANDSHAKE, headers: { [evil]: 'a' } }), TypeError)
  }
  t.end()
})

t.test('RFC 9112 section 3.2: the target of a request is a path of visible ASCII', t => {
  for (const path of [
    '',
    'chat',
    'http://a/b',
    '/a\n',
    '/a b',
    '/a\tb',
    '/a HTTP/1.1\r\nX: y',
    '/\u007f',
    '/\u0120'
  ]) {
    t.throws(() => handshakeRequest({ ...HANDSHAKE, path }), { name: 'TypeError', message: 'path' })
  }
  t.end()
})

const GOOD = { upgrade: 'websocket', connection: 'Upgrade', 'sec-websocket-accept': ACCEPT }

t.test('RFC 6455 section 4.1: a valid response opens the connection', t => {
  t.strictSame(checkResponse({ statusCode: 101, headers: GOOD }, HANDSHAKE), { protocol: '' })
  t.strictSame(
    checkResponse(
      { statusCode: 101, headers: { ...GOOD, upgrade: 'WebSocket', connection: 'keep-alive, upgrade' } },
      { ...HANDSHAKE, protocols: ['chat'] }
    ),
    { protocol: '' },
    'a server may choose no subprotocol'
  )
  t.strictSame(
    checkResponse(
      { statusCode: 101, headers: { ...GOOD, 'sec-websocket-protocol': 'superchat' } },
      { ...HANDSHAKE, protocols: ['chat', 'superchat'] }
    ),
    { protocol: 'superchat' }
  )
  t.end()
})

for (const [what, statusCode, headers, failure] of [
  ['another status', 200, {}, 'The server answered 200 instead of 101.'],
  ['no Upgrade', 101, { upgrade: undefined }, 'The response does not upgrade to websocket.'],
  ['another Upgrade', 101, { upgrade: 'h2c' }, 'The response does not upgrade to websocket.'],
  ['a list of protocols', 101, { upgrade: 'h2c, websocket' }, 'The response does not upgrade to websocket.'],
  ['a version', 101, { upgrade: 'websocket/13' }, 'The response does not upgrade to websocket.'],
  ['no Connection', 101, { connection: undefined }, 'The response lacks Connection: Upgrade.'],
  ['another Connection', 101, { connection: 'close' }, 'The response lacks Connection: Upgrade.'],
  ['no accept value', 101, { 'sec-websocket-accept': undefined }, 'The accept value does not match the key.'],
  [
    'the accept value in another case',
    101,
    { 'sec-websocket-accept': ACCEPT.toLowerCase() },
    'The accept value does not match the key.'
  ],
  [
    'an extension',
    101,
    { 'sec-websocket-extensions': 'permessage-deflate' },
    'The server chose an extension that was not offered.'
  ],
  [
    'a subprotocol that was not offered',
    101,
    { 'sec-websocket-protocol': 'chat.v2' },
    'The server chose a subprotocol that was not offered.'
  ],
  [
    'an offered subprotocol in another case',
    101,
    { 'sec-websocket-protocol': 'CHAT' },
    'The server chose a subprotocol that was not offered.'
  ],
  [
    'two subprotocols',
    101,
    { 'sec-websocket-protocol': 'chat, superchat' },
    'The server chose a subprotocol that was not offered.'
  ]
] as const) {
  t.test(`RFC 6455 section 4.1: a response with ${what} fails the connection`, t => {
    const response = { statusCode, headers: { ...GOOD, ...headers } }
    t.strictSame(checkResponse(response, { ...HANDSHAKE, protocols: ['chat', 'superchat'] }), { failure })
    t.end()
  })
}

t.test(
  'RFC 6455 section 4.1: a subprotocol in the response fails the connection when none was offered',
  t => {
    const response = { statusCode: 101, headers: { ...GOOD, 'sec-websocket-protocol': 'chat' } }
    const failure = 'The server chose a subprotocol that was not offered.'
    t.strictSame(checkResponse(response, HANDSHAKE), { failure })
    t.end()
  }
)

t.test('RFC 7692 section 7.1: the answer to an offer of permessage-deflate is accepted', t => {
  const answered = (extensions: string | undefined, protocol: string | undefined) =>
    checkResponse(
      {
        statusCode: 101,
        headers: { ...GOOD, 'sec-websocket-extensions': extensions, 'sec-websocket-protocol': protocol }
      },
      { ...HANDSHAKE, protocols: ['chat'], deflate: DEFLATE }
    )
  const deflate = {
    serverNoContextTakeover: true,
    clientNoContextTakeover: true,
    serverMaxWindowBits: 11,
    clientMaxWindowBits: 15
  }
  const extensions = 'permessage-deflate; server_no_context_takeover; server_max_window_bits="11"'
  t.strictSame(answered(extensions, undefined), { protocol: '', deflate })
  t.strictSame(answered(extensions, 'chat'), { protocol: 'chat', deflate })
  t.strictSame(answered(extensions, 'chat.v2'), {
    failure: 'The server chose a subprotocol that was not offered.'
  })
  t.strictSame(answered(undefined, undefined), { protocol: '' }, 'a server may decline')
  t.strictSame(answered(undefined, 'chat'), { protocol: 'chat' })
  t.end()
})

for (const [section, extensions, failure] of [
  ['6455 section 9.1', 'permessage-deflate;', 'Sec-WebSocket-Extensions does not follow its grammar.'],
  [
    '6455 section 9.1',
    'permessage-deflate; server_max_window_bits="1 2"',
    'Sec-WebSocket-Extensions does not follow its grammar.'
  ],
  ['6455 section 9.1', '', 'The server did not answer permessage-deflate exactly once.'],
  ['6455 section 9.1', 'permessage-foo', 'The server chose an extension that was not offered.'],
  [
    '7692 section 7.1',
    'permessage-deflate; a',
    'The server answered permessage-deflate with parameters that are not valid.'
  ],
  ['7692 section 7.1.2.1', 'permessage-deflate', 'The server chose a larger window than was offered.']
] as const) {
  t.test(`RFC ${section}: the answer ${JSON.stringify(extensions)} fails the connection`, t => {
    const response = { statusCode: 101, headers: { ...GOOD, 'sec-websocket-extensions': extensions } }
    t.strictSame(checkResponse(response, { ...HANDSHAKE, deflate: DEFLATE }), { failure })
    t.end()
  })
}
