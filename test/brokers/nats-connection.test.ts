import { EventEmitter, on } from 'node:events'
import FakeTimers from '@sinonjs/fake-timers'
import t, { type Test } from 'tap'
import { type NatsConnection, type NatsStatus, natsBroker } from '../../lib/brokers/nats/nats.js'
import { watchProcess } from '../helpers/app.js'
import { record } from './recorder.js'

// The use that the broker makes of a connection. The test decides when the engine replies.

const TIMEOUT = 1000
const X = Buffer.from('x')
const CLOSED = { code: 'FST_UPGRADE_BROKER_CLOSED' }

const subjectOf = (channel: string): string => `fastify-upgrade.${Buffer.from(channel).toString('base64url')}`

class ManualConnection implements NatsConnection {
  /** The subjects of published messages. */
  readonly published: string[] = []
  readonly pendingFlushes: (() => void)[] = []
  flushes = 0
  unsubscribed = 0
  isWatched = true
  readonly #statuses = new EventEmitter()
  readonly #watching = new AbortController()

  publish(subject: string): void {
    this.published.push(subject)
  }

  subscribe(): { unsubscribe(): void } {
    return { unsubscribe: () => void this.unsubscribed++ }
  }

  flush(): Promise<void> {
    this.flushes++
    return new Promise(resolve => this.pendingFlushes.push(resolve))
  }

  status(): AsyncIterable<NatsStatus> {
    const { signal } = this.#watching
    const statuses = on(this.#statuses, 'status', { signal })
    return Object.assign(read(statuses), {
      stop: () => {
        this.isWatched = false
        this.#watching.abort()
      }
    })
  }

  report(status: NatsStatus): void {
    this.#statuses.emit('status', status)
  }

  /** The engine replies to all flushes. */
  async reply(): Promise<void> {
    for (const resolve of this.pendingFlushes.splice(0)) resolve()
    await turns()
  }
}

async function* read(statuses: AsyncIterable<unknown[]>): AsyncGenerator<NatsStatus> {
  try {
    for await (const [status] of statuses) yield Object(status)
  } catch {
    // The broker has stopped it.
  }
}

async function turns(): Promise<void> {
  for (let n = 0; n < 5; n++) await new Promise(resolve => setImmediate(resolve))
}

/** A broker that has started and waits for the first reply of its engine. */
function start(t: Test) {
  const clock = FakeTimers.install({ toFake: ['setTimeout', 'clearTimeout'] })
  t.teardown(() => clock.uninstall())
  const connection = new ManualConnection()
  const broker = natsBroker(connection, { timeout: TIMEOUT })
  const events = record(t, broker)
  return { clock, connection, broker, events }
}

async function connect(t: Test) {
  const started = start(t)
  await started.connection.reply()
  t.strictSame(started.events.states, ['up'])
  started.connection.flushes = 0
  return started
}

t.test('messages published before the first connection wait for it and keep their order', async t => {
  const { connection, broker, events } = start(t)
  const published = ['one', 'two'].map(channel => broker.publish(channel, X))
  const { onUp } = events
  events.onUp = () => {
    onUp.call(events)
    published.push(broker.publish('three', X))
  }
  await turns()
  t.strictSame(connection.published, [])
  await connection.reply()
  t.strictSame(connection.published, ['one', 'two', 'three'].map(subjectOf))
  await connection.reply()
  await Promise.all(published)
  connection.report({ type: 'disconnect' })
  await events.until('up', 'down')
  connection.report({ type: 'reconnect' })
  await turns()
  await connection.reply()
  t.strictSame(events.states, ['up', 'down', 'up'])
  t.strictSame(connection.published.slice(0, 3), ['one', 'two', 'three'].map(subjectOf), 'each is sent once')
})

t.test('messages published before the first connection are rejected when it fails', async t => {
  const { clock, broker, events } = start(t)
  const published = broker.publish('x', X)
  clock.tick(TIMEOUT)
  await t.rejects(published, /NATS did not reply within 1000 ms/)
  t.strictSame(events.states, ['down'])
})

t.test('each change is reported once, and calls are rejected while the engine is disconnected', async t => {
  const { connection, broker, events } = await connect(t)
  for (let n = 0; n < 2; n++) connection.report({ type: 'disconnect' })
  await turns()
  t.strictSame(events.states, ['up', 'down'])
  await t.rejects(broker.publish('x', X), /the connection to NATS was lost/)
  await t.rejects(broker.subscribe('x'), /the connection to NATS was lost/)
  t.strictSame(connection.published, [])
  for (let n = 0; n < 2; n++) connection.report({ type: 'reconnect' })
  await turns()
  await connection.reply()
  t.strictSame(events.states, ['up', 'down', 'up'])
})

t.test('a closed broker rejects all calls and reports nothing, whatever its state was', async t => {
  for (const state of ['connecting', 'connected', 'disconnected'] as const) {
    const { clock, connection, broker, events } = start(t)
    const pending = state === 'connecting' ? [broker.publish('x', X)] : []
    if (state === 'connected') await connection.reply()
    if (state === 'disconnected') connection.report({ type: 'disconnect' })
    await turns()
    const { length } = events.states
    await broker.close()
    for (const published of pending) await t.rejects(published, CLOSED)
    await t.rejects(broker.publish('x', X), CLOSED, state)
    await t.rejects(broker.subscribe('x'), CLOSED, state)
    await connection.reply()
    clock.tick(TIMEOUT)
    await turns()
    t.equal(events.states.length, length, state)
    t.strictSame(connection.published, [])
    clock.uninstall()
  }
})

t.test('one flush confirms all messages of one turn', async t => {
  const { connection, broker } = await connect(t)
  const published = ['x', 'y', 'x'].map(channel => broker.publish(channel, X))
  t.equal(connection.published.length, 3, 'they are sent at once')
  await turns()
  t.equal(connection.flushes, 1)
  await connection.reply()
  await Promise.all(published)
  const next = broker.publish('x', X)
  await turns()
  t.equal(connection.flushes, 2)
  await connection.reply()
  await next
})

t.test(
  'an error that the client reports right after the reply rejects the message of its subject',
  async t => {
    const { connection, broker } = await connect(t)
    const refused = broker.publish('x', X)
    const accepted = broker.publish('y', X)
    await turns()
    for (const resolve of connection.pendingFlushes.splice(0)) resolve()
    // The client reports errors through an iterator, which takes some microtasks.
    for (let n = 0; n < 20; n++) await Promise.resolve()
    connection.report({
      type: 'error',
      error: Object.assign(new Error('refused'), { subject: subjectOf('x') })
    })
    await t.rejects(refused, { message: 'refused' })
    await accepted
    // The error does not affect later messages.
    const next = broker.publish('x', X)
    await turns()
    await connection.reply()
    await next
  }
)

t.test('the broker is connected when the engine replies, not when the client has reconnected', async t => {
  const accidents = watchProcess(t)
  const { clock, connection, events } = await connect(t)
  connection.report({ type: 'disconnect' })
  await events.until('up', 'down')
  connection.report({ type: 'reconnect' })
  await turns()
  t.strictSame(events.states, ['up', 'down'])
  clock.tick(TIMEOUT)
  await turns()
  t.strictSame(accidents, [], 'a missing reply causes no unhandled rejection')
  await connection.reply()
  t.strictSame(events.states, ['up', 'down', 'up'])
})

t.test('the health check runs at regular intervals, but not while the engine is disconnected', async t => {
  const { clock, connection, events } = await connect(t)
  for (let n = 1; n <= 3; n++) {
    clock.tick(TIMEOUT)
    t.equal(connection.flushes, n)
    await connection.reply()
  }
  connection.report({ type: 'disconnect' })
  await events.until('up', 'down')
  for (let n = 0; n < 3; n++) {
    clock.tick(TIMEOUT)
    await turns()
  }
  t.equal(connection.flushes, 3, 'the client would queue further pings')
})

t.test('close ends the subscriptions, the status iterator and the timers', async t => {
  for (const isChecking of [false, true]) {
    const { clock, connection, broker } = await connect(t)
    const subscribed = ['x', 'y'].map(channel => broker.subscribe(channel))
    await connection.reply()
    await Promise.all(subscribed)
    await broker.unsubscribe('y')
    t.equal(connection.unsubscribed, 1)
    if (isChecking) clock.tick(TIMEOUT)
    await broker.close()
    t.equal(connection.unsubscribed, 2)
    t.equal(connection.isWatched, false)
    await connection.reply()
    t.equal(clock.countTimers(), 0)
    clock.uninstall()
  }
})

t.test('the health check does not keep the process alive', async t => {
  const { setTimeout } = globalThis
  const timers: NodeJS.Timeout[] = []
  t.capture(globalThis, 'setTimeout', (work: () => void, milliseconds: number) => {
    const timer = setTimeout(work, milliseconds)
    if (milliseconds === TIMEOUT) timers.push(timer)
    return timer
  })
  const connection = new ManualConnection()
  const broker = natsBroker(connection, { timeout: TIMEOUT })
  record(t, broker)
  // The reply timeout of the first ping, and the timer of the next one.
  t.strictSame(
    timers.map(timer => timer.hasRef()),
    [true, false]
  )
  await connection.reply()
})
