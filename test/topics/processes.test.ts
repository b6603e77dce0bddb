import t, { type Test } from 'tap'
import { type Engine, natsSkip, redisSkip, startNats, startRedis } from '../helpers/engine.js'
import { ms } from '../helpers/timeout.js'
import { type Questions, Reader, ServerProcess, type Settings } from './server-process.js'

// Several processes on one engine, and clients of all of them.

const PRESENCE = { interval: ms(200), timeout: ms(1000) }

const ENGINES = [
  { name: 'redis', skip: redisSkip, start: startRedis },
  { name: 'nats', skip: natsSkip, start: startNats }
] as const

interface Application {
  readonly engine: Engine
  readonly servers: readonly ServerProcess[]
  /** Two of each server. */
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

/** Every reader has what every server has published up to these numbers. */
async function reachAll({ servers, readers }: Application, numbers: readonly number[]): Promise<void> {
  await Promise.all(
    readers.flatMap(reader => servers.map(({ pid }, server) => reader.reached(pid, numbers[server] ?? 0)))
  )
}

const ask = <Key extends keyof Questions>({ servers }: Application, question: Key) =>
  Promise.all(servers.map(server => server.ask(question)))

/** Messages of all to all, each once and in order. */
async function checkDelivery(t: Test, application: Application): Promise<void> {
  const { servers, readers } = application
  for (const reader of readers) reader.publish(200)
  const counts = servers.map(() => 400)
  await reachAll(application, counts)
  for (const reader of readers) {
    for (const { pid } of servers) t.strictSame(reader.numbersOf(pid), range(1, 400))
  }
}

/** The engine crashes while all publish. What holds of each number follows from when it was published. */
async function checkCrash(t: Test, application: Application): Promise<void> {
  const { engine, servers, readers } = application
  await ask(application, 'load')
  await reachAll(
    application,
    (await ask(application, 'published')).map(n => n + 100)
  )
  const taken = await ask(application, 'taken')
  await reachAll(application, taken)
  await engine.kill()
  await Promise.all(servers.map(server => server.reached('down')))
  // Local delivery goes on.
  const away = (await ask(application, 'published')).map(n => n + 50)
  await Promise.all(
    readers.map(reader =>
      reader.reached(reader.server, away[servers.findIndex(({ pid }) => pid === reader.server)] ?? 0)
    )
  )
  const missed = await ask(application, 'pause')
  await engine.start()
  await Promise.all(servers.map(server => server.reached('up')))
  await ask(application, 'load')
  await reachAll(
    application,
    missed.map(n => n + 100)
  )
  const sent = await ask(application, 'pause')
  await reachAll(application, sent)

  const losses = await ask(application, 'lost')
  for (const [index, { pid }] of servers.entries()) {
    const { rejected, lost, told, total } = losses[index] ?? { rejected: [], lost: 0, told: 0, total: 0 }
    const [published = 0, before = 0, until = 0] = [sent[index], taken[index], missed[index]]
    t.ok(rejected.length >= 50, `${rejected.length} rejected`)
    t.equal(lost, rejected.length, 'each is told')
    t.equal(total, told, 'and counted')
    const firstRejected = Math.min(...rejected)
    t.ok(firstRejected > before && Math.max(...rejected) <= until, 'and none while the engine was there')
    for (const reader of readers) {
      const numbers = reader.numbersOf(pid)
      const arrived = new Set(numbers)
      t.strictSame(
        numbers,
        [...arrived].sort((a, b) => a - b),
        'at most once, and in order'
      )
      const missing = range(1, published).filter(n => !arrived.has(n))
      if (reader.server === pid) t.strictSame(missing, [], 'the own process misses nothing')
      // The engine had these when it crashed, and had not passed them on.
      const unheard = missing.filter(n => !rejected.includes(n))
      t.strictSame(
        unheard.filter(n => n <= before || n >= firstRejected),
        [],
        'what is missing is counted'
      )
    }
  }
}

/** It crashes and comes back while all go on publishing. */
async function checkRestart(t: Test, application: Application): Promise<void> {
  const { engine, servers, readers } = application
  const before = await ask(application, 'published')
  await ask(application, 'load')
  for (let n = 0; n < 2; n++) {
    await engine.kill()
    await Promise.all(servers.map(server => server.reached('down')))
    await engine.start()
    await Promise.all(servers.map(server => server.reached('up')))
    await reachAll(
      application,
      (await ask(application, 'published')).map(n => n + 20)
    )
  }
  const back = await ask(application, 'published')
  await reachAll(
    application,
    back.map(n => n + 50)
  )
  const sent = await ask(application, 'pause')
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
        'nothing is missing afterwards'
      )
    }
  }
}

/** A process is killed: its members leave, and the others go on. */
async function checkKill(t: Test, application: Application): Promise<void> {
  const [first, second, third] = application.servers
  const members = ['0a', '0b', '1a', '1b', '2a', '2b']
  const see = async (names: readonly string[]): Promise<void> => {
    await Promise.all(
      [first, second].map(server => server.until(() => server.members.join() === names.join(), names.join()))
    )
  }
  await see(members)
  const killed = performance.now()
  third.kill()
  await see(members.slice(0, 4))
  const took = performance.now() - killed
  const most = PRESENCE.timeout + PRESENCE.interval
  t.ok(took > PRESENCE.timeout / 2 && took < most + ms(1000), `gone after ${took} ms, stated ${most}`)

  const left = { ...application, servers: [first, second], readers: application.readers.slice(0, 4) }
  const start = await ask(left, 'published')
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
  t.test(`processes on ${name}`, { skip }, async t => {
    const application = await startApplication(t, await start(t), name)
    await t.test('messages of all to all', t => checkDelivery(t, application))
    await t.test('the engine crashes under load', t => checkCrash(t, application))
    await t.test('the engine restarts under load', t => checkRestart(t, application))
    await t.test('a process is killed', t => checkKill(t, application))
    t.strictSame(
      application.servers.flatMap(({ unexpected }) => unexpected),
      []
    )
  })

  t.test(`workers of node:cluster on ${name}`, { skip }, async t => {
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
