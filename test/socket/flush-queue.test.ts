import t from 'tap'
import { flushSoon } from '../../lib/socket/flush-queue.js'
import { tick, watchProcess } from './harness.js'

const flushed: string[] = []
const one = (name: string): { flush(): void } => ({ flush: () => void flushed.push(name) })
const names = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, i) => `${from + i}`)

t.beforeEach(() => {
  flushed.length = 0
})

t.test(
  'all entries are flushed together and in order, after all readable sockets have been read',
  async t => {
    flushSoon(one('a'))
    await Promise.resolve()
    await new Promise(process.nextTick)
    flushSoon(one('b'))
    t.strictSame(flushed, [])
    await tick()
    t.strictSame(flushed, ['a', 'b'])
    await tick()
    t.strictSame(flushed, ['a', 'b'], 'once')
    flushSoon(one('c'))
    await tick()
    t.strictSame(flushed, ['a', 'b', 'c'])
  }
)

t.test('64 entries are flushed without waiting for more', async t => {
  for (const name of names(0, 63)) flushSoon(one(name))
  t.strictSame(flushed, [])
  flushSoon(one('63'))
  t.strictSame(flushed, names(0, 64), 'at once')
  for (const name of names(64, 127)) flushSoon(one(name))
  t.equal(flushed.length, 64)
  flushSoon(one('127'))
  t.strictSame(flushed, names(0, 128))
  flushSoon(one('128'))
  await tick()
  t.strictSame(flushed, names(0, 129))
})

t.test('an entry that is added during a flush is flushed in the next one', async t => {
  flushSoon({
    flush() {
      flushed.push('a')
      flushSoon(one('c'))
    }
  })
  flushSoon(one('b'))
  await tick()
  t.strictSame(flushed.slice(0, 2), ['a', 'b'])
  await tick()
  t.strictSame(flushed, ['a', 'b', 'c'])
})

t.test('an entry that throws does not stop the others from being flushed', async t => {
  const uncaught = watchProcess(t)
  flushed.length = 0
  flushSoon(one('a'))
  flushSoon({
    flush() {
      throw new Error('thrown')
    }
  })
  flushSoon(one('b'))
  await tick()
  await tick()
  t.strictSame(flushed, ['a', 'b'])
  t.strictSame(uncaught.map(String), ['Error: thrown'])
})
