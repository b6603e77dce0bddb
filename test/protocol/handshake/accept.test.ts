import { createHash, randomBytes } from 'node:crypto'
import t from 'tap'
import { acceptValue, isKey } from '../../../lib/protocol/handshake/accept.js'

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

t.test('RFC 6455 section 1.3: the accept value of the sample nonce is that of the RFC', t => {
  t.equal(acceptValue('dGhlIHNhbXBsZSBub25jZQ=='), 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=')
  t.equal(acceptValue('x3JJHMbDL1EzLkh9GBhXDw=='), 'HSmrc0sMlYUkAGmm5OPpG2HaGWk=')
  t.end()
})

t.test('RFC 6455 section 4.2.2: the accept value is a SHA-1 digest in base64', t => {
  const value = acceptValue('AAAAAAAAAAAAAAAAAAAAAA==')
  t.equal(Buffer.from(value, 'base64').length, createHash('sha1').update('').digest().length)
  t.equal(Buffer.from(value, 'base64').toString('base64'), value)
  t.end()
})

t.test('RFC 6455 section 4.1: the base64 of any 16 bytes is a key', t => {
  t.ok(isKey('dGhlIHNhbXBsZSBub25jZQ=='))
  const refused: string[] = []
  for (let i = 0; i < 200; i++) {
    const key = randomBytes(16).toString('base64')
    if (!isKey(key)) refused.push(key)
  }
  for (let byte = 0; byte < 256; byte++) {
    const key = Buffer.alloc(16, byte).toString('base64')
    if (!isKey(key)) refused.push(key)
  }
  t.strictSame(refused, [])
  t.end()
})

t.test('RFC 4648 section 3.5: the spare bits of the last character are ignored', t => {
  const taken = [...ALPHABET].filter(last => isKey(`AAAAAAAAAAAAAAAAAAAAA${last}==`))
  t.strictSame(taken, [...ALPHABET])
  t.ok(isKey('AQIDBAUGBwgJCgsMDQ4PEC=='), 'the example of RFC 6455 section 4.1')
  t.end()
})

t.test('RFC 6455 section 4.2.2: the accept value is computed from the key as it was sent', t => {
  const [loose, canonical] = ['AQIDBAUGBwgJCgsMDQ4PEC==', 'AQIDBAUGBwgJCgsMDQ4PEA==']
  t.strictSame(Buffer.from(loose, 'base64'), Buffer.from(canonical, 'base64'))
  t.equal(acceptValue(loose), 'OfS0wDaT5NoxF2gqm7Zj2YtetzM=')
  t.not(acceptValue(canonical), acceptValue(loose))
  t.end()
})

t.test('RFC 6455 section 4.1: characters outside base64 are no key', t => {
  const taken: string[] = []
  for (let code = 0; code < 0x180; code++) {
    const char = String.fromCharCode(code)
    if (isKey(`${char}AAAAAAAAAAAAAAAAAAAAA==`)) taken.push(char)
  }
  t.strictSame(taken.sort(), [...ALPHABET].sort(), 'as the first character')
  t.notOk(isKey('AAAAAAAAAA-AAAAAAAAAAA=='), 'base64url')
  t.notOk(isKey('AAAAAAAAAA_AAAAAAAAAAA=='), 'base64url')
  t.end()
})

for (const [what, key] of [
  ['nothing', ''],
  ['15 bytes', Buffer.alloc(15).toString('base64')],
  ['17 bytes', Buffer.alloc(17).toString('base64')],
  ['18 bytes, which need no padding', Buffer.alloc(18).toString('base64')],
  ['no padding', 'AAAAAAAAAAAAAAAAAAAAAA'],
  ['padding of one character', 'AAAAAAAAAAAAAAAAAAAAAAA='],
  ['padding in the middle', 'AAAAAAAAAA==AAAAAAAAAA=='],
  ['padding before the last character', 'AAAAAAAAAAAAAAAAAAAAA==='],
  ['a space in front', ' dGhlIHNhbXBsZSBub25jZQ=='],
  ['a space behind', 'dGhlIHNhbXBsZSBub25jZQ== '],
  ['a line feed instead of a character', 'dGhlIHNhbXBsZSBub25j\nQ=='],
  ['a space in the last place', 'AAAAAAAAAAAAAAAAAAAAA ==']
]) {
  t.test(`RFC 6455 section 4.1: a key with ${what} is refused`, t => {
    t.notOk(isKey(key))
    t.end()
  })
}
