import { type ChildProcess, fork } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import type { Position } from '../../lib/index.js'
import { startProxy } from '../brokers/proxy.js'
import {
  type Engine,
  natsSkip,
  redisSkip,
  startJetStream,
  startRedis,
  startRedisFailover
} from '../helpers/engine.js'
import { withDeadline } from '../helpers/timeout.js'

// Several processes with a topic with history. Numbers are published, one after the other, while processes and the engine
// are killed, the network between them is cut and slow, and the processes are replaced in turn. Each subscriber connects
// again, to any process, with its last position. `npm run soak:recovery` runs this with larger counts.

const COUNT = Number(process.env.RECOVERY_COUNT ?? 300)
const SUBSCRIBERS = Number(process.env.RECOVERY_SUBSCRIBERS ?? 12)
/** Whether all accidents happen with each engine. Otherwise those that need new processes happen with the durable ones. */
const isLong = COUNT > 1000 || Boolean(process.env.CI)
/** Numbers after which the accidents begin again. */
const ROUND = Math.min(COUNT, 4000)
/** Milliseconds for which the whole takes place. */
const DEADLINE = 60_000 + 30 * COUNT

interface Settings {
  readonly engine: 'redis' | 'cluster' | 'nats'
  readonly ports: readonly number[]
  readonly durable: boolean
  readonly limits: { readonly size: number; readonly ttl: number }
}

/** A process that runs recovery-server.js. */
class Server extends EventEmitter {
  port = 0
  readonly unexpected: string[] = []
  readonly #child: ChildProcess
  isAlive = true

  constructor(settings: Settings) {
    super()
    this.#child = fork(join(import.meta.dirname, 'recovery-server.js'), {
      env: { ...process.env, SERVER_SETTINGS: JSON.stringify(settings) },
      execArgv: []
    })
    this.#child.on('message', (message: object) => {
      if ('port' in message) this.port = Number(message.port)
      if ('unexpected' in message) this.unexpected.push(String(message.unexpected))
      this.emit('message', message)
    })
    this.#child.once('exit', () => {
      this.isAlive = false
      this.emit('message', { number: undefined })
    })
  }

  async started(): Promise<this> {
    while (this.port === 0) await once(this, 'message')
    return this
  }

  /** Resolves with the position of the number, or with undefined when it may not have been published. */
  async publish(number: number): Promise<Position | undefined> {
    this.#child.send(number, () => {})
    while (this.isAlive) {
      const [reply] = await once(this, 'message')
      if (reply.number === number) return reply.position
    }
    return undefined
  }

  kill(): void {
    this.isAlive = false
    this.#child.kill('SIGKILL')
  }

  /** Ends it as a deployment does. */
  async close(): Promise<void> {
    this.isAlive = false
    const exited = once(this.#child, 'exit')
    this.#child.send('close')
    await withDeadline(exited, 20_000, 'end of a server')
  }
}

class Cluster {
  readonly all: Server[] = []
  readonly #settings: Settings
  #next = 0

  constructor(t: Test, settings: Settings) {
    this.#settings = settings
    t.teardown(() => {
      for (const server of this.all) server.kill()
    })
  }

  async add(): Promise<Server> {
    const server = new Server(this.#settings)
    this.all.push(server)
    return await server.started()
  }

  get running(): Server[] {
    return this.all.filter(({ isAlive, port }) => isAlive && port > 0)
  }

  /** The running servers in turn. */
  next(): Server {
    const { running } = this
    return running[this.#next++ % running.length]
  }

  /** Kills one and starts another. */
  async replace(): Promise<void> {
    this.running[0]?.kill()
    await this.add()
  }

  /** Replaces all of them in turn, as a deployment does. */
  async deploy(): Promise<void> {
    for (const server of this.running) {
      await this.add()
      await server.close()
    }
  }
}

/** A message, or a loss, with the position that the client had after it. */
interface Entry extends Position {
  /** Undefined for a loss. */
  readonly number: number | undefined
}

/** A client that stays subscribed. */
class Subscriber extends EventEmitter {
  readonly log: Entry[] = []
  last = 0
  /** Where it began. */
  start: Position | undefined
  connections = 0
  recoveries = 0
  readonly #cluster: Cluster
  #position: Position | undefined
  #socket: WebSocket | undefined
  #isClosed = false

  constructor(t: Test, cluster: Cluster) {
    super()
    this.#cluster = cluster
    this.#connect()
    t.teardown(() => {
      this.#isClosed = true
      this.#socket?.terminate()
    })
  }

  /** Resolves when it knows its first position. */
  async started(): Promise<void> {
    while (this.start === undefined) await once(this, 'change')
  }

  /** Resolves when this number has arrived. */
  async reached(number: number): Promise<void> {
    while (this.last < number) await once(this, 'change')
  }

  #connect(): void {
    if (this.#isClosed) return
    const query = new URLSearchParams(
      this.#position && { offset: String(this.#position.offset), epoch: this.#position.epoch }
    )
    const socket = new WebSocket(`ws://127.0.0.1:${this.#cluster.next().port}/?${query}`)
    this.#socket = socket
    socket.on('open', () => this.connections++)
    socket.on('error', () => {})
    socket.on('message', data => this.#receive(JSON.parse(String(data))))
    socket.on('close', () => setTimeout(() => this.#connect(), 20 * Math.random()))
  }

  #receive(message: Position & { number?: number; lost?: boolean; recovered?: boolean }): void {
    const { offset, epoch, number, lost, recovered } = message
    this.#position = { offset, epoch }
    this.start ??= this.#position
    if (recovered === true) this.recoveries++
    if (lost === true || number !== undefined) this.log.push({ number, offset, epoch })
    this.last = number ?? this.last
    this.emit('change')
  }
}

/** Where each number is, as its publisher has learned. */
type Truth = Map<number, Position>

/** Publishes each number until a process confirms it, always with the same id. */
async function publishAll(cluster: Cluster, truth: Truth, onNumber: (number: number) => void): Promise<void> {
  for (let number = 1; number <= COUNT; number++) {
    let position: Position | undefined
    while (position === undefined) {
      position = await cluster.next().publish(number)
      if (position === undefined) await sleep(5)
    }
    truth.set(number, position)
    onNumber(number)
  }
}

/** The reasons why a log is not one of a subscriber that got everything in order, or a loss at the right place. */
function wrongEntries({ log, start }: Subscriber, truth: Truth, durable: boolean): string[] {
  const wrong: string[] = []
  let before: Entry = { number: undefined, offset: 0, epoch: '', ...start }
  let last = 0
  for (const entry of log) {
    const { number, offset, epoch } = entry
    const show = `${number} at ${offset} ${epoch} after ${before.number} at ${before.offset} ${before.epoch}`
    if (number === undefined) {
      // The histories keep everything, so only another epoch can be a reason.
      if (durable || epoch === before.epoch) wrong.push(`loss: ${show}`)
    } else {
      if (epoch !== before.epoch || offset !== before.offset + 1) wrong.push(`offset: ${show}`)
      // After a loss, the numbers that follow the position, and one that was published again.
      if (before.number === undefined ? number < last : number !== last + 1) wrong.push(`number: ${show}`)
      const known = truth.get(number)
      if (known?.epoch === epoch && known.offset !== offset) wrong.push(`truth ${known.offset}: ${show}`)
      last = number
    }
    before = entry
  }
  return wrong
}

interface Accidents {
  readonly [name: string]: () => Promise<unknown>
}

/** @param accidents one after the other, at equal distances. */
async function check(
  t: Test,
  settings: Pick<Settings, 'engine' | 'ports' | 'durable'>,
  makeAccidents: (cluster: Cluster) => Accidents
): Promise<void> {
  const limits = { size: COUNT + 1000, ttl: 6_000_000 }
  const cluster = new Cluster(t, { ...settings, limits })
  await withDeadline(Promise.all([cluster.add(), cluster.add(), cluster.add()]), 30_000, 'servers')
  const subscribers = Array.from({ length: SUBSCRIBERS }, () => new Subscriber(t, cluster))
  await withDeadline(Promise.all(subscribers.map(each => each.started())), 30_000, 'subscriptions')
  const published = new EventEmitter()
  let last = 0
  const reached = async (number: number): Promise<void> => {
    while (last < number) await once(published, 'number')
  }
  const accidents = Object.entries(makeAccidents(cluster))
  const counts = new Map<string, number>()
  const disturb = async (): Promise<void> => {
    const distance = ROUND / (accidents.length + 1)
    for (let at = distance; at < COUNT - distance / 2; at += distance) {
      await reached(at)
      const [name, accident] = accidents[(Math.round(at / distance) - 1) % accidents.length]
      counts.set(name, (counts.get(name) ?? 0) + 1)
      await withDeadline(accident(), 60_000, name)
    }
  }
  const truth: Truth = new Map()
  const publishing = publishAll(cluster, truth, number => {
    last = number
    published.emit('number')
  })
  await withDeadline(Promise.all([publishing, disturb()]), DEADLINE, 'the numbers')
  await withDeadline(Promise.all(subscribers.map(each => each.reached(COUNT))), 60_000, 'the last number')
  let losses = 0
  for (const subscriber of subscribers) {
    const { log, start } = subscriber
    t.strictSame(wrongEntries(subscriber, truth, settings.durable).slice(0, 5), [], 'in order')
    const isLoss = ({ number }: Entry): boolean => number === undefined
    losses += log.filter(isLoss).length
    t.equal(start?.offset, 0, 'it began before the first number')
    if (settings.durable) t.equal(log.length, COUNT, 'each number once')
  }
  t.strictSame(
    cluster.all.flatMap(server => server.unexpected),
    []
  )
  t.equal(counts.size, accidents.length, 'each accident has happened')
  const sum = (of: (each: Subscriber) => number): number => subscribers.reduce((n, each) => n + of(each), 0)
  const epochs = new Set(subscribers.flatMap(({ log }) => log.map(({ epoch }) => epoch))).size
  t.comment(
    `${COUNT} numbers, ${sum(({ log }) => log.length) - losses} deliveries, ${sum(each => each.connections)} connections, ` +
      `${sum(each => each.recoveries)} recovered, ${losses} losses, ${epochs} epochs, ` +
      [...counts].map(([name, count]) => `${count} times ${name}`).join(', ')
  )
}

const ALWAYS = ['--appendonly', 'yes', '--appendfsync', 'always']
const ONCE = 'each subscriber gets each number once and in order, while processes and'
const OR_LOSS = 'each subscriber gets each number once and in order, or a loss, while processes and'

interface Case {
  readonly engine: 'redis' | 'nats'
  readonly durable: boolean
  readonly name: string
  readonly skip: string | false
  readonly start: (t: Test) => Promise<Engine>
}

const CASES: readonly Case[] = [
  {
    engine: 'redis',
    durable: true,
    name: `${ONCE} a durable Redis are killed`,
    skip: redisSkip,
    start: t => startRedis(t, ALWAYS)
  },
  {
    engine: 'redis',
    durable: false,
    name: `${OR_LOSS} Redis are killed`,
    skip: redisSkip,
    start: t => startRedis(t)
  },
  {
    engine: 'nats',
    durable: true,
    name: `${ONCE} NATS with a file store are killed`,
    skip: natsSkip,
    start: async t => (await startJetStream(t)).engine
  },
  {
    engine: 'nats',
    durable: false,
    name: `${OR_LOSS} NATS with a memory store are killed`,
    skip: natsSkip,
    start: async t => (await startJetStream(t)).engine
  }
]

for (const { engine: kind, durable, name, skip, start } of CASES) {
  t.test(name, { skip }, async t => {
    const engine = await start(t)
    const proxy = await startProxy(t, engine)
    const isWhole = isLong || durable
    await check(t, { engine: kind, durable, ports: [proxy.port] }, cluster => ({
      ...(isWhole && { 'a killed process': () => cluster.replace() }),
      'a killed engine': async () => {
        await engine.kill()
        await sleep(50)
        await engine.start()
      },
      'a slow network': async () => {
        proxy.delay = 20
        proxy.replyDelay = 30
        await sleep(500)
        proxy.delay = 0
        proxy.replyDelay = 0
      },
      'a cut network': async () => {
        proxy.cut()
        await sleep(100)
        proxy.cut()
      },
      ...(isWhole && { 'a deployment': () => cluster.deploy() }),
      'a killed engine and process': async () => {
        await engine.kill()
        await Promise.all([cluster.replace(), engine.start()])
      }
    }))
  })
}

t.test(`${OR_LOSS} a master of a Redis Cluster are killed`, { skip: redisSkip }, async t => {
  const { ports, failOver } = await startRedisFailover(t, '{fastify-upgrade:h:room}')
  await check(t, { engine: 'cluster', durable: false, ports }, cluster => ({
    'a killed process': () => cluster.replace(),
    'a killed master': failOver,
    'a deployment': () => cluster.deploy()
  }))
})
