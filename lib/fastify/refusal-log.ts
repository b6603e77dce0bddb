import type { FastifyBaseLogger, FastifyReply } from 'fastify'
import { deadlinesAfter, type Waiting } from '../limits/deadline.js'
import { TooManyConnectionsError } from '../upgrade/error.js'

/** Milliseconds between two log lines. */
const INTERVAL = 1000

/** Logs the handshakes that a connection limit refuses: a line for the first, and then a line a second with their number. */
export class RefusalLog implements Waiting {
  readonly #log: FastifyBaseLogger
  readonly #silent: FastifyBaseLogger
  #count = 0
  #isWaiting = false

  constructor(log: FastifyBaseLogger) {
    this.#log = log
    this.#silent = log.child({}, { level: 'silent' })
  }

  /** @returns the error that refuses the handshake of a reply. Fastify does not log it, as clients could fill the log. */
  refuse(reply: FastifyReply): Error {
    reply.log = this.#silent
    this.#count++
    if (!this.#isWaiting) this.#report()
    return new TooManyConnectionsError()
  }

  onDeadline(): void {
    this.#isWaiting = false
    if (this.#count > 0) this.#report()
  }

  #report(): void {
    const fields = { code: 'FST_UPGRADE_TOO_MANY_CONNECTIONS', count: this.#count }
    this.#log.warn(fields, 'WebSocket handshakes refused: too many connections')
    this.#count = 0
    this.#isWaiting = true
    deadlinesAfter(INTERVAL).set(this)
  }
}
