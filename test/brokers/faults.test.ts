import { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { natsBroker } from '../../lib/brokers/nats/nats.js'
import { redisBroker } from '../../lib/brokers/redis/redis.js'
import type { Broker } from '../../lib/index.js'
import { watchProcess } from '../helpers/app.js'
import { type Engine, natsSkip, redisSkip, startNats, startRedis } from '../helpers/engine.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import { record } from '../topics/recorder.js'
import { natsConnection, redisClient, valkeyClient } from './clients.js'

// What holds on every engine.

const HELLO = Buffer.from('hello')
const TIMEOUT = ms(200)

interface Kind {
  readonly skip: string | false
  readonly start: (t: Test) => Promise<Engine>
  readonly make: (t: Test, engine: Engine) => Promise<Broker>
  readonly late: RegExp
  /** Whether it passes on what it was sent while it hung. */
  readonly hasItAllTheSame: boolean
}

const REDIS = {
  skip: redisSkip,
  start: startRedis,
  late: /Redis has not answered within/,
  // The connections that it was sent on have ended.
  hasItAllTheSame: false
}

const KINDS: Readonly<Record<string, Kind>> = {
  Redis: {
    ...REDIS,
    make: async (t, engine) => redisBroker(redisClient(t, engine), { timeout: TIMEOUT })
  },
  // Its client connects in another way.
  Valkey: {
    ...REDIS,
    make: async (t, engine) => redisBroker(valkeyClient(t, engine), { timeout: TIMEOUT })
  },
  NATS: {
    skip: natsSkip,
    start: startNats,
    make: async (t, engine) => natsBroker(await natsConnection(t, engine), { timeout: TIMEOUT }),
    late: /NATS has not answered within/,
    hasItAllTheSame: true
  }
}

for (const [name, { skip, start, make, late, hasItAllTheSame }] of Object.entries(KINDS)) {
  t.test(`${name} hangs: it counts as away, until it answers`, { skip }, async t => {
    const accidents = watchProcess(t)
    const engine = await start(t)
    const broker = await make(t, engine)
    const told = record(t, broker)
    await broker.subscribe('x')
    await engine.hold()
    await t.rejects(withDeadline(broker.publish('x', HELLO), 5000, 'rejection'), late)
    await t.rejects(broker.subscribe('y'), late)
    t.strictSame(told.states, ['up', 'down'])
    engine.letGo()
    await told.until('up', 'down', 'up')
    await broker.publish('x', Buffer.from('last'))
    const messages = [await told.next()]
    if (hasItAllTheSame) t.strictSame(messages, ['x hello'])
    if (messages[0] === 'x hello') messages.push(await told.next())
    t.equal(messages.at(-1), 'x last')
    // An idle broker notices it, too.
    await engine.hold()
    await told.until('up', 'down', 'up', 'down')
    engine.letGo()
    await told.until('up', 'down', 'up', 'down', 'up')
    t.strictSame(accidents, [])
  })

  t.test(`${name} hangs from the beginning`, { skip }, async t => {
    const engine = await start(t)
    const broker = await make(t, engine)
    await engine.hold()
    const told = record(t, broker)
    await t.rejects(broker.publish('x', HELLO), late)
    t.strictSame(told.states, ['down'])
    engine.letGo()
    await told.until('down', 'up')
  })

  t.test(`a process that was busy itself does not take ${name} for one that hangs`, { skip }, async t => {
    const broker = await make(t, await start(t))
    const told = record(t, broker)
    await told.until('up')
    let questions = 0
    const { write } = Socket.prototype
    const isAsked = new Promise<void>(resolve => {
      t.intercept(Socket.prototype, 'write', {
        writable: true,
        value(this: Socket, ...args: readonly [string | Uint8Array, ...unknown[]]) {
          if (/\bping\r\n/i.test(Buffer.from(args[0]).toString())) {
            // The answer comes meanwhile, and when it is read the deadline is over.
            setImmediate(spin)
            if (++questions === 5) resolve()
          }
          return Reflect.apply(write, this, args)
        }
      })
    })
    await withDeadline(isAsked, 10_000, 'five questions')
    await broker.publish('x', HELLO)
    t.strictSame(told.states, ['up'])
  })
}

function spin(): void {
  const until = performance.now() + 1.5 * TIMEOUT
  while (performance.now() < until);
}
