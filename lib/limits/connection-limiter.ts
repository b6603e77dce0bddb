import { isIP, isIPv6 } from 'node:net'
import { MAX_INT32 } from '../options/connection-settings.js'
import { readLimit } from '../options/option-check.js'

/** The options of limits on connections. */
export interface ConnectionLimitOptions {
  readonly maxConnections?: number | false | undefined
  readonly maxConnectionsPerAddress?: number | false | undefined
}

/** Their names. */
export const CONNECTION_LIMITS: readonly string[] = ['maxConnections', 'maxConnectionsPerAddress']

/** The highest numbers of connections. */
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

/** Releases the slot of a connection. To be called once. */
export type Release = () => void

/** Why `maxConnectionsPerAddress` does not limit a connection. */
export const NO_ADDRESS =
  'maxConnectionsPerAddress does not count connections without an IP address, such as those over a Unix socket'

/** Releases the slot of a connection that is not limited by its address. */
const releaseNothing: Release = () => {}

/** Counts connections, handshakes under way included, against their limits. */
export class ConnectionLimiter {
  readonly #limits: ConnectionLimits
  readonly #byAddress = new Map<string, { connections: number }>()
  #total = 0
  #hasMissed = false

  constructor(limits: ConnectionLimits) {
    this.#limits = limits
  }

  get isLimited(): boolean {
    return this.#limits.total !== false || this.#limits.perAddress !== false
  }

  /**
   * @param address the remote address. One that is no IP address is not counted: all clients behind a Unix socket would
   * share one limit.
   * @returns releases the slot; undefined when none is free.
   */
  take(address: string | undefined): Release | undefined {
    const { total, perAddress } = this.#limits
    if (total !== false && this.#total >= total) return undefined
    const release =
      perAddress === false || !isAddress(address)
        ? releaseNothing
        : this.#takeAt(groupOf(address), perAddress)
    if (release === undefined) return undefined
    this.#total++
    return () => {
      this.#total--
      release()
    }
  }

  /** Whether a connection is the first that should be limited by its address and has none. */
  missesAddress(address: string | undefined): boolean {
    if (this.#hasMissed || this.#limits.perAddress === false || isAddress(address)) return false
    this.#hasMissed = true
    return true
  }

  #takeAt(group: string, limit: number): Release | undefined {
    const here = this.#byAddress.get(group) ?? { connections: 0 }
    if (here.connections >= limit) return undefined
    here.connections++
    this.#byAddress.set(group, here)
    return () => {
      if (--here.connections === 0) this.#byAddress.delete(group)
    }
  }
}

/** Proxies may also forward other text, such as `unknown`, or `unix:` for a Unix socket in front of nginx. */
function isAddress(address: string | undefined): address is string {
  return address !== undefined && isIP(address) !== 0
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
