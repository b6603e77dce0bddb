// The process of the soak's clients. It keeps a number of them connected until its parent requests the end.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { live } from './life.js'
import { World } from './world.js'

/** @type {import('./life.js').Entry[]} */
let entries = []
let world = /** @type {World | undefined} */ (undefined)
let alive = 0
let opened = 0
let lastId = 0
const delay = monitorEventLoopDelay()
delay.enable()
let onNobody = () => {}

/** @param {World} world */
async function keepAlive(world) {
  alive++
  while (!world.isLeaving) {
    const entry = await live(++lastId, world, () => {
      opened++
    })
    // The list may have been replaced by then.
    entries.push(entry)
  }
  if (--alive === 0) onNobody()
}

/** @param {{ port: number, seed: number, patience: number, pace: number, connections: number, ramp: number }} options */
function start({ connections, ramp, ...options }) {
  const made = new World(options)
  world = made
  for (let i = 0; i < connections; i++) {
    setTimeout(
      () => {
        if (!made.isLeaving) keepAlive(made)
      },
      (ramp * i) / connections
    )
  }
  return {}
}

function sample() {
  const taken = entries
  entries = []
  const { user, system } = process.cpuUsage()
  const lag = Math.round(delay.max / 1e6)
  delay.reset()
  return { entries: taken, alive, opened, lag, cpu: (user + system) / 1e6 }
}

async function leave() {
  world?.leave()
  if (alive > 0) {
    await new Promise(resolve => {
      onNobody = () => resolve(undefined)
    })
  }
  return sample()
}

process.on('message', async (/** @type {{ ask: string, options?: any }} */ { ask, options }) => {
  if (ask === 'start') process.send?.(start(options))
  else process.send?.(ask === 'leave' ? await leave() : sample())
})
process.on('disconnect', () => process.exit())
process.on('uncaughtException', error => {
  process.send?.({ error: `the clients: ${error.stack}` }, () => process.exit(1))
})
