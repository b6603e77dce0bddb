import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { ignoreErrors } from '../socket/byte-stream.js'
import { toError } from '../socket/error.js'
import { serveOrdinarily } from './ordinary-request.js'

/** Returned by a listener of `upgrade` to keep an upgrade from the listeners behind it. */
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
 * A listener that returns {@link TAKEN} keeps the upgrade from the listeners behind it. Some listeners take every upgrade
 * that they see: it would be answered twice, or what they throw would end the process.
 * @returns ends it. When the last user has ended it, the server is as it was before.
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
    const listeners = server.rawListeners('upgrade')
    for (const listener of listeners)
      if (Reflect.apply(listener, server, [request, socket, head]) === TAKEN) break
    return listeners.length > 0
  }
  const emitEvent = (event: string | symbol, ...args: unknown[]): boolean =>
    event === 'upgrade' && isOn
      ? Reflect.apply(emitUpgrade, undefined, args)
      : Reflect.apply(emit, server, [event, ...args])
  const always = (): boolean => true
  Object.assign(server, { emit: emitEvent })
  if (isAllowed !== undefined) Object.assign(server, { shouldUpgradeCallback: always })
  const undo = (): void => {
    // Another package may have wrapped them since, and goes on calling them.
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
 * Asks the callback of the application. As in Node, a request that it refuses is served as an ordinary one. When the
 * callback throws, the connection is cut.
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
    // In Node's own call it would be an uncaught exception, which any client could cause.
    process.emitWarning(toError(error))
    ignoreErrors(socket)
    socket.destroy()
  }
  return false
}
