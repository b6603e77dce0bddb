import t, { type Test } from 'tap'
import { type Engine, natsSkip, redisSkip, startNats, startRedis } from '../helpers/engine.js'
import { ms } from '../helpers/timeout.js'
import { Reader, type Requests, ServerProcess, type Settings } from './server-process.js'

// Several processes on one engine, each with clients.

const PRESENCE = { interval: ms(200), timeout: ms(1000) }

const ENGINES = [
  { name: 'redis', skip: redisSkip, start: startRedis },
  { name: 'nats', skip: natsSkip, start: startNats }
] as const

interface Application {
  readonly engine: Engine
  readonly servers: readonly ServerProcess[]
  /** Two for each server. */
  readonly readers: readonly Reader[]
}

async function startApplication(t: Test, engine: Engine, name: Settings['engine']): Promise<Application> {
  const settings: Settings = { engine: name, port: engine.port, presence: PRESENCE }
  const servers = [1, 2, 3].map(() => new ServerProcess(t, settings))
  await Promise.all(servers.map(server => server.started()))
  await Promise.all(servers.map(server => server.reached('up')))
  const readers = servers.flatMap(({ port }, server) =>
    ['a', 'b'].map(client => Reader.open(t, port, `${server}${client}`))
  )
  return { engine, servers, readers: await Promise.all(readers) }
}

/** The numbers from one to another. */
function range(first: number, last: number): number[] {
  return Array.from({ length: Math.max(last - first + 1, 0) }, (_, i) => first + i)
}

/** Resolves when each reader has the messages of each server up to these numbers. */
async function reachAll({ servers, readers }: Application, numbers: readonly number[]): Promise<void> {
  await Promise.all(
    readers.flatMap(reader => servers.map(({ pid }, server) => reader.reached(pid, numbers[server] ?? 0)))
  )
}

const request = <Key extends keyof Requests>({ servers }: Application, name: Key) =>
  Promise.all(servers.map(server => server.request(name)))

/** Each reader gets the messages of all readers once and in order. */
async function checkDelivery(t: Test, application: Application): Promise<void> {
  const { servers, readers } = application
  for (const reader of readers) reader.publish(200)
  const counts = servers.map(() => 400)
  await reachAll(application, counts)
  for (const reader of readers) {
    for (const { pid } of servers) t.strictSame(reader.numbersOf(pid), range(1, 400))
  }
}

/** The engine crashes while all servers publish. The guarantee for each number depends on when it was published. */
async function checkCrash(t: Test, application: Application): Promise<void> {
  const { engine, servers, readers } = application
  await request(application, 'load')
  await reachAll(
    application,
    (await request(application, 'published')).map(n => n + 100)
  )
  const accepted = await request(application, 'accepted')
  await reachAll(application, accepted)
  await engine.kill()
  await Promise.all(servers.map(server => server.reached('down')))
  // Local delivery continues.
  const local = (await request(application, 'published')).map(n => n + 50)
  await Promise.all(
    readers.map(reader =>
      reader.reached(reader.server, local[servers.findIndex(({ pid }) => pid === reader.server)] ?? 0)
    )
  )
  const missed = await request(application, 'pause')
  await engine.start()
  await Promise.all(servers.map(server => server.reached('up')))
  await request(application, 'load')
  await reachAll(
    application,
    missed.map(n => n + 100)
  )
  const sent = await request(application, 'pause')
  await reachAll(application, sent)

  const losses = await request(application, 'lost')
  for (const [index, { pid }] of servers.entries()) {
    const { rejected, lost, reported, total } = losses[index] ?? {
      rejected: [],
      lost: 0,
      reported: 0,
      total: 0
    }
    const [published = 0, before = 0, until = 0] = [sent[index], accepted[index], missed[index]]
    t.ok(rejected.length >= 50, `${rejected.length} rejected`)
    t.equal(lost, rejected.length, 'each is reported')
    t.equal(total, reported, 'and counted')
    const firstRejected = Math.min(...rejected)
    t.ok(firstRejected > before && Math.max(...rejected) <= until, 'and none while the engine was running')
    for (const reader of readers) {
      const numbers = reader.numbersOf(pid)
      const arrived = new Set(numbers)
      t.strictSame(
        numbers,
        [...arrived].sort((a, b) => a - b),
        'at most once, and in order'
      )
      const missing = range(1, published).filter(n => !arrived.has(n))
      if (reader.server === pid) t.strictSame(missing, [], 'readers of the publishing process miss nothing')
      // The engine had accepted these when it crashed, but not delivered them.
      const uncounted = missing.filter(n => !rejected.includes(n))
      t.strictSame(
        uncounted.filter(n => n <= before || n >= firstRejected),
        [],
        'all other missing messages are counted'
      )
    }
  }
}

/** The engine crashes and comes back twice while all servers publish. */
async function checkRestart(t: Test, application: Application): Promise<void> {
  const { engine, servers, readers } = application
  const before = await request(application, 'published')
  await request(application, 'load')
  for (let n = 0; n < 2; n++) {
    await engine.kill()
    await Promise.all(servers.map(server => server.reached('down')))
    await engine.start()
    await Promise.all(servers.map(server => server.reached('up')))
    await reachAll(
      application,
      (await request(application, 'published')).map(n => n + 20)
    )
  }
  const back = await request(application, 'published')
  await reachAll(
    application,
    back.map(n => n + 50)
  )
  const sent = await request(application, 'pause')
  await reachAll(application, sent)
  for (const reader of readers) {
    for (const [index, { pid }] of servers.entries()) {
      const [first = 0, safe = 0, last = 0] = [before[index], back[index], sent[index]]
      const numbers = reader.numbersOf(pid).filter(n => n > first)
      t.strictSame(
        numbers,
        [...new Set(numbers)].sort((a, b) => a - b),
        'at most once, and in order'
      )
      t.strictSame(
        numbers.filter(n => n > safe),
        range(safe + 1, last),
        'nothing is missing after the outage'
      )
    }
  }
}

/** One process is killed. Its members leave, and the other processes are not affected. */
async function checkKill(t: Test, application: Application): Promise<void> {
  const [first, second, third] = application.servers
  const members = ['0a', '0b', '1a', '1b', '2a', '2b']
  const seeMembers = async (names: readonly string[]): Promise<void> => {
    await Promise.all(
      [first, second].map(server => server.until(() => server.members.join() === names.join(), names.join()))
    )
  }
  await seeMembers(members)
  const reached = { connections: 6, processes: 3, isComplete: true }
  t.strictSame(await first.request('reached'), reached)
  const killed = performance.now()
  third.kill()
  await seeMembers(members.slice(0, 4))
  const took = performance.now() - killed
  const limit = PRESENCE.timeout + PRESENCE.interval
  t.ok(
    took > PRESENCE.timeout / 2 && took < limit + ms(1000),
    `left after ${took} ms, the limit is ${limit} ms`
  )

  t.strictSame(await first.request('reached'), { ...reached, connections: 4, processes: 2 }, 'as it is gone')

  const left = { ...application, servers: [first, second], readers: application.readers.slice(0, 4) }
  const start = await request(left, 'published')
  for (const reader of left.readers) reader.publish(100)
  await reachAll(
    left,
    start.map(n => n + 200)
  )
  for (const reader of left.readers) {
    for (const [index, { pid }] of left.servers.entries()) {
      const numbers = reader.numbersOf(pid).filter(n => n > (start[index] ?? 0))
      t.strictSame(numbers, range((start[index] ?? 0) + 1, (start[index] ?? 0) + 200))
    }
  }
}

for (const { name, skip, start } of ENGINES) {
  t.test(`several processes on ${name}`, { skip }, async t => {
    const application = await startApplication(t, await start(t), name)
    await t.test('each client gets each message once and in order', t => checkDelivery(t, application))
    await t.test('messages lost in a crash of the engine are counted', t => checkCrash(t, application))
    await t.test('delivery resumes when the engine restarts under load', t => checkRestart(t, application))
    await t.test('the members of a killed process leave', t => checkKill(t, application))
    t.strictSame(
      application.servers.flatMap(({ unexpected }) => unexpected),
      []
    )
  })

  t.test(`workers of node:cluster on ${name} exchange messages`, { skip }, async t => {
    const settings: Settings = { engine: name, port: (await start(t)).port, presence: PRESENCE }
    const primary = new ServerProcess(t, settings, 3)
    await primary.started()
    const names = range(1, 9).map(String)
    const readers = await Promise.all(names.map(client => Reader.open(t, primary.port, client)))
    const workers = new Set(readers.map(({ server }) => server))
    t.equal(workers.size, 3, 'the port is shared')
    for (const reader of readers) reader.publish(100)
    for (const worker of workers) {
      const count = 100 * readers.filter(({ server }) => server === worker).length
      await Promise.all(readers.map(reader => reader.reached(worker, count)))
      for (const reader of readers) t.strictSame(reader.numbersOf(worker), range(1, count))
    }
  })
}
