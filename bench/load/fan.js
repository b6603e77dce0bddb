import { openConnections } from './open.js'

/** @typedef {import('./connection.js').Connection} Connection */

/** One connection sends, and all receive the message; the next is sent when the sender has received its own. */
export class FanLoad {
  /** @type {Connection[]} */
  #connections = []
  #batch
  #isRunning = false
  #messages = 0
  #expected = 0
  #done = () => {}

  /** @param {Buffer} batch */
  constructor(batch) {
    this.#batch = batch
  }

  /**
   * @param {number} count
   * @param {import('./connection.js').Target} target
   */
  async open(count, target) {
    this.#connections = await openConnections(count, target, (connection, messages) =>
      this.#onMessages(connection, messages)
    )
  }

  get bytes() {
    return this.#connections.reduce((sum, connection) => sum + connection.bytes, 0)
  }

  /**
   * @param {number} seconds after which nothing more is sent.
   * @returns {Promise<number>} messages that were received; all that were sent, times the receivers.
   */
  run(seconds) {
    this.#messages = 0
    this.#expected = 0
    this.#isRunning = true
    setTimeout(() => {
      this.#isRunning = false
      this.#checkDone()
    }, seconds * 1000)
    this.#send()
    return new Promise(resolve => {
      this.#done = () => resolve(this.#messages)
    })
  }

  #send() {
    this.#expected += this.#connections.length
    this.#connections[0].write(this.#batch)
  }

  /**
   * @param {Connection} connection
   * @param {number} messages
   */
  #onMessages(connection, messages) {
    this.#messages += messages
    if (!this.#isRunning) this.#checkDone()
    else if (connection === this.#connections[0]) this.#send()
  }

  #checkDone() {
    if (this.#messages === this.#expected) this.#done()
  }
}
