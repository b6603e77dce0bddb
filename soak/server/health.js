import { readdirSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'

/** Milliseconds between two readings of the clock, which every delay includes. */
const RESOLUTION = 5

/** Memory, delays of the event loop and open handles of this process. */
export class Health {
  #interval = monitorEventLoopDelay({ resolution: RESOLUTION })
  #all = monitorEventLoopDelay({ resolution: RESOLUTION })

  constructor() {
    this.#watch(true)
  }

  /** @param {boolean} on */
  #watch(on) {
    for (const histogram of [this.#interval, this.#all]) {
      if (on) histogram.enable()
      else histogram.disable()
    }
  }

  /** The garbage collections that this requests do not count as delays. */
  async sample() {
    this.#watch(false)
    const delay = percentiles(this.#interval)
    for (let i = 0; i < 2; i++) {
      globalThis.gc?.()
      await nextTurn()
    }
    const { heapUsed, external, rss } = process.memoryUsage()
    const { user, system } = process.cpuUsage()
    this.#interval.reset()
    this.#watch(true)
    const memory = { heap: heapUsed, external, rss }
    return { memory, delay, delayOfAll: percentiles(this.#all), cpu: (user + system) / 1e6 }
  }
}

/** @param {import('node:perf_hooks').Histogram} histogram */
function percentiles(histogram) {
  const at = (/** @type {number} */ percentile) => milliseconds(histogram.percentile(percentile))
  if (histogram.count === 0) return { p50: 0, p99: 0, p999: 0, max: 0 }
  return { p50: at(50), p99: at(99), p999: at(99.9), max: milliseconds(histogram.max) }
}

/** @param {number} nanoseconds */
function milliseconds(nanoseconds) {
  return Math.max(0, Math.round(nanoseconds / 1e4) / 100 - RESOLUTION)
}

/**
 * The resources that keep the process alive, and its open handles.
 * @param {import('fastify').FastifyInstance} app
 * @param {() => number} clients
 */
export async function handles(app, clients) {
  const connections = await new Promise((resolve, reject) =>
    app.server.getConnections((error, count) => (error ? reject(error) : resolve(count)))
  )
  return {
    connections,
    clients: clients(),
    files: openFiles(),
    resources: countBy(process.getActiveResourcesInfo())
  }
}

function openFiles() {
  return process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0
}

/** @param {string[]} names */
function countBy(names) {
  /** @type {Record<string, number>} */
  const counts = {}
  for (const name of names.sort()) counts[name] = (counts[name] ?? 0) + 1
  return counts
}
