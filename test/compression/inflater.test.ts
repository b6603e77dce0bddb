import { deflateRawSync } from 'node:zlib'
import t from 'tap'
import { Inflater } from '../../lib/compression/inflater.js'
import { ZlibStream } from '../../lib/compression/zlib-stream.js'
import { withDeadline } from '../helpers/timeout.js'
import { bytes, hex } from '../protocol/wire.js'
import { noise, Window, words } from '../socket/zlib-model.js'

const MIB = 2 ** 20
const BOTH = [true, false] as const

type Outcome = ReturnType<Inflater['decompress']>

const show = (outcome: Awaited<Outcome>): string =>
  Buffer.isBuffer(outcome) ? outcome.toString() : `${outcome.code} ${outcome.closeCode}`
const INVALID = 'FST_UPGRADE_INVALID_DEFLATE 1007'
const TOO_BIG = 'FST_UPGRADE_MESSAGE_TOO_BIG 1009'

/** The result of a synchronous inflation. */
function atOnce(outcome: Outcome): string {
  return outcome instanceof Promise ? 'a promise' : show(outcome)
}

/** The result of an inflation in the thread pool. */
async function later(outcome: Outcome): Promise<string> {
  if (!(outcome instanceof Promise)) return `synchronous: ${show(outcome)}`
  return show(await withDeadline(outcome, 10_000, 'inflated'))
}

const EXAMPLES: readonly [section: string, payload: string, text: string][] = [
  ['7.2.3.1: one block', 'f2 48 cd c9 c9 07 00', 'Hello'],
  ['7.2.3.3: a block without compression', '00 05 00 fa ff 48 65 6c 6c 6f 00', 'Hello'],
  ['7.2.3.4: a block with BFINAL', 'f3 48 cd c9 c9 07 00 00', 'Hello'],
  ['7.2.3.4: a block with BFINAL and nothing behind it', 'f3 48 cd c9 c9 07 00', 'Hello'],
  ['7.2.3.5: two blocks', 'f2 48 05 00 00 00 ff ff ca c9 c9 07 00', 'Hello'],
  ['7.2.3.6: an empty message', '00', ''],
  ['7.2.3.4: an empty block with BFINAL', '03 00', ''],
  ['7.2.2: the tail is the content of a stored block', '01 04 00 fb ff', '\0\0\ufffd\ufffd']
]

for (const takesOver of BOTH) {
  for (const [section, payload, text] of EXAMPLES) {
    t.test(`an example of RFC 7692 section ${section} inflates, takeover ${takesOver}`, t => {
      const inflater = new Inflater(15, takesOver)
      for (let i = 0; i < 3; i++) t.equal(atOnce(inflater.decompress(hex(payload), MIB)), text)
      t.equal(atOnce(inflater.decompress(hex('f2 48 cd c9 c9 07 00'), MIB)), 'Hello', 'and the next')
      inflater.close()
      t.end()
    })
  }

  t.test(
    `RFC 7692 section 7.2.2: small messages inflate synchronously, large ones in the thread pool, takeover ${takesOver}`,
    async t => {
      const inflater = new Inflater(15, takesOver)
      const window = new Window(takesOver)
      const largest = takesOver ? 1024 : 8192
      const texts = [words(100), words(50_000), 'x', words(50_000), words(100), '', words(60_000, 2)]
      // Each compresses to a little more than half of its size.
      for (const size of [1600, 1900, 14_000, 15_800]) texts.push(noise(size / 2).toString('hex'))
      const sizes: number[] = []
      for (const text of texts) {
        const payload = window.deflate(text)
        const outcome = inflater.decompress(payload, MIB)
        t.equal(outcome instanceof Promise, payload.length > largest)
        t.equal(show(await outcome), text)
        sizes.push(payload.length / largest)
      }
      for (const [from, to] of [
        [0.8, 1],
        [1, 1.2]
      ] as const) {
        t.ok(
          sizes.some(size => size > from && size <= to),
          `some sizes are ${from} to ${to} times the largest`
        )
      }
      inflater.close()
    }
  )

  t.test(`the limit applies to the inflated size, takeover ${takesOver}`, async t => {
    for (const size of [100, 200_000]) {
      const text = noise(size).toString('latin1')
      const payload = new Window().deflate(text)
      const limit = Buffer.byteLength(text)
      t.equal(show(await new Inflater(15, takesOver).decompress(payload, limit)), text)
      for (const less of [limit - 1, 50]) {
        t.equal(show(await new Inflater(15, takesOver).decompress(payload, less)), TOO_BIG)
      }
    }
  })

  t.test(
    `RFC 7692 section 7.2.3.4: data that continues after a final block inflates, takeover ${takesOver}`,
    async t => {
      for (const size of [5, 1000]) {
        const parts = Array.from({ length: 15 }, (_, i) => noise(size, i).toString('latin1'))
        const ended = parts.map(part => deflateRawSync(part))
        const inflater = new Inflater(15, takesOver)
        const outcome = inflater.decompress(bytes(...ended, 0), MIB)
        t.equal(outcome instanceof Promise, size === 1000)
        t.equal(show(await outcome), parts.join(''))
        t.equal(atOnce(inflater.decompress(hex('f2 48 cd c9 c9 07 00'), MIB)), 'Hello', 'and the next')
        const limit = Buffer.byteLength(parts.join(''))
        t.equal(show(await inflater.decompress(bytes(...ended), limit)), parts.join(''), 'up to the limit')
        t.equal(
          show(await inflater.decompress(bytes(...ended), limit - 1)),
          TOO_BIG,
          'the limit applies to the sum'
        )
        const tooMany = new Inflater(15, takesOver)
        t.equal(
          show(await tooMany.decompress(bytes(...ended, ...ended), MIB)),
          INVALID,
          'the number of final blocks is limited'
        )
        inflater.close()
        tooMany.close()
      }
    }
  )

  t.test(`RFC 7692 section 7.2.2: data that is not DEFLATE is refused, takeover ${takesOver}`, async t => {
    const large = bytes(new Window().deflate(noise(20_000)), hex('ff ff ff ff'), noise(100))
    t.equal(await later(new Inflater(15, takesOver).decompress(large, MIB)), INVALID)
    t.equal(await later(new Inflater(15, takesOver).decompress(Buffer.alloc(9000, 0xff), MIB)), INVALID)
    for (const broken of ['ff ff ff', '07', '06 00', '00 05 00 fb ff 48']) {
      t.equal(atOnce(new Inflater(15, takesOver).decompress(hex(broken), MIB)), INVALID, broken)
    }
  })

  t.test(
    `an inflater can be closed before the first message, after one, and twice, takeover ${takesOver}`,
    t => {
      const unused = new Inflater(15, takesOver)
      unused.close()
      let closes = 0
      const { close } = ZlibStream.prototype
      t.intercept(ZlibStream.prototype, 'close', {
        value(this: ZlibStream) {
          closes++
          Reflect.apply(close, this, [])
        }
      })
      const used = new Inflater(15, takesOver)
      used.decompress(hex('00'), MIB)
      used.close()
      used.close()
      t.equal(closes, 1)
      t.end()
    }
  )

  t.test(
    `an inflater that is closed during work in the thread pool is freed when the work ends, takeover ${takesOver}`,
    async t => {
      const inflater = new Inflater(15, takesOver)
      const window = new Window(takesOver)
      t.equal(atOnce(inflater.decompress(window.deflate('Hello'), MIB)), 'Hello')
      const text = words(50_000)
      const closes: string[] = []
      let state = 'at work'
      const { close } = ZlibStream.prototype
      t.intercept(ZlibStream.prototype, 'close', {
        value(this: ZlibStream) {
          closes.push(state)
          Reflect.apply(close, this, [])
        }
      })
      const { run } = ZlibStream.prototype
      t.intercept(ZlibStream.prototype, 'run', {
        async value(this: ZlibStream, input: Buffer, limit: number) {
          const output: Buffer = await Reflect.apply(run, this, [input, limit])
          state = 'done'
          return output
        }
      })
      const outcome = inflater.decompress(window.deflate(text), MIB)
      inflater.close()
      t.equal(await later(outcome), text)
      t.strictSame(
        closes,
        takesOver ? ['done'] : ['done', 'done'],
        'one stream, or also the stream for small messages'
      )
    }
  )
}

t.test('RFC 7692 section 7.2.3.2: with takeover a message may refer to earlier messages', async t => {
  const inflater = new Inflater(15, true)
  t.equal(atOnce(inflater.decompress(hex('f2 48 cd c9 c9 07 00'), MIB)), 'Hello')
  t.equal(atOnce(inflater.decompress(hex('f2 00 11 00 00'), MIB)), 'Hello')
  inflater.close()
})

t.test(
  'RFC 7692 section 7.1.1.1: without takeover a message that refers to earlier ones is invalid',
  async t => {
    const inflater = new Inflater(15, false)
    for (let i = 0; i < 2; i++) {
      t.equal(atOnce(inflater.decompress(hex('f2 48 cd c9 c9 07 00'), MIB)), 'Hello')
      t.equal(atOnce(inflater.decompress(hex('f2 00 11 00 00'), MIB)), INVALID)
    }
    const window = new Window()
    const first = words(50_000)
    t.equal(await later(inflater.decompress(window.deflate(first), MIB)), first)
    t.equal(show(await inflater.decompress(window.deflate(first), MIB)), INVALID, 'nor in the thread pool')
    inflater.close()
  }
)

t.test(
  'with takeover data of a peer with a window of 512 bytes inflates with a window of 512 bytes',
  async t => {
    const inflater = new Inflater(9, true)
    const payloads = [deflateRawSync('Hello', { windowBits: 9, finishFlush: 2 }).subarray(0, -4)]
    t.equal(atOnce(inflater.decompress(payloads[0], MIB)), 'Hello')
    inflater.close()
  }
)

t.test('without takeover a small message that grows large is inflated again in the thread pool', async t => {
  const inflater = new Inflater(15, false)
  for (const size of [2 ** 18, 2 ** 18 + 1, MIB]) {
    const text = 'x'.repeat(size)
    const payload = new Window().deflate(text)
    const outcome = inflater.decompress(payload, MIB)
    t.equal(outcome instanceof Promise, size > 2 ** 18, `${size}`)
    t.equal(show(await outcome), text)
    t.equal(show(await inflater.decompress(payload, size - 1)), TOO_BIG)
    t.equal(
      atOnce(inflater.decompress(payload, 2 ** 18 - 1)),
      TOO_BIG,
      'a message that cannot fit is not inflated again'
    )
  }
  t.equal(await later(inflater.decompress(new Window().deflate(Buffer.alloc(MIB + 1)), MIB)), TOO_BIG)
  inflater.close()
})

t.test('inflation stops at the limit while it runs', async t => {
  const bomb = new Window().deflate(Buffer.alloc(64 * MIB))
  for (const takesOver of BOTH) {
    let most = 0
    const { concat } = Buffer
    t.intercept(Buffer, 'concat', {
      value(list: readonly Uint8Array[], length?: number) {
        most = Math.max(
          most,
          list.reduce((sum, { byteLength }) => sum + byteLength, 0)
        )
        return concat(list, length)
      },
      writable: true,
      configurable: true
    })
    t.equal(await later(new Inflater(15, takesOver).decompress(bomb, MIB)), TOO_BIG)
    t.ok(most <= MIB + 16_384, `${most} bytes are held together`)
  }
})

t.test('with takeover data that continues after a final block is not inflated beyond the limit', t => {
  const runs = t.capture(ZlibStream.prototype, 'runSync', ZlibStream.prototype.runSync)
  const hello = 'f3 48 cd c9 c9 07 00 '
  t.equal(atOnce(new Inflater(15, true).decompress(hex(hello.repeat(10)), 9)), TOO_BIG)
  t.equal(runs().length, 2)
  t.end()
})

t.test('messages that inflate at the same time share the stream that no connection owns', async t => {
  const inflater = new Inflater(15, false)
  const texts = Array.from({ length: 12 }, (_, i) => words(50_000, i))
  const outcomes = texts.map(text => inflater.decompress(new Window().deflate(text), MIB))
  t.equal(atOnce(inflater.decompress(hex('f2 48 cd c9 c9 07 00'), MIB)), 'Hello')
  t.strictSame(await Promise.all(outcomes.map(later)), texts)
  inflater.close()
})
