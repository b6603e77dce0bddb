/** Random numbers from a seed (mulberry32), so that the actions of a client can be repeated. */
export class Random {
  #state

  /** @param {number} seed */
  constructor(seed) {
    this.#state = seed >>> 0
  }

  /** At least 0 and below 1. */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    return mix(this.#state) / 2 ** 32
  }

  /**
   * A whole number, both ends included.
   * @param {number} low
   * @param {number} high
   */
  between(low, high) {
    return low + Math.floor(this.next() * (high - low + 1))
  }

  /** @param {number} share of all calls that return true. */
  chance(share) {
    return this.next() < share
  }

  /**
   * @template T
   * @param {readonly T[]} list
   * @returns {T}
   */
  pick(list) {
    return list[this.between(0, list.length - 1)]
  }

  /**
   * A random name, weighted by its number.
   * @param {Record<string, number>} weights
   */
  weighted(weights) {
    const entries = Object.entries(weights)
    let rest = this.next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [name, weight] of entries) {
      rest -= weight
      if (rest < 0) return name
    }
    return entries[0][0]
  }
}

/**
 * Spreads a number over all 32 bits.
 * @param {number} n
 */
export function mix(n) {
  let t = n >>> 0
  t = Math.imul(t ^ (t >>> 15), t | 1)
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
  return (t ^ (t >>> 14)) >>> 0
}
