import { element, text } from './svg.js'

/** From a palette that is readable with red-green color blindness. */
const PALETTE = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#f0e442']
const BASE_COLOR = '#59636e'

/** About what a letter takes at 12 px. */
const LETTER = 6.6

/**
 * A colour for each server.
 * @param {string[]} servers
 * @param {string} base
 * @returns {Map<string, string>}
 */
export function colorsOf(servers, base) {
  const others = servers.filter(server => server !== base)
  return new Map([
    ...others.map((server, i) => /** @type {const} */ ([server, PALETTE[i % PALETTE.length]])),
    /** @type {const} */ ([base, BASE_COLOR])
  ])
}

/**
 * @param {Map<string, string>} colors
 * @param {number} x
 * @param {number} y
 */
export function legend(colors, x, y) {
  let at = x
  return [...colors].flatMap(([server, fill]) => {
    const left = at
    at += 34 + server.length * LETTER
    return [
      element('rect', { x: left, y: y - 10, width: 12, height: 12, rx: 2, fill }),
      text(left + 17, y, server)
    ]
  })
}
