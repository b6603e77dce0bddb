import { Connection } from './connection.js'

/** The maximum number of connections that are opened concurrently. */
const AT_ONCE = 256

/**
 * Opens connections, some at a time.
 * @param {number} count
 * @param {import('./connection.js').Target} target
 * @param {(connection: Connection, count: number) => void} onMessages
 * @returns {Promise<Connection[]>}
 */
export function openConnections(count, target, onMessages) {
  return new Promise(resolve => {
    /** @type {Connection[]} */
    const connections = []
    let open = 0
    const dial = () => {
      if (connections.length < count) connections.push(new Connection(target, { onOpen, onMessages }))
    }
    const onOpen = () => {
      if (++open === count) resolve(connections)
      else dial()
    }
    for (let i = 0; i < AT_ONCE; i++) dial()
  })
}
