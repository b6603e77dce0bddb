import { UNITS } from '../workloads.js'
import { figure, percent, times } from './number.js'
import { table } from './table.js'

/**
 * @typedef {import('../curve-workloads.js').Curve} Curve
 * @typedef {import('./summary.js').Summary} Summary
 */

/**
 * @param {string} name
 * @param {Curve} curve
 * @param {Summary[]} summaries
 * @param {string} base
 */
export function curveTable(name, { about, workloads }, summaries, base) {
  const unit = UNITS[workloads[0].kind]
  const head = [
    '',
    'server',
    unit,
    'min..max',
    `ratio to ${base}`,
    'MB per CPU second',
    'KiB per connection',
    'server CPU',
    'load CPU'
  ]
  const rows = workloads.flatMap(workload =>
    summaries
      .filter(summary => summary.workload === workload.name)
      .map(summary => row(summary, workload.size))
  )
  return `${name}: ${about}\n${table(head, rows, 2)}`
}

/**
 * @param {Summary} summary
 * @param {number} size
 */
function row(
  { workload, server, failed, median, min, max, ratio, kibPerConnection, serverCpu, loadCpu },
  size
) {
  if (median === undefined || min === undefined || max === undefined)
    return [workload, server, `failed: ${failed}`]
  return [
    workload,
    server,
    figure(median),
    `${figure(min)}..${figure(max)}`,
    ratio === undefined ? '' : times(ratio),
    figure((median * size) / 1e6),
    kibPerConnection === undefined ? '' : figure(kibPerConnection),
    serverCpu === undefined ? '' : percent(serverCpu),
    loadCpu === undefined ? '' : percent(loadCpu)
  ]
}
