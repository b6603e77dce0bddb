import { openConnections } from './open.js'

/** @typedef {import('./connection.js').Connection} Connection */

/** Every connection sends a batch, and the next one after all replies have arrived. */
export class EchoLoad {
  /** @type {Connection[]} */
  #connections = []
  #batch
  #pipeline
  #isRunning = false
  #messages = 0
  #busy = 0
  #done = () => {}

  /**
   * @param {Buffer} batch
   * @param {number} pipeline messages in the batch.
   */
  constructor(batch, pipeline) {
    this.#batch = batch
    this.#pipeline = pipeline
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
   * @returns {Promise<number>} messages that came back; all that were sent.
   */
  run(seconds) {
    this.#messages = 0
    this.#isRunning = true
    this.#busy = this.#connections.length
    setTimeout(() => {
      this.#isRunning = false
    }, seconds * 1000)
    for (const connection of this.#connections) this.#send(connection)
    return new Promise(resolve => {
      this.#done = () => resolve(this.#messages)
    })
  }

  /** Resets the connections. */
  drop() {
    for (const connection of this.#connections) connection.drop()
  }

  /** @param {Connection} connection */
  #send(connection) {
    connection.pending = this.#pipeline
    connection.write(this.#batch)
  }

  /**
   * @param {Connection} connection
   * @param {number} messages
   */
  #onMessages(connection, messages) {
    this.#messages += messages
    connection.pending -= messages
    if (connection.pending > 0) return
    if (this.#isRunning) this.#send(connection)
    else if (--this.#busy === 0) this.#done()
  }
}
