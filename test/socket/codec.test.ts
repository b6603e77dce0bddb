import { runInNewContext } from 'node:vm'
import t from 'tap'
import { decode, decodeForListener, encode, encodeControl } from '../../lib/socket/codec.js'

const octets = [1, 2, 3, 4, 5, 6, 7, 8]
const memory = new Uint8Array(octets)
const shared = new SharedArrayBuffer(8)
new Uint8Array(shared).set(octets)

/** The bytes of a payload. */
const read = (payload: string | Uint8Array): number[] => [...Buffer.from(payload)]

function thrown(call: () => unknown): unknown {
  try {
    return call()
  } catch (error) {
    return error
  }
}

t.test('text and bytes are passed on as they are', async t => {
  const buffer = Buffer.from(octets)
  t.equal(encode('text'), 'text')
  t.equal(encode(buffer), buffer)
  t.equal(encode(memory), memory)
})

t.test('other views and buffers become bytes, and only their own part of the memory is used', async t => {
  for (const [name, data, expected] of [
    ['ArrayBuffer', memory.buffer, octets],
    ['SharedArrayBuffer', shared, octets],
    ['view of a SharedArrayBuffer', new Uint8Array(shared, 1, 2), [2, 3]],
    ['DataView', new DataView(memory.buffer, 2, 3), [3, 4, 5]],
    ['Uint16Array', new Uint16Array(memory.buffer, 4, 2), [5, 6, 7, 8]],
    ['Float64Array', new Float64Array(memory.buffer), octets],
    ['empty', new ArrayBuffer(0), []],
    ['ArrayBuffer of another realm', runInNewContext('new Uint8Array([1, 2]).buffer'), [1, 2]],
    ['Uint8Array of another realm', runInNewContext('new Uint8Array([1, 2])'), [1, 2]]
  ] as const) {
    t.strictSame(read(encode(data)), expected, name)
  }
})

t.test('a number is sent as its text, as in ws', async t => {
  t.equal(encode(42), '42')
  t.equal(encode(0), '0')
})

t.test('the bytes are not copied', async t => {
  const buffer = new ArrayBuffer(2)
  const payload = encode(new DataView(buffer))
  new Uint8Array(buffer).fill(7)
  t.strictSame(read(payload), [7, 7])
})

t.test('any other value is refused, and the error names its type', async t => {
  const values: readonly [unknown, string][] = [
    [undefined, 'undefined'],
    [null, 'null'],
    [true, 'boolean'],
    [10n, 'bigint'],
    [Symbol('x'), 'symbol'],
    [{ length: 3 }, 'object'],
    [[1, 2, 3], 'object'],
    [() => 'x', 'function'],
    [new Blob(['x']), 'Blob'],
    [Promise.resolve('x'), 'Promise']
  ]
  for (const [value, type] of values) {
    t.throws(
      () => Reflect.apply(encode, undefined, [value]),
      { name: 'FastifyError', code: 'FST_UPGRADE_INVALID_DATA', message: `A value of type ${type} cannot` },
      type
    )
    t.ok(thrown(() => Reflect.apply(encode, undefined, [value])) instanceof TypeError, type)
  }
})

t.test('the error for an object says which value to pass', async t => {
  for (const [value, hint] of [
    [{ type: 'say' }, /pass JSON\.stringify\(value\)/],
    [[1], /pass JSON\.stringify\(value\)/],
    [new Map(), /pass JSON\.stringify\(value\)/],
    [new Blob(['x']), /pass await blob\.arrayBuffer\(\)/],
    [Promise.resolve('x'), /with await/],
    [null, /pass a string, an ArrayBuffer or a view of one\.$/]
  ] as const) {
    t.throws(() => Reflect.apply(encode, undefined, [value]), { message: hint })
  }
})

t.test('the data of a control frame is optional', async t => {
  t.equal(encodeControl(undefined), '')
  t.equal(encodeControl(null), '', 'the form that code for ws uses')
  t.equal(encodeControl('a'), 'a')
  t.strictSame(read(encodeControl(memory.buffer)), octets)
})

t.test('a control frame has at most 125 bytes, counted after encoding', async t => {
  t.equal(encodeControl('x'.repeat(125)), 'x'.repeat(125))
  t.ok(thrown(() => encodeControl('x'.repeat(126))) instanceof RangeError)
  t.throws(() => encodeControl('é'.repeat(63)), { code: 'FST_UPGRADE_PING_TOO_LONG', message: /126 bytes/ })
  t.throws(() => encodeControl(new ArrayBuffer(126)), { code: 'FST_UPGRADE_PING_TOO_LONG' })
  t.throws(() => Reflect.apply(encodeControl, undefined, [{}]), { code: 'FST_UPGRADE_INVALID_DATA' })
})

t.test('an ArrayBuffer has memory of its own that is no longer than the data', async t => {
  const source = Buffer.from(octets).subarray(2, 5)
  const copy = decodeForListener(source, true, 'arraybuffer')
  source.fill(0)
  t.ok(copy instanceof ArrayBuffer)
  if (copy instanceof ArrayBuffer) t.strictSame([...new Uint8Array(copy)], [3, 4, 5])
})

t.test('a listener receives a binary message as binaryType says, and text as a Buffer', async t => {
  const data = Buffer.from(octets)
  t.equal(decodeForListener(data, true, 'nodebuffer'), data)
  t.strictSame(decodeForListener(data, true, 'fragments'), [data])
  for (const type of ['nodebuffer', 'arraybuffer', 'fragments'] as const)
    t.equal(decodeForListener(data, false, type), data)
})

t.test('the iterator returns text as a string, and a binary message as the Buffer that arrived', async t => {
  const data = Buffer.from('text')
  t.equal(decode(data, false), 'text')
  t.equal(decode(data, true), data)
})
