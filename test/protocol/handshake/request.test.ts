import t from 'tap'
import {
  asksForH2cOnly,
  asksForWebSocket,
  checkConnect,
  checkRequest,
  type RequestHead
} from '../../../lib/protocol/handshake/request.js'
import { ms } from '../../helpers/timeout.js'

/** The key of RFC 6455 section 1.2. */
const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='

const GOOD = {
  Host: 'server.example.com',
  Upgrade: 'websocket',
  Connection: 'Upgrade',
  'Sec-WebSocket-Key': KEY,
  'Sec-WebSocket-Version': '13'
}

type Fields = Readonly<Record<string, string | readonly string[] | undefined>>

/** A valid request with `fields` replaced; several values become several lines, and `undefined` removes the field. */
function request(fields: Fields = {}, head: Partial<RequestHead> = {}): RequestHead {
  const rawHeaders: string[] = []
  for (const [name, value] of Object.entries({ ...GOOD, ...fields })) {
    if (value === undefined) continue
    for (const one of typeof value === 'string' ? [value] : value) rawHeaders.push(name, one)
  }
  const headers = { upgrade: 'websocket' }
  return {
    method: 'GET',
    url: '/chat',
    httpVersionMajor: 1,
    httpVersionMinor: 1,
    headers,
    rawHeaders,
    ...head
  }
}

t.test('RFC 6455 section 4.2.1: a request asks for WebSocket when Upgrade lists it', t => {
  for (const upgrade of ['websocket', 'WebSocket', 'WEBSOCKET', 'h2c, websocket', ' websocket ,']) {
    t.ok(asksForWebSocket(request({}, { headers: { upgrade } })), upgrade)
  }
  for (const upgrade of [undefined, '', 'h2c', 'websockets', 'web socket', 'websocket/13', 'h2c websocket']) {
    t.notOk(asksForWebSocket(request({}, { headers: { upgrade } })), String(upgrade))
  }
  t.end()
})

t.test('RFC 9110 section 7.8: the protocols that Upgrade lists may have versions', t => {
  for (const upgrade of [
    'foo/1, websocket',
    'websocket, foo/1',
    'HTTP/2.0, SHTTP/1.3, IRC/6.9, WebSocket',
    'TLS/1.0,,websocket',
    'websocket/13, websocket',
    'websocket/8,\tWEBSOCKET\t,h2c'
  ]) {
    t.ok(asksForWebSocket(request({}, { headers: { upgrade } })), upgrade)
  }
  for (const upgrade of [
    'foo/1',
    'WebSocket/13',
    'websocket/',
    'foo/websocket',
    'foo/, websocket',
    '/1, websocket',
    'foo/1/2, websocket',
    'foo /1, websocket',
    'foo/ 1, websocket',
    'foo/1 websocket',
    '"foo/1", websocket',
    'websocket, a b'
  ]) {
    t.notOk(asksForWebSocket(request({}, { headers: { upgrade } })), upgrade)
  }
  t.end()
})

t.test('RFC 7540 section 3.2: a request for h2c alone is recognized', t => {
  for (const upgrade of ['h2c', 'H2C', ' h2c, h2c ']) {
    t.ok(asksForH2cOnly(request({}, { headers: { upgrade } })), upgrade)
  }
  for (const upgrade of [undefined, '', 'h2c, foo', 'foo/1, h2c', 'h2c/1', 'h2c foo']) {
    t.notOk(asksForH2cOnly(request({}, { headers: { upgrade } })), String(upgrade))
  }
  t.end()
})

t.test('RFC 9110 section 7.8: Upgrade is ignored in HTTP/1.0', t => {
  for (const [major, minor, asks] of [
    [1, 1, true],
    [1, 2, true],
    [1, 0, false],
    [0, 9, false],
    [2, 0, false],
    [2, 1, false]
  ] as const) {
    t.equal(asksForWebSocket(request({}, { httpVersionMajor: major, httpVersionMinor: minor })), asks)
  }
  t.end()
})

t.test('RFC 6455 section 4.2.1: a valid request is accepted', t => {
  t.strictSame(checkRequest(request()), { key: KEY, protocols: [], extensions: [], origin: undefined })
  t.strictSame(
    checkRequest(
      request({
        Connection: ['keep-alive', 'x, upgrade'],
        Origin: 'http://example.com',
        'Sec-WebSocket-Protocol': ['chat, superchat', 'CHAT'],
        'Sec-WebSocket-Extensions': ['foo; a="1"', 'bar']
      })
    ),
    {
      key: KEY,
      protocols: ['chat', 'superchat', 'CHAT'],
      extensions: [
        { name: 'foo', parameters: [['a', '1']] },
        { name: 'bar', parameters: [] }
      ],
      origin: 'http://example.com'
    }
  )
  t.end()
})

t.test('RFC 6455 section 4.1: a key is accepted with any spare bits after its 16 bytes', t => {
  for (const key of ['AQIDBAUGBwgJCgsMDQ4PEC==', 'dGhlIHNhbXBsZSBub25jZR==', `${'/'.repeat(22)}==`]) {
    t.match(checkRequest(request({ 'Sec-WebSocket-Key': key })), { key })
  }
  t.end()
})

t.test('RFC 6455 section 9.1: an empty list of extensions offers none', t => {
  for (const value of ['', ' ', ',', ' , ,', ['', '']]) {
    t.match(checkRequest(request({ 'Sec-WebSocket-Extensions': value })), { key: KEY, extensions: [] })
  }
  const fields = { 'Sec-WebSocket-Extensions': ['', 'foo', ''] }
  t.match(checkRequest(request(fields)), { extensions: [{ name: 'foo', parameters: [] }] })
  t.end()
})

t.test('RFC 9110 section 8.6: an empty body is accepted', t => {
  for (const length of ['0', '00', ['0', '0']]) {
    t.match(checkRequest(request({ 'Content-Length': length })), { key: KEY })
  }
  t.end()
})

t.test('RFC 6455 section 4.2.1: field names are case-insensitive, and other fields do not matter', t => {
  const { rawHeaders } = request({ Origin: 'null', Cookie: 'a', __proto__: 'b', constructor: 'c', '': 'd' })
  for (const spell of ['toLowerCase', 'toUpperCase'] as const) {
    const spelled = rawHeaders.map((text, i) => (i % 2 === 0 ? text[spell]() : text))
    t.match(checkRequest(request({}, { rawHeaders: spelled })), { key: KEY, origin: 'null' })
  }
  t.match(
    checkRequest(request({}, { rawHeaders: [...rawHeaders, 'origin'] })),
    { origin: 'null' },
    'no value'
  )
  t.end()
})

t.test('RFC 6454 section 7.3: a repeated Origin matches no rule', t => {
  const fields = { Origin: ['http://good.example', 'http://evil.example'] }
  t.match(checkRequest(request(fields)), { origin: 'http://good.example, http://evil.example' })
  t.match(checkRequest(request({ Origin: '' })), { origin: '' })
  t.end()
})

t.test('RFC 6455 section 4.2.1: any path and query are accepted, and other parts of a URL are not', t => {
  for (const url of ['/', '/chat?a=b', '//a/b', '/a%23', '/?http://x', '/ä']) {
    t.match(checkRequest(request({}, { url })), { key: KEY }, url)
  }
  for (const url of [undefined, '', '*', 'chat', 'http://server.example.com/chat', 'a:80', '/a#b', '/#']) {
    t.match(
      checkRequest(request({}, { url })),
      { status: 400, code: 'FST_UPGRADE_INVALID_TARGET' },
      String(url)
    )
  }
  t.end()
})

const REFUSED: [what: string, fields: Fields, status: number, code: string][] = [
  ['no Host', { Host: undefined }, 400, 'INVALID_HOST'],
  ['an empty Host', { Host: '' }, 400, 'INVALID_HOST'],
  ['two Hosts', { Host: ['a', 'a'] }, 400, 'INVALID_HOST'],
  ['no Connection', { Connection: undefined }, 400, 'INVALID_CONNECTION'],
  ['another Connection', { Connection: 'keep-alive' }, 400, 'INVALID_CONNECTION'],
  ['a malformed Connection', { Connection: 'upgrade, a b' }, 400, 'INVALID_CONNECTION'],
  ['no version', { 'Sec-WebSocket-Version': undefined }, 426, 'UNSUPPORTED_VERSION'],
  ['an empty version', { 'Sec-WebSocket-Version': '' }, 426, 'UNSUPPORTED_VERSION'],
  ['version 8', { 'Sec-WebSocket-Version': '8' }, 426, 'UNSUPPORTED_VERSION'],
  ['version 013', { 'Sec-WebSocket-Version': '013' }, 426, 'UNSUPPORTED_VERSION'],
  ['version 13.0', { 'Sec-WebSocket-Version': '13.0' }, 426, 'UNSUPPORTED_VERSION'],
  ['two versions in one field', { 'Sec-WebSocket-Version': '13, 8' }, 426, 'UNSUPPORTED_VERSION'],
  ['a repeated version', { 'Sec-WebSocket-Version': ['13', '13'] }, 400, 'REPEATED_VERSION'],
  ['no key', { 'Sec-WebSocket-Key': undefined }, 400, 'INVALID_KEY'],
  ['an empty key', { 'Sec-WebSocket-Key': '' }, 400, 'INVALID_KEY'],
  ['a repeated key', { 'Sec-WebSocket-Key': [KEY, KEY] }, 400, 'INVALID_KEY'],
  ['two keys in one field', { 'Sec-WebSocket-Key': `${KEY}, ${KEY}` }, 400, 'INVALID_KEY'],
  ['a key of 15 bytes', { 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAA' }, 400, 'INVALID_KEY'],
  ['an empty offer of subprotocols', { 'Sec-WebSocket-Protocol': '' }, 400, 'INVALID_SUBPROTOCOL'],
  ['an offer of commas', { 'Sec-WebSocket-Protocol': ', ,' }, 400, 'INVALID_SUBPROTOCOL'],
  ['a subprotocol that is no token', { 'Sec-WebSocket-Protocol': 'a, b c' }, 400, 'INVALID_SUBPROTOCOL'],
  ['a quoted subprotocol', { 'Sec-WebSocket-Protocol': '"a"' }, 400, 'INVALID_SUBPROTOCOL'],
  ['a repeated subprotocol', { 'Sec-WebSocket-Protocol': 'a, b, a' }, 400, 'INVALID_SUBPROTOCOL'],
  [
    'a subprotocol repeated in another field',
    { 'Sec-WebSocket-Protocol': ['a', 'a'] },
    400,
    'INVALID_SUBPROTOCOL'
  ],
  ['a body', { 'Content-Length': '5' }, 400, 'UNEXPECTED_BODY'],
  ['a body with an invalid length', { 'Content-Length': '-0' }, 400, 'UNEXPECTED_BODY'],
  ['a body besides an empty one', { 'Content-Length': ['0', '1'] }, 400, 'UNEXPECTED_BODY'],
  ['a body in chunks', { 'Transfer-Encoding': 'chunked' }, 400, 'UNEXPECTED_BODY'],
  ['an empty Transfer-Encoding', { 'Transfer-Encoding': '' }, 400, 'UNEXPECTED_BODY'],
  ['an empty body in chunks', { 'Content-Length': '0', 'Transfer-Encoding': 'x' }, 400, 'UNEXPECTED_BODY'],
  ['a malformed extension', { 'Sec-WebSocket-Extensions': 'foo;a="b' }, 400, 'INVALID_EXTENSIONS'],
  ['an incomplete extension', { 'Sec-WebSocket-Extensions': ['foo', 'bar;'] }, 400, 'INVALID_EXTENSIONS']
]

for (const [what, fields, status, code] of REFUSED) {
  t.test(`RFC 6455 section 4.2.1: a request with ${what} gets ${status}`, t => {
    const refusal = checkRequest(request(fields))
    t.match(refusal, { status, code: `FST_UPGRADE_${code}`, message: /^[A-Z].*\.$/ })
    const headers =
      status === 426
        ? { upgrade: 'websocket', connection: 'Upgrade, close', 'sec-websocket-version': '13' }
        : {}
    t.strictSame('headers' in refusal && refusal.headers, headers)
    t.end()
  })
}

t.test('RFC 6455 section 4.2.1: a method other than GET gets 405', t => {
  for (const method of ['POST', 'HEAD', 'OPTIONS', 'get', undefined]) {
    t.match(
      checkRequest(request({ Host: undefined }, { method })),
      { status: 405, code: 'FST_UPGRADE_METHOD_NOT_ALLOWED', headers: { allow: 'GET' } },
      String(method)
    )
  }
  t.end()
})

t.test('RFC 6455 section 4.4: a wrong version is reported before a wrong key', t => {
  const fields = { 'Sec-WebSocket-Version': '7', 'Sec-WebSocket-Key': 'x', 'Sec-WebSocket-Protocol': '"' }
  t.match(checkRequest(request(fields)), { status: 426 })
  t.end()
})

t.test('a request without fields, as Node passes it above its header limit, is refused', t => {
  t.match(checkRequest(request({}, { rawHeaders: [] })), { status: 400, code: 'FST_UPGRADE_INVALID_HOST' })
  t.end()
})

t.test('long hostile fields are read in one pass', t => {
  const size = 65_536
  const since = performance.now()
  const fill = (text: string): string => text.repeat(Math.floor(size / text.length))
  const hostile = [' ', ',', '"', 'a ', 'a,', ';', 'a;b="', '\\'].map(fill)
  // Input on which a regular expression would backtrack: many ways to match a part, and an end that matches none.
  for (const part of ['a', ' ', '\t ', 'a,', 'a;', 'a; b=', 'a; b=c']) {
    for (const end of ['"', '@', 'x"', ' x x'])
      hostile.push(`a${fill(part)}${end}`, `a; b="${fill(part)}${end}`)
  }
  for (const value of hostile) {
    t.match(checkRequest(request({ Connection: value })), { code: 'FST_UPGRADE_INVALID_CONNECTION' })
    t.match(checkRequest(request({ 'Sec-WebSocket-Version': value })), { status: 426 })
    t.match(checkRequest(request({ 'Sec-WebSocket-Key': value })), { code: 'FST_UPGRADE_INVALID_KEY' })
    t.match(checkRequest(request({ 'Sec-WebSocket-Protocol': value })), {
      code: 'FST_UPGRADE_INVALID_SUBPROTOCOL'
    })
    t.ok(checkRequest(request({ 'Sec-WebSocket-Extensions': value })))
  }
  const many = Array.from({ length: 10_000 }, (_, i) => `p${i}`)
  t.match(checkRequest(request({ 'Sec-WebSocket-Protocol': many })), { protocols: many })
  // 16 MiB, and five times as much.
  t.ok(performance.now() - since < ms(10_000), `${performance.now() - since} ms`)
  t.end()
})

/** An extended CONNECT; several values are several fields and `undefined` is none. */
function connect(fields: Fields = {}, url: string | undefined = '/chat'): RequestHead {
  const good = {
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':scheme': 'https',
    ':path': url,
    ':authority': 'server.example.com',
    'sec-websocket-version': '13'
  }
  const rawHeaders: string[] = []
  for (const [name, value] of Object.entries({ ...good, ...fields })) {
    if (value === undefined) continue
    for (const one of typeof value === 'string' ? [value] : value) rawHeaders.push(name, one)
  }
  return { method: 'GET', url, httpVersionMajor: 2, httpVersionMinor: 0, headers: {}, rawHeaders }
}

t.test('RFC 8441 section 5: an extended CONNECT has no key, no Upgrade and no Connection', t => {
  t.strictSame(checkConnect(connect()), { key: '', protocols: [], extensions: [], origin: undefined })
  const offers = {
    ':scheme': 'http',
    host: 'server.example.com',
    origin: 'https://a.test',
    'sec-websocket-protocol': 'a, b',
    'sec-websocket-key': 'ignored'
  }
  t.match(checkConnect(connect(offers)), { key: '', protocols: ['a', 'b'], origin: 'https://a.test' })
  t.end()
})

t.test('RFC 8441 section 4: :scheme, :path and :authority are there and valid', t => {
  const refused = (fields: Fields, url?: string): unknown => {
    const checked = checkConnect({ ...connect(fields), ...(url === undefined ? {} : { url }) })
    return 'status' in checked && `${checked.status} ${checked.code}`
  }
  for (const scheme of [undefined, '', 'wss', 'HTTPS'])
    t.equal(refused({ ':scheme': scheme }), '400 FST_UPGRADE_INVALID_SCHEME')
  for (const url of ['', 'chat', '/a#b', 'https://server.example.com/'])
    t.equal(refused({}, url), '400 FST_UPGRADE_INVALID_TARGET')
  t.match(checkConnect({ ...connect(), url: undefined }), { code: 'FST_UPGRADE_INVALID_TARGET' })
  for (const authority of [undefined, ''])
    t.equal(refused({ ':authority': authority }), '400 FST_UPGRADE_INVALID_HOST')
  t.equal(refused({ host: 'b.test' }), '400 FST_UPGRADE_INVALID_HOST', 'RFC 9113 section 8.3.1')
  t.equal(refused({ host: ['server.example.com', 'server.example.com'] }), '400 FST_UPGRADE_INVALID_HOST')
  t.end()
})

t.test('RFC 8441 section 5: the version, the offers and the body are checked as over HTTP/1.1', t => {
  for (const [fields, code] of [
    [{ 'content-length': '1' }, 'UNEXPECTED_BODY'],
    [{ 'sec-websocket-version': ['13', '13'] }, 'REPEATED_VERSION'],
    [{ 'sec-websocket-protocol': 'a, a' }, 'INVALID_SUBPROTOCOL'],
    [{ 'sec-websocket-extensions': ';' }, 'INVALID_EXTENSIONS']
  ] as const)
    t.match(checkConnect(connect(fields)), { status: 400, code: `FST_UPGRADE_${code}` })
  t.strictSame(checkConnect(connect({ 'sec-websocket-version': '8' })), {
    status: 426,
    code: 'FST_UPGRADE_UNSUPPORTED_VERSION',
    message: 'This server speaks WebSocket version 13 only.',
    // RFC 9113 section 8.2.2: no Upgrade and no Connection.
    headers: { 'sec-websocket-version': '13' }
  })
  t.end()
})
