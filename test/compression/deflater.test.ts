import t from 'tap'
import { Deflater } from '../../lib/compression/deflater.js'
import { ZlibStream } from '../../lib/compression/zlib-stream.js'
import { withDeadline } from '../helpers/timeout.js'
import { bytes } from '../protocol/wire.js'
import { noise, Window, words } from '../socket/zlib-model.js'

const OPTIONS = { windowBits: 15, level: 6, memLevel: 8, strategy: 0 }

const make = (takesOver: boolean): Deflater => new Deflater(OPTIONS, takesOver)
const settle = (output: Buffer | Promise<Buffer>): Promise<Buffer> =>
  withDeadline(Promise.resolve(output), 10_000, 'compressed')
const hexOf = (output: Buffer | Promise<Buffer>): string =>
  output instanceof Promise ? 'a promise' : output.toString('hex')

for (const takesOver of [true, false]) {
  t.test(`RFC 7692 section 7.2.3.1: "Hello" is compressed to one block, takeover ${takesOver}`, t => {
    for (const data of [
      'Hello',
      Buffer.from('Hello'),
      new Uint8Array(Buffer.from(' Hello ')).subarray(1, 6)
    ]) {
      t.equal(hexOf(make(takesOver).compress(data, true)), 'f248cdc9c90700')
    }
    t.end()
  })

  t.test(`RFC 7692 section 7.2.3.6: an empty message is compressed to one byte, takeover ${takesOver}`, t => {
    const deflater = make(takesOver)
    t.equal(hexOf(deflater.compress('', true)), '00')
    t.equal(hexOf(deflater.compress('Hello', true)), 'f248cdc9c90700')
    t.equal(hexOf(deflater.compress(new Uint8Array(0), true)), '00')
    t.end()
  })

  t.test(
    `RFC 7692 section 7.2.1: compressed fragments together inflate to the message, takeover ${takesOver}`,
    async t => {
      const deflater = make(takesOver)
      const window = new Window(takesOver)
      for (const fragments of [
        ['Hel', 'lo'],
        ['', 'Hello'],
        ['Hello', ''],
        ['a', '', 'b', ''],
        [words(40_000), 'b', words(33_000, 2)],
        ['', '']
      ]) {
        const last = fragments.length - 1
        const payloads: Buffer[] = []
        for (const [i, data] of fragments.entries()) {
          payloads.push(await settle(deflater.compress(data, i === last)))
        }
        t.equal(String(window.inflate(bytes(...payloads))), fragments.join(''))
      }
      deflater.close()
    }
  )

  t.test(`large messages are compressed correctly in the thread pool, takeover ${takesOver}`, async t => {
    const deflater = make(takesOver)
    const messages = [words(100), words(32_767), words(32_768), words(10), '', noise(100_000), words(300_000)]
    const outputs = messages.map(data => deflater.compress(data, true))
    t.strictSame(
      outputs.map(output => output instanceof Promise),
      // With takeover, a message behind a large one waits for the window.
      takesOver
        ? [false, false, true, true, false, true, true]
        : [false, false, true, false, false, true, true]
    )
    const window = new Window(takesOver)
    for (const [i, output] of outputs.entries()) {
      t.ok(window.inflate(await settle(output)).equals(bytes(messages[i])), `${i}`)
    }
    t.notOk(deflater.compress('compressed synchronously again', true) instanceof Promise)
    deflater.close()
  })

  t.test(
    `messages around the size of zlib's buffer (16 KiB) are compressed correctly, takeover ${takesOver}`,
    t => {
      const deflater = new Deflater({ ...OPTIONS, level: 0 }, takesOver)
      const window = new Window(takesOver)
      const wrong: number[] = []
      for (let length = 16_360; length < 16_400; length++) {
        const data = noise(length, length)
        const output = deflater.compress(data, true)
        if (output instanceof Promise || !window.inflate(output).equals(data)) wrong.push(length)
      }
      t.strictSame(wrong, [])
      t.end()
    }
  )
}

t.test('RFC 7692 section 7.2.3.2: with takeover a message refers to earlier messages', async t => {
  const deflater = make(true)
  t.equal(deflater.takesOver, true)
  t.equal(hexOf(deflater.compress('Hello', true)), 'f248cdc9c90700')
  t.equal(hexOf(deflater.compress('Hello', true)), 'f200110000')
  const large = noise(33_000)
  t.ok((await settle(deflater.compress(large, true))).length > 33_000)
  const again = await settle(deflater.compress(large.subarray(1000), true))
  t.ok(again.length < 1000, 'in the thread pool, too')
  deflater.close()
})

t.test('RFC 7692 section 7.1.1.1: without takeover a message never refers to earlier messages', async t => {
  const deflater = make(false)
  t.equal(deflater.takesOver, false)
  for (let i = 0; i < 3; i++) {
    t.equal(hexOf(deflater.compress('Hello', true)), 'f248cdc9c90700')
    t.equal(String(new Window().inflate(await settle(deflater.compress(words(40_000), true)))), words(40_000))
  }
  t.end()
})

t.test('with takeover a fragment behind a large one waits for the window', async t => {
  const deflater = make(true)
  const fragments = [words(40_000), words(20), words(35_000), '', words(5)]
  const outputs = await Promise.all(fragments.map((data, i) => settle(deflater.compress(data, i === 4))))
  t.equal(String(new Window().inflate(bytes(...outputs))), fragments.join(''))
  deflater.close()
})

t.test('options reach zlib: level 0 stores data, and a window of 512 bytes forgets data', t => {
  const data = `${noise(300).toString('hex')}`
  const level0 = new Deflater({ ...OPTIONS, level: 0 }, true).compress('Hello', true)
  t.equal(hexOf(level0), '000500faff48656c6c6f00')
  const sizes = [15, 9].map(windowBits => {
    const deflater = new Deflater({ ...OPTIONS, windowBits }, true)
    deflater.compress(data, true)
    const output = deflater.compress(data, true)
    t.notOk(output instanceof Promise)
    return output instanceof Promise ? 0 : output.length
  })
  t.ok(sizes[0] < 30 && sizes[1] > 200, sizes.join())
  t.end()
})

t.test('a deflater can be closed before the first message, and twice', t => {
  const deflater = make(true)
  deflater.close()
  deflater.close()
  const used = make(true)
  used.compress('Hello', true)
  used.close()
  t.throws(() => used.compress('Hello', true), 'no window is left')
  t.end()
})

t.test(
  'close during work in the thread pool lets the running job finish and starts no pending one',
  async t => {
    const runs: number[] = []
    const closes: number[] = []
    const { run, close } = ZlibStream.prototype
    t.intercept(ZlibStream.prototype, 'run', {
      value(this: ZlibStream, input: Buffer, limit: number) {
        runs.push(input.length)
        return Reflect.apply(run, this, [input, limit])
      }
    })
    t.intercept(ZlibStream.prototype, 'close', {
      value(this: ZlibStream) {
        closes.push(runs.length)
        Reflect.apply(close, this, [])
      }
    })
    const deflater = make(true)
    const outputs = [words(40_000), words(50_000), 'small'].map(data => deflater.compress(data, true))
    await Promise.resolve()
    await Promise.resolve()
    deflater.close()
    const lengths = await Promise.all(outputs.map(async output => (await settle(output)).length))
    t.ok(lengths[0] > 1000)
    t.strictSame(lengths.slice(1), [0, 0])
    t.strictSame(runs, [40_000])
    t.strictSame(closes, [1], 'the memory of zlib is freed once')
  }
)

t.test('a job that fails in the thread pool rejects, and so do the messages that depend on it', async t => {
  t.intercept(ZlibStream.prototype, 'run', { value: () => Promise.reject(new Error('no memory')) })
  for (const takesOver of [true, false]) {
    const deflater = make(takesOver)
    const outputs = [deflater.compress(words(40_000), true), deflater.compress(words(50_000), true)]
    for (const output of outputs) await t.rejects(settle(output), { message: 'no memory' })
    deflater.close()
  }
})

t.test('data below 4 KiB may be changed after the call, also behind a large message', async t => {
  const deflater = make(true)
  const data = Buffer.from('before')
  const outputs = [deflater.compress(words(40_000), true), deflater.compress(data, true)]
  data.fill('x')
  const window = new Window()
  t.equal(String(window.inflate(await settle(outputs[0]))), words(40_000))
  t.equal(String(window.inflate(await settle(outputs[1]))), 'before')
  deflater.close()
})
