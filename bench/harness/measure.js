import { takes } from '../peers.js'
import { interrupted } from './interrupt.js'
import { LoadProcess } from './load-process.js'
import { Server } from './server.js'

/** The share of the measured time that the compilers of the server and of the load get to warm up, except for `cold`. */
const WARM_UP = 0.25

/**
 * One run of one server. Shares of CPU are of one core. Figures that do not apply are missing.
 * @typedef {object} Measurement
 * @property {number} round
 * @property {string} workload
 * @property {string} server
 * @property {string} [node] the version of Node that runs the server.
 * @property {string} [failed] why there is no figure.
 * @property {number} [perCpuSecond] messages, deliveries or handshakes per CPU second of the server.
 * @property {number} [perSecond] the same per second of the clock.
 * @property {number} [serverCpu]
 * @property {number} [loadCpu]
 * @property {number} [memoryMib] resident memory of the server at the end.
 * @property {number} [kibPerConnection]
 */

/**
 * @typedef {import('../peers.js').Peer} Peer
 * @typedef {import('../workloads.js').Workload} Workload
 * @typedef {{ seconds: number, rounds: number, cores: import('./cores.js').Cores | undefined }} Settings
 */

/**
 * Measures interleaved: what slows the machine down for a while then hits every server alike.
 * @param {Workload[]} workloads
 * @param {Peer[]} peers
 * @param {Settings} settings
 * @returns {Promise<Measurement[]>}
 */
export async function measureAll(workloads, peers, settings) {
  /** @type {Measurement[]} */
  const all = []
  for (let round = 1; round <= settings.rounds; round++) {
    for (const workload of workloads) {
      for (const peer of peers.filter(candidate => takes(candidate, workload))) {
        const measurement = await measure(workload, peer, settings, round)
        console.error(progress(measurement, settings.rounds))
        all.push(measurement)
      }
    }
  }
  return all
}

/**
 * @param {Workload} workload
 * @param {Peer} peer
 * @param {Settings} settings
 * @param {number} round
 * @returns {Promise<Measurement>}
 */
async function measure(workload, peer, { seconds, cores }, round) {
  const head = { round, workload: workload.name, server: peer.name, node: peer.node }
  try {
    const server = await Server.start(peer, { core: cores?.server, deflate: workload.deflate })
    const load = new LoadProcess(cores?.load)
    try {
      return { ...head, ...(await underLoad(workload, peer, server, load, seconds)) }
    } catch (error) {
      // The load only sees its connections close; the server may have printed the reason.
      throw server.failure === undefined ? error : new Error(server.failure)
    } finally {
      await Promise.all([load.stop(), server.stop()])
    }
  } catch (error) {
    interrupted.throwIfAborted()
    return { ...head, failed: error instanceof Error ? error.message : String(error) }
  }
}

/**
 * @param {Workload} workload
 * @param {Peer} peer
 * @param {Server} server
 * @param {LoadProcess} load
 * @param {number} seconds
 */
async function underLoad(workload, peer, server, load, seconds) {
  const { memory: before } = await server.usage()
  await load.open(workload, { port: server.port, raw: peer.raw, transport: peer.transport })
  const memory = workload.memory
    ? { kibPerConnection: ((await server.settledMemory()) - before) / 1024 / workload.connections }
    : {}
  if (workload.kind !== 'idle' && workload.kind !== 'cold') await load.run(seconds * WARM_UP)
  const speed = workload.kind === 'idle' ? {} : await speedOf(server, load, seconds)
  const { memory: after } = await server.usage()
  return { ...speed, ...memory, memoryMib: after / 2 ** 20 }
}

/**
 * The load waits for the last answer before it reports. So the server is at rest when it is asked, and the CPU time is
 * that of exactly the messages counted.
 * @param {Server} server
 * @param {LoadProcess} load
 * @param {number} seconds
 */
async function speedOf(server, load, seconds) {
  const { cpu: start } = await server.usage()
  const result = await load.run(seconds)
  const { cpu: end } = await server.usage()
  return {
    perCpuSecond: result.messages / (end - start),
    perSecond: result.messages / result.seconds,
    serverCpu: (end - start) / result.seconds,
    loadCpu: result.cpu / result.seconds
  }
}

/**
 * @param {Measurement} measurement
 * @param {number} rounds
 */
function progress({ round, workload, server, node, failed, perCpuSecond, kibPerConnection }, rounds) {
  const figure =
    perCpuSecond === undefined
      ? `${kibPerConnection?.toFixed(1)} KiB per connection`
      : `${Math.round(perCpuSecond).toLocaleString('en')} per CPU second`
  const name = node === undefined ? server : `${server} on Node ${node}`
  return `round ${round} of ${rounds}, ${workload}, ${name}: ${failed ? `failed: ${failed}` : figure}`
}
