import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { connectionLimit } from './open-files.js'
import { positiveInteger } from './options.js'

/**
 * The options of a command whose clients connect at once. Says so where the system allows less than is wanted.
 * @param {string} usage printed for `--help`.
 * @returns {{ count: number, rounds: number } | undefined} undefined when it has printed the usage.
 */
export function readStormOptions(usage) {
  const { values } = parseArgs({
    options: {
      connections: { type: 'string', default: '10000' },
      rounds: { type: 'string', default: '3' },
      help: { type: 'boolean', default: false }
    }
  })
  if (values.help) {
    console.log(usage)
    return undefined
  }
  const wanted = positiveInteger(values.connections, '--connections')
  const rounds = positiveInteger(values.rounds, '--rounds')
  const count = Math.min(wanted, connectionLimit())
  if (count < wanted) console.log(`The limit of open files allows ${count} connections only (ulimit -Hn).`)
  const backlog = longestBacklog()
  if (backlog < count) {
    console.log(
      `net.core.somaxconn is ${backlog}. Connections beyond it are attempted again by the system, a second later or ` +
        'more. To measure the server alone, set it to the number of connections.'
    )
  }
  return { count, rounds }
}

/** Linux keeps fewer connections for a server to accept than it asks for, and drops the attempts beyond. */
function longestBacklog() {
  if (process.platform !== 'linux') return Number.POSITIVE_INFINITY
  return Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'))
}
