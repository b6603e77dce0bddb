import { readFileSync } from 'node:fs'

/**
 * Says so when the system keeps fewer connections for a server to accept than connect at once.
 * @param {number} count
 */
export function warnOfShortBacklog(count) {
  const longest = longestBacklog()
  if (longest >= count) return
  console.log(
    `net.core.somaxconn is ${longest}. Connections beyond it are attempted again by the system, a second later or ` +
      'more. To measure the server alone, set it to the number of connections.'
  )
}

/** Linux keeps fewer connections for a server to accept than it asks for, and drops the attempts beyond. */
function longestBacklog() {
  if (process.platform !== 'linux') return Number.POSITIVE_INFINITY
  return Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'))
}
