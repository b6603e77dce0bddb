const FONT = "-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"

/** The picture has its own background, as it is shown on light and on dark pages. */
export const COLORS = {
  background: '#ffffff',
  border: '#d0d7de',
  text: '#1f2328',
  muted: '#59636e',
  grid: '#e6eaef'
}

const ENTITIES = /** @type {Record<string, string>} */ ({
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;'
})

/** @param {string} text */
export function escaped(text) {
  return text.replace(/[&<>"]/g, character => ENTITIES[character])
}

/**
 * @typedef {Record<string, string | number | undefined>} Attributes
 * @param {string} name
 * @param {Attributes} attributes those that are undefined are left out.
 * @param {string} content markup
 */
export function element(name, attributes, content = '') {
  const list = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${escaped(String(typeof value === 'number' ? round(value) : value))}"`)
  return `<${name}${list.join('')}${content === '' ? '/>' : `>${content}</${name}>`}`
}

/**
 * @param {number} x
 * @param {number} y of the base line
 * @param {string} content
 * @param {Attributes} attributes
 */
export function text(x, y, content, attributes = {}) {
  return element('text', { x, y, fill: COLORS.text, ...attributes }, escaped(content))
}

/**
 * @param {number} x1
 * @param {number} y1
 * @param {number} x2
 * @param {number} y2
 * @param {string} stroke
 * @param {Attributes} attributes
 */
export function line(x1, y1, x2, y2, stroke, attributes = {}) {
  return element('line', { x1, y1, x2, y2, stroke, ...attributes })
}

/**
 * @param {{ width: number, height: number, title: string, subtitle: string, footer: string }} frame
 * @param {string[]} content
 */
export function picture({ width, height, title, subtitle, footer }, content) {
  const background = { fill: COLORS.background, stroke: COLORS.border, rx: 6 }
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
      `font-family="${FONT}" font-size="12" role="img">`,
    element('title', {}, escaped(title)),
    element('rect', { x: 0.5, y: 0.5, width: width - 1, height: height - 1, ...background }),
    text(24, 34, title, { 'font-size': 18, 'font-weight': 600 }),
    text(24, 54, subtitle, { fill: COLORS.muted }),
    ...content,
    text(24, height - 14, footer, { fill: COLORS.muted, 'font-size': 11 }),
    '</svg>'
  ].join('\n')}\n`
}

/** The start of the content of a picture, and the height of its footer. */
export const HEAD_HEIGHT = 70
export const FOOT_HEIGHT = 34

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10
}
