import FakeTimers from '@sinonjs/fake-timers'
import t from 'tap'
import { Expiry } from '../../lib/socket/lifecycle.js'

// Before the first deadline is set: the deadlines of a process share their timers.
const clock = FakeTimers.install({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'], now: 1e12 })
t.teardown(() => clock.uninstall())

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))
const DAY = 86_400_000

/** Lets time pass, in steps that are not longer than those of the timers. */
async function pass(milliseconds: number): Promise<void> {
  for (let left = milliseconds; left > 0; left -= 65_536) {
    clock.tick(Math.min(left, 65_536))
    await turn()
  }
}

function make() {
  const closes: string[] = []
  const expiry = new Expiry(
    { expire: (limit, reason, code) => void closes.push(`${limit} ${reason} ${code} ${Date.now()}`) },
    4401
  )
  return { expiry, closes }
}

for (const left of [1, 2, 3, 7, 999, 65_535, 65_536, 65_537, 1_234_567]) {
  t.test(`a connection expires ${left} ms later`, async t => {
    const { expiry, closes } = make()
    const at = Date.now() + left
    expiry.set(at)
    t.equal(expiry.at, at)
    if (left > 2) await pass(left - 2)
    for (let n = 0; n < 6; n++) {
      if (Date.now() < at) t.strictSame(closes, [], `${at - Date.now()} ms before`)
      await pass(1)
    }
    t.equal(closes.length, 1)
    t.match(closes[0], /^expires expired 4401 /)
    const closedAt = Number(closes[0]?.split(' ')[3])
    t.ok(closedAt >= at && closedAt <= at + 3, `${closedAt - at} ms late`)
    await pass(1000)
    t.equal(closes.length, 1)
    t.equal(clock.countTimers(), 0)
  })
}

t.test('a time that has passed expires at once', async t => {
  for (const at of [Date.now(), Date.now() - 1, 0, -1e15]) {
    const { expiry, closes } = make()
    expiry.set(at)
    t.equal(closes.length, 1)
  }
  t.equal(clock.countTimers(), 0)
})

t.test('a time is beyond the longest delay of a timer', async t => {
  const { expiry, closes } = make()
  const { expiry: never, closes: none } = make()
  expiry.set(Date.now() + 30 * DAY)
  never.set(Number.MAX_VALUE)
  await pass(29.9 * DAY)
  t.strictSame(closes, [])
  await pass(0.1 * DAY + 10)
  t.equal(closes.length, 1)
  t.strictSame(none, [])
  never.stop()
  t.equal(clock.countTimers(), 0)
})

t.test('a time is moved in both directions', async t => {
  const { expiry, closes } = make()
  const start = Date.now()
  expiry.set(start + 10_000)
  await pass(9_000)
  expiry.set(start + 100_000)
  t.equal(expiry.at, start + 100_000)
  await pass(80_000)
  t.strictSame(closes, [])
  expiry.set(start + 90_000)
  await pass(1_010)
  t.equal(closes.length, 1)
  t.equal(clock.countTimers(), 0)
})

t.test('the clock is set', async t => {
  const [forward, back] = [make(), make()]
  forward.expiry.set(Date.now() + DAY)
  await pass(1000)
  clock.setSystemTime(Date.now() + DAY)
  await pass(65_536)
  t.equal(forward.closes.length, 1, 'forward: noticed within 66 seconds')
  back.expiry.set(Date.now() + 10_000)
  await pass(5000)
  clock.setSystemTime(Date.now() - 60_000)
  await pass(64_000)
  t.strictSame(back.closes, [], 'back: the time has not come')
  await pass(1_010)
  t.equal(back.closes.length, 1)
})

t.test('few timers serve many connections', async t => {
  const all = Array.from({ length: 5000 }, make)
  const start = Date.now()
  for (const [n, { expiry }] of all.entries()) expiry.set(start + 1000 + 37 * n)
  t.ok(clock.countTimers() < 17, `${clock.countTimers()} timers`)
  await pass(50_000)
  t.ok(clock.countTimers() < 17, `${clock.countTimers()} timers`)
  for (const { expiry, closes } of all) {
    t.equal(closes.length, expiry.at <= Date.now() - 3 ? 1 : 0, `${expiry.at - Date.now()} ms`)
    expiry.stop()
  }
  t.equal(clock.countTimers(), 0)
})
