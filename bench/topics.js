// npm run bench:topics: the cost of a publish beside connections without subscriptions to the topic.
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { build } from './harness/build.js'
import { Child } from './harness/child.js'
import { findCores } from './harness/cores.js'
import { main } from './harness/main.js'
import { connectionLimit } from './harness/open-files.js'
import { makeBatch } from './load/batch.js'
import { openConnections } from './load/open.js'
import { makeRequest } from './load/opening.js'
import { machine } from './report/results.js'
import { median } from './report/summary.js'

const USAGE = `npm run bench:topics [-- --rounds N --seconds S --others N]

--rounds   how often each is measured (3)
--seconds  how long (2)
--others   the most connections beside the topic (20000)`

const SUBSCRIBERS = 10
const START_MS = 20_000
const ANSWER_MS = 60_000
const WORKLOAD = { size: 128, pipeline: 1, binary: false, deflate: false }

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2' },
    others: { type: 'string', default: '20000' },
    help: { type: 'boolean', default: false }
  }
})

/**
 * @param {number} others
 * @returns {Promise<number>} messages published per CPU second of the server.
 */
async function measure(others) {
  const script = fileURLToPath(new URL('servers/topics.js', import.meta.url))
  const server = new Child('the server', [process.execPath, script], { core: findCores()?.server })
  /** @type {import('./load/connection.js').Connection[]} */
  const connections = []
  try {
    const port = await server.port(START_MS)
    /** @param {string} path */
    const target = path => ({
      port,
      deflate: false,
      rawSize: 0,
      request: makeRequest({ port, path, deflate: false })
    })
    if (others > 0) connections.push(...(await openConnections(others, target('/other'), () => {})))
    const publisher = new Publisher()
    const subscribers = await openConnections(SUBSCRIBERS, target('/topic'), publisher.onMessages)
    connections.push(...subscribers)
    await publisher.run(subscribers[0], 0.5)
    const before = await server.ask({}, ANSWER_MS)
    const published = await publisher.run(subscribers[0], Number(values.seconds))
    const after = await server.ask({}, ANSWER_MS)
    return published / (after.cpu - before.cpu)
  } finally {
    for (const connection of connections) connection.drop()
    await server.stop()
  }
}

/** Sends a message after the previous one has come back. */
class Publisher {
  #batch = makeBatch(WORKLOAD)
  #count = 0
  #isRunning = false
  #done = () => {}
  /** @type {import('./load/connection.js').Connection | undefined} */
  #connection

  /** @param {import('./load/connection.js').Connection} connection */
  onMessages = connection => {
    if (connection !== this.#connection) return
    this.#count++
    if (this.#isRunning) connection.write(this.#batch)
    else this.#done()
  }

  /**
   * @param {import('./load/connection.js').Connection} connection
   * @param {number} seconds
   * @returns {Promise<number>} how many came back.
   */
  async run(connection, seconds) {
    this.#connection = connection
    this.#count = 0
    this.#isRunning = true
    connection.write(this.#batch)
    await new Promise(resolve => setTimeout(resolve, seconds * 1000))
    this.#isRunning = false
    await new Promise(resolve => {
      this.#done = () => resolve(undefined)
    })
    return this.#count
  }
}

/** @param {number[]} rates */
function summary(rates) {
  const [middle, lowest, highest] = [median(rates), Math.min(...rates), Math.max(...rates)].map(rate =>
    Math.round(rate).toLocaleString('en')
  )
  return `${middle} (${lowest} – ${highest})`
}

await main(async () => {
  if (values.help) return console.log(USAGE)
  await build()
  const most = Math.min(Number(values.others), connectionLimit() - SUBSCRIBERS)
  const counts = [0, Math.round(most / 10), most]
  /** @type {Map<number, number[]>} */
  const rates = new Map(counts.map(count => [count, []]))
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const count of counts) rates.get(count)?.push(await measure(count))
  }
  const { cpu, cores } = machine()
  console.log(
    `\n${process.version}, ${cores} cores of ${cpu}; ${SUBSCRIBERS} subscribers, ${WORKLOAD.size} bytes\n`
  )
  console.log('| other connections | published per CPU second of the server: median (lowest – highest) |')
  console.log('| --- | --- |')
  for (const [count, found] of rates) console.log(`| ${count.toLocaleString('en')} | ${summary(found)} |`)
})
