import { once } from 'node:events'
import type { FastifyInstance as App } from 'fastify'
import t, { type Test } from 'tap'
import upgrade, {
  type FastifyUpgradeOptions,
  type HistoryRange,
  MemoryBroker,
  MemoryHub,
  type Position,
  type Subscription,
  type TopicPublication,
  type WebSocket
} from '../../lib/index.js'
import { bareApp, type Client, listen, open, WARN } from '../helpers/app.js'

const HISTORY = { size: 100, ttl: 600_000 }

interface Query {
  readonly offset?: string
  readonly epoch?: string
}

async function serve(t: Test, options: FastifyUpgradeOptions = {}) {
  const { app, log } = bareApp(t)
  await app.register(upgrade, { history: HISTORY, ...options })
  const sockets: WebSocket[] = []
  const outcomes: Promise<Subscription>[] = []
  app.get<{ Querystring: Query }>('/', { websocket: true }, (socket, { query: { offset, epoch } }) => {
    sockets.push(socket)
    const since = epoch === undefined ? undefined : { offset: Number(offset), epoch }
    outcomes.push(socket.subscribe('room', { since }))
  })
  const port = await listen(app)
  return {
    app,
    log,
    port,
    sockets,
    server: app.websocketServer,
    join: async (since?: Position): Promise<[Client, Subscription]> => {
      const query = new URLSearchParams(since && { offset: String(since.offset), epoch: since.epoch })
      const client = await open(t, port, `/?${query}`)
      const outcome = await outcomes.at(-1)
      if (outcome === undefined) throw new Error('no handler ran')
      return [client, outcome]
    }
  }
}

t.test('a client that connects again gets what it has missed, without a broker', async t => {
  const { server, join } = await serve(t)
  const [first, { position }] = await join()
  t.match(position, { offset: 0, epoch: String })
  const since = await server.publish('room', 'one')
  t.match(since, { offset: 1, epoch: position?.epoch })
  t.equal(await first.next(), 'one')
  first.socket.terminate()
  await server.publish('room', Buffer.from('two'))
  await server.publish('room', 'three')
  const [again, outcome] = await join(since)
  t.match(outcome, { recovered: true, position: { offset: 3 } })
  await server.publish('room', 'four')
  t.strictSame([await again.next(), await again.next(), await again.next()], ['two', 'three', 'four'])
  const [late, failed] = await join({ offset: 1, epoch: 'another' })
  t.match(failed, { recovered: false, position: { offset: 4 } })
  await server.publish('room', 'five')
  t.equal(await late.next(), 'five')
})

t.test('deliver of the route writes a publication once for all its connections', async t => {
  const { app } = bareApp(t)
  await app.register(upgrade, { history: HISTORY })
  const seen: TopicPublication[] = []
  const deliver = (publication: TopicPublication): string => {
    seen.push(publication)
    return `${publication.offset} ${publication.data}`
  }
  app.get('/', { websocket: { deliver, topics: () => ['room'] } }, () => {})
  app.get('/own', { websocket: { deliver } }, socket => {
    void socket.subscribe('room', { deliver: ({ data }) => `own ${data}` })
  })
  const port = await listen(app)
  const clients = [await open(t, port, '/'), await open(t, port, '/'), await open(t, port, '/own')]
  await app.websocketServer.publish('room', 'text')
  await app.websocketServer.publish('room', Buffer.from('bytes'))
  for (const client of clients.slice(0, 2)) {
    t.strictSame([await client.next(), await client.next()], ['1 text', '2 bytes'])
  }
  t.strictSame([await clients[2]?.next(), await clients[2]?.next()], ['own text', 'own bytes'])
  t.equal(seen.length, 2)
  const [text, bytes] = seen
  t.match(text, { topic: 'room', offset: 1, epoch: String, isBinary: false, data: 'text' })
  t.match(bytes, { offset: 2, isBinary: true, data: Buffer.from('bytes') })
})

t.test('socket.publish does not reach the socket itself, also when it recovers later', async t => {
  const { sockets, server, join } = await serve(t)
  const [first] = await join()
  const [second] = await join()
  const [one] = sockets
  await one?.publish('room', 'from one')
  await server.publish('room', 'from the server')
  t.equal(await first.next(), 'from the server')
  t.strictSame([await second.next(), await second.next()], ['from one', 'from the server'])
  await server.publish('room', 'except one', { except: one })
  await server.publish('elsewhere', 'x', { except: one })
  await server.publish('room', 'last')
  t.equal(await first.next(), 'last')
  t.strictSame([await second.next(), await second.next()], ['except one', 'last'])
})

t.test('a publication with a known id is published once', async t => {
  const { sockets, server, join } = await serve(t)
  const [client] = await join()
  const position = await server.publish('room', 'once', { id: 'a' })
  t.strictSame(await server.publish('room', 'once', { id: 'a' }), position)
  t.strictSame(await sockets[0]?.publish('room', 'once', { id: 'a' }), position)
  await server.publish('room', 'last')
  t.strictSame([await client.next(), await client.next()], ['once', 'last'])
})

t.test('the history of a topic can be read and removed', async t => {
  const { server } = await serve(t)
  for (const text of ['a', 'b', 'c', 'd']) await server.publish('room', text)
  const all = await server.history('room')
  const show = (publications: readonly TopicPublication[]): string =>
    publications.map(({ offset, data }) => `${offset}${data}`).join(' ')
  t.equal(show(all.publications), '1a 2b 3c 4d')
  t.match(all, { recovered: true, position: { offset: 4 } })
  const { epoch } = all.position
  const read = async (range: HistoryRange): Promise<string> => {
    const { publications, recovered } = await server.history('room', range)
    return `${recovered} ${show(publications)}`
  }
  t.equal(await read({ since: { offset: 2, epoch } }), 'true 3c 4d')
  t.equal(await read({ since: { offset: 4, epoch } }), 'true ')
  t.equal(await read({ since: { offset: 5, epoch } }), 'false ')
  t.equal(await read({ since: { offset: 2, epoch: 'x' } }), 'false ')
  t.equal(await read({ limit: 1, reverse: true }), 'true 4d')
  t.equal(await read({ since: { offset: 3, epoch }, reverse: true }), 'true 2b 1a')
  t.equal(await read({ since: { offset: 1, epoch }, reverse: true }), 'true ')
  await server.removeHistory('room')
  t.equal(await read({ since: { offset: 2, epoch } }), 'false ')
  t.equal(await read({ since: { offset: 4, epoch } }), 'true ')
})

/** A broker whose history of the room is forgotten by publishing to other topics. */
function forgetful(): { readonly broker: MemoryBroker; readonly forget: (app: App) => Promise<void> } {
  return {
    broker: new MemoryBroker(new MemoryHub({ maxBytes: 4000 })),
    forget: async app => {
      for (let n = 0; n < 10; n++) await app.websocketServer.publish(`other ${n}`, 'x')
    }
  }
}

t.test('a connection that has missed publications is closed with 1013', async t => {
  const { broker, forget } = forgetful()
  const { app, server, join } = await serve(t, { broker })
  const [client] = await join()
  await server.publish('room', 'one')
  t.equal(await client.next(), 'one')
  await forget(app)
  const closed = once(client.socket, 'close')
  await server.publish('room', 'two')
  const [code, reason] = await closed
  t.equal(code, 1013)
  t.equal(String(reason), 'messages were missed')
})

t.test('onLost is called in place of closing the connection', async t => {
  const { broker, forget } = forgetful()
  const { app } = bareApp(t)
  const errors: Error[] = []
  await app.register(upgrade, {
    broker,
    history: topic => (topic === 'plain' ? undefined : HISTORY),
    errorHandler: error => void errors.push(error)
  })
  const failure = new Error('not today')
  const subscribed: Promise<Subscription>[] = []
  app.get('/', { websocket: true }, socket => {
    subscribed.push(socket.subscribe('room', { onLost: ({ offset }) => socket.send(`lost ${offset}`) }))
  })
  app.get('/throws', { websocket: true }, socket => {
    const onLost = (): void => {
      throw failure
    }
    subscribed.push(socket.subscribe('room', { onLost }))
  })
  const port = await listen(app)
  const [client, other] = [await open(t, port, '/'), await open(t, port, '/throws')]
  await Promise.all(subscribed)
  await app.websocketServer.publish('room', 'one')
  await forget(app)
  await app.websocketServer.publish('room', 'two')
  await app.websocketServer.publish('room', 'three')
  t.strictSame([await client.next(), await client.next(), await client.next()], ['one', 'lost 1', 'three'])
  t.strictSame([await other.next(), await other.next()], ['one', 'three'])
  t.strictSame(errors, [failure])
})

t.test('topics without history keep their path, and refuse what needs history', async t => {
  const { app } = bareApp(t)
  await app.register(upgrade, { history: topic => (topic === 'room' ? HISTORY : undefined) })
  const outcomes: unknown[] = []
  app.get('/', { websocket: true }, async socket => {
    outcomes.push(await socket.subscribe('plain'))
    const since = { offset: 0, epoch: 'x' }
    for (const act of [
      () => socket.subscribe('plain', { since }),
      () => socket.publish('plain', 'x', { id: 'a' }),
      () => app.websocketServer.history('plain'),
      () => app.websocketServer.removeHistory('plain')
    ]) {
      t.throws(act, { code: 'FST_UPGRADE_NO_HISTORY' })
    }
    socket.send('ready')
  })
  const client = await open(t, await listen(app), '/')
  t.equal(await client.next(), 'ready')
  t.strictSame(outcomes, [{ recovered: false, position: undefined }])
  t.equal(await app.websocketServer.publish('plain', 'one'), undefined)
  t.equal(await client.next(), 'one')
  t.equal(app.websocketServer.subscriberCount('plain'), 1)
  const { app: none } = bareApp(t)
  await none.register(upgrade)
  t.throws(() => none.websocketServer.history('room'), { code: 'FST_UPGRADE_NO_HISTORY' })
})

t.test('positions, ids and ranges that are not valid are refused', async t => {
  const { server, sockets, join } = await serve(t)
  await join()
  const [socket] = sockets
  const positions = [
    ...[-1, 1.5, 2 ** 53, Number.NaN, '1'].map(offset => ({ offset, epoch: 'x' })),
    ...[undefined, 5, 'x'.repeat(101)].map(epoch => ({ offset: 1, epoch })),
    ...['first', null, 7, {}, []]
  ]
  const call = (method: unknown, ...args: unknown[]): unknown =>
    typeof method === 'function' &&
    Reflect.apply(method, method === socket?.subscribe ? socket : server, args)
  for (const since of positions) {
    t.throws(() => call(socket?.subscribe, 'room', { since }), { code: 'FST_UPGRADE_INVALID_HISTORY' })
    if (since === null) continue
    await t.rejects(async () => call(server.history, 'room', { since }), {
      code: 'FST_UPGRADE_INVALID_HISTORY'
    })
  }
  for (const limit of [-1, 1.5, 10_001, '5', null]) {
    await t.rejects(async () => call(server.history, 'room', { limit }), {
      code: 'FST_UPGRADE_INVALID_HISTORY'
    })
  }
  for (const id of ['', 'x'.repeat(257), 7, null]) {
    t.throws(() => call(server.publish, 'room', 'x', { id }), { code: 'FST_UPGRADE_INVALID_HISTORY' })
  }
})

t.test('limits of a history that are not valid are refused', async t => {
  for (const history of [
    {},
    { size: 0, ttl: 1 },
    { size: 1, ttl: 0 },
    { size: 1 },
    { size: 1.5, ttl: 1 },
    7,
    null
  ]) {
    const { app } = bareApp(t)
    await t.rejects(async () => Reflect.apply(app.register, app, [upgrade, { history }]), {
      code: 'FST_UPGRADE_INVALID_OPTION'
    })
    const { app: other, log } = bareApp(t)
    await Reflect.apply(other.register, other, [upgrade, { history: () => history }])
    t.throws(() => other.websocketServer.publish('room', 'x'), { code: 'FST_UPGRADE_INVALID_OPTION' })
    other.get('/', { websocket: { topics: () => ['room'] } }, () => {})
    const client = await open(t, await listen(other), '/')
    const [code] = await once(client.socket, 'close')
    t.equal(code, 1011)
    t.ok(log)
  }
})

t.test('a broker without history is refused when there are topics with history', async t => {
  const { app } = bareApp(t)
  const broker = new MemoryBroker(new MemoryHub())
  Object.defineProperty(broker, 'append', { value: undefined })
  await t.rejects(async () => app.register(upgrade, { broker, history: HISTORY }), {
    code: 'FST_UPGRADE_BROKER_WITHOUT_HISTORY'
  })
})

t.test('a closed connection is not subscribed', async t => {
  const { sockets, join, server } = await serve(t)
  const [client] = await join()
  const [socket] = sockets
  client.socket.terminate()
  if (socket !== undefined && socket.readyState !== socket.CLOSED) await once(socket, 'close')
  t.strictSame(await socket?.subscribe('room', { since: 'last' }), { recovered: false, position: undefined })
  t.equal(server.subscriberCount('room'), 0)
})

t.test('a handler that returns the result of subscribe or publish logs no warning', async t => {
  const { app, log } = bareApp(t)
  await app.register(upgrade, { history: HISTORY })
  app.get('/subscribe', { websocket: true }, socket => socket.subscribe('room', { since: 'last' }))
  app.get('/publish', { websocket: true }, socket => socket.publish('room', 'x'))
  app.get('/null', { websocket: true }, () => null)
  const port = await listen(app)
  for (const url of ['/subscribe', '/publish', '/null']) {
    const client = await open(t, port, url)
    client.socket.close(1000)
    t.equal(await client.closed(), '1000')
  }
  t.equal(log.at(WARN).length, 1, 'only null is not such a result')
})
