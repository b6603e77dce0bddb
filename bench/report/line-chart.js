import { compact } from './number.js'
import { logScale, powers, roundNumbers } from './scale.js'
import { COLORS, element, line, text } from './svg.js'

/**
 * @typedef {{ color: string, points: [x: number, y: number][] }} Series
 */

/**
 * The content of a panel. The axes are logarithmic; `base` says which values the horizontal one marks, `label` how.
 * @typedef {object} Panel
 * @property {string} title
 * @property {string} xTitle
 * @property {number} base
 * @property {(value: number) => string} label
 * @property {Series[]} series
 */

/** @typedef {{ x: number, y: number, width: number, height: number }} Box */

/** Room for the titles and the labels of the axes. */
const MARGIN = { left: 48, right: 12, top: 26, bottom: 44 }

/**
 * @param {Panel} panel
 * @param {Box} box
 */
export function lineChart(panel, { x, y, width, height }) {
  const points = panel.series.flatMap(series => series.points)
  const title = text(x, y + 12, panel.title, { 'font-weight': 600 })
  if (points.length === 0) return [title, text(x, y + 40, 'no figures', { fill: COLORS.muted })]
  const plot = {
    x: x + MARGIN.left,
    y: y + MARGIN.top,
    width: width - MARGIN.left - MARGIN.right,
    height: height - MARGIN.top - MARGIN.bottom
  }
  const xs = extent(points.map(point => point[0]))
  const ys = widen(extent(points.map(point => point[1])))
  const across = logScale(xs, [plot.x, plot.x + plot.width])
  const up = logScale(ys, [plot.y + plot.height, plot.y])
  return [
    title,
    ...roundNumbers(ys).flatMap(value => horizontal(value, up(value), plot)),
    ...powers(panel.base, xs).flatMap(value => vertical(panel.label(value), across(value), plot)),
    text(plot.x + plot.width / 2, y + height - 6, panel.xTitle, {
      'text-anchor': 'middle',
      fill: COLORS.muted
    }),
    ...panel.series.flatMap(series => drawSeries(series, across, up))
  ]
}

/**
 * @param {Series} series
 * @param {import('./scale.js').Scale} across
 * @param {import('./scale.js').Scale} up
 */
function drawSeries({ color, points }, across, up) {
  const places = points.map(([x, y]) => ({ cx: across(x), cy: up(y) }))
  const path = places.map(({ cx, cy }) => `${cx.toFixed(1)},${cy.toFixed(1)}`).join(' ')
  return [
    element('polyline', { points: path, fill: 'none', stroke: color, 'stroke-width': 2 }),
    ...places.map(place => element('circle', { ...place, r: 3.5, fill: color }))
  ]
}

/**
 * @param {number} value
 * @param {number} y
 * @param {Box} plot
 */
function horizontal(value, y, plot) {
  const style = { 'text-anchor': 'end', 'font-size': 11, fill: COLORS.muted }
  return [
    line(plot.x, y, plot.x + plot.width, y, COLORS.grid),
    text(plot.x - 6, y + 4, compact(value), style)
  ]
}

/**
 * @param {string} label
 * @param {number} x
 * @param {Box} plot
 */
function vertical(label, x, plot) {
  const bottom = plot.y + plot.height
  const style = { 'text-anchor': 'middle', 'font-size': 11, fill: COLORS.muted }
  return [line(x, plot.y, x, bottom, COLORS.grid), text(x, bottom + 16, label, style)]
}

/**
 * @param {number[]} values
 * @returns {[number, number]}
 */
function extent(values) {
  return [Math.min(...values), Math.max(...values)]
}

/**
 * Room above and below, and at least a factor of three in all, so that noise does not look like a slope.
 * @param {[number, number]} values
 * @returns {[number, number]}
 */
function widen([low, high]) {
  const factor = Math.max(1.2, Math.sqrt(3 / (high / low)))
  return [low / factor, high * factor]
}
