import type { Socket } from 'node:net'
import { deadlinesAfter, type Waiting } from '../limits/deadline.js'
import { ignoreErrors } from '../socket/byte-stream.js'
import { refusalResponse } from './refusal.js'
import { isTaken } from './upgrade-owner.js'

const NOT_FOUND = refusalResponse({ status: 404, message: 'Not Found', headers: {} })

/**
 * Upgrades that were left to the other listeners of a server. Each of those may leave it to the others in turn, and a
 * socket that nobody touches would stay open for ever.
 */
export class LeftUpgrades {
  readonly #left = new Set<LeftUpgrade>()

  get size(): number {
    return this.#left.size
  }

  /**
   * @param timeout milliseconds that the other listeners have to take the socket.
   * @param connection the socket below. While the body of the request is incomplete, Node 26 wraps it.
   */
  add(socket: Socket, timeout: number, connection = socket): void {
    // Node has taken its own away.
    ignoreErrors(socket)
    if (isTaken(socket)) return
    const left = new LeftUpgrade(socket, connection)
    const deadlines = deadlinesAfter(timeout)
    this.#left.add(left)
    deadlines.set(left)
    socket.once('close', () => {
      this.#left.delete(left)
      deadlines.clear(left)
    })
  }

  /** Ends those that nobody has taken. */
  end(): void {
    for (const left of this.#left) left.onDeadline()
  }
}

class LeftUpgrade implements Waiting {
  readonly #socket: Socket
  readonly #connection: Socket
  readonly #written: number

  constructor(socket: Socket, connection: Socket) {
    this.#socket = socket
    this.#connection = connection
    this.#written = connection.bytesWritten
  }

  onDeadline(): void {
    const socket = this.#socket
    if (isTaken(socket) || this.#connection.bytesWritten > this.#written) return
    socket.end(NOT_FOUND, () => socket.destroy())
  }
}
