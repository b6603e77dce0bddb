import t from 'tap'
import { Reachability } from '../../lib/brokers/reachability.js'

const CLOSED = { code: 'FST_UPGRADE_BROKER_CLOSED' }

function make() {
  const log: string[] = []
  const reachability = new Reachability()
  reachability.start({
    onMessage() {},
    onUp: () => log.push('up'),
    onUnsubscribed: () => {},
    onDown: error => log.push(`down ${error?.message}`)
  })
  const run = (name: string): Promise<void> =>
    reachability.run(async () => {
      log.push(name)
    })
  return { reachability, log, run }
}

t.test('each change is told once, and decides what becomes of what is asked', async t => {
  const { reachability, log, run } = make()
  reachability.up()
  reachability.up()
  await run('one')
  t.equal(reachability.isUp, true)
  reachability.down(new Error('lost'))
  reachability.down(new Error('lost again'))
  t.equal(reachability.isUp, false)
  await t.rejects(run('never'), { message: 'lost' })
  reachability.up()
  await run('two')
  t.strictSame(log, ['up', 'one', 'down lost', 'up', 'two'])
})

t.test('what is asked at first waits, and comes before all that is asked later', async t => {
  const { reachability, log, run } = make()
  const waiting = [run('one'), run('two')]
  t.strictSame(log, [])
  reachability.up()
  await Promise.all([...waiting, run('three')])
  t.strictSame(log, ['one', 'two', 'up', 'three'])
  reachability.down(new Error('lost'))
  reachability.up()
  t.strictSame(log, ['one', 'two', 'up', 'three', 'down lost', 'up'], 'once')
})

t.test('what waits learns that there is no engine', async t => {
  const { reachability, log, run } = make()
  const waiting = run('never')
  reachability.down(new Error('refused'))
  await t.rejects(waiting, { message: 'refused' })
  t.strictSame(log, ['down refused'])
})

t.test('once closed nothing is told, and nothing runs', async t => {
  for (const before of ['unknown', 'up', 'down'] as const) {
    const { reachability, log, run } = make()
    const waiting = before === 'unknown' ? run('never') : Promise.reject(Object.assign(new Error(), CLOSED))
    if (before === 'up') reachability.up()
    if (before === 'down') reachability.down(new Error('lost'))
    log.length = 0
    reachability.close()
    await t.rejects(waiting, CLOSED)
    reachability.up()
    reachability.down(new Error('lost'))
    await t.rejects(run('never'), CLOSED, before)
    t.strictSame([reachability.isUp, reachability.isClosed, log], [false, true, []])
  }
})
