import { EventEmitter, on } from 'node:events'
import FakeTimers from '@sinonjs/fake-timers'
import t, { type Test } from 'tap'
import { type NatsConnection, type NatsStatus, natsBroker } from '../../lib/brokers/nats/nats.js'
import { watchProcess } from '../helpers/app.js'
import { record } from '../topics/recorder.js'

// What the broker does with a connection, whose engine does what the test says.

const TIMEOUT = 1000
const X = Buffer.from('x')
const SUBJECT = `fastify-upgrade.${X.toString('base64url')}`

class ManualConnection implements NatsConnection {
  readonly published: string[] = []
  /** Of `flush`. */
  readonly answers: (() => void)[] = []
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
    return new Promise(resolve => this.answers.push(resolve))
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

  tell(status: NatsStatus): void {
    this.#statuses.emit('status', status)
  }

  async answer(): Promise<void> {
    for (const resolve of this.answers.splice(0)) resolve()
    await turns()
  }
}

async function* read(statuses: AsyncIterable<unknown[]>): AsyncGenerator<NatsStatus> {
  try {
    for await (const [status] of statuses) yield Object(status)
  } catch {
    // It was stopped.
  }
}

async function turns(): Promise<void> {
  for (let n = 0; n < 5; n++) await new Promise(resolve => setImmediate(resolve))
}

async function make(t: Test) {
  const clock = FakeTimers.install({ toFake: ['setTimeout', 'clearTimeout'] })
  t.teardown(() => clock.uninstall())
  const connection = new ManualConnection()
  const broker = natsBroker(connection, { timeout: TIMEOUT })
  const told = record(t, broker)
  await connection.answer()
  t.strictSame(told.states, ['up'])
  connection.flushes = 0
  return { clock, connection, broker, told }
}

t.test('what is published in one turn is asked for once', async t => {
  const { connection, broker } = await make(t)
  const published = ['x', 'y', 'x'].map(channel => broker.publish(channel, X))
  t.equal(connection.published.length, 3, 'it is on its way at once')
  await turns()
  t.equal(connection.flushes, 1)
  await connection.answer()
  await Promise.all(published)
  const next = broker.publish('x', X)
  await turns()
  t.equal(connection.flushes, 2)
  await connection.answer()
  await next
})

t.test('a refusal counts that is told just behind the answer', async t => {
  const { connection, broker } = await make(t)
  const refused = broker.publish('x', X)
  const taken = broker.publish('y', X)
  await turns()
  for (const resolve of connection.answers.splice(0)) resolve()
  // The client tells it by an iterator, which takes its time.
  for (let n = 0; n < 20; n++) await Promise.resolve()
  connection.tell({ type: 'error', error: Object.assign(new Error('refused'), { subject: SUBJECT }) })
  await t.rejects(refused, { message: 'refused' })
  await taken
  // It was for that one.
  const next = broker.publish('x', X)
  await turns()
  await connection.answer()
  await next
})

t.test('the engine is back when it answers, not when the connection is', async t => {
  const accidents = watchProcess(t)
  const { clock, connection, told } = await make(t)
  connection.tell({ type: 'disconnect' })
  await told.until('up', 'down')
  connection.tell({ type: 'reconnect' })
  await turns()
  t.strictSame(told.states, ['up', 'down'])
  clock.tick(TIMEOUT)
  await turns()
  t.strictSame(accidents, [], 'nor is it an accident that it does not')
  await connection.answer()
  t.strictSame(told.states, ['up', 'down', 'up'])
})

t.test('an idle engine is asked again and again, and not while it is away', async t => {
  const { clock, connection, told } = await make(t)
  for (let n = 1; n <= 3; n++) {
    clock.tick(TIMEOUT)
    t.equal(connection.flushes, n)
    await connection.answer()
  }
  connection.tell({ type: 'disconnect' })
  await told.until('up', 'down')
  for (let n = 0; n < 3; n++) {
    clock.tick(TIMEOUT)
    await turns()
  }
  t.equal(connection.flushes, 3, 'the client would keep the questions')
})

t.test('close ends what it has begun, once', async t => {
  for (const isAsking of [false, true]) {
    const { clock, connection, broker } = await make(t)
    const subscribed = ['x', 'y'].map(channel => broker.subscribe(channel))
    await connection.answer()
    await Promise.all(subscribed)
    await broker.unsubscribe('y')
    t.equal(connection.unsubscribed, 1)
    if (isAsking) clock.tick(TIMEOUT)
    await broker.close()
    t.equal(connection.unsubscribed, 2)
    t.equal(connection.isWatched, false)
    await connection.answer()
    t.equal(clock.countTimers(), 0)
    clock.uninstall()
  }
})

t.test('what asks again and again keeps no process alive', async t => {
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
  // The deadline of the first question, and the next question.
  t.strictSame(
    timers.map(timer => timer.hasRef()),
    [true, false]
  )
  await connection.answer()
})
