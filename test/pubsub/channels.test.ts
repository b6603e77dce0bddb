import t, { type Test } from 'tap'
import { Channels } from '../../lib/pubsub/channels.js'
import { ManualBroker } from './broker.js'

function make(t: Test) {
  const broker = new ManualBroker()
  const errors: string[] = []
  const channels = new Channels(broker, (channel, error) => errors.push(`${channel}: ${error}`))
  t.teardown(() => channels.close())
  return { broker, channels, errors }
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

t.test('what fails is told, and tried again', async t => {
  t.capture(globalThis, 'setTimeout', (work: () => void) => {
    setImmediate(work)
    return { unref: () => undefined }
  })
  const { broker, channels, errors } = make(t)
  const wanted = channels.want('a')
  await Promise.all([t.rejects(wanted, { message: 'refused' }), broker.answer(new Error('refused'))])
  t.strictSame(errors, ['a: Error: refused'])
  await new Promise(resolve => setImmediate(() => setImmediate(resolve)))
  t.equal(await broker.answer(new Error('refused again')), 'subscribe a')
  await new Promise(resolve => setImmediate(() => setImmediate(resolve)))
  t.equal(await broker.answer(), 'subscribe a')
  t.strictSame(errors, ['a: Error: refused'], 'once, until it can')
  channels.drop('a')
  await broker.answer(new Error('lost'))
  t.strictSame(errors, ['a: Error: refused'], 'an end that fails is nobody’s concern')
  await new Promise(resolve => setImmediate(() => setImmediate(resolve)))
  t.equal(await broker.answer(), 'unsubscribe a')
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
  const { broker, channels } = make(t)
  channels.want('a').catch(() => {})
  channels.close()
  await broker.answer(new Error('refused'))
  channels.retry()
  channels.lose('a', 'gone')
  channels.drop('a')
  t.strictSame(broker.asked, [])
})
