import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { Child } from '../bench/harness/child.js'
import { ROUTES } from './client/plan.js'
import { Ledger } from './ledger.js'
import { compareMemory } from './memory.js'

const START_MS = 20_000
const ANSWER_MS = 30_000
/** Longer than the deadlines of the server. */
const REST_MS = 20_000
/** The time for which handles may outlive the last connection. */
const LAST_MS = 3_000
const POLL_MS = 200

/**
 * @typedef {object} Options
 * @property {string} build the folder that holds the dist of the project.
 * @property {number} seconds
 * @property {number} connections
 * @property {number} seed
 * @property {number} interval seconds between two samples.
 * @property {number} pace the factor for the pauses of the clients.
 * @property {number} patience the time that a client waits for expected data, in seconds.
 * @property {string[]} faults
 */

/**
 * Runs a server and its clients, in separate processes, for some time.
 * @param {Options} options
 * @param {(row: object) => void} report called with each sample.
 */
export async function runSoak(options, report) {
  const { build, faults, seconds } = options
  const server = new Child('the server', [process.execPath, '--expose-gc', script('server/main.js')], {
    env: { BUILD: build, FAULTS: faults.join(','), NODE_ENV: 'production' }
  })
  const clients = new Child('the clients', [process.execPath, script('client/main.js')])
  try {
    const port = await server.port(START_MS)
    const soak = new Soak(options, server, clients, report)
    return await soak.run(port, seconds)
  } catch (error) {
    throw server.failure === undefined ? error : new Error(server.failure)
  } finally {
    await Promise.all([clients.stop(), server.stop()])
  }
}

/** @param {string} path */
function script(path) {
  return fileURLToPath(new URL(path, import.meta.url))
}

class Soak {
  #options
  #server
  #clients
  #report
  #ledger = new Ledger()
  /** @type {any[]} */
  #samples = []
  #started = 0

  /**
   * @param {Options} options
   * @param {Child} server
   * @param {Child} clients
   * @param {(row: object) => void} report
   */
  constructor(options, server, clients, report) {
    this.#options = options
    this.#server = server
    this.#clients = clients
    this.#report = report
  }

  /**
   * @param {number} port
   * @param {number} seconds
   */
  async run(port, seconds) {
    const { connections, seed, pace, patience, interval } = this.#options
    const base = await this.#handles()
    const before = await this.#ask(this.#server, 'sample')
    const ramp = Math.min(10_000, seconds * 100)
    this.#started = performance.now()
    await this.#ask(this.#server, 'spoil')
    await this.#clients.ask(
      { ask: 'start', options: { port, seed, pace, connections, ramp, patience: patience * 1000 } },
      ANSWER_MS
    )
    for (let next = interval; next <= seconds; next += interval) {
      await sleep(Math.max(0, next * 1000 - (performance.now() - this.#started)))
      await this.#sample()
    }
    const last = await this.#clients.ask({ ask: 'leave' }, patience * 1000 + REST_MS)
    this.#ledger.addClients(last.entries)
    const rest = await this.#awaitRest(base)
    const after = await this.#ask(this.#server, 'sample')
    this.#ledger.addServer(after)
    this.#ledger.finish()
    const tally = await this.#ask(this.#server, 'tally')
    return this.#result({ base, rest, before, after, tally, last })
  }

  /**
   * @param {Child} child
   * @param {string} ask
   * @returns {Promise<any>}
   */
  #ask(child, ask) {
    return child.ask({ ask }, ANSWER_MS)
  }

  #handles() {
    return this.#ask(this.#server, 'handles')
  }

  async #sample() {
    const [clients, server] = await Promise.all([
      this.#ask(this.#clients, 'sample'),
      this.#ask(this.#server, 'sample')
    ])
    this.#ledger.addClients(clients.entries)
    this.#ledger.addServer(server)
    const { memory, delay, cpu } = server
    const at = (performance.now() - this.#started) / 1000
    const { closed, received, refused } = this.#ledger.totals
    const { broken } = this.#ledger
    const problems = Object.values(broken).reduce((sum, n) => sum + n, 0)
    const sample = {
      at,
      open: server.clients,
      closed,
      refused,
      received,
      memory,
      delay,
      lag: clients.lag,
      cpu,
      problems
    }
    this.#samples.push(sample)
    this.#report(sample)
  }

  /** @param {object} base */
  async #awaitRest(base) {
    let until = performance.now() + REST_MS
    for (;;) {
      const now = await this.#handles()
      if (isDeepStrictEqual(now, base) || performance.now() > until) return now
      if (now.connections === 0) until = Math.min(until, performance.now() + LAST_MS)
      await sleep(POLL_MS)
    }
  }

  /** @param {Record<string, any>} state */
  #result({ base, rest, before, after, tally, last }) {
    const { totals, counts, broken, problems } = this.#ledger
    const { seconds, connections, seed } = this.#options
    const memory = compareMemory(this.#samples, seconds)
    const ledgerCheck = (/** @type {keyof typeof broken} */ name) => ({
      ok: broken[name] === 0,
      problems: broken[name]
    })
    const unused = Object.keys(ROUTES).filter(route => counts.routes[route] === undefined)
    const checks = {
      // A soak without activity proves nothing.
      work: { ok: unused.length === 0 && tally.opened >= connections / 2, unused },
      messages: ledgerCheck('messages'),
      closes: { ok: broken.closes === 0 && totals.closed === tally.opened, problems: broken.closes },
      refusals: ledgerCheck('refusals'),
      progress: ledgerCheck('progress'),
      memory: { ok: memory.every(({ ok }) => ok) },
      handles: { ok: isDeepStrictEqual(rest, base) },
      accidents: { ok: tally.uncaught.length + tally.warnings.length === 0 },
      log: { ok: tally.errorLines === tally.thrown },
      responses: { ok: tally.responses === tally.responsesExpected }
    }
    return {
      seconds,
      connections,
      seed,
      ok: Object.values(checks).every(({ ok }) => ok),
      checks,
      problems,
      totals: { ...totals, opened: tally.opened, clients: last.opened },
      counts,
      memory,
      atRest: { before: before.memory, after: after.memory },
      delay: after.delayOfAll,
      cpu: { server: after.cpu, clients: last.cpu },
      handles: { base, rest },
      tally
    }
  }
}
