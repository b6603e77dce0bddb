import { isIPv6 } from 'node:net'
import { MAX_INT32 } from '../transport/connection-settings.js'
import { readLimit } from '../transport/option-check.js'

/** The options of limits on connections. */
export interface ConnectionLimitOptions {
  readonly maxConnections?: number | false | undefined
  readonly maxConnectionsPerAddress?: number | false | undefined
}

/** Their names. */
export const CONNECTION_LIMITS: readonly string[] = ['maxConnections', 'maxConnectionsPerAddress']

/** How many connections there may be. */
export interface ConnectionLimits {
  readonly total: number | false
  readonly perAddress: number | false
}

/** @param prefix what stands before the name of an option in an error. */
export function readConnectionLimits(options: ConnectionLimitOptions, prefix = ''): ConnectionLimits {
  const { maxConnections, maxConnectionsPerAddress } = options
  return {
    total: readLimit(maxConnections, `${prefix}maxConnections`, MAX_INT32, false),
    perAddress: readLimit(maxConnectionsPerAddress, `${prefix}maxConnectionsPerAddress`, MAX_INT32, false)
  }
}

/** Gives back the place of a connection; called once. */
export type Release = () => void

/** Counts connections, handshakes under way included, against their limits. */
export class ConnectionCount {
  readonly #limits: ConnectionLimits
  readonly #byAddress = new Map<string, { connections: number }>()
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
    const here = this.#byAddress.get(key) ?? { connections: 0 }
    if (total !== false && this.#total >= total) return undefined
    if (perAddress !== false && here.connections >= perAddress) return undefined
    this.#total++
    here.connections++
    this.#byAddress.set(key, here)
    return () => {
      this.#total--
      if (--here.connections === 0) this.#byAddress.delete(key)
    }
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
