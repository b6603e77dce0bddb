import { hash } from 'node:crypto'
import fc from 'fast-check'
import { type Asked, type Request, type Response, trim, type Wishes } from './handshake-model.js'

const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='

/** Names of properties of Object.prototype. */
const PROTOTYPE = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf', '__defineGetter__']

/** The characters that Node's parser accepts in a value: no controls except the tab, and no white space at the ends. */
const asValue = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the control characters are removed
  trim(text.replace(/[\x00-\x08\x0a-\x1f\x7f]/g, ''))

const latin1 = fc.uint8Array({ maxLength: 20 }).map(bytes => Buffer.from(bytes).toString('latin1'))
const space = fc.constantFrom('', '', '', ' ', '\t', '  ')
/** Mostly one value. */
const mostly = <Value>(value: Value, others: fc.Arbitrary<Value>, weight = 12): fc.Arbitrary<Value> =>
  fc.oneof({ weight, arbitrary: fc.constant(value) }, { weight: 1, arbitrary: others })

const token = fc.oneof(
  fc.constantFrom('chat', 'chat.v2', 'a', 'A', "!#$%&'*+-.^_`|~", ...PROTOTYPE),
  fc.constantFrom('permessage-deflate', 'server_no_context_takeover', '13')
)
const notToken = fc.oneof(
  fc.constantFrom(
    '',
    'a b',
    'a/b',
    '"a"',
    'a;b',
    'a=b',
    '@',
    'ü',
    '(',
    'a\tb',
    ','.repeat(50),
    'x'.repeat(50_000)
  ),
  latin1
)

/** A list with white space, empty elements, and rarely an invalid token. */
const list = (element: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc
    .array(
      fc.tuple(
        space,
        fc.oneof({ weight: 12, arbitrary: element }, { weight: 1, arbitrary: notToken }),
        space
      ),
      {
        maxLength: 5
      }
    )
    .map(parts => parts.map(part => part.join('')).join(','))

const bits = fc.constantFrom(
  '8',
  '9',
  '10',
  '12',
  '15',
  '15',
  '7',
  '16',
  '08',
  '0',
  '-9',
  '1e1',
  '',
  '"10"',
  '"1\\0"',
  '+9',
  '9.0',
  '٩'
)

const parameter = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(fc.constantFrom('server_max_window_bits', 'client_max_window_bits'), space, bits)
      .map(([name, gap, value]) => `${name}${gap}=${gap}${value}`)
  },
  {
    weight: 8,
    arbitrary: fc.constantFrom(
      'server_no_context_takeover',
      'client_no_context_takeover',
      'client_max_window_bits'
    )
  },
  {
    weight: 1,
    arbitrary: fc.oneof(
      token,
      notToken,
      fc
        .tuple(token, fc.oneof(token, notToken, fc.constantFrom('"', '"\\', '"a', '""', '"a"b', '"\\""')))
        .map(pair => pair.join('='))
    )
  }
)

const offer = fc
  .tuple(
    mostly('permessage-deflate', fc.oneof(token, notToken), 6),
    space,
    fc.array(parameter, { maxLength: 4 })
  )
  .map(([name, gap, parameters]) => [name, ...parameters].join(`${gap};${gap}`))

/** Values of Sec-WebSocket-Extensions. */
export const EXTENSIONS = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.tuple(space, fc.array(offer, { maxLength: 4 })).map(([gap, all]) => all.join(`,${gap}`))
  },
  { weight: 1, arbitrary: latin1.map(asValue) },
  // A parser that backtracks would take minutes for these.
  {
    weight: 1,
    arbitrary: fc
      .tuple(
        fc.constantFrom('a', ' ', ',', ';a', '"', 'a="', '\\', 'a;', '\t'),
        fc.constantFrom('', '"', ';', ' b', '\\')
      )
      .map(([part, end]) => `a; b="c"${part.repeat(20_000)}${end}`)
  }
)

const key = mostly(
  KEY,
  fc.oneof(
    fc.constantFrom(
      '',
      'dGhlIHNhbXBsZSBub25jZR==',
      `${KEY}=`,
      KEY.slice(1),
      ` ${KEY}`.trim().slice(0, 23),
      'dGhlIHNhbXBsZSBub25jZQ',
      KEY.replace('I', '-'),
      'AAAAAAAAAAAAAAAAAAAAAAAA'
    ),
    latin1,
    fc.uint8Array({ minLength: 15, maxLength: 17 }).map(bytes => Buffer.from(bytes).toString('base64'))
  ),
  5
)

const caseOf = (name: string): fc.Arbitrary<string> =>
  fc.oneof(
    fc.constantFrom(name, name.toLowerCase(), name.toUpperCase()),
    fc
      .array(fc.boolean(), { minLength: name.length, maxLength: name.length })
      .map(flags => [...name].map((char, i) => (flags[i] ? char.toUpperCase() : char.toLowerCase())).join(''))
  )

/** A field as often as it should occur, or rarely more often, or absent. */
const field = (name: string, value: fc.Arbitrary<string>, usual: 0 | 1): fc.Arbitrary<string[][]> =>
  fc
    .oneof(
      { weight: usual === 1 ? 20 : 6, arbitrary: fc.constant(usual) },
      { weight: usual === 1 ? 1 : 6, arbitrary: fc.constantFrom(0, 1, 2) }
    )
    .chain(count =>
      fc.array(fc.tuple(caseOf(name), value.map(asValue)), { minLength: count, maxLength: count })
    )

export const REQUEST: fc.Arbitrary<Request> = fc
  .record({
    method: mostly('GET', fc.constantFrom('POST', 'get', 'HEAD', '', 'CONNECT'), 30),
    url: mostly(
      '/',
      fc.constantFrom('/a?b=c', '//', '*', '', 'http://a/', '/a#b', 'a', 'example.com:80', '/__proto__'),
      10
    ),
    fields: fc.tuple(
      field('Host', mostly('example.com', fc.constantFrom('', 'a, b', '[::1]:80'), 20), 1),
      field('Upgrade', fc.constant('websocket'), 1),
      field(
        'Connection',
        mostly('Upgrade', list(fc.constantFrom('upgrade', 'UPGRADE', 'keep-alive', 'close')), 2),
        1
      ),
      field(
        'Sec-WebSocket-Version',
        mostly('13', fc.constantFrom('8', '013', '13, 8', '', '13,', '+13', '1 3'), 20),
        1
      ),
      field('Sec-WebSocket-Key', key, 1),
      field('Sec-WebSocket-Protocol', list(token), 0),
      field('Sec-WebSocket-Extensions', EXTENSIONS, 0),
      field('Content-Length', mostly('0', fc.constantFrom('1', '00', '5'), 3), 0),
      field('Transfer-Encoding', fc.constantFrom('chunked', 'identity'), 0).map(lines =>
        // Rarely, as each leads to a refusal.
        lines.length > 1 ? lines : []
      ),
      field('Origin', fc.constantFrom('http://a', 'null', ''), 0)
    ),
    junk: fc.array(
      fc.tuple(
        fc.oneof(
          fc.constantFrom(...PROTOTYPE, 'Sec-WebSocket-Accept', 'X', 'Host2', 'Sec-WebSocket-Key1'),
          token
        ),
        fc.oneof(latin1.map(asValue), fc.constantFrom('x'.repeat(60_000)))
      ),
      { maxLength: 3 }
    ),
    order: fc.array(fc.nat(), { minLength: 16, maxLength: 16 })
  })
  .map(({ method, url, fields, junk, order }) => {
    const all = [...fields.flat(), ...junk]
    const shuffled = all
      .map((one, i) => ({ one, rank: order[i % order.length] }))
      .sort((a, b) => a.rank - b.rank)
      .map(({ one }) => one)
    return { method, url, raw: shuffled.flat() }
  })

export const WISHES: fc.Arbitrary<Wishes> = fc.record({
  serverNoContextTakeover: fc.boolean(),
  clientNoContextTakeover: fc.boolean(),
  serverMaxWindowBits: fc.constantFrom(9, 10, 11, 12, 13, 14, 15, 15, 15, 15),
  clientMaxWindowBits: fc.constantFrom(9, 10, 11, 12, 13, 14, 15, 15, 15, 15)
})

export const ASKED: fc.Arbitrary<Asked> = fc.record({
  key: fc.constant(KEY),
  protocols: fc.uniqueArray(token, { maxLength: 3 }),
  deflate: fc.option(WISHES, { nil: undefined })
})

const maybe = (value: fc.Arbitrary<string>): fc.Arbitrary<string | undefined> =>
  fc.option(value, { nil: undefined, freq: 2 })

export const RESPONSE: fc.Arbitrary<Response> = fc.record({
  statusCode: mostly(101, fc.constantFrom(100, 200, 301, 400, 426), 20),
  headers: fc.record({
    upgrade: mostly<string | undefined>(
      'websocket',
      fc.oneof(maybe(list(token)), fc.constantFrom('WebSocket', 'h2c, websocket', 'websockets'))
    ),
    connection: mostly<string | undefined>(
      'Upgrade',
      fc.oneof(maybe(list(token)), fc.constantFrom('keep-alive, upgrade', 'close'))
    ),
    'sec-websocket-accept': mostly<string | undefined>(
      hash('sha1', `${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`, 'base64'),
      fc.oneof(
        maybe(latin1),
        fc.constantFrom(KEY, 'S3pPLMBiTxaQ9kYGzzhZRbK+xOo=', 's3pPLMBiTxaQ9kYGzzhZRbK+xOo')
      )
    ),
    'sec-websocket-protocol': mostly<string | undefined>(undefined, fc.oneof(token, list(token)), 2),
    'sec-websocket-extensions': mostly<string | undefined>(undefined, fc.oneof(EXTENSIONS, offer), 1)
  })
})
