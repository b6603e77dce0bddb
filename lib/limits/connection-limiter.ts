import { isIP, isIPv6 } from 'node:net'
import type { ConnectionLimitOptions } from '../options/connection-options.js'
import { readOptions } from '../options/option.js'
import { CONNECTION_LIMITS } from '../options/table.js'

/** The maximum numbers of connections. */
export interface ConnectionLimits {
  readonly total: number | false
  readonly perAddress: number | false
}

/** @param prefix the part of an option's name before its own, in an error. */
export function readConnectionLimits(options: ConnectionLimitOptions, prefix = ''): ConnectionLimits {
  const limits = readOptions(CONNECTION_LIMITS, options, { prefix })
  return { total: limits.maxConnections, perAddress: limits.maxConnectionsPerAddress }
}

/** Releases the slot of a connection. It is called once. */
export type Release = () => void

/** The beginning of the warning about connections that `maxConnectionsPerAddress` does not limit. */
export const NO_ADDRESS =
  'maxConnectionsPerAddress does not count connections without an IP address, such as those over a Unix socket'

/** For a connection that takes no slot of an address. */
const RELEASE_NOTHING: Release = () => {}

/** Limits the number of connections that have something in common, such as their address. */
export class SlotsByKey {
  readonly #limit: number
  readonly #byKey = new Map<string, { slots: number }>()

  constructor(limit: number) {
    this.#limit = limit
  }

  /** @returns undefined when no slot is free. */
  take(key: string): Release | undefined {
    const used = this.#byKey.get(key) ?? { slots: 0 }
    if (used.slots >= this.#limit) return undefined
    used.slots++
    this.#byKey.set(key, used)
    return () => {
      if (--used.slots === 0) this.#byKey.delete(key)
    }
  }
}

/** Limits the number of connections: each takes a slot from its handshake until it has closed. */
export class ConnectionLimiter {
  readonly #limits: ConnectionLimits
  readonly #byAddress: SlotsByKey | undefined
  #total = 0
  #hasMissed = false

  constructor(limits: ConnectionLimits) {
    this.#limits = limits
    if (limits.perAddress !== false) this.#byAddress = new SlotsByKey(limits.perAddress)
  }

  get isLimited(): boolean {
    return this.#limits.total !== false || this.#limits.perAddress !== false
  }

  /**
   * @param address the remote address. Without an IP address a connection takes a slot of the total only, as all clients
   * behind a Unix socket would share one limit.
   * @returns undefined when no slot is free.
   */
  take(address: string | undefined): Release | undefined {
    const { total } = this.#limits
    if (total !== false && this.#total >= total) return undefined
    const release =
      this.#byAddress === undefined || !isAddress(address)
        ? RELEASE_NOTHING
        : this.#byAddress.take(groupOf(address))
    if (release === undefined) return undefined
    this.#total++
    return () => {
      this.#total--
      release()
    }
  }

  /** Whether this connection is the first that `maxConnectionsPerAddress` cannot limit, as it has no IP address. */
  missesAddress(address: string | undefined): boolean {
    if (this.#hasMissed || this.#limits.perAddress === false || isAddress(address)) return false
    this.#hasMissed = true
    return true
  }
}

/** Proxies also forward other text, such as `unknown`, or `unix:` for a Unix socket in front of nginx. */
function isAddress(address: string | undefined): address is string {
  return address !== undefined && isIP(address) !== 0
}

/** The key under which an address is limited: for IPv6 the first 64 bits, which a provider assigns to one customer. */
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
