import t from 'tap'
import {
  hasToken,
  isToken,
  isTokenChar,
  isWhitespace,
  parseTokenList,
  parseUpgrade
} from '../../../lib/protocol/handshake/token.js'

/** The characters of RFC 9110 section 5.6.2. */
const TCHAR = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

t.test('RFC 9110 section 5.6.2: the token characters are those of the RFC', t => {
  const taken: string[] = []
  for (let code = 0; code < 0x1000; code++) if (isTokenChar(code)) taken.push(String.fromCharCode(code))
  t.strictSame(taken, [...TCHAR].sort())
  t.notOk(isTokenChar(Number.NaN), 'after the end of the text')
  t.end()
})

t.test('RFC 9110 section 5.6.2: a token has at least one character', t => {
  t.ok(isToken(TCHAR))
  t.ok(isToken('a'))
  for (const text of ['', ' ', 'a b', 'a,', '"a"', 'a/b', 'ä', 'a\n', 'ā', '\u0161'])
    t.notOk(isToken(text), text)
  t.end()
})

t.test('RFC 9110 section 5.6.3: white space is spaces and tabs', t => {
  const taken: number[] = []
  for (let code = 0; code < 0x3001; code++) if (isWhitespace(code)) taken.push(code)
  t.strictSame(taken, [0x09, 0x20])
  t.end()
})

for (const [text, tokens] of [
  ['', []],
  ['a', ['a']],
  ['chat', ['chat']],
  ['a,b', ['a', 'b']],
  ['a, b ,\tc\t', ['a', 'b', 'c']],
  ['  chat.v2  ,superchat', ['chat.v2', 'superchat']],
  [',', []],
  [' , ,, ', []],
  [',a,,b,', ['a', 'b']],
  ['A,a,A', ['A', 'a', 'A']],
  ['a b', undefined],
  ['a\tb, c', undefined],
  ['a, b c', undefined],
  ['a;b', undefined],
  ['"a"', undefined],
  ['a/1', undefined],
  ['a\n', undefined],
  ['a,\r\nb', undefined],
  ['a\u00a0', undefined],
  ['ä', undefined],
  ['a,\u0130', undefined],
  ['a\0', undefined]
] as const) {
  t.test(`RFC 9110 section 5.6.1: the list ${JSON.stringify(text)} is split into its members`, t => {
    t.strictSame(parseTokenList(text), tokens)
    t.end()
  })
}

t.test('RFC 6455 section 4.2.1: tokens are compared case-insensitively', t => {
  for (const text of ['upgrade', 'Upgrade', 'UPGRADE', 'keep-alive, Upgrade', ' ,upGrade ,x', 'upgrade,a']) {
    t.ok(hasToken(text, 'upgrade'), text)
  }
  for (const text of [
    undefined,
    '',
    'upgrad',
    'upgrades',
    'up grade',
    'upgrade, a b',
    'upgrade/1',
    '"upgrade"'
  ]) {
    t.notOk(hasToken(text, 'upgrade'), String(text))
  }
  t.end()
})

t.test('RFC 9110 section 7.8: a list of protocols may have versions', t => {
  t.strictSame(parseUpgrade(''), [])
  t.strictSame(parseUpgrade(' ,\t,'), [])
  t.strictSame(parseUpgrade('HTTP/2.0, SHTTP/1.3 ,WebSocket'), ['http/2.0', 'shttp/1.3', 'websocket'])
  for (const text of ['a b', 'a/', '/a', 'a/b/c', 'a / b', '"a"', 'a;b', 'ä', 'a,\u0130', 'a\n']) {
    t.equal(parseUpgrade(text), undefined, text)
  }
  t.end()
})

t.test('a long hostile list is read in one pass', t => {
  const size = 65_536
  t.strictSame(parseUpgrade(' '.repeat(size)), [])
  t.strictSame(parseUpgrade(','.repeat(size)), [])
  t.equal(parseUpgrade('a/b,'.repeat(size / 4))?.length, size / 4)
  t.equal(parseUpgrade(`a${' '.repeat(size)}b`), undefined)
  t.equal(parseUpgrade('/'.repeat(size)), undefined)
  t.strictSame(parseTokenList(' '.repeat(size)), [])
  t.strictSame(parseTokenList(','.repeat(size)), [])
  t.strictSame(parseTokenList(', '.repeat(size / 2)), [])
  t.strictSame(parseTokenList('a'.repeat(size)), ['a'.repeat(size)])
  t.equal(parseTokenList('a,'.repeat(size / 2))?.length, size / 2)
  t.equal(parseTokenList(`a${' '.repeat(size)}b`), undefined)
  t.equal(parseTokenList('"'.repeat(size)), undefined)
  t.notOk(hasToken(`${'a '.repeat(size / 2)}`, 'a'))
  t.ok(hasToken(`${' ,'.repeat(size / 2)}a`, 'a'))
  t.end()
})
