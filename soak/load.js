// npm run load -- --connections 20000 [--seconds 30] [--every 5]
import { parseArgs } from 'node:util'
import { ROOT } from '../bench/harness/build.js'
import { findCores } from '../bench/harness/cores.js'
import { main } from '../bench/harness/main.js'
import { connectionLimit } from '../bench/harness/open-files.js'
import { runLoad } from './load-run.js'
import { machine } from './machine.js'
import { checkBuild, positive, whole } from './options.js'

/** More would be a leak, or a server that buffers. An idle connection took 5.6 KiB when this was set. */
const MAX_KIB = 16

function readOptions() {
  const { values } = parseArgs({
    options: {
      connections: { type: 'string', default: '20000' },
      seconds: { type: 'string', default: '30' },
      every: { type: 'string', default: '5' },
      patience: { type: 'string', default: '15' },
      build: { type: 'string', default: ROOT }
    }
  })
  return {
    asked: whole(values.connections, '--connections'),
    seconds: positive(values.seconds, '--seconds'),
    every: positive(values.every, '--every'),
    patience: positive(values.patience, '--patience'),
    build: checkBuild(values.build)
  }
}

await main(async () => {
  const { asked, ...options } = readOptions()
  const where = machine()
  const limit = connectionLimit()
  const connections = Math.min(asked, limit)
  const cores = findCores()
  console.log(
    cores === undefined
      ? 'The server is not pinned: taskset or a second core is missing.'
      : `The server is pinned to core ${cores.server}, the load to core ${cores.load}.`
  )
  if (connections < asked) {
    console.log(
      `${connections} connections instead of ${asked}: a process may open no more files here. ` +
        'Raise the hard limit (ulimit -Hn) and run again to have them all.'
    )
  }
  const result = await runLoad({ ...options, connections, cores })
  print(result, options)
  const { seconds, every } = options
  const settings = { asked, seconds, every, pinned: cores !== undefined }
  console.log(JSON.stringify({ ...settings, ...result, machine: where }, undefined, 2))
  const { messages, kibPerConnection } = result
  if (result.connections !== connections)
    throw new Error(`${result.connections} of ${connections} connections opened`)
  const due = Math.min(connections, Math.floor((connections * seconds) / every))
  if (messages.answered < due) throw new Error(`${messages.answered} of ${due} connections answered`)
  // With few connections the server's own growth would be attributed to them.
  if (connections >= 5000 && kibPerConnection.loaded > MAX_KIB) {
    throw new Error(`a connection takes ${kibPerConnection.loaded} KiB, and ${MAX_KIB} are allowed`)
  }
}, 'load')

/**
 * @param {Awaited<ReturnType<typeof runLoad>>} result
 * @param {{ seconds: number, every: number }} options
 */
function print(result, { seconds, every }) {
  const { handshakes, kibPerConnection, rssMib, latencyMs, messages, cpu } = result
  const ms = (/** @type {number} */ n) => `${n.toFixed(2)} ms`
  const percent = (/** @type {number} */ n) => `${(n * 100).toFixed(0)} % of a core`
  const rows = {
    'connections held': String(result.connections),
    'connections that got an answer': String(messages.answered),
    'handshakes a second': `${Math.round(handshakes.perSecond)}, ${Math.round(handshakes.perCpuSecond)} a CPU second`,
    'memory a connection, RSS': `${kibPerConnection.idle} KiB idle, ${kibPerConnection.loaded} KiB after the messages`,
    'memory of the server, RSS': `${rssMib.empty} MiB empty, ${rssMib.idle} MiB idle, ${rssMib.loaded} MiB after`,
    'messages and echoes': `${messages.sent} in ${seconds} s, one every ${every} s a connection`,
    'latency p50': ms(latencyMs.p50),
    'latency p99': ms(latencyMs.p99),
    'latency p99.9': ms(latencyMs.p999),
    'latency max': ms(latencyMs.max),
    'CPU of the server': percent(cpu.server),
    'CPU of the load': percent(cpu.load)
  }
  for (const [name, value] of Object.entries(rows)) console.log(`${name.padEnd(32)}${value}`)
}
