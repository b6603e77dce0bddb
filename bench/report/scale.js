/**
 * A logarithmic axis: where a value stands.
 * @typedef {(value: number) => number} Scale
 */

/**
 * @param {[low: number, high: number]} values the lowest and the highest to show
 * @param {[start: number, end: number]} range where they stand
 * @returns {Scale}
 */
export function logScale([low, high], [start, end]) {
  const from = Math.log(low)
  const span = Math.log(high) - from || 1
  return value => start + ((end - start) * (Math.log(value) - from)) / span
}

/**
 * The powers of a base from `low` to `high`.
 * @param {number} base
 * @param {[low: number, high: number]} values
 */
export function powers(base, [low, high]) {
  const first = Math.ceil(Math.log(low) / Math.log(base) - 1e-9)
  const last = Math.floor(Math.log(high) / Math.log(base) + 1e-9)
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => base ** (first + i))
}

/**
 * Round numbers from `low` to `high`: powers of ten, and twice and five times as much where those are few.
 * @param {[low: number, high: number]} values
 */
export function roundNumbers([low, high]) {
  const factors = high / low > 1000 ? [1] : [1, 2, 5]
  return powers(10, [low / 10, high])
    .flatMap(power => factors.map(factor => factor * power))
    .filter(value => value >= low && value <= high)
}
