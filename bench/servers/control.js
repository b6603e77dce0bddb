/**
 * Tells the benchmark the port, and from then on, when asked, the CPU seconds used and the resident memory.
 * @param {number} port
 */
export function listening(port) {
  process.on('message', () => {
    const { user, system } = process.cpuUsage()
    process.send?.({ cpu: (user + system) / 1e6, memory: process.memoryUsage().rss })
  })
  process.on('disconnect', () => process.exit())
  console.log(`listening ${port}`)
}

export const HOST = '127.0.0.1'

/** Thousands of connections are opened in a short time. */
export const BACKLOG = 4096

/** Whether connections compress. */
export const DEFLATE = process.env.DEFLATE === '1'

/** The maximum size of a message: more than any workload sends. */
export const MAX_PAYLOAD = 2 ** 28

/** @param {import('node:net').Server} server */
export function portOf(server) {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  return address.port
}
