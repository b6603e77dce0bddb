import t, { type Test } from 'tap'
import type { PerMessageDeflate } from '../../lib/compression/per-message-deflate.js'
import { ZlibStream } from '../../lib/compression/zlib-stream.js'
import { hex } from '../protocol/wire.js'
import { extensionOf } from '../socket/harness.js'
import { deflateOf, noise, Window, type Wishes, words } from '../socket/zlib-model.js'

const HELLO = hex('f2 48 cd c9 c9 07 00')
const HELLO_AGAIN = hex('f2 00 11 00 00')

function make(wishes: Wishes = {}): PerMessageDeflate {
  return extensionOf(wishes.role ?? 'server', deflateOf(wishes))
}

function closesDuring(t: Test, work: () => void): number {
  let closes = 0
  const { close } = ZlibStream.prototype
  const restore = t.intercept(ZlibStream.prototype, 'close', {
    value(this: ZlibStream) {
      closes++
      Reflect.apply(close, this, [])
    }
  })
  work()
  restore.restore()
  return closes
}

for (const role of ['server', 'client'] as const) {
  t.test(`RFC 7692 section 7.1.1: each direction keeps its window or not, as agreed, ${role}`, t => {
    for (const takesOver of [true, false]) {
      for (const peerTakesOver of [true, false]) {
        const one = make({ role, takesOver, peerTakesOver })
        const sent = [1, 2].map(() => one.compressor.compress('Hello', true))
        t.strictSame(sent, [HELLO, takesOver ? HELLO_AGAIN : HELLO], `own ${takesOver}`)
        t.equal(String(one.decompressor.decompress(HELLO, 10)), 'Hello')
        const again = one.decompressor.decompress(HELLO_AGAIN, 10)
        t.equal(Buffer.isBuffer(again), peerTakesOver, `peer ${peerTakesOver}`)
        one.close()
      }
    }
    t.end()
  })

  t.test(
    `connections with the same settings share deflaters and inflaters that keep no window, ${role}`,
    t => {
      const [a, b] = [make({ role }), make({ role })]
      t.equal(a.compressor, b.compressor)
      t.equal(a.decompressor, b.decompressor)
      const [c, d] = [make({ role, takesOver: true, peerTakesOver: true }), make({ role, takesOver: true })]
      t.not(c.compressor, d.compressor)
      t.not(c.compressor, a.compressor)
      t.not(c.decompressor, a.decompressor)
      t.equal(d.decompressor, a.decompressor)
      t.end()
    }
  )
}

t.test('connections with other settings or another window have another deflater', t => {
  const base = deflateOf()
  const variants = [
    base,
    { ...base, parameters: { ...base.parameters, serverMaxWindowBits: 10 } },
    { ...base, settings: { ...base.settings, level: 1 } },
    { ...base, settings: { ...base.settings, memLevel: 1 } },
    { ...base, settings: { ...base.settings, strategy: 3 } }
  ]
  const deflaters = variants.map(deflate => extensionOf('server', deflate).compressor)
  t.equal(new Set(deflaters).size, variants.length)
  const others = [
    { ...base, settings: { ...base.settings, threshold: 5 } },
    { ...base, parameters: { ...base.parameters, clientMaxWindowBits: 9 } }
  ]
  for (const deflate of others) t.equal(extensionOf('server', deflate).compressor, deflaters[0])
  t.end()
})

t.test('RFC 7692 section 7.1.2: the agreed windows are used', t => {
  const far = Buffer.concat([noise(300), Buffer.alloc(600), noise(300)])
  const sizes = [15, 9].map(bits => {
    const base = deflateOf({ takesOver: true })
    const parameters = { ...base.parameters, serverMaxWindowBits: bits }
    const output = extensionOf('server', { ...base, parameters }).compressor.compress(far, true)
    return output instanceof Promise ? 0 : output.length
  })
  t.ok(sizes[1] > sizes[0] + 200, sizes.join())
  t.end()
})

t.test(
  'RFC 7692 section 7.1.2.2: a peer with a window of 256 bytes, which zlib does not support, is served',
  t => {
    const base = deflateOf({ peerTakesOver: true })
    const parameters = { ...base.parameters, clientMaxWindowBits: 8 }
    const one = extensionOf('server', { ...base, parameters })
    t.equal(String(one.decompressor.decompress(HELLO, 10)), 'Hello')
    t.equal(String(one.decompressor.decompress(HELLO_AGAIN, 10)), 'Hello')
    one.close()
    t.end()
  }
)

t.test('the threshold applies unless messages refer to earlier ones', t => {
  for (const role of ['server', 'client'] as const) {
    const own = make({ role, threshold: 10, peerTakesOver: true })
    t.equal(own.threshold, 10)
    const takingOver = make({ role, threshold: 10, takesOver: true })
    t.equal(takingOver.threshold, 0)
  }
  t.end()
})

t.test('close frees the streams of the connection and keeps the shared ones', t => {
  for (const [takesOver, peerTakesOver, closes] of [
    [true, true, 2],
    [true, false, 1],
    [false, true, 1],
    [false, false, 0]
  ] as const) {
    const one = make({ takesOver, peerTakesOver })
    one.compressor.compress('Hello', true)
    one.decompressor.decompress(HELLO, 10)
    t.equal(
      closesDuring(t, () => one.close()),
      closes
    )
  }
  const shared = make()
  shared.close()
  t.strictSame(shared.compressor.compress('Hello', true), HELLO)
  t.equal(String(shared.decompressor.decompress(new Window().deflate(words(100)), 100)), words(100))
  t.end()
})
