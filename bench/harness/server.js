import { setTimeout as sleep } from 'node:timers/promises'
import { Child } from './child.js'

const START_MS = 20_000
const ANSWER_MS = 60_000

/** Memory counts as settled when it moves by less than this share over `SETTLE_READINGS` readings. */
const SETTLE_SHARE = 0.01
const SETTLE_READINGS = 5
const SETTLE_PAUSE_MS = 200
const SETTLE_MAX_READINGS = 25

/**
 * CPU seconds used so far, and resident bytes.
 * @typedef {{ cpu: number, memory: number }} Usage
 */

/** A server that is measured, in a separate process. */
export class Server {
  #child
  port = 0

  /** @param {Child} child */
  constructor(child) {
    this.#child = child
  }

  /**
   * @param {import('../peers.js').Peer} peer
   * @param {{ core: number | undefined, deflate: boolean }} options
   */
  static async start(peer, { core, deflate }) {
    const env = { ...peer.env, DEFLATE: deflate ? '1' : '', NODE_ENV: 'production' }
    const server = new Server(new Child(peer.name, peer.command, { core, env }))
    try {
      server.port = await server.#child.port(START_MS)
      return server
    } catch (error) {
      await server.stop()
      throw error
    }
  }

  /** @returns {Promise<Usage>} */
  usage() {
    return this.#child.ask({}, ANSWER_MS)
  }

  /** The resident bytes after garbage collection and the allocator have settled. */
  async settledMemory() {
    /** @type {number[]} */
    let last = []
    for (let i = 0; i < SETTLE_MAX_READINGS; i++) {
      last = [...last, (await this.usage()).memory].slice(-SETTLE_READINGS)
      const range = Math.max(...last) - Math.min(...last)
      if (last.length === SETTLE_READINGS && range < SETTLE_SHARE * last[0]) break
      await sleep(SETTLE_PAUSE_MS)
    }
    return last[last.length - 1]
  }

  /** The last output of a server that ended by itself. */
  get failure() {
    return this.#child.failure
  }

  stop() {
    return this.#child.stop()
  }
}
