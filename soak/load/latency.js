/** The ratio of consecutive steps, so that a figure is exact to one percent. */
const STEP = Math.log(1.01)

/** Latencies in buckets, so that memory does not depend on their number. */
export class Latencies {
  /** @type {number[]} */
  #buckets
  max

  /** @param {{ buckets: number[], max: number }} [from] */
  constructor({ buckets, max } = { buckets: [], max: 0 }) {
    this.#buckets = buckets
    this.max = max
  }

  /** @param {number} milliseconds */
  add(milliseconds) {
    const bucket = Math.max(0, Math.ceil(Math.log(milliseconds * 1000) / STEP))
    this.#buckets[bucket] = (this.#buckets[bucket] ?? 0) + 1
    this.max = Math.max(this.max, milliseconds)
  }

  /** @param {Latencies} other */
  merge(other) {
    other.#buckets.forEach((count, i) => {
      this.#buckets[i] = (this.#buckets[i] ?? 0) + (count ?? 0)
    })
    this.max = Math.max(this.max, other.max)
  }

  get count() {
    return this.#buckets.reduce((sum, count) => sum + (count ?? 0), 0)
  }

  /**
   * The latency in milliseconds that the given share does not exceed.
   * @param {number} share
   */
  percentile(share) {
    let rest = Math.max(1, Math.ceil(share * this.count))
    for (const [bucket, count] of this.#buckets.entries()) {
      rest -= count ?? 0
      if (rest <= 0) return Math.min(this.max, Math.exp(bucket * STEP) / 1000)
    }
    return 0
  }

  toJSON() {
    return { buckets: Array.from(this.#buckets, count => count ?? 0), max: this.max }
  }
}
