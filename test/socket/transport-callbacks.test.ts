import t from 'tap'
import { tick } from './harness.js'
import { make } from './manual.js'

t.test('callbacks run in order after the write is done', async t => {
  const { stream, log, send, note } = make(t)
  send('a', note('a'))
  send('b')
  send('c', note('c'))
  await tick()
  t.strictSame(log.lines, [])
  send('d', note('d'))
  await tick()
  stream.finish()
  await tick()
  t.strictSame(log.lines, ['a', 'c'])
  stream.finish()
  await tick()
  t.strictSame(log.lines, ['a', 'c', 'd'])
})

t.test(
  'callbacks run when the connection is destroyed in the same tick, before the flush, or during writes',
  async t => {
    const { stream, log, send, note, sender } = make(t)
    send('a', note('a'))
    await tick()
    send('b', note('b'))
    await tick()
    send('c', note('c'))
    sender.cut()
    await tick()
    stream.finish()
    await tick()
    t.equal(log.lines.length, 4)
    t.strictSame(
      log.lines.map(line => line.split(' ')[0]),
      ['a', 'b', 'c', 'end']
    )
    t.ok(
      log.lines.slice(0, 3).every(line => line.includes(' ')),
      'each with an error'
    )
  }
)

t.test('callbacks of a failed write get its error', async t => {
  const { stream, log, send, note } = make(t)
  send('a', note('a'))
  await tick()
  send('b', note('b'))
  stream.finish(new Error('broken'))
  await tick()
  await tick()
  t.strictSame(log.lines.slice(0, 1), ['a broken'])
  t.strictSame(log.lines.map(line => line.split(' ')[0]).sort(), ['a', 'b', 'end'])
})

t.test('a callback that throws is reported, and the others run', async t => {
  const { stream, log, send, note } = make(t)
  send('a', () => {
    throw new Error('thrown')
  })
  send('b', note('b'))
  await tick()
  stream.finish()
  await tick()
  t.strictSame(log.lines, ['callback Error: thrown', 'b'])
})

t.test('the result of a callback is checked, and a rejection is reported', async t => {
  const { stream, log, send, sender } = make(t)
  const returned: unknown[] = [
    undefined,
    null,
    'text',
    {},
    Object.fromEntries([['then', 'no function']]),
    Promise.resolve(),
    Object.fromEntries([
      ['then', (_resolve: unknown, reject: (error: Error) => void) => reject(new Error('thenable'))]
    ])
  ]
  for (const value of returned) send('a', () => value)
  send('a', () => Promise.reject(new Error('rejected')))
  await tick()
  stream.finish()
  await tick()
  t.strictSame(log.lines, ['callback Error: thenable', 'callback Error: rejected'])
  send('b', () => Promise.reject(new Error('too late')))
  sender.cut()
  await tick()
  t.strictSame(log.lines.slice(2), ['end', 'callback Error: too late'])
})

t.test(
  'callbacks of refused sends are called later, even when something else is written meanwhile',
  async t => {
    const { stream, log, send, sender, lifecycle, note } = make(t)
    send('a')
    lifecycle.close()
    t.equal(sender.send('b', undefined, note('refused')), false)
    sender.send('c', undefined, () => {
      throw new Error('thrown')
    })
    t.strictSame(log.lines, [])
    await tick()
    t.strictSame(log.lines, ['refused FST_UPGRADE_NOT_OPEN', 'callback Error: thrown'])
    stream.finish()
  }
)

t.test('bufferedAmount counts the bytes that are pending here and in the stream', async t => {
  const { stream, send, sender } = make(t)
  t.equal(sender.bufferedAmount, 0)
  send('abc')
  t.equal(sender.bufferedAmount, 5)
  await tick()
  send('d')
  t.equal(sender.bufferedAmount, 8)
  stream.finish()
  await tick()
  t.equal(sender.bufferedAmount, 3)
  sender.cut()
  await tick()
  t.equal(sender.bufferedAmount, 0)
})

t.test('a stream that closes before its write ends calls each callback once', async t => {
  const { stream, send, note, log } = make(t)
  send('a', note('a'))
  await tick()
  stream.emit('close')
  t.strictSame(log.lines, ['a FST_UPGRADE_NOT_OPEN', 'end'])
  stream.finish()
  await tick()
  t.strictSame(log.lines, ['a FST_UPGRADE_NOT_OPEN', 'end'])
})

t.test('callbacks run before the connection counts as closed when it ends', async t => {
  const { stream, send, receiver } = make(t)
  const seen: boolean[] = []
  send('a', () => void seen.push(receiver.isClosed))
  await tick()
  stream.destroy()
  await tick()
  t.strictSame(seen, [false])
  t.equal(receiver.isClosed, true)
})
