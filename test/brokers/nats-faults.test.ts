import { writeFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { natsBroker } from '../../lib/brokers/nats/nats.js'
import { listen, makeApp, open, watchProcess } from '../helpers/app.js'
import { natsSkip, startNats } from '../helpers/engine.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import { natsConnection } from './clients.js'
import { record } from './recorder.js'

const HELLO = Buffer.from('hello')

t.test('a channel is one token of a subject', { skip: natsSkip }, async t => {
  const engine = await startNats(t)
  const connection = await natsConnection(t, engine)
  const broker = natsBroker(connection, { prefix: 'app.' })
  const events = record(t, broker)
  const channel = 'm:a.b *>\n'
  await broker.subscribe(channel)
  connection.publish(`app.${Buffer.from(channel).toString('base64url')}`, 'from outside')
  t.equal(await events.next(), `${channel} from outside`)
  for (const prefix of ['a b', 'a.*.', '>', 'a..b', '.a', 'a.\t']) {
    t.throws(() => natsBroker(connection, { prefix }), { code: 'FST_UPGRADE_INVALID_BROKER_OPTION' }, prefix)
  }
  for (const prefix of ['', 'a', 'a.b.']) natsBroker(connection, { prefix })
})

t.test('invalid clients and options are refused', { skip: natsSkip }, async t => {
  const connecting = natsConnection(t, await startNats(t))
  for (const client of [undefined, {}, connecting]) {
    t.throws(() => Reflect.apply(natsBroker, undefined, [client]), {
      code: 'FST_UPGRADE_INVALID_BROKER_OPTION',
      message: /The client of a broker must be a connection of @nats-io/
    })
  }
  const connection = await connecting
  for (const timeout of [0, 2 ** 31]) {
    t.throws(() => natsBroker(connection, { timeout }), { code: 'FST_UPGRADE_INVALID_BROKER_OPTION' })
  }
})

t.test('close ends the subscriptions and leaves the connection open', { skip: natsSkip }, async t => {
  const engine = await startNats(t)
  const connection = await natsConnection(t, engine)
  const broker = natsBroker(connection)
  const events = record(t, broker)
  await broker.subscribe('x')
  await broker.close()
  await t.rejects(broker.publish('x', HELLO), { code: 'FST_UPGRADE_BROKER_CLOSED' })
  connection.publish(`fastify-upgrade.${Buffer.from('x').toString('base64url')}`, HELLO)
  await connection.flush()
  t.equal(connection.isClosed(), false)
  t.strictSame(events.messages, [])
  t.strictSame(events.states, ['up'])
})

t.test(
  'the broker is disconnected when the application closes the connection',
  { skip: natsSkip },
  async t => {
    const accidents = watchProcess(t)
    const engine = await startNats(t)
    const connection = await natsConnection(t, engine)
    const broker = natsBroker(connection)
    const events = record(t, broker)
    await broker.subscribe('x')
    await connection.close()
    await events.until('up', 'down')
    await t.rejects(broker.publish('x', HELLO), /the connection to NATS is closed/)
    await broker.unsubscribe('x')
    const late = natsBroker(connection)
    const second = record(t, late)
    await second.until('down')
    t.strictSame(accidents, [])
  }
)

const USER = { user: 'app', pass: 'secret' }

/** @returns a line of the engine's configuration. */
function permit(permissions: string): string {
  return `authorization { users: [{ user: app, password: secret, permissions: ${permissions} }] }`
}

t.test(
  'subscriptions and messages that NATS refuses are rejected, and others are not affected',
  { skip: natsSkip },
  async t => {
    const accidents = watchProcess(t)
    const allowed = `fastify-upgrade.${Buffer.from('yes').toString('base64url')}`
    const file = join(t.testdir(), 'nats.conf')
    const permissions = `{ publish: ["${allowed}"], subscribe: ["${allowed}", "_INBOX.>"] }`
    await writeFile(file, `max_payload: 1000\n${permit(permissions)}`)
    const engine = await startNats(t, ['-c', file])
    const broker = natsBroker(await natsConnection(t, engine, USER))
    const events = record(t, broker)
    await broker.subscribe('yes')
    await t.rejects(broker.subscribe('no'), /Permissions Violation for Subscription/)
    const [good, bad] = await Promise.allSettled([broker.publish('yes', HELLO), broker.publish('no', HELLO)])
    t.equal(good.status, 'fulfilled')
    t.match(bad, { status: 'rejected', reason: /Permissions Violation for Publish/ })
    t.equal(await events.next(), 'yes hello')
    await t.rejects(broker.publish('yes', Buffer.alloc(1001)), /max_payload/)
    await broker.publish('yes', HELLO)
    t.strictSame(events.states, ['up'])
    t.strictSame(accidents, [])
  }
)

t.test('a subscription that NATS ends is reported and retried', { skip: natsSkip }, async t => {
  const accidents = watchProcess(t)
  const file = join(t.testdir(), 'nats.conf')
  const allow = (subjects: string): Promise<void> =>
    writeFile(file, permit(`{ publish: [">"], subscribe: [${subjects}] }`))
  await allow('">"')
  const engine = await startNats(t, ['-c', file])
  const { app } = await makeApp(t, {
    broker: natsBroker(await natsConnection(t, engine, USER))
  })
  const events: string[] = []
  const ended = new Promise<void>(resolve => {
    app.websocketServer.on('broker', event => {
      events.push('topic' in event ? `${event.type} ${event.topic}` : event.type)
      // After `up`, one each for the topic, for broadcasts, for requests and for replies.
      if (event.type === 'unsubscribed' && events.length === 5) resolve()
    })
  })
  app.get('/', { websocket: true }, async socket => {
    await socket.subscribe('room')
    socket.send('subscribed')
  })
  const client = await open(t, await listen(app), '/')
  t.equal(await client.next(), 'subscribed')
  await allow('"_INBOX.>"')
  await engine.reload()
  await withDeadline(ended, 5000, 'end of the subscription')
  await allow('">"')
  await engine.reload()
  const other = natsBroker(await natsConnection(t, engine, USER))
  const { app: second } = await makeApp(t, { broker: other })
  // The server retries once a second.
  const repeat = setInterval(() => void second.websocketServer.publish('room', 'again'), ms(100))
  t.teardown(() => clearInterval(repeat))
  t.equal(await client.next(), 'again')
  // The channels of broadcasts, of requests and of replies.
  const ofProcess = Array.from({ length: 3 }, () => 'unsubscribed ')
  t.strictSame(events.toSorted(), [...ofProcess, 'unsubscribed room', 'up'])
  t.strictSame(accidents, [])
})

t.test('calls are rejected when NATS crashes during them', { skip: natsSkip }, async t => {
  const accidents = watchProcess(t)
  const engine = await startNats(t)
  const connection = await natsConnection(t, engine)
  const broker = natsBroker(connection)
  const events = record(t, broker)
  await events.until('up')
  await engine.hold()
  const calls = [broker.subscribe('x'), broker.publish('x', HELLO)]
  const rejections = Promise.all(calls.map(call => t.rejects(call)))
  await engine.kill()
  await rejections
  await events.until('up', 'down')
  await engine.start()
  await events.until('up', 'down', 'up')
  await broker.publish('x', HELLO)
  await connection.flush()
  t.strictSame(events.messages, [], 'the rejected subscription is not restored')
  t.strictSame(accidents, [])
})

t.test('the broker connects later when NATS is down at the start', { skip: natsSkip }, async t => {
  const engine = await startNats(t)
  const connection = await natsConnection(t, engine)
  const statuses = connection.status()
  await engine.kill()
  for await (const { type } of statuses) if (type === 'disconnect') break
  const broker = natsBroker(connection)
  const events = record(t, broker)
  await t.rejects(broker.publish('x', HELLO))
  await events.until('down')
  await engine.start()
  await events.until('down', 'up')
  await broker.subscribe('x')
  await broker.publish('x', HELLO)
  t.equal(await events.next(), 'x hello')
})

t.test('an engine that sends garbage disconnects the broker and does not end the process', async t => {
  const accidents = watchProcess(t)
  const sockets: Socket[] = []
  const server = createServer(socket => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.write('INFO {"server_id":"x","version":"2.9.10","max_payload":1048576}\r\n')
    socket.on('data', data => {
      for (const _ of String(data).matchAll(/PING\r\n/g)) socket.write('PONG\r\n')
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  // The client logs data that it cannot parse to the console.
  const { log } = console
  t.teardown(() => {
    console.log = log
  })
  console.log = () => {}
  const broker = natsBroker(await natsConnection(t, { port }), { timeout: ms(200) })
  const events = record(t, broker)
  await broker.publish('x', HELLO)
  for (const socket of sockets) socket.write('\0\r\nGARBAGE\r\n')
  await events.until('up', 'down')
  await t.rejects(broker.publish('x', HELLO))
  t.strictSame(accidents, [])
})
