// The process of the clients that connect at once. It follows one request of its parent over IPC.
import { Connection } from './connection.js'
import { makeHead, openingFields } from './opening.js'

/**
 * Seconds from the first attempt until all connections are open, and the milliseconds that each has taken.
 * @typedef {{ seconds: number, latencies: number[] }} StormResult
 */

/**
 * Calls `connect` for all connections before the first answer is read.
 * @param {{ port: number, count: number, cookie: string }} storm
 * @returns {Promise<StormResult>}
 */
function run({ port, count, cookie }) {
  const request = makeHead('/', { ...openingFields(port), Cookie: cookie })
  const target = { port, request, deflate: false, rawSize: 0 }
  const started = performance.now()
  /** @type {number[]} */
  const latencies = []
  return new Promise(resolve => {
    for (let i = 0; i < count; i++) {
      const since = performance.now()
      const onOpen = () => {
        const now = performance.now()
        if (latencies.push(now - since) === count) resolve({ seconds: (now - started) / 1000, latencies })
      }
      new Connection(target, { onOpen, onMessages: () => {} })
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
