import { Sequence } from '../sequence.js'

/** The server's record of a connection until it closed. */
export class Page {
  /** @param {number} id */
  constructor(id) {
    this.id = id
    this.sequence = new Sequence()
    /** Echoes that were sent. */
    this.sent = 0
    /** Broadcasts that were sent to the connection. */
    this.pushed = 0
    /** @type {string | undefined} */
    this.error = undefined
  }
}

/** The records of the server, kept until they are requested. */
export class Book {
  /** @type {object[]} */
  #closed = []
  /** @type {{ id: number, status: number }[]} */
  #refused = []
  opened = 0
  /** Errors that handlers and listeners threw on purpose. */
  thrown = 0
  /** The number of connections whose end `onResponse` has reported, among those with the hook. */
  responses = 0
  /** The same number, as reported by the sockets. */
  responsesExpected = 0

  /**
   * @param {import('fastify-upgrade').WebSocket} socket
   * @param {number} id
   */
  open(socket, id) {
    this.opened++
    const page = new Page(id)
    socket.on('error', error => {
      page.error = 'code' in error ? String(error.code) : error.message
    })
    socket.on('close', code => {
      const { sequence, sent, pushed, error } = page
      this.#closed.push({
        id,
        code,
        error,
        received: sequence.count,
        sent,
        pushed,
        problems: sequence.problems
      })
    })
    return page
  }

  /**
   * @param {number} id
   * @param {number} status
   */
  refuse(id, status) {
    this.#refused.push({ id, status })
  }

  /** The closed connections and refused handshakes since the last call. */
  take() {
    const closed = this.#closed
    const refused = this.#refused
    this.#closed = []
    this.#refused = []
    return { closed, refused }
  }
}
