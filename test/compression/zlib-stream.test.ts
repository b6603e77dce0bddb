import { createInflateRaw } from 'node:zlib'
import t from 'tap'
import { OutputTooLargeError, ZlibStream } from '../../lib/compression/zlib-stream.js'
import { withDeadline } from '../helpers/timeout.js'
import { bytes, hex } from '../protocol/wire.js'
import { noise, TAIL, Window, words } from '../socket/zlib-model.js'

const windowBits = 15
const NO_LIMIT = Number.POSITIVE_INFINITY
const MODES = ['sync', 'async', 'sync first', 'async first'] as const

/** Runs the inputs in order, in the given mode. */
async function runAll(
  stream: ZlibStream,
  inputs: readonly Buffer[],
  mode: (typeof MODES)[number]
): Promise<Buffer[]> {
  const outputs: Buffer[] = []
  for (const [i, input] of inputs.entries()) {
    const isSync = mode === 'sync' || (mode !== 'async' && (i % 2 === 0) === (mode === 'sync first'))
    outputs.push(
      isSync ? stream.runSync(input) : await withDeadline(stream.run(input, NO_LIMIT), 5000, 'output')
    )
  }
  return outputs
}

t.test(
  'deflate flushes each input and keeps the window, synchronously, in the thread pool and mixed',
  async t => {
    const inputs = [words(10), words(50_000), 'x', words(40_000), words(20_000), words(5)].map(text =>
      Buffer.from(text)
    )
    for (const mode of MODES) {
      const stream = new ZlibStream('deflate', { windowBits })
      const outputs = await runAll(stream, inputs, mode)
      const window = new Window()
      for (const [i, output] of outputs.entries()) {
        t.equal(output.subarray(-4).toString('hex'), '0000ffff', 'flushed')
        t.ok(window.inflate(output).equals(inputs[i]), `${mode} ${i}`)
      }
      t.ok(outputs[5].length < 12, 'it refers to earlier input')
      stream.close()
    }
  }
)

t.test('inflate returns the whole output of each input and keeps the window, in every mode', async t => {
  const texts = [words(10), words(50_000), 'x', words(40_000), words(20_000), words(5)]
  for (const mode of MODES) {
    const window = new Window()
    const inputs = texts.map(text => bytes(window.deflate(text), TAIL))
    const stream = new ZlibStream('inflate', { windowBits })
    const outputs = await runAll(stream, inputs, mode)
    t.strictSame(outputs.map(String), texts, mode)
    t.equal(stream.taken, inputs[5].length)
    stream.close()
  }
})

t.test('an output does not change when others follow', async t => {
  const plain = [1, 2, 3].map(seed => noise(5000, seed))
  for (const mode of MODES) {
    const window = new Window()
    const inputs = plain.map(data => bytes(window.deflate(data), TAIL))
    const stream = new ZlibStream('inflate', { windowBits })
    const outputs = await runAll(stream, inputs, mode)
    t.ok(bytes(...outputs).equals(bytes(...plain)), mode)
    stream.close()
  }
})

t.test('reset clears the window', async t => {
  const deflate = new ZlibStream('deflate', { windowBits })
  const hello = Buffer.from('Hello')
  t.equal(deflate.runSync(hello).toString('hex'), 'f248cdc9c907000000ffff')
  t.equal(deflate.runSync(hello).toString('hex'), 'f2001100000000ffff')
  deflate.reset()
  t.equal(deflate.runSync(hello).toString('hex'), 'f248cdc9c907000000ffff')
  deflate.close()
})

t.test(
  'RFC 7692 section 7.2.3.4: after a final block the stream reports how many bytes it has consumed',
  async t => {
    const ended = hex('f3 48 cd c9 c9 07 00')
    const input = bytes(ended, hex('00 00 00 ff ff'))
    const sync = new ZlibStream('inflate', { windowBits })
    t.equal(String(sync.runSync(input)), 'Hello')
    t.equal(sync.taken, 7)
    t.equal(String(sync.runSync(input)), '', 'no more output before the reset')
    t.equal(sync.taken, 0)
    sync.reset()
    t.equal(String(sync.runSync(input)), 'Hello')
    sync.close()
    const async_ = new ZlibStream('inflate', { windowBits })
    t.equal(String(await withDeadline(async_.run(input, NO_LIMIT), 5000, 'end')), 'Hello')
    t.equal(async_.taken, 7)
    async_.close()
  }
)

t.test('options are passed to zlib', t => {
  const data = Buffer.from(words(20_000))
  const sizes = [0, 1, 9].map(level => {
    const stream = new ZlibStream('deflate', { windowBits, level, memLevel: 9, strategy: 0, chunkSize: 1024 })
    const output = stream.runSync(data)
    t.ok(new Window().inflate(output).equals(data))
    stream.close()
    return output.length
  })
  t.ok(sizes[0] > data.length && sizes[0] > sizes[1] && sizes[1] > sizes[2], sizes.join())
  t.throws(() => new ZlibStream('deflate', { windowBits: 16 }), { code: 'ERR_OUT_OF_RANGE' })
  t.end()
})

t.test('output is stopped at its limit while it grows, and the stream is closed', async t => {
  const bomb = bytes(new Window().deflate(Buffer.alloc(1_000_000)), TAIL)
  for (const limit of [1, 65_536, 999_999]) {
    const sync = new ZlibStream('inflate', { windowBits, maxOutputLength: limit })
    t.throws(() => sync.runSync(bomb), OutputTooLargeError)
    t.throws(() => sync.runSync(bomb), OutputTooLargeError, 'and stays closed')
    sync.close()
    const async_ = new ZlibStream('inflate', { windowBits })
    await t.rejects(async_.run(bomb, limit), OutputTooLargeError)
    await t.rejects(async_.run(bomb, limit), { message: 'The stream is closed.' })
    async_.close()
  }
  const sync = new ZlibStream('inflate', { windowBits, maxOutputLength: 1_000_000 })
  t.equal(sync.runSync(bomb).length, 1_000_000)
  sync.close()
  const async_ = new ZlibStream('inflate', { windowBits })
  t.equal((await async_.run(bomb, 1_000_000)).length, 1_000_000)
  async_.close()
})

t.test('invalid input is an error wherever it is detected, and the stream is closed', async t => {
  const good = bytes(new Window().deflate(noise(50_000)), TAIL)
  for (const broken of [hex('ff ff ff'), bytes(good, hex('ff ff ff')), hex('07')]) {
    const sync = new ZlibStream('inflate', { windowBits })
    t.throws(() => sync.runSync(broken), { code: 'Z_DATA_ERROR' })
    t.throws(() => sync.runSync(good), { code: 'Z_DATA_ERROR' }, 'and stays closed')
    sync.close()
    const async_ = new ZlibStream('inflate', { windowBits })
    await t.rejects(async_.run(broken, NO_LIMIT), { code: 'Z_DATA_ERROR' })
    await t.rejects(async_.run(good, NO_LIMIT), { message: 'The stream is closed.' })
    t.throws(() => async_.runSync(good))
  }
})

t.test('a closed stream accepts no input, and a second close does nothing', async t => {
  const stream = new ZlibStream('deflate', { windowBits })
  stream.close()
  stream.close()
  t.throws(() => stream.runSync(Buffer.from('x')))
  await t.rejects(stream.run(Buffer.from('x'), NO_LIMIT), { message: 'The stream is closed.' })
})

t.test('a run on a stream that is closed meanwhile ends without output', async t => {
  const stream = new ZlibStream('deflate', { windowBits })
  const done = stream.run(noise(500_000), NO_LIMIT)
  stream.close()
  const length = await withDeadline(
    done.then(
      output => output.length,
      () => 0
    ),
    5000,
    'end'
  )
  t.ok(length < 500_000, `${length}`)
})

t.test('a synchronous failure frees the memory of zlib immediately', t => {
  for (const input of [hex('ffffff'), new Window().deflate(Buffer.alloc(9000))]) {
    const stream = new ZlibStream('inflate', { windowBits, maxOutputLength: 1000 })
    let closed = 0
    const { prototype } = nativeZlib()
    const { close } = prototype
    prototype.close = function () {
      closed++
      Reflect.apply(close, this, [])
    }
    try {
      t.throws(() => stream.runSync(input))
    } finally {
      prototype.close = close
    }
    t.equal(closed, 1)
  }
  t.end()
})

/** The object on which the native part of all zlib streams has its `close`. */
function nativeZlib(): { readonly prototype: { close: (this: unknown) => void } } {
  let prototype: unknown = Reflect.get(createInflateRaw(), '_handle')
  while (!Object.hasOwn(Object(prototype), 'close')) prototype = Object.getPrototypeOf(prototype)
  return { prototype: prototype as { close: (this: unknown) => void } }
}
