import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { type Broker, MemoryBroker, MemoryHub, prepare } from '../../lib/index.js'
import { encodePublication } from '../../lib/topics/publication.js'
import { ManualBroker } from '../brokers/manual-broker.js'
import { type Client, listen, makeApp, open, tick, watchProcess } from '../helpers/app.js'

const OTHER = 'f'.repeat(32)

/** A process of an application, with one client that compresses and one that does not. */
async function serve(t: Test, broker?: Broker) {
  const { app } = await makeApp(t, { broker, perMessageDeflate: true })
  app.get('/', { websocket: true }, () => {})
  app.get('/plain', { websocket: { perMessageDeflate: false } }, () => {})
  const port = await listen(app)
  const clients = [await open(t, port, '/'), await open(t, port, '/plain')]
  const events: string[] = []
  app.websocketServer.on('broker', event => {
    events.push('topic' in event ? `${event.type} "${event.topic}"` : event.type)
  })
  return { app, server: app.websocketServer, clients, events }
}

/** Resolves with the next messages of each client. */
async function take(clients: readonly Client[], count: number): Promise<string[][]> {
  return Promise.all(
    clients.map(async client => {
      const messages: string[] = []
      while (messages.length < count) messages.push(await client.next())
      return messages
    })
  )
}

t.test('with a broker, broadcasts reach the connections of all processes once and in order', async t => {
  const accidents = watchProcess(t)
  const hub = new MemoryHub()
  const servers = await Promise.all([1, 2, 3].map(() => serve(t, new MemoryBroker(hub))))
  const [first, second] = servers
  const clients = servers.flatMap(({ clients }) => clients)
  const binary: boolean[] = []
  for (const { socket } of clients) socket.on('message', (_data, isBinary) => binary.push(isBinary))
  const long = randomBytes(3000).toString('base64').repeat(3)
  await first.server.broadcast('one')
  await first.server.broadcast(Buffer.from('two'))
  await first.server.broadcast(prepare(long))
  await first.server.broadcast(3, { compress: false })
  const expected = ['one', 'two', long, '3']
  t.strictSame(
    await take(clients, 4),
    clients.map(() => expected)
  )
  t.equal(binary.filter(isBinary => isBinary).length, clients.length)
  await second.server.broadcast('last')
  t.strictSame(
    await take(clients, 1),
    clients.map(() => ['last'])
  )
  t.strictSame(
    clients.flatMap(({ messages }) => messages),
    []
  )
  t.strictSame(accidents, [])
})

t.test('a broadcast with { local: true } stays in its process', async t => {
  const hub = new MemoryHub()
  const [first, second] = await Promise.all([
    serve(t, new MemoryBroker(hub)),
    serve(t, new MemoryBroker(hub))
  ])
  await first.server.broadcast('here', { local: true })
  await first.server.broadcast('everywhere', { local: false })
  t.strictSame(await take(first.clients, 2), [
    ['here', 'everywhere'],
    ['here', 'everywhere']
  ])
  t.strictSame(await take(second.clients, 1), [['everywhere'], ['everywhere']])
})

t.test('without a broker, a broadcast stays in its process and resolves', async t => {
  const { server, clients } = await serve(t)
  await server.broadcast('one')
  await server.broadcast('two', { local: true })
  t.strictSame(await take(clients, 2), [
    ['one', 'two'],
    ['one', 'two']
  ])
})

t.test('no topic shares the channel of broadcasts', async t => {
  const hub = new MemoryHub()
  const [first, second] = await Promise.all([
    serve(t, new MemoryBroker(hub)),
    serve(t, new MemoryBroker(hub))
  ])
  for (const { server } of [first, second])
    for (const socket of server.clients)
      for (const topic of ['b:', 'b', ':', '*']) await socket.subscribe(topic)
  await first.server.broadcast('to all')
  await first.server.publish('b:', 'to the topic')
  for (const { clients } of [first, second])
    t.strictSame(await take(clients, 2), [
      ['to all', 'to the topic'],
      ['to all', 'to the topic']
    ])
  t.throws(() => first.server.publish('', 'x'), { code: 'FST_UPGRADE_INVALID_TOPIC' })
})

t.test('the server subscribes to broadcasts once, when it starts', async t => {
  const broker = new ManualBroker()
  const { server, events, clients } = await serve(t, broker)
  t.strictSame(broker.pending, ['subscribe b:'])
  await broker.settle(new Error('refused'))
  t.strictSame(events, ['unsubscribed ""'])
  broker.events?.onUp()
  t.strictSame(
    broker.pending.map(call => call.replace(/[\da-f]{32}$/, '…')),
    ['subscribe b:', 'subscribe q:', 'subscribe r:…'],
    'the server retries it, and subscribes to requests'
  )
  await broker.settle()
  broker.events?.onMessage(
    'b:',
    encodePublication(OTHER, { payload: 'of another', isBinary: false, compress: true })
  )
  broker.events?.onMessage('b:', Buffer.from('garbage'))
  t.strictSame(await take(clients, 1), [['of another'], ['of another']])
  t.strictSame(events, ['unsubscribed ""', 'up', 'invalid ""'])
  t.equal(server.lost, 0)
})

t.test('a broadcast that the broker rejects is counted and reported as lost', async t => {
  const accidents = watchProcess(t)
  const broker = new ManualBroker()
  const { app, server, events, clients } = await serve(t, broker)
  await broker.settle()
  const lost = server.broadcast('lost')
  t.strictSame(await take(clients, 1), [['lost'], ['lost']], 'local delivery does not wait')
  await Promise.all([
    t.rejects(lost, { code: 'FST_UPGRADE_BROKER_PUBLISH' }),
    broker.settle(new Error('down'))
  ])
  // Not awaited.
  void server.broadcast('lost, too')
  await broker.settle(new Error('down'))
  t.strictSame(events, ['lost ""', 'lost ""'])
  t.equal(server.lost, 2)
  await server.broadcast('local', { local: true })
  t.strictSame(broker.pending, [])
  t.throws(() => Reflect.apply(server.broadcast, server, [{}]), { code: 'FST_UPGRADE_INVALID_DATA' })
  await app.close()
  await t.rejects(server.broadcast('late'), { code: 'FST_UPGRADE_BROKER_CLOSED' })
  await tick()
  t.strictSame(accidents, [])
})

t.test('a socket with a replaced send that throws does not keep a broadcast from the others', async t => {
  const { app, log } = await makeApp(t)
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  const [first, second] = [await open(t, port, '/'), await open(t, port, '/')]
  const [broken] = app.websocketServer.clients
  Object.assign(broken ?? {}, {
    send() {
      throw new Error('not today')
    }
  })
  await app.websocketServer.broadcast('hello')
  t.equal(await second.next(), 'hello')
  t.strictSame(first.messages, [])
  t.equal(log.with('a listener of websocketServer failed').length, 1)
})
