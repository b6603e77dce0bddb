import { describe, UNITS } from '../workloads.js'
import { figure, percent, times } from './number.js'
import { table } from './table.js'

/**
 * @param {import('../workloads.js').Workload[]} workloads
 * @param {import('./summary.js').Summary[]} summaries
 * @param {string} base
 */
export function comparisonTable(workloads, summaries, base) {
  return workloads
    .map(workload => {
      const rows = summaries.filter(summary => summary.workload === workload.name).map(row)
      const head = ['', UNITS[workload.kind], 'min..max', `ratio to ${base}`, 'server CPU', 'load CPU']
      return `${workload.name}: ${describe(workload)}\n${table(head, rows)}`
    })
    .join('\n\n')
}

/** @param {import('./summary.js').Summary} summary */
function row({ server, failed, median, min, max, ratio, serverCpu, loadCpu }) {
  if (median === undefined || min === undefined || max === undefined) return [server, `failed: ${failed}`]
  return [
    server,
    figure(median),
    `${figure(min)}..${figure(max)}`,
    ratio === undefined ? '' : times(ratio),
    serverCpu === undefined ? '' : percent(serverCpu),
    loadCpu === undefined ? '' : percent(loadCpu)
  ]
}
