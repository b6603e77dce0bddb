import { BASE, PROJECT } from '../peers.js'
import { bytes } from '../workloads.js'
import { footer } from './footer.js'
import { colorsOf, legend } from './legend.js'
import { figure, times } from './number.js'
import { logScale, powers } from './scale.js'
import { COLORS, element, FOOT_HEIGHT, HEAD_HEIGHT, line, picture, text } from './svg.js'

/**
 * @typedef {import('../workloads.js').Workload} Workload
 * @typedef {import('./summary.js').Summary} Summary
 * @typedef {import('./scale.js').Scale} Scale
 * @typedef {Map<string, string>} Colors
 */

const WIDTH = 900
const LEFT = 240
const RIGHT = WIDTH - 60
const LEGEND_HEIGHT = 44
const BAR = 13
const STEP = 16
const GAP = 16

/**
 * How many times better than the base each server is under each workload.
 * @param {Workload[]} workloads
 * @param {Summary[]} summaries
 * @param {import('./footer.js').About} about
 */
export function barChart(workloads, summaries, about) {
  const bars = summaries.filter(({ server }) => server !== BASE)
  const colors = colorsOf([...new Set(bars.map(({ server }) => server))], BASE)
  const ratios = bars.flatMap(({ ratio }) => (ratio === undefined ? [] : [ratio]))
  const shown = /** @type {[number, number]} */ ([Math.min(0.7, ...ratios), Math.max(2, ...ratios)])
  const x = logScale(shown, [LEFT + 40, RIGHT - 40])
  const top = HEAD_HEIGHT + LEGEND_HEIGHT
  let bottom = top
  const groups = workloads.flatMap(workload => {
    const own = bars.filter(bar => bar.workload === workload.name)
    const y = bottom
    bottom += Math.max(own.length, 2) * STEP + GAP
    return group(workload, own, { colors, x, y })
  })
  const frame = {
    width: WIDTH,
    height: bottom + FOOT_HEIGHT,
    title: `${PROJECT} and others beside ${BASE}`,
    subtitle: `Work per CPU second of the server, as a multiple of ${BASE} in the same run. Further right is better. Log scale.`,
    footer: footer(about)
  }
  return picture(frame, [
    ...legend(colors, 24, HEAD_HEIGHT + 12),
    ...grid(powers(2, shown), x, top, bottom - GAP),
    ...groups
  ])
}

/**
 * The axis: a line at each doubling, and a strong one where the base stands.
 * @param {number[]} ticks
 * @param {Scale} x
 * @param {number} top
 * @param {number} bottom
 */
function grid(ticks, x, top, bottom) {
  return ticks.flatMap(value => {
    const at = x(value)
    const isBase = value === 1
    const label = isBase ? `${BASE} = 1` : `×${figure(value)}`
    const style = { 'text-anchor': 'middle', 'font-size': 11, fill: isBase ? COLORS.text : COLORS.muted }
    return [
      line(at, top - 8, at, bottom, isBase ? COLORS.muted : COLORS.grid, {
        'stroke-width': isBase ? 1.5 : 1
      }),
      text(at, top - 14, label, style)
    ]
  })
}

/**
 * @param {Workload} workload
 * @param {Summary[]} bars
 * @param {{ colors: Colors, x: Scale, y: number }} place
 */
function group(workload, bars, { colors, x, y }) {
  return [
    text(24, y + 11, workload.name, { 'font-weight': 600 }),
    text(24, y + 26, inShort(workload), { fill: COLORS.muted, 'font-size': 11 }),
    ...bars.flatMap((bar, i) => drawBar(bar, colors.get(bar.server), x, y + i * STEP))
  ]
}

/**
 * @param {Summary} bar
 * @param {string | undefined} fill
 * @param {Scale} x
 * @param {number} y
 */
function drawBar({ ratio, server }, fill, x, y) {
  const base = x(1)
  const baseline = y + BAR - 3
  if (ratio === undefined) {
    return [
      text(base + 6, baseline, `${server}: failed`, {
        fill: COLORS.muted,
        'font-size': 11,
        'font-style': 'italic'
      })
    ]
  }
  const end = x(ratio)
  const isRight = ratio >= 1
  const number = { 'font-size': 11, 'text-anchor': isRight ? 'start' : 'end' }
  return [
    element('rect', {
      x: Math.min(base, end),
      y,
      width: Math.max(Math.abs(end - base), 1.5),
      height: BAR,
      fill
    }),
    text(end + (isRight ? 5 : -5), baseline, times(ratio), number)
  ]
}

/** @param {Workload} workload */
function inShort({ kind, connections, total = 0, pipeline, size }) {
  const count = connections.toLocaleString('en')
  if (kind === 'handshake') return `${count} at a time`
  if (kind === 'cold') return `the first ${total.toLocaleString('en')} handshakes`
  if (kind === 'idle') return `${count} connections, by memory`
  if (kind === 'fan') return `${bytes(size)} to ${count}`
  return `${bytes(size)}, ${count} connections, ${pipeline} in flight`
}
