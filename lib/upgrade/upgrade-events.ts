import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { ignoreErrors } from '../socket/byte-stream.js'
import { toError } from '../socket/error.js'
import { serveOrdinarily } from './ordinary-request.js'

// A server may have several listeners of `upgrade`: those of this package, and those of others such as Socket.IO or Vite.
// Over HTTP/2 the event is `connect`. This file coordinates them so that no request is answered twice.

/** Returned by a listener of `upgrade` or `connect` to keep the event from the listeners after it. */
export const TAKEN: unique symbol = Symbol('taken')

/** The changes to a server, and the number of users that need them. */
interface Control {
  users: number
  readonly undo: () => void
}

const controls = new WeakMap<Server, Control>()

/**
 * Makes a server emit every upgrade, and decides here how it is handled, so that the behaviour is the same in each version
 * of Node. Where Node decides that a request does not upgrade, the headers of the upgrade stay on it, and Node drops the
 * requests that were pipelined behind it. A `shouldUpgradeCallback` that the application has set is respected.
 *
 * A listener that returns {@link TAKEN} keeps the upgrade from the listeners after it. Some listeners answer every upgrade
 * that they see: the request would be answered twice, or an exception of theirs would end the process.
 * @returns undoes it. After the last user has called it, the server is as it was before.
 */
export function controlUpgrades(server: Server): () => void {
  const control = controls.get(server) ?? takeControl(server)
  controls.set(server, control)
  control.users++
  return () => {
    if (--control.users > 0) return
    controls.delete(server)
    control.undo()
  }
}

function takeControl(server: Server): Control {
  const decision: unknown = Reflect.get(server, 'shouldUpgradeCallback')
  const isAllowed =
    typeof decision === 'function'
      ? (request: IncomingMessage) => Reflect.apply(decision, server, [request])
      : undefined
  const ownEmit = Object.getOwnPropertyDescriptor(server, 'emit')
  const { emit } = server
  let isOn = true
  const emitUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): boolean => {
    if (isAllowed !== undefined && !mayUpgrade(server, isAllowed, request, socket, head)) return true
    return emitUntilTaken('upgrade', [request, socket, head])
  }
  const emitUntilTaken = (event: string, args: readonly unknown[]): boolean => {
    const listeners = server.rawListeners(event)
    for (const listener of listeners) if (Reflect.apply(listener, server, args) === TAKEN) break
    return listeners.length > 0
  }
  const emitEvent = (event: string | symbol, ...args: unknown[]): boolean => {
    if (event === 'upgrade' && isOn) return Reflect.apply(emitUpgrade, undefined, args)
    if (event === 'connect' && isOn) return emitUntilTaken(event, args)
    return Reflect.apply(emit, server, [event, ...args])
  }
  const always = (): boolean => true
  Object.assign(server, { emit: emitEvent })
  if (isAllowed !== undefined) Object.assign(server, { shouldUpgradeCallback: always })
  const undo = (): void => {
    // Another package may have wrapped them since then, and keeps calling them.
    isOn = false
    if (server.emit === emitEvent) {
      if (ownEmit === undefined) Reflect.deleteProperty(server, 'emit')
      else Object.defineProperty(server, 'emit', ownEmit)
    }
    if (Reflect.get(server, 'shouldUpgradeCallback') === always)
      Object.assign(server, { shouldUpgradeCallback: decision })
  }
  return { users: 0, undo }
}

/**
 * Calls the `shouldUpgradeCallback` of the application. As in Node, a request that it refuses is served as an ordinary one.
 * When it throws, the connection is cut.
 */
function mayUpgrade(
  server: Server,
  isAllowed: (request: IncomingMessage) => unknown,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer
): boolean {
  try {
    if (isAllowed(request)) return true
    serveOrdinarily(server, request, socket, head)
  } catch (error) {
    // When Node calls it, this is an uncaught exception, which any client could cause.
    process.emitWarning(toError(error))
    ignoreErrors(socket)
    socket.destroy()
  }
  return false
}

/** For each server with the plugin, whether a request is for one of the plugin's routes. */
const claims = new WeakMap<Server, (request: IncomingMessage) => boolean>()

/**
 * Claims paths of a server. Listeners of this package that take every path skip claimed ones.
 * @returns ends the claim.
 */
export function claimUpgrades(server: Server, isClaimed: (request: IncomingMessage) => boolean): () => void {
  claims.set(server, isClaimed)
  return () => void claims.delete(server)
}

/** Whether the path of a request is claimed. */
export function isClaimed(server: Server, request: IncomingMessage): boolean {
  return claims.get(server)?.(request) === true
}

const taken = new WeakSet<Duplex>()

/**
 * Notes that this package answers the handshake on a socket. Other listeners cannot see that otherwise: nothing is read
 * before the answer.
 * @returns false when it was noted before.
 */
export function takeUpgrade(socket: Duplex): boolean {
  if (taken.has(socket)) return false
  taken.add(socket)
  return true
}

/**
 * Whether a listener of `upgrade` has taken a socket. Listeners of other packages start to read it, and Node has removed
 * its own listeners.
 */
export function isTaken(socket: Duplex): boolean {
  return taken.has(socket) || socket.listenerCount('data') + socket.listenerCount('readable') > 0
}
