import { type ChildProcess, fork } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { redisSkip, startRedis } from '../helpers/engine.js'
import { withDeadline } from '../helpers/timeout.js'

// Several processes with a topic with history. Numbers are published, one after the other, while processes and the engine
// are killed. Each subscriber connects again, to any process, with its last position.

const COUNT = 2500
const SUBSCRIBERS = 50

interface Settings {
  readonly port: number
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

  /** Resolves with whether the number was published. */
  async publish(number: number): Promise<boolean> {
    this.#child.send(number, () => {})
    while (this.isAlive) {
      const [reply] = await once(this, 'message')
      if (reply.number === number) return reply.position !== undefined
    }
    return false
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

  /** The running servers in turn. */
  next(): Server {
    const running = this.all.filter(({ isAlive, port }) => isAlive && port > 0)
    return running[this.#next++ % running.length]
  }
}

/** A client that stays subscribed. */
class Subscriber extends EventEmitter {
  /** The numbers that have arrived, and `lost` where the server said so. */
  readonly log: (number | 'lost')[] = []
  last = 0
  readonly #cluster: Cluster
  #position: { offset: number; epoch: string } | undefined
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
    socket.on('error', () => {})
    socket.on('message', data => this.#receive(JSON.parse(String(data))))
    socket.on('close', () => setTimeout(() => this.#connect(), 20 * Math.random()))
  }

  #receive(message: { offset: number; epoch: string; number?: number; lost?: boolean }): void {
    const { offset, epoch, number, lost } = message
    this.#position = { offset, epoch }
    if (lost === true) this.log.push('lost')
    if (number !== undefined) {
      this.log.push(number)
      this.last = number
    }
    this.emit('change')
  }
}

/** Publishes each number until a process confirms it, always with the same id. */
async function publishAll(cluster: Cluster, onNumber: (number: number) => void): Promise<void> {
  for (let number = 1; number <= COUNT; number++) {
    while (!(await cluster.next().publish(number))) await sleep(5)
    onNumber(number)
  }
}

const ALWAYS = ['--appendonly', 'yes', '--appendfsync', 'always']

for (const durable of [true, false]) {
  const name = durable
    ? 'each subscriber gets each number once and in order, while processes and a durable Redis are killed'
    : 'each subscriber gets each number once and in order, or a loss, while processes and Redis are killed'
  t.test(name, { skip: redisSkip }, async t => {
    const engine = await startRedis(t, durable ? ALWAYS : [])
    const settings = { port: engine.port, durable, limits: { size: 10_000, ttl: 600_000 } }
    const cluster = new Cluster(t, settings)
    await withDeadline(Promise.all([cluster.add(), cluster.add(), cluster.add()]), 20_000, 'servers')
    const subscribers = Array.from({ length: SUBSCRIBERS }, () => new Subscriber(t, cluster))
    const published = new EventEmitter()
    let last = 0
    const reached = async (number: number): Promise<void> => {
      while (last < number) await once(published, 'number')
    }
    const disturb = async (): Promise<void> => {
      await reached(300)
      cluster.all[0]?.kill()
      await cluster.add()
      await reached(700)
      await engine.kill()
      await sleep(50)
      await engine.start()
      await reached(1100)
      await cluster.all[1]?.close()
      await cluster.add()
      await reached(1500)
      await engine.kill()
      cluster.all[2]?.kill()
      await engine.start()
      await cluster.add()
    }
    const publishing = publishAll(cluster, number => {
      last = number
      published.emit('number')
    })
    await withDeadline(Promise.all([publishing, disturb()]), 60_000, 'the numbers')
    await withDeadline(Promise.all(subscribers.map(each => each.reached(COUNT))), 30_000, 'the last number')
    for (const { log } of subscribers) {
      const losses = log.filter(entry => entry === 'lost').length
      // A subscriber may begin after the first numbers.
      const wrong = log.filter((entry, i) => {
        const before = log[i - 1]
        return typeof entry === 'number' && typeof before === 'number' && entry !== before + 1
      })
      t.strictSame(wrong, [], 'each number follows the one before')
      t.ok(durable ? losses === 0 : losses <= 2, `${losses} losses`)
    }
    const unexpected = cluster.all.flatMap(server => server.unexpected)
    t.strictSame(unexpected, [])
  })
}
