import { isIPv6 } from 'node:net'

/** How many connections there may be. */
export interface ConnectionLimits {
  readonly total: number | false
  readonly perAddress: number | false
}

/** Gives back the place of a connection; called more than once it has no effect. */
export type Release = () => void

/** Counts connections, handshakes under way included, against their limits. */
export class ConnectionCount {
  readonly #limits: ConnectionLimits
  readonly #byAddress = new Map<string, number>()
  #total = 0

  constructor(limits: ConnectionLimits) {
    this.#limits = limits
  }

  get isLimited(): boolean {
    return this.#limits.total !== false || this.#limits.perAddress !== false
  }

  /** @returns undefined when there is no place for one more. */
  take(address: string): Release | undefined {
    const { total, perAddress } = this.#limits
    const key = perAddress === false ? '' : groupOf(address)
    const here = this.#byAddress.get(key) ?? 0
    if (total !== false && this.#total >= total) return undefined
    if (perAddress !== false && here >= perAddress) return undefined
    this.#total++
    if (perAddress !== false) this.#byAddress.set(key, here + 1)
    let isTaken = true
    return () => {
      if (isTaken) this.#release(key)
      isTaken = false
    }
  }

  #release(key: string): void {
    this.#total--
    const here = (this.#byAddress.get(key) ?? 0) - 1
    if (here > 0) this.#byAddress.set(key, here)
    else this.#byAddress.delete(key)
  }
}

/** A provider gives each customer a network of 64 bits: all its addresses are one client. */
function groupOf(address: string): string {
  if (!isIPv6(address) || address.includes('.')) return address
  const [head, tail] = address.split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) {
    const rest = tail === '' ? [] : tail.split(':')
    while (groups.length + rest.length < 8) groups.push('0')
    groups.push(...rest)
  }
  return groups
    .slice(0, 4)
    .map(group => Number.parseInt(group, 16).toString(16))
    .join(':')
}
