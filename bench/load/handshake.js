import { Connection } from './connection.js'

/** A number of connections is opened at a time, and each is dropped when it is open. */
export class HandshakeLoad {
  /** A handshake has no message. */
  bytes = 0
  #count = 0
  #total
  #dialled = 0
  #target = /** @type {import('./connection.js').Target | undefined} */ (undefined)
  #isRunning = false
  #handshakes = 0
  #busy = 0
  #done = () => {}

  /** @param {number} total after how many connections of a run no more are opened. */
  constructor(total = Number.POSITIVE_INFINITY) {
    this.#total = total
  }

  /**
   * @param {number} count
   * @param {import('./connection.js').Target} target
   */
  async open(count, target) {
    this.#count = count
    this.#target = target
  }

  /**
   * @param {number} seconds after which no more connections are opened, unless they are limited in number.
   * @returns {Promise<number>} handshakes.
   */
  run(seconds) {
    this.#handshakes = 0
    this.#dialled = 0
    this.#isRunning = true
    this.#busy = this.#count
    if (this.#total === Number.POSITIVE_INFINITY) {
      setTimeout(() => {
        this.#isRunning = false
      }, seconds * 1000)
    }
    for (let i = 0; i < this.#count; i++) this.#dial()
    return new Promise(resolve => {
      this.#done = () => resolve(this.#handshakes)
    })
  }

  #dial() {
    if (this.#target === undefined) return
    if (++this.#dialled === this.#total) this.#isRunning = false
    new Connection(this.#target, { onOpen: connection => this.#onOpen(connection), onMessages: () => {} })
  }

  /** @param {Connection} connection */
  #onOpen(connection) {
    this.#handshakes++
    connection.drop()
    if (this.#isRunning) this.#dial()
    else if (--this.#busy === 0) this.#done()
  }
}
