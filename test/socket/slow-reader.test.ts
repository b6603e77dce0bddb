import t from 'tap'
import type { Acknowledged } from '../../lib/socket/send-queue.js'
import { SlowReader } from '../../lib/socket/slow-reader.js'

/** The progress of a stream to which 1 MB was written. */
class FakeWriter {
  unsent = 0
  taken = 1_000_000
  /** The queue that the kernel shows. */
  seen: Acknowledged | undefined
  looks = 0
  /** Whether the queue of the kernel can be read. */
  isTcp = true

  acknowledged(): Promise<Acknowledged | undefined> | undefined {
    if (!this.isTcp) return undefined
    this.looks++
    return Promise.resolve(this.seen)
  }
}

const ask = (slowReader: SlowReader, isHeard = true): Promise<boolean> =>
  new Promise(resolve => slowReader.ask(isHeard, resolve))

/** The number of additional timeouts of a peer. */
async function timeouts(slowReader: SlowReader): Promise<number> {
  for (let count = 0; ; count++) if (!(await ask(slowReader))) return count
}

const SECOND = 1000

t.test('a peer has one second for each 4 KiB, and at most a hundred timeouts', async t => {
  const cases = [
    [0, SECOND, 0],
    [4095, SECOND, 0],
    [4096, SECOND, 1],
    [409_599, SECOND, 99],
    [2 ** 40, SECOND, 100],
    [500_000, 10 * SECOND, 12],
    [4_194_304, 10 * SECOND, 100]
  ] as const
  for (const [unread, timeout, expected] of cases) {
    for (const isTcp of [true, false]) {
      const writer = Object.assign(new FakeWriter(), { isTcp })
      t.equal(await timeouts(new SlowReader(writer, unread, timeout)), expected, `${unread} bytes`)
      t.equal(
        writer.looks > 0,
        isTcp && expected > 0,
        'the queue of the kernel is not read for peers to which little was sent'
      )
    }
  }
})

t.test(
  'progress in the queue of the kernel renews the time, up to the frame that the peer has to answer',
  async t => {
    const writer = new FakeWriter()
    const at = (atLeast: number, atMost = atLeast): void => {
      writer.seen = { atLeast, atMost }
    }
    at(200_000)
    const slowReader = new SlowReader(writer, 2 * 4096, SECOND)
    t.equal(await ask(slowReader), true)
    t.equal(await ask(slowReader), true, 'no progress')
    at(200_001)
    t.equal(await ask(slowReader), true, 'a byte was acknowledged')
    at(1_000_000)
    for (let i = 0; i < 3; i++) t.equal(await ask(slowReader), true, `${i}`)
    at(1_100_000)
    t.equal(await ask(slowReader), false, 'that is beyond the frame that the peer has to answer')
    t.equal(await ask(slowReader, false), false)
    at(1_100_001)
    t.equal(await ask(slowReader, false), true, 'but it is a sign of life where no answer would be read')
  }
)

t.test('bytes written while the queue of the kernel is read are no progress', async t => {
  const writer = new FakeWriter()
  writer.seen = { atLeast: 100, atMost: 300 }
  const slowReader = new SlowReader(writer, 4096, SECOND)
  t.equal(await ask(slowReader), true)
  writer.seen = { atLeast: 300, atMost: 500 }
  t.equal(await ask(slowReader), false)
})

t.test(
  'where the kernel exposes no queue, progress is the amount that it takes from the process',
  async t => {
    for (const isTcp of [true, false]) {
      const writer = Object.assign(new FakeWriter(), { isTcp, unsent: 1000 })
      const slowReader = new SlowReader(writer, 4096, SECOND)
      t.equal(await ask(slowReader), true)
      for (let i = 0; i < 5; i++) {
        writer.taken += 200
        t.equal(await ask(slowReader), true)
      }
      writer.taken += 200
      t.equal(await ask(slowReader), true, 'the time for 4 KiB')
      t.equal(await ask(slowReader), false)
    }
  }
)

t.test(
  'a peer whose data was still pending in the process, and has been taken since, has made progress',
  async t => {
    const writer = Object.assign(new FakeWriter(), { unsent: 10 })
    const slowReader = new SlowReader(writer, 100, SECOND, 999_990)
    t.equal(await ask(slowReader), true)
    t.equal(await ask(slowReader), false)
  }
)

t.test('the frame itself is no progress, but it is a sign of life where no answer would be read', async t => {
  for (const isHeard of [true, false]) {
    const writer = new FakeWriter()
    const slowReader = new SlowReader(writer, 100, SECOND, 999_998, 999_998)
    t.equal(await ask(slowReader, isHeard), !isHeard)
  }
})

t.test('the time until the queue has been read counts', async t => {
  const writer = new FakeWriter()
  writer.acknowledged = () => new Promise(resolve => setTimeout(resolve, 60, undefined))
  const slowReader = new SlowReader(writer, 100 * 4096, 0.5)
  t.equal(await ask(slowReader), false)
})
