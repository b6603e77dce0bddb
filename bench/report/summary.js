import { CEILINGS } from '../peers.js'

/**
 * @typedef {import('../harness/measure.js').Measurement} Measurement
 * @typedef {import('../workloads.js').Workload} Workload
 */

/**
 * The figures of one server on one Node under one workload, over all rounds.
 * @typedef {object} Summary
 * @property {string} workload
 * @property {string} server
 * @property {string} [node]
 * @property {string} [failed]
 * @property {number} [median]
 * @property {number} [min]
 * @property {number} [max]
 * @property {number} [ratio] how many times better than the base on the same Node: more per CPU second, or less memory.
 * @property {number} [toCeiling] the same for the server that does the least, `CEILINGS`.
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
    const runs = new Set(own.map(nameOf))
    const summaries = [...runs].map(name =>
      summariseOne(
        workload,
        own.filter(measurement => nameOf(measurement) === name)
      )
    )
    return summaries.map(summary => ({
      ...summary,
      ...ratioTo(base, 'ratio', summary, summaries, workload),
      ...ratioTo(CEILINGS[workload.kind], 'toCeiling', summary, summaries, workload)
    }))
  })
}

/** @param {Measurement} measurement */
function nameOf({ server, node }) {
  return `${server} on ${node}`
}

/**
 * @param {Workload} workload
 * @param {Measurement[]} measurements of one server on one Node; at least one.
 * @returns {Summary}
 */
function summariseOne(workload, measurements) {
  const [{ server, node }] = measurements
  const head = { workload: workload.name, server, node }
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
 * Another runtime than Node is compared with the server on the first Node.
 * @param {string} other the name of a server.
 * @param {'ratio' | 'toCeiling'} name of the figure.
 * @param {Summary} summary
 * @param {Summary[]} all of the workload.
 * @param {Workload} workload
 * @returns {{ ratio?: number, toCeiling?: number }}
 */
function ratioTo(other, name, { node, median }, all, { kind }) {
  const isSame = (/** @type {Summary} */ one) =>
    one.server === other && (node === undefined || one.node === node)
  const reference = all.find(isSame)?.median
  if (median === undefined || reference === undefined) return {}
  return { [name]: kind === 'idle' ? reference / median : median / reference }
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
