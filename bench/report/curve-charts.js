import { BASE, PROJECT } from '../peers.js'
import { bytes } from '../workloads.js'
import { footer } from './footer.js'
import { colorsOf, legend } from './legend.js'
import { lineChart } from './line-chart.js'
import { compact } from './number.js'
import { FOOT_HEIGHT, HEAD_HEIGHT, picture } from './svg.js'

/**
 * @typedef {import('../curve-workloads.js').Curve} Curve
 * @typedef {import('./summary.js').Summary} Summary
 * @typedef {import('../workloads.js').Workload} Workload
 */

/**
 * A figure of one run, or undefined where it was not measured.
 * @typedef {(summary: Summary, workload: Workload) => number | undefined} Read
 */

const WIDTH = 900
const PANEL_HEIGHT = 330
const LEGEND_HEIGHT = 30
const SIDE = 24

const perCpuSecond = /** @type {Read} */ (({ median }) => median)
const mbPerCpuSecond = /** @type {Read} */ (({ median }, { size }) => median && (median * size) / 1e6)
const memory = /** @type {Read} */ (({ kibPerConnection }) => kibPerConnection)

/** @type {Record<string, { xTitle: string, base: number, label: (value: number) => string, panels: [string, Read][] }>} */
const CHARTS = {
  connections: {
    xTitle: 'connections',
    base: 10,
    label: compact,
    panels: [
      ['Messages per CPU second (more is better)', perCpuSecond],
      ['KiB of memory per connection (less is better)', memory]
    ]
  },
  size: {
    xTitle: 'size of a message',
    base: 16,
    label: bytes,
    panels: [
      ['Messages per CPU second (more is better)', perCpuSecond],
      ['MB per CPU second (more is better)', mbPerCpuSecond]
    ]
  },
  fanout: {
    xTitle: 'receivers',
    base: 10,
    label: compact,
    panels: [['Deliveries per CPU second (more is better)', perCpuSecond]]
  }
}

/**
 * @param {string} name
 * @param {Curve} curve
 * @param {Summary[]} summaries
 * @param {import('./footer.js').About} about
 */
export function curveChart(name, curve, summaries, about) {
  const { panels, ...axis } = CHARTS[name]
  const colors = colorsOf([...new Set(summaries.map(({ server }) => server))], BASE)
  const top = HEAD_HEIGHT + LEGEND_HEIGHT
  const width = (WIDTH - SIDE * (panels.length + 1)) / panels.length
  const drawn = panels.flatMap(([title, read], i) => {
    const series = [...colors].map(([server, color]) => ({
      color,
      points: pointsOf(curve, summaries, server, read)
    }))
    const box = { x: SIDE + i * (width + SIDE), y: top, width, height: PANEL_HEIGHT }
    return lineChart({ title, series, ...axis }, box)
  })
  const frame = {
    width: WIDTH,
    height: top + PANEL_HEIGHT + FOOT_HEIGHT,
    title: `${PROJECT} and ${BASE}: cost as the ${name === 'size' ? 'messages grow' : `${axis.xTitle} become more`}`,
    subtitle: `${curve.about}; CPU seconds are those of the server; log scales`,
    footer: footer(about)
  }
  return picture(frame, [...legend(colors, SIDE, HEAD_HEIGHT + 10), ...drawn])
}

/**
 * @param {Curve} curve
 * @param {Summary[]} summaries
 * @param {string} server
 * @param {Read} read
 * @returns {[number, number][]}
 */
function pointsOf(curve, summaries, server, read) {
  return curve.workloads.flatMap(workload => {
    const summary = summaries.find(one => one.workload === workload.name && one.server === server)
    const y = summary && read(summary, workload)
    // A logarithmic axis cannot show memory that did not grow.
    return y !== undefined && y > 0 ? [/** @type {[number, number]} */ ([curve.x(workload), y])] : []
  })
}
