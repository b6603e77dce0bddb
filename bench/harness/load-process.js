import { fileURLToPath } from 'node:url'
import { Child } from './child.js'

const MAIN = fileURLToPath(new URL('../load/main.js', import.meta.url))
const OPEN_MS = 120_000
const DRAIN_MS = 60_000

/**
 * The result of a run of the load. It ends when every message is answered, so the work of the server for it is done.
 * @typedef {{ messages: number, seconds: number, cpu: number }} LoadResult
 */

/** The load, in a separate process. */
export class LoadProcess {
  #child

  /** @param {number | undefined} core */
  constructor(core) {
    this.#child = new Child('the load', [process.execPath, MAIN], { core })
  }

  /**
   * Opens the connections of a workload.
   * @param {import('../workloads.js').Workload} workload
   * @param {{ port: number, raw: boolean, transport: import('../peers.js').Peer['transport'] }} target
   */
  async open(workload, target) {
    await this.#child.ask({ open: workload, ...target }, OPEN_MS)
  }

  /**
   * @param {number} seconds
   * @returns {Promise<LoadResult>}
   */
  run(seconds) {
    return this.#child.ask({ run: seconds }, seconds * 1000 + DRAIN_MS)
  }

  stop() {
    return this.#child.stop()
  }
}
