import { CEILINGS } from '../peers.js'
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
      const own = summaries.filter(summary => summary.workload === workload.name)
      const ceiling = CEILINGS[workload.kind]
      const hasCeiling = own.some(({ server }) => server === ceiling)
      const head = [
        'Node',
        'server',
        UNITS[workload.kind],
        'min..max',
        `ratio to ${base}`,
        ...(hasCeiling ? [`ratio to ${ceiling}`] : []),
        'server CPU',
        'load CPU'
      ]
      return `${workload.name}: ${describe(workload)}\n${table(
        head,
        own.map(summary => row(summary, hasCeiling)),
        2
      )}`
    })
    .join('\n\n')
}

/**
 * @param {import('./summary.js').Summary} summary
 * @param {boolean} hasCeiling
 */
function row(
  { node = '', server, failed, median, min, max, ratio, toCeiling, serverCpu, loadCpu },
  hasCeiling
) {
  if (median === undefined || min === undefined || max === undefined)
    return [node, server, `failed: ${failed}`]
  return [
    node,
    server,
    figure(median),
    `${figure(min)}..${figure(max)}`,
    ratio === undefined ? '' : times(ratio),
    ...(hasCeiling ? [toCeiling === undefined ? '' : times(toCeiling)] : []),
    serverCpu === undefined ? '' : percent(serverCpu),
    loadCpu === undefined ? '' : percent(loadCpu)
  ]
}
