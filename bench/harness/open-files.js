import { spawnSync } from 'node:child_process'

/** The number of files that a process has open besides its connections. */
const OTHERS = 100

/**
 * How many connections a process may hold. Node raises its soft limit by itself, and a shell that it starts inherits it.
 */
export function connectionLimit() {
  const said = spawnSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).stdout?.trim()
  const limit = Number(said)
  return Number.isInteger(limit) && limit > 0 ? limit - OTHERS : Number.POSITIVE_INFINITY
}

/**
 * Makes do with fewer connections where the limit is too low, and says so.
 * @template {import('../workloads.js').Workload} T
 * @param {T[]} workloads
 * @returns {T[]}
 */
export function withinLimit(workloads) {
  const limit = connectionLimit()
  return workloads.map(workload => {
    if (workload.connections <= limit) return workload
    console.log(
      `The limit of open files is too low for «${workload.name}»: ${limit} connections are used instead of ` +
        `${workload.connections}. To have them all, raise the hard limit (ulimit -Hn) and run again.\n`
    )
    // A name with the old number is changed to the new one.
    const name = workload.name.replace(String(workload.connections), String(limit))
    return { ...workload, name, connections: limit }
  })
}
