/** The state that the clients of a process share: the port of the server, their behaviour, and whether the run is over. */
export class World {
  #leaving = false
  /** @type {Set<() => void>} */
  #sleepers = new Set()
  #onLeave = () => {}
  /** Resolves when the run is over. @type {Promise<void>} */
  left = new Promise(resolve => {
    this.#onLeave = resolve
  })

  /** @param {{ port: number, seed: number, patience: number, pace: number }} options */
  constructor({ port, seed, patience, pace }) {
    this.port = port
    this.seed = seed
    this.patience = patience
    this.pace = pace
  }

  get isLeaving() {
    return this.#leaving
  }

  /** Ends all pauses; from now on no client pauses. */
  leave() {
    this.#leaving = true
    this.#onLeave()
    for (const wake of [...this.#sleepers]) wake()
  }

  /**
   * @param {number} ms
   * @returns {Promise<void>}
   */
  pause(ms) {
    if (this.#leaving) return Promise.resolve()
    return new Promise(resolve => {
      const wake = () => {
        clearTimeout(timer)
        this.#sleepers.delete(wake)
        resolve()
      }
      const timer = setTimeout(wake, ms)
      this.#sleepers.add(wake)
    })
  }
}
