import { fileURLToPath } from 'node:url'
import { Child } from '../bench/harness/child.js'
import { Server } from '../bench/harness/server.js'
import { projectPeer } from '../bench/peers.js'
import { Latencies } from './load/latency.js'

const OPEN_MS = 300_000
const ANSWER_MS = 30_000

/** The maximum number of connections of a client process, well below the number of ports of an address. */
const PER_PROCESS = 10_000

/** The share of the measured time that is spent on warming up before, for the compilers of both sides. */
const WARM_UP = 0.2

/**
 * @typedef {object} Options
 * @property {string} build the folder that holds the dist of the project.
 * @property {number} connections
 * @property {number} seconds
 * @property {number} every seconds between two messages of a connection.
 * @property {number} patience the maximum time to wait for the last answer, in seconds.
 * @property {import('../bench/harness/cores.js').Cores | undefined} cores
 */

/**
 * One server holds many connections; each sends a message from time to time and receives it back.
 * @param {Options} options
 */
export async function runLoad(options) {
  const { build, cores } = options
  const server = await Server.start(projectPeer('the server', build, ''), {
    core: cores?.server,
    deflate: false
  })
  const processes = Array.from(
    { length: Math.ceil(options.connections / PER_PROCESS) },
    (_, i) =>
      new Child(`load process ${i + 1}`, [process.execPath, script('load/main.js')], { core: cores?.load })
  )
  try {
    return await measure(options, server, processes)
  } catch (error) {
    throw server.failure === undefined ? error : new Error(server.failure)
  } finally {
    await Promise.all([...processes.map(child => child.stop()), server.stop()])
  }
}

/** @param {string} path */
function script(path) {
  return fileURLToPath(new URL(path, import.meta.url))
}

/**
 * @param {Options} options
 * @param {Server} server
 * @param {Child[]} processes
 */
async function measure({ connections, seconds, every, patience }, server, processes) {
  const empty = await server.settledMemory()
  const opening = await timed(server, () => open(processes, connections, server.port))
  const idle = await server.settledMemory()
  await run(processes, { seconds: seconds * WARM_UP, every, patience })
  const running = await timed(server, () => run(processes, { seconds, every, patience }))
  const loaded = await server.settledMemory()
  const { latencies, ...counts } = running.result
  return {
    connections: opening.result,
    handshakes: {
      perSecond: opening.result / opening.seconds,
      perCpuSecond: opening.result / opening.cpu,
      seconds: opening.seconds
    },
    kibPerConnection: {
      idle: kib(idle - empty, opening.result),
      loaded: kib(loaded - empty, opening.result)
    },
    rssMib: { empty: mib(empty), idle: mib(idle), loaded: mib(loaded) },
    latencyMs: {
      p50: latencies.percentile(0.5),
      p99: latencies.percentile(0.99),
      p999: latencies.percentile(0.999),
      max: latencies.max
    },
    messages: { ...counts, perSecond: latencies.count / running.seconds },
    cpu: { server: running.cpu / running.seconds, load: counts.cpu / running.seconds }
  }
}

/**
 * @template T
 * @param {Server} server
 * @param {() => Promise<T>} work
 */
async function timed(server, work) {
  const { cpu } = await server.usage()
  const started = performance.now()
  const result = await work()
  const seconds = (performance.now() - started) / 1000
  return { result, seconds, cpu: (await server.usage()).cpu - cpu }
}

/**
 * @param {Child[]} processes
 * @param {number} connections
 * @param {number} port
 */
async function open(processes, connections, port) {
  const opened = await Promise.all(
    processes.map((child, i) => {
      const count = Math.min(PER_PROCESS, connections - i * PER_PROCESS)
      // Another address has its own ports. Only Linux has all of them by default.
      const localAddress = process.platform === 'linux' ? `127.0.0.${2 + i}` : undefined
      return child.ask({ open: { count, port, localAddress } }, OPEN_MS)
    })
  )
  return opened.reduce((sum, answer) => sum + answer.open, 0)
}

/**
 * @param {Child[]} processes
 * @param {{ seconds: number, every: number, patience: number }} how
 */
async function run(processes, how) {
  const results = await Promise.all(
    processes.map(child => child.ask({ run: how }, (how.seconds + how.patience) * 1000 + ANSWER_MS))
  )
  const latencies = new Latencies()
  const counts = { sent: 0, late: 0, answered: 0, cpu: 0 }
  for (const result of results) {
    latencies.merge(new Latencies(result.latencies))
    for (const name of /** @type {(keyof typeof counts)[]} */ (Object.keys(counts)))
      counts[name] += result[name]
  }
  return { ...counts, latencies }
}

/**
 * @param {number} bytes
 * @param {number} connections
 */
function kib(bytes, connections) {
  return Math.round((bytes / 1024 / connections) * 100) / 100
}

/** @param {number} bytes */
function mib(bytes) {
  return Math.round(bytes / 2 ** 20)
}
