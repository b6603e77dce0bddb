// The process of the clients that connect at once. It follows one request of its parent over IPC.
import { Connection } from './connection.js'

/**
 * Seconds from the first attempt until all clients have what they wait for, and the milliseconds that each has waited.
 * @typedef {{ seconds: number, latencies: number[] }} StormResult
 */

/**
 * Calls `connect` for all connections before the first answer is read.
 * @param {object} storm
 * @param {number} storm.port
 * @param {number} storm.count
 * @param {string[]} storm.heads the requests of the clients, in turn.
 * @param {number} storm.messages that each client waits for; with 0 it waits for the 101.
 * @returns {Promise<StormResult>}
 */
function run({ port, count, heads, messages }) {
  const started = performance.now()
  /** @type {number[]} */
  const latencies = []
  return new Promise(resolve => {
    for (let i = 0; i < count; i++) {
      const target = { port, request: heads[i % heads.length], deflate: false, rawSize: 0 }
      const since = performance.now()
      let received = 0
      const onDone = () => {
        const now = performance.now()
        if (latencies.push(now - since) === count) resolve({ seconds: (now - started) / 1000, latencies })
      }
      new Connection(target, {
        onOpen: () => {
          if (messages === 0) onDone()
        },
        onMessages: (_, more) => {
          received += more
          if (received > messages) throw new Error(`a client got ${received} messages, not ${messages}`)
          if (received === messages) onDone()
        }
      })
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
