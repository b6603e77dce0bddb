import FakeTimers from '@sinonjs/fake-timers'
import t, { type Test } from 'tap'
import { Channels } from '../../lib/topics/channels.js'
import { ManualBroker } from '../brokers/broker.js'

function make(t: Test) {
  const broker = new ManualBroker()
  const errors: string[] = []
  const channels = new Channels(broker, (channel, error) => errors.push(`${channel}: ${error}`))
  t.teardown(() => channels.close())
  return { broker, channels, errors }
}

function fakeClock(t: Test) {
  const clock = FakeTimers.install({ toFake: ['setTimeout', 'clearTimeout'] })
  t.teardown(() => clock.uninstall())
  return clock
}

t.test('a channel is subscribed to once, however many want it, and everyone waits for that', async t => {
  const { broker, channels } = make(t)
  const done: string[] = []
  channels.want('a').then(() => done.push('first'))
  channels.want('a').then(() => done.push('second'))
  t.strictSame(broker.asked, ['subscribe a'])
  t.strictSame(done, [])
  await broker.answer()
  t.strictSame(done, ['first', 'second'])
  await channels.want('a')
  t.strictSame(broker.asked, [])
  channels.drop('a')
  channels.drop('never wanted')
  t.strictSame(broker.asked, ['unsubscribe a'])
})

t.test('one step at a time, to what is wanted in the end', async t => {
  const { broker, channels, errors } = make(t)
  const first = channels.want('a')
  channels.drop('a')
  const second = channels.want('a')
  channels.drop('a')
  t.equal(await broker.answer(), 'subscribe a')
  t.equal(await broker.answer(), 'unsubscribe a')
  await Promise.all([first, second])
  t.strictSame(broker.asked, [])
  const third = channels.want('a')
  channels.drop('a')
  const fourth = channels.want('a')
  t.equal(await broker.answer(), 'subscribe a')
  await Promise.all([third, fourth])
  t.strictSame(broker.asked, [], 'what is wanted again is there still')
  t.strictSame(errors, [])
})

t.test('what fails is told, and tried again after a second', async t => {
  const clock = fakeClock(t)
  const { broker, channels, errors } = make(t)
  const wanted = channels.want('a')
  await Promise.all([t.rejects(wanted, { message: 'refused' }), broker.answer(new Error('refused'))])
  t.strictSame(errors, ['a: Error: refused'])
  clock.tick(999)
  t.strictSame(broker.asked, [])
  clock.tick(1)
  t.equal(await broker.answer(new Error('refused again')), 'subscribe a')
  clock.tick(1000)
  t.equal(await broker.answer(), 'subscribe a')
  t.strictSame(errors, ['a: Error: refused'], 'once, until it can')
  channels.drop('a')
  await broker.answer(new Error('lost'))
  t.strictSame(errors, ['a: Error: refused'], 'an end that fails is nobody’s concern')
  clock.tick(1000)
  t.equal(await broker.answer(), 'unsubscribe a')
  t.equal(clock.countTimers(), 0)
})

t.test('what fails again once it could is told again', async t => {
  const { broker, channels, errors } = make(t)
  channels.want('a').catch(() => {})
  await broker.answer(new Error('first'))
  channels.retry()
  await broker.answer()
  channels.drop('a')
  channels.want('a').catch(() => {})
  t.equal(await broker.answer(), 'unsubscribe a')
  t.equal(await broker.answer(new Error('second')), 'subscribe a')
  t.strictSame(errors, ['a: Error: first', 'a: Error: second'])
})

t.test('one timer waits for all that failed, and keeps no process alive', async t => {
  const clock = fakeClock(t)
  const { setTimeout } = globalThis
  const timers: NodeJS.Timeout[] = []
  t.capture(globalThis, 'setTimeout', (work: () => void, milliseconds: number) => {
    const timer = setTimeout(work, milliseconds)
    timers.push(timer)
    return timer
  })
  const { broker, channels } = make(t)
  for (const name of ['a', 'b']) channels.want(name).catch(() => {})
  for (const _ of ['a', 'b']) await broker.answer(new Error('refused'))
  t.equal(clock.countTimers(), 1)
  t.strictSame(
    timers.map(timer => timer.hasRef()),
    [false]
  )
  clock.tick(1000)
  t.strictSame(broker.asked, ['subscribe a', 'subscribe b'])
  await broker.answer(new Error('refused'))
  t.equal(clock.countTimers(), 1)
  channels.close()
  t.equal(clock.countTimers(), 0)
})

t.test('what the engine has ended is told, and asked for again where it is wanted', async t => {
  const { broker, channels, errors } = make(t)
  channels.lose('never wanted', 'gone')
  const wanted = channels.want('a')
  channels.lose('a', 'not there yet')
  await broker.answer()
  await wanted
  channels.lose('a', 'gone')
  channels.lose('a', 'gone')
  t.strictSame(errors, ['a: gone'])
  channels.retry()
  await Promise.all([broker.answer(new Error('refused')), channels.want('a').catch(() => {})])
  t.strictSame(errors, ['a: gone'])
  channels.retry()
  t.equal(await broker.answer(), 'subscribe a')
  channels.drop('a')
  channels.lose('a', 'gone')
  t.equal(await broker.answer(), 'unsubscribe a')
  t.strictSame(errors, ['a: gone'])
})

t.test('retry does it at once, and not what is under way', async t => {
  const { broker, channels } = make(t)
  channels.want('a').catch(() => {})
  void channels.want('b')
  await broker.answer(new Error('refused'))
  channels.retry()
  t.strictSame(broker.asked, ['subscribe b', 'subscribe a'])
})

t.test('once closed nothing is asked', async t => {
  const clock = fakeClock(t)
  const { broker, channels } = make(t)
  channels.want('a').catch(() => {})
  channels.close()
  await broker.answer(new Error('refused'))
  t.equal(clock.countTimers(), 0)
  channels.retry()
  channels.lose('a', 'gone')
  channels.drop('a')
  t.strictSame(broker.asked, [])
})
