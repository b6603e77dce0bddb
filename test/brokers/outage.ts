import { EventEmitter, once } from 'node:events'
import type { Test } from 'tap'
import type { Broker } from '../../lib/index.js'
import { type Client, listen, makeApp, open, watchProcess } from '../helpers/app.js'
import type { Engine } from '../helpers/engine.js'
import { withDeadline } from '../helpers/timeout.js'

/** A server with one client in the topic `room`, and the broker events of the server. */
async function serve(t: Test, broker: Broker) {
  const { app } = await makeApp(t, { broker })
  const server = app.websocketServer
  const recorded = new EventEmitter()
  const events: string[] = []
  server.on('broker', ({ type }) => {
    events.push(type)
    recorded.emit('event')
  })
  app.get('/', { websocket: true }, async socket => {
    await socket.subscribe('room')
    socket.send('subscribed')
  })
  const until = async (type: string, count: number): Promise<void> => {
    const wait = async (): Promise<void> => {
      while (events.filter(event => event === type).length < count) await once(recorded, 'event')
    }
    await withDeadline(wait(), 10_000, `${type} ${count}`)
  }
  await until('up', 1)
  const client = await open(t, await listen(app), '/')
  t.equal(await client.next(), 'subscribed')
  return { server, client, events, until }
}

/** Checks delivery before, during and after an outage of the engine. */
export async function checkOutage(
  t: Test,
  engine: Engine,
  makeBroker: () => Broker | Promise<Broker>
): Promise<void> {
  const accidents = watchProcess(t)
  const servers = [await serve(t, await makeBroker()), await serve(t, await makeBroker())] as const
  const [first, second] = servers
  const take = async (client: Client, n: number): Promise<string[]> => {
    const messages: string[] = []
    while (messages.length < n) messages.push(await client.next())
    return messages
  }
  await first.server.publish('room', 'before')
  for (const { client } of servers) t.equal(await client.next(), 'before')
  await second.server.broadcast('broadcast before')
  for (const { client } of servers) t.equal(await client.next(), 'broadcast before')

  await engine.kill()
  await Promise.all(servers.map(({ until }) => until('down', 1)))
  for (const n of [1, 2]) {
    await t.rejects(withDeadline(first.server.publish('room', `lost ${n}`), 1000, 'rejection'), {
      code: 'FST_UPGRADE_BROKER_PUBLISH'
    })
  }
  await t.rejects(withDeadline(first.server.broadcast('lost broadcast'), 1000, 'rejection'), {
    code: 'FST_UPGRADE_BROKER_PUBLISH'
  })
  await first.server.broadcast('local', { local: true })
  t.strictSame(
    await take(first.client, 4),
    ['lost 1', 'lost 2', 'lost broadcast', 'local'],
    'local delivery continues'
  )

  await engine.start()
  await Promise.all(servers.map(({ until }) => until('up', 2)))
  for (const n of [1, 2, 3]) await first.server.publish('room', `after ${n}`)
  for (const { client } of servers) t.strictSame(await take(client, 3), ['after 1', 'after 2', 'after 3'])
  await first.server.broadcast('broadcast after')
  for (const { client } of servers) t.equal(await client.next(), 'broadcast after')
  await second.server.publish('room', 'last')
  for (const { client } of servers) t.equal(await client.next(), 'last', 'no message arrives twice')

  t.strictSame(first.events, ['up', 'down', 'lost', 'lost', 'lost', 'up'])
  t.strictSame(second.events, ['up', 'down', 'up'])
  t.equal(first.server.lost, 3)
  t.equal(second.server.lost, 0)
  t.strictSame(accidents, [])
}
