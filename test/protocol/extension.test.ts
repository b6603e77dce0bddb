import t from 'tap'
import { parseExtensions } from '../../lib/protocol/extension.js'

type Offer = [name: string, ...parameters: [name: string, value: string | undefined][]]

/** The offers as plain arrays. */
function read(text: string): Offer[] | undefined {
  return parseExtensions(text)?.map(({ name, parameters }) => [
    name,
    ...parameters.map(([key, value]): [string, string | undefined] => [key, value])
  ])
}

const TAKEN: [string, Offer[]][] = [
  ['', []],
  [' \t', []],
  [',', []],
  [' , ,,', []],
  ['foo', [['foo']]],
  ['foo, bar', [['foo'], ['bar']]],
  [',foo,,bar,', [['foo'], ['bar']]],
  ['foo; baz', [['foo', ['baz', undefined]]]],
  ['foo;baz=1', [['foo', ['baz', '1']]]],
  ['foo ; baz = 1 ,bar', [['foo', ['baz', '1']], ['bar']]],
  ['foo;baz="1"', [['foo', ['baz', '1']]]],
  ['foo;baz= "a\\b\\c" ;x', [['foo', ['baz', 'abc'], ['x', undefined]]]],
  ['foo;a=1;a=2;a', [['foo', ['a', '1'], ['a', '2'], ['a', undefined]]]],
  ['foo;__proto__=1;constructor', [['foo', ['__proto__', '1'], ['constructor', undefined]]]],
  [
    'permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate',
    [
      ['permessage-deflate', ['client_max_window_bits', undefined], ['server_max_window_bits', '10']],
      ['permessage-deflate']
    ]
  ],
  ['Foo;Bar=Baz', [['Foo', ['Bar', 'Baz']]]]
]

for (const [text, offers] of TAKEN) {
  t.test(`RFC 6455 section 9.1: ${JSON.stringify(text)} is parsed`, t => {
    t.strictSame(read(text), offers)
    t.end()
  })
}

for (const text of [
  ';',
  'foo;',
  'foo;;a',
  'foo; ;a',
  'foo bar',
  'foo;a b',
  'foo;a=',
  'foo;a=,bar',
  'foo;a=;b',
  'foo;=1',
  'foo=1',
  '=',
  '"foo"',
  'foo;"a"=1',
  'foo;a=""',
  'foo;a="',
  'foo;a="b',
  'foo;a="b\\',
  'foo;a="b\\"',
  'foo;a="b c"',
  'foo;a="b,c"',
  'foo;a="b\\ c"',
  'foo;a="b"c',
  'foo;a="b""c"',
  'foo;a=b"c"',
  'foo;a=1=2',
  'foo;a=1 2',
  'foo;a=1/2',
  'foo, bar baz',
  'foo,\nbar',
  'foo\u00a0',
  'foo;a="ä"',
  'foo;a="\u0130"',
  'föö',
  'foo\0'
]) {
  t.test(`RFC 6455 section 9.1: ${JSON.stringify(text)} does not match the grammar`, t => {
    t.equal(parseExtensions(text), undefined)
    t.end()
  })
}

t.test('a long hostile header is read in one pass', t => {
  const size = 65_536
  t.strictSame(read(' '.repeat(size)), [])
  t.strictSame(read(','.repeat(size)), [])
  t.strictSame(read(' ,'.repeat(size / 2)), [])
  t.equal(read('a,'.repeat(size / 2))?.length, size / 2)
  t.equal(read(`a${';b'.repeat(size / 2)}`)?.[0].length, size / 2 + 1)
  t.strictSame(read(`a;b="${'c'.repeat(size)}"`), [['a', ['b', 'c'.repeat(size)]]])
  t.strictSame(read(`a;b="${'\\c'.repeat(size / 2)}"`), [['a', ['b', 'c'.repeat(size / 2)]]])
  for (const hostile of ['"', '\\', ';', '=', 'a ', 'a="', 'a;b="']) {
    t.equal(read(hostile.repeat(size / hostile.length)), undefined, hostile)
    t.equal(read(`a;b="${hostile.repeat(size / hostile.length)}`), undefined, `quoted ${hostile}`)
  }
  t.equal(read(`a;b=${' '.repeat(size)}`), undefined)
  t.end()
})
