// npm run bench:scale: messages per second and latency between processes that share topics through an engine.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import WebSocket from 'ws'
import { build } from './harness/build.js'
import { Child } from './harness/child.js'
import { ENGINE_NAMES, startEngine } from './harness/engine.js'
import { main } from './harness/main.js'
import { machine } from './report/results.js'

const USAGE = `npm run bench:scale [-- --seconds S --receivers N --history --rounds N]

--seconds    how long each measurement is (3)
--receivers  connections to each process that get every message (10)
--history    compares a topic with history and one without, on one and on four processes
--rounds     of that comparison (5)`

const PROCESSES = [2, 4]
const SIZE = 128
const START_MS = 20_000
/** The number of unacknowledged messages of a publisher, for the rate; one at a time, with pauses, for the latency. */
const WINDOW = 64
const PAUSE = 10

const { values } = parseArgs({
  options: {
    seconds: { type: 'string' },
    receivers: { type: 'string' },
    history: { type: 'boolean' },
    rounds: { type: 'string' },
    help: { type: 'boolean' }
  }
})
const seconds = Number(values.seconds ?? 3)
const receivers = Number(values.receivers ?? 10)
const rounds = Number(values.rounds ?? 5)

/**
 * @param {string} name
 * @param {number} count of processes.
 * @param {boolean} hasHistory
 */
async function measure(name, count, hasHistory) {
  const engine = await startEngine(name)
  const script = fileURLToPath(new URL('servers/scale.js', import.meta.url))
  const env = {
    ENGINE: name,
    ENGINE_PORT: String(engine.port),
    NODE_ENV: 'production',
    HISTORY: hasHistory ? '1' : '0'
  }
  const servers = Array.from(
    { length: count },
    (_, i) => new Child(`server ${i}`, [process.execPath, script], { env })
  )
  try {
    const ports = await Promise.all(servers.map(server => server.port(START_MS)))
    const load = new Load(await Promise.all(ports.map(port => connect(port))))
    const cpu = () => [engine, ...servers].map(({ pid }) => cpuSeconds(pid))
    const rate = await load.run(WINDOW, 0, cpu)
    if (values.history) {
      load.close()
      return { name, count, ...rate }
    }
    const quiet = await load.run(1, PAUSE, cpu)
    load.close()
    return { name, count, ...rate, latencies: quiet.latencies }
  } finally {
    await Promise.all(servers.map(server => server.stop()))
    await engine.stop()
  }
}

/**
 * Receivers of one process, the first of which publishes, once all of them are subscribed in every process.
 * @param {number} port
 */
function connect(port) {
  return Promise.all(
    Array.from(
      { length: receivers },
      () =>
        new Promise((resolve, reject) => {
          const socket = new WebSocket(`ws://127.0.0.1:${port}/`)
          socket.once('error', reject)
          socket.once('message', () => resolve(socket))
        })
    )
  )
}

/** Publishers, each of which waits until the last receiver of the next process has its messages. */
class Load {
  #groups
  #delivered = 0
  #published = 0
  /** @type {number[]} */
  #latencies = []
  #isOver = false
  #pause = 0

  /** @param {import('ws').WebSocket[][]} groups by process. */
  constructor(groups) {
    this.#groups = groups
    groups.forEach((group, process) => {
      group.forEach((socket, i) => {
        const isLast = i === group.length - 1
        socket.on('message', data => this.#onMessage(/** @type {Buffer} */ (data), process, isLast))
      })
    })
  }

  /**
   * @param {number} window
   * @param {number} pause milliseconds between an answer and the next message.
   * @param {() => number[]} cpu the CPU seconds of the engine, and of each process.
   */
  async run(window, pause, cpu) {
    this.#pause = pause
    this.#isOver = false
    this.#groups.forEach((_, process) => {
      for (let i = 0; i < window; i++) this.#publish(process)
    })
    await new Promise(resolve => setTimeout(resolve, 500))
    this.#delivered = 0
    this.#published = 0
    this.#latencies = []
    const since = performance.now()
    const before = cpu()
    await new Promise(resolve => setTimeout(resolve, seconds * 1000))
    const [engine, ...processes] = cpu().map((after, i) => after - before[i])
    const time = (performance.now() - since) / 1000
    const result = {
      published: this.#published / time,
      delivered: this.#delivered / time,
      /** Microseconds of CPU for each published message: of the engine, and of all processes together. */
      engineCpu: (engine * 1e6) / this.#published,
      processCpu: (processes.reduce((sum, each) => sum + each, 0) * 1e6) / this.#published,
      latencies: this.#latencies.sort((a, b) => a - b)
    }
    this.#isOver = true
    // Messages in transit arrive before the next run.
    await new Promise(resolve => setTimeout(resolve, 500))
    return result
  }

  close() {
    for (const socket of this.#groups.flat()) socket.terminate()
  }

  /** @param {number} process */
  #publish(process) {
    if (this.#isOver) return
    const data = Buffer.alloc(SIZE)
    data.writeDoubleLE(performance.now())
    data[8] = process
    this.#groups[process][0].send(data)
    this.#published++
  }

  /**
   * @param {Buffer} data
   * @param {number} process where it has arrived.
   * @param {boolean} isLast
   */
  #onMessage(data, process, isLast) {
    this.#delivered++
    const publisher = data[8]
    if (!isLast || process !== (publisher + 1) % this.#groups.length) return
    this.#latencies.push(performance.now() - data.readDoubleLE(0))
    if (this.#pause === 0) this.#publish(publisher)
    else setTimeout(() => this.#publish(publisher), this.#pause)
  }
}

/** @param {Awaited<ReturnType<typeof measure>>} result */
function row({ name, count, published, delivered, latencies }) {
  const at = (/** @type {number} */ part) => latencies[Math.floor(latencies.length * part)]?.toFixed(2)
  const whole = (/** @type {number} */ number) => Math.round(number).toLocaleString('en')
  return `| ${[name, count, whole(published), whole(delivered), at(0.5), at(0.9), at(0.99)].join(' | ')} |`
}

/** @param {number} pid */
function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

const median = (/** @type {number[]} */ list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)]

/** Both kinds of topics in turn, and the medians of the ratios of each round. */
async function compareHistory() {
  console.log(
    '| engine | processes | rate with / without | CPU µs a message: engine | processes | published per CPU second, with / without |'
  )
  console.log('| --- | --- | --- | --- | --- | --- |')
  for (const engine of ENGINE_NAMES) {
    for (const count of [1, 4]) {
      const pairs = []
      for (let round = 0; round < rounds; round++) {
        const without = await measure(engine, count, false)
        pairs.push({ without, with: await measure(engine, count, true) })
      }
      const of = (/** @type {(pair: typeof pairs[0]) => number} */ ratio) => {
        const list = pairs.map(ratio)
        return `${median(list).toFixed(2)} (${list[0].toFixed(2)} – ${list.at(-1)?.toFixed(2)})`
      }
      const us = (/** @type {'engineCpu' | 'processCpu'} */ key) =>
        ['without', 'with']
          .map(kind => median(pairs.map(pair => pair[/** @type {'with'} */ (kind)][key])).toFixed(1))
          .join(' → ')
      const total = (/** @type {Awaited<ReturnType<typeof measure>>} */ { engineCpu, processCpu }) =>
        engineCpu + processCpu
      console.log(
        `| ${engine} | ${count} | ${of(pair => pair.with.published / pair.without.published)} | ${us('engineCpu')} | ${us('processCpu')} | ${of(pair => total(pair.without) / total(pair.with))} |`
      )
    }
  }
}

await main(async () => {
  if (values.help) return console.log(USAGE)
  await build()
  if (values.history) return compareHistory()
  const { cpu, cores } = machine()
  console.log(
    `\n${process.version}, ${cores} cores of ${cpu}, ${receivers} receivers a process, ${SIZE} bytes, ${seconds} s each\n`
  )
  console.log('| engine | processes | published a second | delivered a second | p50 ms | p90 ms | p99 ms |')
  console.log('| --- | --- | --- | --- | --- | --- | --- |')
  for (const engine of ENGINE_NAMES) {
    for (const count of PROCESSES) console.log(row(await measure(engine, count, false)))
  }
})
