import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { deadlinesAfter, type Waiting } from '../limits/deadline.js'
import type { Refusal } from '../protocol/handshake/request.js'
import { ignoreErrors } from '../socket/byte-stream.js'
import { refusalResponse } from './http1.js'
import { isTaken } from './upgrade-events.js'

/** The answer when no application and no listener takes an upgrade. */
export const NOT_FOUND: Omit<Refusal, 'code'> = { status: 404, message: 'Not Found', headers: {} }

const RESPONSE = refusalResponse(NOT_FOUND)

/**
 * Upgrades that this package does not answer because another listener of the server may. If no listener takes the socket,
 * it is answered with 404; otherwise it would stay open forever.
 */
export class UnclaimedUpgrades {
  readonly #upgrades = new Set<UnclaimedUpgrade>()

  get size(): number {
    return this.#upgrades.size
  }

  /**
   * @param socket the socket of the event. While the body of the request is incomplete, Node 26 passes a stream around
   * the socket of the connection.
   * @param connection the socket of the connection.
   * @param timeout the time in milliseconds for the other listeners to take the socket.
   */
  add(socket: Duplex, connection: Socket, timeout: number): void {
    // Node has removed its own.
    ignoreErrors(socket)
    if (isTaken(socket)) return
    const upgrade = new UnclaimedUpgrade(socket, connection)
    const deadlines = deadlinesAfter(timeout)
    this.#upgrades.add(upgrade)
    deadlines.set(upgrade)
    socket.once('close', () => {
      this.#upgrades.delete(upgrade)
      deadlines.clear(upgrade)
    })
  }

  /** Refuses the upgrades that no listener has taken. */
  refuse(): void {
    for (const upgrade of this.#upgrades) upgrade.onDeadline()
  }
}

class UnclaimedUpgrade implements Waiting {
  readonly #socket: Duplex
  readonly #connection: Socket
  readonly #written: number

  constructor(socket: Duplex, connection: Socket) {
    this.#socket = socket
    this.#connection = connection
    this.#written = connection.bytesWritten
  }

  onDeadline(): void {
    const socket = this.#socket
    if (isTaken(socket) || this.#connection.bytesWritten > this.#written) return
    socket.end(RESPONSE, () => socket.destroy())
  }
}
