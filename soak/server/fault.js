// Faults of a broken server, with which a test checks that the soak detects them.

/** @typedef {(socket: import('fastify-upgrade').WebSocket, data: Buffer, isBinary: boolean) => void} Echo */

/** @type {unknown[]} */
const leaked = []

export const FAULTS = ['drop', 'repeat', 'swap', 'code', 'leak', 'timer', 'uncaught', 'log']

/** The first echo with a fault. Two more have it, as a client that is about to leave does not detect it. */
const FIRST = { drop: 40, repeat: 80, swap: 120, code: 160 }
const AFTER = [0, 100, 200]

/**
 * @param {ReadonlySet<string>} faults
 * @param {Echo} echo
 * @returns {Echo}
 */
export function faultyEcho(faults, echo) {
  let count = 0
  const isDue = (/** @type {keyof typeof FIRST} */ fault) =>
    faults.has(fault) && AFTER.includes(count - FIRST[fault])
  let swaps = 0
  const canSwap = () => faults.has('swap') && swaps < AFTER.length && count >= FIRST.swap + AFTER[swaps]
  /** @type {{ socket: object, send: () => void } | undefined} */
  let held
  const letGo = () => {
    held?.send()
    held = undefined
  }
  return (socket, data, isBinary) => {
    count++
    if (isDue('drop')) return
    if (held === undefined && canSwap()) {
      held = { socket, send: () => echo(socket, data, isBinary) }
      // It is sent unless another message of the connection is sent before.
      setImmediate(letGo)
      return
    }
    echo(socket, data, isBinary)
    if (isDue('repeat')) echo(socket, data, isBinary)
    if (isDue('code')) socket.close(4999)
    if (held?.socket !== socket) return
    letGo()
    swaps++
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
  if (faults.has('leak')) leaked.push(Buffer.alloc(1_048_576, 1))
}
