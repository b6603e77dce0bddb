// npm run bench:storm: clients that come back at once to a server that has just started.
import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { build } from './harness/build.js'
import { Child } from './harness/child.js'
import { findCores } from './harness/cores.js'
import { main } from './harness/main.js'
import { readStormOptions } from './harness/storm.js'
import { makeHead, openingFields } from './load/opening.js'
import { machine } from './report/results.js'
import { median } from './report/summary.js'

const USAGE = `npm run bench:storm [-- --connections N --rounds N]

--connections  clients that connect at once (10000)
--rounds       how often each server is measured (3)`

const KINDS = ['fastify-upgrade', 'ws', '@fastify/websocket']
const START_MS = 20_000
const ANSWER_MS = 60_000
const STORM_MS = 300_000

const SERVER = fileURLToPath(new URL('servers/storm.js', import.meta.url))
const LOAD = fileURLToPath(new URL('load/storm.js', import.meta.url))
const SESSION = randomBytes(24).toString('base64url')
const COOKIE = `theme=dark; session=${SESSION}; language=en`

/**
 * One run of one server.
 * @typedef {object} Run
 * @property {number} seconds until all clients are in.
 * @property {number} median milliseconds from `connect` to the 101.
 * @property {number} worst
 * @property {number} cpu seconds of the server.
 */

/**
 * @param {string} kind
 * @param {number} count
 * @returns {Promise<Run>}
 */
async function measure(kind, count) {
  const cores = findCores()
  const env = { SESSION, CONNECTIONS: String(count), NODE_ENV: 'production' }
  const server = new Child(kind, [process.execPath, SERVER, kind], { core: cores?.server, env })
  const load = new Child('the load', [process.execPath, LOAD], { core: cores?.load })
  try {
    const port = await server.port(START_MS)
    const heads = [makeHead('/', { ...openingFields(port), Cookie: COOKIE })]
    const before = await server.ask({}, ANSWER_MS)
    /** @type {import('./load/storm.js').StormResult} */
    const { seconds, latencies } = await load.ask({ port, count, heads, messages: 0 }, STORM_MS)
    const after = await server.ask({}, ANSWER_MS)
    return {
      seconds,
      median: median(latencies),
      worst: Math.max(...latencies),
      cpu: after.cpu - before.cpu
    }
  } catch (error) {
    // The load only sees its connections close; the server may have printed the reason.
    throw server.failure === undefined ? error : new Error(server.failure)
  } finally {
    await Promise.all([load.stop(), server.stop()])
  }
}

/**
 * The medians of all rounds.
 * @param {string} kind
 * @param {Run[]} runs
 */
function row(kind, runs) {
  const of = (/** @type {keyof Run} */ name) => median(runs.map(run => run[name]))
  const ms = (/** @type {number} */ value) => Math.round(value).toLocaleString('en')
  const cells = [kind, of('seconds').toFixed(2), ms(of('median')), ms(of('worst')), of('cpu').toFixed(2)]
  return `| ${cells.join(' | ')} |`
}

await main(async () => {
  const options = readStormOptions(USAGE)
  if (options === undefined) return
  const { count, rounds } = options
  await build()
  /** @type {Map<string, Run[]>} */
  const runs = new Map(KINDS.map(kind => [kind, []]))
  for (let round = 0; round < rounds; round++) {
    for (const [kind, found] of runs) found.push(await measure(kind, count))
  }
  const { cpu, cores } = machine()
  console.log(
    `\n${process.version}, ${cores} cores of ${cpu}; ${count.toLocaleString('en')} clients, medians of ${rounds} runs\n`
  )
  console.log('| server | all in, s | median latency, ms | worst latency, ms | CPU of the server, s |')
  console.log('| --- | --- | --- | --- | --- |')
  for (const [kind, found] of runs) console.log(row(kind, found))
})
