import type { Test } from 'tap'
import t from 'tap'
import { Deadlines, deadlinesAfter, type Waiting } from '../../lib/limits/deadline.js'
import { ms, withDeadline } from '../helpers/timeout.js'

/** Records the timers that are set, and which of them are still pending. */
class Timers {
  readonly delays: unknown[] = []
  readonly all: NodeJS.Timeout[] = []
  readonly live = new Set<unknown>()

  constructor(t: Test) {
    const { setTimeout: set, clearTimeout: clear } = globalThis
    t.teardown(() => Object.assign(globalThis, { setTimeout: set, clearTimeout: clear }))
    Object.assign(globalThis, {
      setTimeout: (callback: () => void, delay: number) => {
        const timer = set(() => {
          this.live.delete(timer)
          callback()
        }, delay)
        this.delays.push(delay)
        this.all.push(timer)
        this.live.add(timer)
        return timer
      },
      clearTimeout: (timer: NodeJS.Timeout) => {
        this.live.delete(timer)
        clear(timer)
      }
    })
  }
}

/** Calls `then` when its deadline comes. */
const waiting = (then: () => void): Waiting => ({ onDeadline: then })

/** Keeps the process alive during a test, as deadlines do not. */
async function wait(start: (resolve: () => void) => void): Promise<void> {
  await withDeadline(new Promise<void>(start), 5000, 'deadline')
}

t.test('deadlines expire in the order in which they were set, each once, and none early', async t => {
  const deadlines = new Deadlines(ms(30))
  const order: string[] = []
  const since = performance.now()
  await wait(resolve => {
    deadlines.set(waiting(() => order.push('a')))
    deadlines.set(waiting(() => order.push('b')))
    t.equal(deadlines.size, 2)
    deadlines.set(
      waiting(() => {
        order.push('c')
        resolve()
      })
    )
  })
  t.strictSame(order, ['a', 'b', 'c'])
  t.ok(performance.now() - since >= ms(30) - 2)
  t.equal(deadlines.size, 0)
})

t.test(
  'one timer serves all deadlines, and is set for the next deadline when the first is cleared',
  async t => {
    const timers = new Timers(t)
    const deadlines = new Deadlines(ms(40))
    const order: string[] = []
    const first = waiting(() => order.push('first'))
    let due = 0
    deadlines.set(first)
    await wait(resolve => setTimeout(resolve, ms(20)))
    await wait(resolve => {
      due = performance.now() + ms(40)
      deadlines.set(waiting(resolve))
      deadlines.clear(first)
      t.equal(timers.all.filter(timer => timers.live.has(timer) && !timer.hasRef()).length, 1)
    })
    t.ok(performance.now() >= due - 2)
    t.strictSame(order, [])
  }
)

t.test('a deadline that is set again moves behind the others', async t => {
  const deadlines = new Deadlines(ms(30))
  const order: string[] = []
  await wait(resolve => {
    const moved = waiting(() => {
      order.push('moved')
      resolve()
    })
    deadlines.set(moved)
    deadlines.set(waiting(() => order.push('other')))
    deadlines.set(moved)
    t.equal(deadlines.size, 2)
  })
  t.strictSame(order, ['other', 'moved'])
})

t.test('no timer is left when all deadlines are cleared, and a new deadline works', async t => {
  const timers = new Timers(t)
  const deadlines = new Deadlines(ms(20))
  const one = waiting(() => t.fail('cleared'))
  const two = waiting(() => t.fail('cleared'))
  deadlines.set(one)
  deadlines.set(two)
  deadlines.clear(one)
  t.equal(timers.live.size, 1)
  deadlines.clear(two)
  deadlines.clear(two)
  t.equal(timers.live.size, 0)
  t.equal(deadlines.size, 0)
  await wait(resolve => deadlines.set(waiting(resolve)))
  t.equal(timers.live.size, 0)
})

t.test('deadlines do not keep the process alive', async t => {
  const timers = new Timers(t)
  const deadlines = new Deadlines(1000)
  const one = waiting(() => {})
  deadlines.set(one)
  t.strictSame(timers.delays, [1000])
  t.equal(timers.all[0]?.hasRef(), false)
  deadlines.clear(one)
})

t.test('setting a deadline again from its callback leaves no second timer behind', async t => {
  const timers = new Timers(t)
  const deadlines = new Deadlines(ms(5))
  const counts = [0, 0, 0]
  const most: number[] = []
  await wait(resolve => {
    const all = counts.map((_, i) => {
      const again = waiting(() => {
        counts[i]++
        most.push(timers.live.size)
        if (counts.every(count => count >= 10)) {
          for (const one of all) deadlines.clear(one)
          resolve()
        } else deadlines.set(again)
      })
      return again
    })
    for (const one of all) deadlines.set(one)
  })
  // One timer of the deadlines and the timer of `wait`.
  t.ok(Math.max(...most) <= 2, `${Math.max(...most)} timers at once`)
  t.equal([...timers.live].length, 0)
  t.equal(deadlines.size, 0)
})

t.test('a deadline that is cleared and set again just after its timer has run is a new deadline', async t => {
  const timers = new Timers(t)
  const deadlines = new Deadlines(ms(20))
  const since = performance.now()
  await wait(resolve => {
    const one = waiting(resolve)
    deadlines.set(one)
    const [timer] = timers.all.slice(-1)
    // Runs right after the timer of the deadline, which has the same delay and was set earlier.
    setTimeout(() => {
      t.notOk(timers.live.has(timer), 'the timer has run')
      deadlines.clear(one)
      deadlines.set(one)
    }, ms(20))
  })
  t.ok(performance.now() - since >= ms(40) - 4)
  t.equal(timers.live.size, 0)
})

t.test('clearing and setting a deadline again from its callback leaves one timer', async t => {
  const timers = new Timers(t)
  const deadlines = new Deadlines(ms(5))
  const again = waiting(() => {
    deadlines.set(again)
    deadlines.clear(again)
    deadlines.set(again)
    setImmediate(onExpired)
  })
  let onExpired = (): void => {}
  await wait(resolve => {
    onExpired = resolve
    deadlines.set(again)
  })
  t.equal(timers.live.size, 1)
  deadlines.clear(again)
  t.equal(timers.live.size, 0)
})

t.test('a delay above the maximum of setTimeout does not expire early', async t => {
  const timers = new Timers(t)
  for (const delay of [2 ** 31, Infinity]) {
    const deadlines = new Deadlines(delay)
    const one = waiting(() => t.fail('too early'))
    deadlines.set(one)
    t.equal(timers.delays.at(-1), 2 ** 31 - 1)
    deadlines.clear(one)
  }
})

t.test('deadlinesAfter keeps one list for each delay', async t => {
  t.equal(deadlinesAfter(1234), deadlinesAfter(1234))
  t.not(deadlinesAfter(1234), deadlinesAfter(1235))
})
