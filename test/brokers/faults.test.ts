import { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { natsBroker } from '../../lib/brokers/nats/nats.js'
import { redisBroker } from '../../lib/brokers/redis/redis.js'
import type { Broker } from '../../lib/index.js'
import { watchProcess } from '../helpers/app.js'
import { type Engine, natsSkip, redisSkip, startNats, startRedis } from '../helpers/engine.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import { natsConnection, redisClient, valkeyClient } from './clients.js'
import { record } from './recorder.js'

// Faults of an engine, for the brokers of every engine.

const HELLO = Buffer.from('hello')
const TIMEOUT = ms(200)

interface Kind {
  readonly skip: string | false
  readonly start: (t: Test) => Promise<Engine>
  readonly make: (t: Test, engine: Engine) => Promise<Broker>
  /** The error after the reply timeout. */
  readonly timedOut: RegExp
  /** Whether the engine delivers messages that it received while it hung. */
  readonly deliversLate: boolean
}

const REDIS = {
  skip: redisSkip,
  start: startRedis,
  timedOut: /Redis did not reply within/,
  // By then the broker has ended the connection.
  deliversLate: false
}

const KINDS: Readonly<Record<string, Kind>> = {
  Redis: {
    ...REDIS,
    make: async (t, engine) => redisBroker(redisClient(t, engine), { timeout: TIMEOUT })
  },
  // Its client connects differently.
  Valkey: {
    ...REDIS,
    make: async (t, engine) => redisBroker(valkeyClient(t, engine), { timeout: TIMEOUT })
  },
  NATS: {
    skip: natsSkip,
    start: startNats,
    make: async (t, engine) => natsBroker(await natsConnection(t, engine), { timeout: TIMEOUT }),
    timedOut: /NATS did not reply within/,
    deliversLate: true
  }
}

for (const [name, { skip, start, make, timedOut, deliversLate }] of Object.entries(KINDS)) {
  t.test(`when ${name} hangs, the broker is disconnected until it replies`, { skip }, async t => {
    const accidents = watchProcess(t)
    const engine = await start(t)
    const broker = await make(t, engine)
    const events = record(t, broker)
    await broker.subscribe('x')
    await engine.hold()
    await t.rejects(withDeadline(broker.publish('x', HELLO), 5000, 'rejection'), timedOut)
    await t.rejects(broker.subscribe('y'), timedOut)
    t.strictSame(events.states, ['up', 'down'])
    engine.letGo()
    await events.until('up', 'down', 'up')
    await broker.publish('x', Buffer.from('last'))
    const messages = [await events.next()]
    if (deliversLate) t.strictSame(messages, ['x hello'])
    if (messages[0] === 'x hello') messages.push(await events.next())
    t.equal(messages.at(-1), 'x last')
    // The health check of an idle broker notices it, too.
    await engine.hold()
    await events.until('up', 'down', 'up', 'down')
    engine.letGo()
    await events.until('up', 'down', 'up', 'down', 'up')
    t.strictSame(accidents, [])
  })

  t.test(
    `when ${name} hangs at the start, the broker is disconnected until it replies`,
    { skip },
    async t => {
      const engine = await start(t)
      const broker = await make(t, engine)
      await engine.hold()
      const events = record(t, broker)
      await t.rejects(broker.publish('x', HELLO), timedOut)
      t.strictSame(events.states, ['down'])
      engine.letGo()
      await events.until('down', 'up')
    }
  )

  t.test(
    `when the process was blocked, a reply of ${name} that has arrived counts as in time`,
    { skip },
    async t => {
      const broker = await make(t, await start(t))
      const events = record(t, broker)
      await events.until('up')
      let pings = 0
      const { write } = Socket.prototype
      const isPinged = new Promise<void>(resolve => {
        t.intercept(Socket.prototype, 'write', {
          writable: true,
          value(this: Socket, ...args: readonly [string | Uint8Array, ...unknown[]]) {
            if (/\bping\r\n/i.test(Buffer.from(args[0]).toString())) {
              // The reply arrives meanwhile, and is read after the timeout.
              setImmediate(block)
              if (++pings === 5) resolve()
            }
            return Reflect.apply(write, this, args)
          }
        })
      })
      await withDeadline(isPinged, 10_000, 'five pings')
      await broker.publish('x', HELLO)
      t.strictSame(events.states, ['up'])
    }
  )
}

/** Blocks this thread, and leaves its processor to others. */
function block(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1.5 * TIMEOUT)
}
