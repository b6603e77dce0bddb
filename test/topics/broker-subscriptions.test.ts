import FakeTimers from '@sinonjs/fake-timers'
import t, { type Test } from 'tap'
import { BrokerSubscriptions } from '../../lib/topics/broker-subscriptions.js'
import { ManualBroker } from '../brokers/manual-broker.js'

function make(t: Test) {
  const broker = new ManualBroker()
  const errors: string[] = []
  const subscriptions = new BrokerSubscriptions(broker, (channel, error) =>
    errors.push(`${channel}: ${error}`)
  )
  t.teardown(() => subscriptions.close())
  return { broker, subscriptions, errors }
}

function fakeClock(t: Test) {
  const clock = FakeTimers.install({ toFake: ['setTimeout', 'clearTimeout'] })
  t.teardown(() => clock.uninstall())
  return clock
}

t.test('several calls of add make one subscription, and each waits for it', async t => {
  const { broker, subscriptions } = make(t)
  const done: string[] = []
  subscriptions.add('a').then(() => done.push('first'))
  subscriptions.add('a').then(() => done.push('second'))
  t.strictSame(broker.pending, ['subscribe a'])
  t.strictSame(done, [])
  await broker.settle()
  t.strictSame(done, ['first', 'second'])
  await subscriptions.add('a')
  t.strictSame(broker.pending, [])
  subscriptions.remove('a')
  subscriptions.remove('never added')
  t.strictSame(broker.pending, ['unsubscribe a'])
})

t.test('calls of the broker are made one at a time until the subscription is as wanted', async t => {
  const { broker, subscriptions, errors } = make(t)
  const first = subscriptions.add('a')
  subscriptions.remove('a')
  const second = subscriptions.add('a')
  subscriptions.remove('a')
  t.equal(await broker.settle(), 'subscribe a')
  t.equal(await broker.settle(), 'unsubscribe a')
  await Promise.all([first, second])
  t.strictSame(broker.pending, [])
  const third = subscriptions.add('a')
  subscriptions.remove('a')
  const fourth = subscriptions.add('a')
  t.equal(await broker.settle(), 'subscribe a')
  await Promise.all([third, fourth])
  t.strictSame(broker.pending, [], 'a subscription that is wanted again stays')
  t.strictSame(errors, [])
})

t.test('a call that fails is reported once and retried every second', async t => {
  const clock = fakeClock(t)
  const { broker, subscriptions, errors } = make(t)
  const added = subscriptions.add('a')
  await Promise.all([t.rejects(added, { message: 'refused' }), broker.settle(new Error('refused'))])
  t.strictSame(errors, ['a: Error: refused'])
  clock.tick(999)
  t.strictSame(broker.pending, [])
  clock.tick(1)
  t.equal(await broker.settle(new Error('refused again')), 'subscribe a')
  clock.tick(1000)
  t.equal(await broker.settle(), 'subscribe a')
  t.strictSame(errors, ['a: Error: refused'], 'one report until it succeeds')
  subscriptions.remove('a')
  await broker.settle(new Error('lost'))
  t.strictSame(errors, ['a: Error: refused'], 'no report when unsubscribing fails')
  clock.tick(1000)
  t.equal(await broker.settle(), 'unsubscribe a')
  t.equal(clock.countTimers(), 0)
})

t.test('a subscription that fails again after a success is reported again', async t => {
  const { broker, subscriptions, errors } = make(t)
  subscriptions.add('a').catch(() => {})
  await broker.settle(new Error('first'))
  subscriptions.retry()
  await broker.settle()
  subscriptions.remove('a')
  subscriptions.add('a').catch(() => {})
  t.equal(await broker.settle(), 'unsubscribe a')
  t.equal(await broker.settle(new Error('second')), 'subscribe a')
  t.strictSame(errors, ['a: Error: first', 'a: Error: second'])
})

t.test('one timer retries all failed calls and does not keep the process alive', async t => {
  const clock = fakeClock(t)
  const { setTimeout } = globalThis
  const timers: NodeJS.Timeout[] = []
  t.capture(globalThis, 'setTimeout', (work: () => void, milliseconds: number) => {
    const timer = setTimeout(work, milliseconds)
    timers.push(timer)
    return timer
  })
  const { broker, subscriptions } = make(t)
  for (const channel of ['a', 'b']) subscriptions.add(channel).catch(() => {})
  for (const _ of ['a', 'b']) await broker.settle(new Error('refused'))
  t.equal(clock.countTimers(), 1)
  t.strictSame(
    timers.map(timer => timer.hasRef()),
    [false]
  )
  clock.tick(1000)
  t.strictSame(broker.pending, ['subscribe a', 'subscribe b'])
  await broker.settle(new Error('refused'))
  t.equal(clock.countTimers(), 1)
  subscriptions.close()
  t.equal(clock.countTimers(), 0)
})

t.test('a subscription that the engine ends is reported, and requested again while it is wanted', async t => {
  const { broker, subscriptions, errors } = make(t)
  subscriptions.onEnd('never added', 'gone')
  const added = subscriptions.add('a')
  subscriptions.onEnd('a', 'not active yet')
  await broker.settle()
  await added
  subscriptions.onEnd('a', 'gone')
  subscriptions.onEnd('a', 'gone')
  t.strictSame(errors, ['a: gone'])
  subscriptions.retry()
  await Promise.all([broker.settle(new Error('refused')), subscriptions.add('a').catch(() => {})])
  t.strictSame(errors, ['a: gone'])
  subscriptions.retry()
  t.equal(await broker.settle(), 'subscribe a')
  subscriptions.remove('a')
  subscriptions.onEnd('a', 'gone')
  t.equal(await broker.settle(), 'unsubscribe a')
  t.strictSame(errors, ['a: gone'])
})

t.test('retry repeats failed calls at once and leaves pending calls alone', async t => {
  const { broker, subscriptions } = make(t)
  subscriptions.add('a').catch(() => {})
  void subscriptions.add('b')
  await broker.settle(new Error('refused'))
  subscriptions.retry()
  t.strictSame(broker.pending, ['subscribe b', 'subscribe a'])
})

t.test('no calls are made after close', async t => {
  const clock = fakeClock(t)
  const { broker, subscriptions } = make(t)
  subscriptions.add('a').catch(() => {})
  subscriptions.close()
  await broker.settle(new Error('refused'))
  t.equal(clock.countTimers(), 0)
  subscriptions.retry()
  subscriptions.onEnd('a', 'gone')
  subscriptions.remove('a')
  t.strictSame(broker.pending, [])
})
