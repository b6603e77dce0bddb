/**
 * Three figures, or whole numbers with commas.
 * @param {number} value
 */
export function figure(value) {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en')
  return Number(value.toPrecision(3)).toString()
}

/** @param {number} share */
export function percent(share) {
  return `${Math.round(share * 100)} %`
}

/** @param {number} ratio */
export function times(ratio) {
  return `×${ratio >= 10 ? ratio.toFixed(1) : ratio.toFixed(2)}`
}

/**
 * A power of ten or a size on an axis.
 * @param {number} value
 */
export function compact(value) {
  if (value >= 1e6) return `${figure(value / 1e6)}M`
  return value >= 1e3 ? `${figure(value / 1e3)}k` : figure(value)
}
