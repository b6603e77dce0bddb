// What a broken server would do, so that a test sees that the soak notices.

/** @typedef {(socket: import('fastify-upgrade').WebSocket, data: Buffer, isBinary: boolean) => void} Echo */

/** @type {unknown[]} */
const leaked = []

export const FAULTS = ['drop', 'repeat', 'swap', 'code', 'leak', 'timer', 'uncaught', 'log']

/** The echo that has a fault. */
const AT = { drop: 40, repeat: 80, swap: 120, code: 160 }

/**
 * @param {ReadonlySet<string>} faults
 * @param {Echo} echo
 * @returns {Echo}
 */
export function faultyEcho(faults, echo) {
  let count = 0
  let canSwap = faults.has('swap')
  /** @type {{ socket: object, send: () => void } | undefined} */
  let held
  const letGo = () => {
    held?.send()
    held = undefined
  }
  return (socket, data, isBinary) => {
    count++
    if (faults.has('drop') && count === AT.drop) return
    if (canSwap && held === undefined && count >= AT.swap) {
      held = { socket, send: () => echo(socket, data, isBinary) }
      // It goes unless another message of the connection comes before.
      setImmediate(letGo)
      return
    }
    echo(socket, data, isBinary)
    if (faults.has('repeat') && count === AT.repeat) echo(socket, data, isBinary)
    if (faults.has('code') && count === AT.code) socket.close(4999)
    if (held?.socket !== socket) return
    letGo()
    canSwap = false
  }
}

/**
 * @param {ReadonlySet<string>} faults
 * @param {import('fastify').FastifyInstance} app
 */
export function installFaults(faults, app) {
  if (faults.has('uncaught')) setTimeout(() => Promise.reject(new Error('a fault')), 500)
  if (faults.has('log')) setTimeout(() => app.log.error('a fault'), 500)
  if (faults.has('timer')) setInterval(() => {}, 60_000)
}

/** @param {ReadonlySet<string>} faults */
export function leak(faults) {
  if (faults.has('leak')) leaked.push(Buffer.alloc(262_144, 1))
}
