import t from 'tap'
import { Waiters } from '../../lib/socket/waiters.js'

t.test('all who wait are resolved at once, who comes later is not', async t => {
  const waiters = new Waiters()
  const settled: string[] = []
  const first = [waiters.wait(), waiters.wait()]
  waiters.resolve()
  const later = waiters.wait().then(() => settled.push('later'))
  await Promise.all(first)
  t.strictSame(settled, [])
  waiters.resolve()
  await later
  t.strictSame(settled, ['later'])
})

t.test('all who wait are rejected with the same error', async t => {
  const waiters = new Waiters()
  const error = new Error('gone')
  const results = Promise.allSettled([waiters.wait(), waiters.wait()])
  waiters.reject(() => error)
  t.strictSame(await results, [
    { status: 'rejected', reason: error },
    { status: 'rejected', reason: error }
  ])
  waiters.resolve()
})

t.test('there is no error where nobody waits', async t => {
  new Waiters().reject(() => {
    t.fail('an error was made')
    return new Error()
  })
})
