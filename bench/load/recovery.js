// The process of the clients that come back at once and recover. It follows one request of its parent over IPC.
import { Connection } from './connection.js'
import { makeHead, openingFields } from './opening.js'

/**
 * Seconds from the first attempt until all clients have what they missed, and the milliseconds that each has waited.
 * @typedef {{ seconds: number, latencies: number[] }} RecoveryResult
 */

/**
 * @param {{ port: number, count: number, paths: string[], missed: number }} storm
 * @returns {Promise<RecoveryResult>}
 */
function run({ port, count, paths, missed }) {
  const requests = paths.map(path => makeHead(path, openingFields(port)))
  const started = performance.now()
  /** @type {number[]} */
  const latencies = []
  return new Promise(resolve => {
    for (let i = 0; i < count; i++) {
      const target = { port, request: requests[i % requests.length], deflate: false, rawSize: 0 }
      const since = performance.now()
      let received = 0
      const onMessages = (/** @type {Connection} */ _, /** @type {number} */ messages) => {
        received += messages
        if (received > missed) throw new Error(`a client got ${received} messages, not ${missed}`)
        if (received < missed) return
        const now = performance.now()
        if (latencies.push(now - since) === count) resolve({ seconds: (now - started) / 1000, latencies })
      }
      new Connection(target, { onOpen: () => {}, onMessages })
    }
  })
}

process.on('message', async (/** @type {Parameters<typeof run>[0]} */ storm) => {
  process.send?.(await run(storm))
})

process.on('disconnect', () => process.exit())

process.on('uncaughtException', error => {
  process.send?.({ error: error.message }, () => process.exit(1))
})
