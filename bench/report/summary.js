/**
 * @typedef {import('../harness/measure.js').Measurement} Measurement
 * @typedef {import('../workloads.js').Workload} Workload
 */

/**
 * The figures of one server under one workload over all rounds.
 * @typedef {object} Summary
 * @property {string} workload
 * @property {string} server
 * @property {string} [failed]
 * @property {number} [median]
 * @property {number} [min]
 * @property {number} [max]
 * @property {number} [ratio] how many times better than the base: more per CPU second, or less memory.
 * @property {number} [serverCpu]
 * @property {number} [loadCpu]
 * @property {number} [kibPerConnection]
 * @property {number} [perSecond]
 */

/**
 * @param {Workload[]} workloads
 * @param {Measurement[]} measurements
 * @param {string} base
 * @returns {Summary[]}
 */
export function summarise(workloads, measurements, base) {
  return workloads.flatMap(workload => {
    const own = measurements.filter(({ workload: name }) => name === workload.name)
    const servers = [...new Set(own.map(({ server }) => server))]
    const summaries = servers.map(server =>
      summariseOne(
        workload,
        own.filter(measurement => measurement.server === server)
      )
    )
    const baseMedian = summaries.find(({ server }) => server === base)?.median
    return summaries.map(summary => withRatio(summary, baseMedian, workload.kind === 'idle'))
  })
}

/**
 * @param {Workload} workload
 * @param {Measurement[]} measurements of one server; at least one.
 * @returns {Summary}
 */
function summariseOne(workload, measurements) {
  const head = { workload: workload.name, server: measurements[0].server }
  const failed = measurements.find(measurement => measurement.failed !== undefined)?.failed
  if (failed !== undefined) return { ...head, failed }
  const figures = numbers(measurements, workload.kind === 'idle' ? 'kibPerConnection' : 'perCpuSecond')
  return {
    ...head,
    median: median(figures),
    min: Math.min(...figures),
    max: Math.max(...figures),
    ...medians(measurements, ['perSecond', 'serverCpu', 'loadCpu', 'kibPerConnection'])
  }
}

/**
 * @param {Summary} summary
 * @param {number | undefined} base
 * @param {boolean} lessIsBetter
 * @returns {Summary}
 */
function withRatio(summary, base, lessIsBetter) {
  if (summary.median === undefined || base === undefined) return summary
  return { ...summary, ratio: lessIsBetter ? base / summary.median : summary.median / base }
}

/** @typedef {'perCpuSecond' | 'perSecond' | 'serverCpu' | 'loadCpu' | 'kibPerConnection'} Figure */

/**
 * @param {Measurement[]} measurements
 * @param {Figure[]} names
 */
function medians(measurements, names) {
  const present = names.filter(name => numbers(measurements, name).length > 0)
  return Object.fromEntries(present.map(name => [name, median(numbers(measurements, name))]))
}

/**
 * @param {Measurement[]} measurements
 * @param {Figure} name
 */
function numbers(measurements, name) {
  return measurements.map(measurement => measurement[name]).filter(value => value !== undefined)
}

/** @param {number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
