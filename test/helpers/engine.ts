import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import type { Test } from 'tap'
import { freePort, type Program, program } from './program.js'
import { withDeadline } from './timeout.js'

export const REDIS: Program = program('redis-server', '/usr/bin/redis-server')
const NATS = program('nats-server', '/usr/sbin/nats-server')

/** The reason to skip the tests with an engine, for tap's `skip` option; false when they run. */
export const redisSkip: string | false = REDIS.skip
export const natsSkip: string | false = NATS.skip

interface Command {
  readonly path: string
  readonly args: readonly string[]
  /** Part of the line that it prints when it accepts connections. */
  readonly ready: RegExp
}

/** A server that brokers connect to: it can be killed, paused, and restarted on the same port. */
export class Engine {
  readonly port: number
  readonly #command: Command
  #process: ChildProcessWithoutNullStreams | undefined

  constructor(port: number, command: Command) {
    this.port = port
    this.#command = command
  }

  async start(): Promise<void> {
    const { path, args, ready } = this.#command
    const child = spawn(path, args)
    this.#process = child
    const said: string[] = []
    const wait = async (): Promise<void> => {
      const lines = [child.stdout, child.stderr].map(input => createInterface({ input }))
      const isReady = new Promise<void>((resolve, reject) => {
        for (const line of lines) {
          line.on('line', text => {
            said.push(text)
            if (ready.test(text)) resolve()
          })
        }
        child.once('close', () => reject(new Error(`${path} does not start: ${said.join('\n')}`)))
      })
      await isReady
    }
    await withDeadline(wait(), 10_000, path)
  }

  /** Ends it like a crash: connections are reset. */
  async kill(): Promise<void> {
    const child = this.#process
    this.#process = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await withDeadline(exited, 10_000, 'end')
  }

  /** The engine accepts data and answers nothing. */
  async hold(): Promise<void> {
    this.#process?.kill('SIGSTOP')
    const isHeld = async (): Promise<boolean> => {
      const tasks = `/proc/${this.#process?.pid}/task`
      const states = (await readdir(tasks)).map(task => readFile(join(tasks, task, 'stat'), 'utf8'))
      return (await Promise.all(states)).every(stat => stat.split(') ')[1]?.startsWith('T'))
    }
    const wait = async (): Promise<void> => {
      while (!(await isHeld())) await sleep(1)
    }
    if (existsSync('/proc')) await withDeadline(wait(), 10_000, 'hold')
  }

  /** Makes NATS read its configuration again. Meanwhile it refuses connections. */
  async reload(): Promise<void> {
    const child = this.#process
    if (child === undefined) throw new Error('the engine is not running')
    const lines = createInterface({ input: child.stderr })
    const reloaded = new Promise<void>(resolve => {
      lines.on('line', text => {
        if (text.includes('Reloaded server configuration')) resolve()
      })
    })
    child.kill('SIGHUP')
    await withDeadline(reloaded, 10_000, 'reload')
  }

  letGo(): void {
    this.#process?.kill('SIGCONT')
  }
}

async function startEngine(t: Test, port: number, command: Command): Promise<Engine> {
  const engine = new Engine(port, command)
  // Also when the test itself crashes.
  const onExit = (): void => void engine.kill()
  process.once('exit', onExit)
  t.teardown(() => {
    process.off('exit', onExit)
    return engine.kill()
  })
  await engine.start()
  return engine
}

async function makeFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'engine-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** @param args settings for the command line. */
export async function startRedis(t: Test, args: readonly string[] = []): Promise<Engine> {
  const port = await freePort()
  const folder = await makeFolder(t)
  const own = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', '']
  const ready = /Ready to accept connections/
  return startEngine(t, port, { path: REDIS.path, args: [...own, ...args], ready })
}

const SLOTS = 16_384

/** A cluster whose nodes share the slots. @returns the first node. */
export async function startRedisCluster(t: Test, size = 1): Promise<Engine> {
  const nodes = await Promise.all(Array.from({ length: size }, () => startNode(t)))
  await joinNodes(nodes)
  for (const { client } of nodes) client.disconnect()
  return nodes[0].engine
}

/** The nodes share the slots. */
async function joinNodes(nodes: readonly Node[]): Promise<void> {
  const { length: size } = nodes
  const [first] = nodes
  for (const [index, { client }] of nodes.entries()) {
    const slot = (n: number): number => Math.floor((n * SLOTS) / size)
    await client.cluster('ADDSLOTSRANGE', slot(index), slot(index + 1) - 1)
  }
  for (const { engine, bus } of nodes)
    await first.client.call('CLUSTER', 'MEET', '127.0.0.1', engine.port, bus)
  const knowsAll = async ({ client }: Node): Promise<boolean> => {
    const info = String(await client.cluster('INFO'))
    return info.includes('cluster_state:ok') && info.includes(`cluster_slots_ok:${SLOTS}`)
  }
  const wait = async (): Promise<void> => {
    while ((await Promise.all(nodes.map(knowsAll))).includes(false)) await sleep(20)
  }
  await withDeadline(wait(), 20_000, 'cluster')
}

interface Node {
  readonly engine: Engine
  readonly bus: number
  readonly client: Redis
}

async function startNode(t: Test): Promise<Node> {
  const bus = await freePort()
  const engine = await startRedis(t, [
    ...['--cluster-enabled', 'yes', '--cluster-port', String(bus)],
    ...[
      '--cluster-announce-ip',
      '127.0.0.1',
      '--cluster-node-timeout',
      '2000',
      '--cluster-replica-validity-factor',
      '0'
    ]
  ])
  const client = new Redis(engine.port).on('error', () => {})
  t.teardown(() => client.disconnect())
  return { engine, bus, client }
}

/** A cluster of three masters, one of which, the owner of a key, has a replica. */
export interface Failover {
  readonly ports: readonly number[]
  /** Kills the master of the key, waits until the replica is the master, and starts the old one as its replica. */
  failOver(): Promise<void>
}

export async function startRedisFailover(t: Test, key: string): Promise<Failover> {
  const masters = await Promise.all(Array.from({ length: 3 }, () => startNode(t)))
  await joinNodes(masters)
  const replica = await startNode(t)
  const [first] = masters
  await replica.client.call('CLUSTER', 'MEET', '127.0.0.1', first.engine.port, first.bus)
  const slot = await first.client.cluster('KEYSLOT', key)
  const owner = masters[Math.floor(((slot + 0.5) * masters.length) / SLOTS)]
  const id = await owner.client.cluster('MYID')
  const pair = [owner, replica] as const
  const until = async (predicate: () => Promise<boolean>, what: string): Promise<void> => {
    const wait = async (): Promise<void> => {
      while (!(await predicate().catch(() => false))) await sleep(20)
    }
    await withDeadline(wait(), 60_000, what)
  }
  const isReplica = async ({ client }: Node): Promise<boolean> => {
    const info = await client.info('replication')
    return info.includes('role:slave') && info.includes('master_link_status:up')
  }
  const isMaster = async ({ client }: Node): Promise<boolean> =>
    (await client.info('replication')).includes('role:master') &&
    String(await client.cluster('INFO')).includes('cluster_state:ok')
  await until(async () => (await replica.client.cluster('REPLICATE', id)) === 'OK', 'replica')
  await until(() => isReplica(replica), 'replication')
  const knowsReplica = async ({ client }: Node): Promise<boolean> =>
    String(await client.cluster('NODES')).includes(`slave ${id}`)
  await until(async () => !(await Promise.all(masters.map(knowsReplica))).includes(false), 'replica')
  const failOver = async (): Promise<void> => {
    const [master, other] = (await isMaster(pair[0])) ? pair : [pair[1], pair[0]]
    await master.engine.kill()
    await until(() => isMaster(other), 'failover')
    await master.engine.start()
    await until(() => isReplica(master), 'replication')
  }
  const ports = [...masters, replica].map(({ engine }) => engine.port)
  return { ports, failOver }
}

/** @param args settings for the command line. */
export async function startNats(t: Test, args: readonly string[] = []): Promise<Engine> {
  const port = await freePort()
  const own = ['--addr', '127.0.0.1', '--port', String(port)]
  return startEngine(t, port, { path: NATS.path, args: [...own, ...args], ready: /Server is ready/ })
}

/** A server with JetStream, for messages of up to 2 MiB. @param args settings for the command line. */
export async function startJetStream(t: Test, args: readonly string[] = []): Promise<JetStream> {
  const folder = await makeFolder(t)
  const config = join(folder, 'nats.conf')
  const store = join(folder, 'store')
  await writeFile(config, `max_payload: 2MB\njetstream: { store_dir: ${JSON.stringify(store)} }\n`)
  const engine = await startNats(t, ['-c', config, ...args])
  return { engine, store }
}

export interface JetStream {
  readonly engine: Engine
  /** The folder with the streams. */
  readonly store: string
}
