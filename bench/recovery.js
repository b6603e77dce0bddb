// npm run bench:recovery: clients that come back at once to a server that has just started, and recover what they missed.
import { fileURLToPath } from 'node:url'
import WebSocket from 'ws'
import { build } from './harness/build.js'
import { Child } from './harness/child.js'
import { findCores } from './harness/cores.js'
import { ENGINE_NAMES, startEngine } from './harness/engine.js'
import { main } from './harness/main.js'
import { readStormOptions } from './harness/storm.js'
import { makeHead, openingFields } from './load/opening.js'
import { machine } from './report/results.js'
import { median } from './report/summary.js'

const USAGE = `npm run bench:recovery [-- --connections N --rounds N]

--connections  clients that come back at once (10000); a hundred come first
--rounds       how often each is measured (3)`

const TOPICS = 100
const MISSED = 20
const FEW = 100
const START_MS = 20_000
const ANSWER_MS = 60_000
const STORM_MS = 300_000
/** Milliseconds between two messages of the client that was there before, and how long it is measured alone. */
const PROBE_MS = 5
const ALONE_MS = 1000

const SERVER = fileURLToPath(new URL('servers/recovery.js', import.meta.url))
const LOAD = fileURLToPath(new URL('load/storm.js', import.meta.url))

/**
 * @param {string} name of the engine.
 * @param {number} count
 */
async function measure(name, count) {
  const cores = findCores()
  const engine = await startEngine(name)
  const env = {
    ENGINE: name,
    ENGINE_PORT: String(engine.port),
    NODE_ENV: 'production',
    TOPICS: String(TOPICS),
    MISSED: String(MISSED),
    CONNECTIONS: String(count)
  }
  const publisher = new Child('the publisher', [process.execPath, SERVER, 'publish'], { env })
  const server = new Child('the server', [process.execPath, SERVER], { core: cores?.server, env })
  const load = new Child('the load', [process.execPath, LOAD], { core: cores?.load })
  try {
    /** @type {string[]} */
    const paths = JSON.parse(await publisher.line(ANSWER_MS))
    const port = await server.port(START_MS)
    const heads = paths.map(path => makeHead(path, openingFields(port)))
    const probe = new Probe(await connect(`ws://127.0.0.1:${port}/echo`))
    await new Promise(resolve => setTimeout(resolve, ALONE_MS))
    const alone = probe.take()
    const before = await server.ask({}, ANSWER_MS)
    /** @type {import('./load/storm.js').StormResult} */
    const { seconds, latencies } = await load.ask({ port, count, heads, messages: MISSED }, STORM_MS)
    const during = probe.take()
    const after = await server.ask({}, ANSWER_MS)
    probe.stop()
    return { seconds, worst: Math.max(...latencies), cpu: after.cpu - before.cpu, alone, during }
  } catch (error) {
    // The load only sees its connections close; the server may have printed the reason.
    throw server.failure === undefined ? error : new Error(server.failure)
  } finally {
    await Promise.all([load.stop(), server.stop(), publisher.stop()])
    await engine.stop()
  }
}

/** A client that was there before, and measures how long its messages take. */
class Probe {
  #socket
  #timer
  /** @type {number[]} */
  #latencies = []
  /** When the messages without an answer were sent. */
  #pending = /** @type {number[]} */ ([])

  /** @param {WebSocket} socket */
  constructor(socket) {
    this.#socket = socket
    socket.on('message', () => this.#latencies.push(performance.now() - Number(this.#pending.shift())))
    this.#timer = setInterval(() => {
      this.#pending.push(performance.now())
      socket.send('probe')
    }, PROBE_MS)
  }

  /** The latencies since the last call, with those of messages that still wait. */
  take() {
    const now = performance.now()
    const all = [...this.#latencies, ...this.#pending.map(since => now - since)].sort((a, b) => a - b)
    this.#latencies = []
    const at = (/** @type {number} */ part) => all[Math.floor((all.length - 1) * part)] ?? 0
    return { p50: at(0.5), p99: at(0.99), worst: at(1) }
  }

  stop() {
    clearInterval(this.#timer)
    this.#socket.terminate()
  }
}

/**
 * @param {string} url
 * @returns {Promise<WebSocket>}
 */
function connect(url) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url)
    socket.once('error', reject)
    socket.once('open', () => resolve(socket))
  })
}

/**
 * The medians of all rounds.
 * @param {string} name
 * @param {number} count
 * @param {Awaited<ReturnType<typeof measure>>[]} runs
 */
function row(name, count, runs) {
  const of = (/** @type {(run: typeof runs[0]) => number} */ value) => median(runs.map(value))
  const ms = (/** @type {(run: typeof runs[0]) => number} */ value) => of(value).toFixed(1)
  const cells = [
    name,
    count.toLocaleString('en'),
    of(run => run.seconds).toFixed(2),
    ms(run => run.worst),
    of(run => run.cpu).toFixed(2),
    [ms(run => run.alone.p50), ms(run => run.alone.p99)].join(' / '),
    [ms(run => run.during.p50), ms(run => run.during.p99), ms(run => run.during.worst)].join(' / ')
  ]
  return `| ${cells.join(' | ')} |`
}

await main(async () => {
  const options = readStormOptions(USAGE)
  if (options === undefined) return
  const { count, rounds } = options
  await build()
  const { cpu, cores } = machine()
  console.log(
    `\n${process.version}, ${cores} cores of ${cpu}; ${MISSED} missed publications each, of ${TOPICS} topics; medians of ${rounds} runs\n`
  )
  console.log(
    '| engine | clients | all recovered, s | worst client, ms | CPU of the server, s | echo before, p50 / p99, ms | echo meanwhile, p50 / p99 / worst, ms |'
  )
  console.log('| --- | --- | --- | --- | --- | --- | --- |')
  for (const name of ENGINE_NAMES) {
    for (const clients of [FEW, count]) {
      const runs = []
      for (let round = 0; round < rounds; round++) runs.push(await measure(name, clients))
      console.log(row(name, clients, runs))
    }
  }
})
