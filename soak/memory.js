/** @typedef {{ at: number, closed: number, memory: Record<'heap' | 'external' | 'rss', number> }} Sample */

/** The first part of a run is not compared: compilers, caches and the allocator find their level. */
const WARM_UP = 0.2

/** Growth that is no leak: a share of the first quarter, and a number of bytes. The data in flight varies between samples. */
const BOUNDS = {
  heap: { share: 0.1, bytes: 8 * 2 ** 20 },
  external: { share: 0.1, bytes: 12 * 2 ** 20 },
  rss: { share: 0.1, bytes: 32 * 2 ** 20 }
}

/**
 * Compares the medians of the first and the last quarter after the warm-up.
 * @param {Sample[]} samples
 * @param {number} seconds of the run.
 */
export function compareMemory(samples, seconds) {
  const steady = samples.filter(({ at }) => at >= WARM_UP * seconds)
  const size = Math.max(1, Math.floor(steady.length / 4))
  const first = steady.slice(0, size)
  const last = steady.slice(-size)
  const closed = median(last.map(sample => sample.closed)) - median(first.map(sample => sample.closed))
  return Object.entries(BOUNDS).map(([name, { share, bytes }]) => {
    const of = (/** @type {Sample[]} */ list) =>
      median(list.map(({ memory }) => memory[/** @type {'heap'} */ (name)]))
    const from = of(first)
    const to = of(last)
    const bound = from * share + bytes
    return {
      name,
      from,
      to,
      bound,
      /** Smaller leaks than this are not detected. */
      boundPerConnection: closed > 0 ? Math.round(bound / closed) : undefined,
      grownPerConnection: closed > 0 ? Math.round((to - from) / closed) : undefined,
      closed,
      ok: steady.length >= 4 && to - from <= bound
    }
  })
}

/** @param {number[]} list */
function median(list) {
  const sorted = [...list].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
