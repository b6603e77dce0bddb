import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/**
 * One core for the server and one for the load.
 * @typedef {{ server: number, load: number }} Cores
 */

/**
 * The first two cores that this process may use; undefined where processes cannot be pinned.
 * @returns {Cores | undefined}
 */
export function findCores() {
  if (process.platform !== 'linux' || spawnSync('taskset', ['-V']).status !== 0) return undefined
  const status = readFileSync('/proc/self/status', 'utf8')
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? ''
  const [server, load] = list.split(',').flatMap(range)
  return load === undefined ? undefined : { server, load }
}

/** @param {string} text as in `0-3` or `5` */
function range(text) {
  const [first, last = first] = text.split('-').map(Number)
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
}
