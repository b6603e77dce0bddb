import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'

/** Who is asked whether the handshakes of a server are his. */
const claims = new WeakMap<Server, (request: IncomingMessage) => boolean>()

const taken = new WeakSet<Duplex>()

/**
 * Makes listeners of a server's `upgrade` event that take every path skip the paths that have an owner.
 * @returns ends it.
 */
export function claimUpgrades(server: Server, isClaimed: (request: IncomingMessage) => boolean): () => void {
  claims.set(server, isClaimed)
  return () => void claims.delete(server)
}

/** Whether the path of a handshake has somebody of its own. */
export function isClaimed(server: Server, request: IncomingMessage): boolean {
  return claims.get(server)?.(request) === true
}

/**
 * Notes that the handshake on a socket is answered here. Until it is, nothing is read, and the others see nothing of it.
 * @returns whether it was not noted before.
 */
export function takeUpgrade(socket: Duplex): boolean {
  if (taken.has(socket)) return false
  taken.add(socket)
  return true
}

/**
 * Whether a listener of `upgrade` has taken a socket. Those that are not from here begin to read, and Node has taken its
 * own listeners away.
 */
export function isTaken(socket: Duplex): boolean {
  return taken.has(socket) || socket.listenerCount('data') + socket.listenerCount('readable') > 0
}
