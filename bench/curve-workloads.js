import { bytes, DEFAULTS } from './workloads.js'

/** @typedef {import('./workloads.js').Workload} Workload */

const CONNECTIONS = [1, 10, 100, 1000, 10_000, 20_000]
const SIZES = Array.from({ length: 11 }, (_, i) => 16 * 4 ** i)
const RECEIVERS = CONNECTIONS

/** With fewer connections their memory is hidden by that of the server itself. */
const MEMORY_FROM = 1000

/** Bytes in flight on all connections together, and connections, so that large messages fit in memory. */
const IN_FLIGHT = 4 * 2 ** 20
const MIN_CONNECTIONS = 4
const MAX_CONNECTIONS = 64

/**
 * The quantity that grows, and its workloads.
 * @typedef {{ about: string, workloads: Workload[], x: (workload: Workload) => number }} Curve
 * @type {Record<string, Curve>}
 */
export const CURVES = {
  connections: {
    about: 'echo of 64 B of text, 1 in flight on each connection',
    workloads: CONNECTIONS.map(connections => ({
      ...DEFAULTS,
      name: `connections ${connections}`,
      kind: 'echo',
      connections,
      memory: connections >= MEMORY_FROM
    })),
    x: ({ connections }) => connections
  },
  size: {
    about: `echo of binary messages, 1 in flight on each of ${MIN_CONNECTIONS} to ${MAX_CONNECTIONS} connections`,
    workloads: SIZES.map(size => ({
      ...DEFAULTS,
      name: `size ${bytes(size)}`,
      kind: 'echo',
      connections: Math.min(MAX_CONNECTIONS, Math.max(MIN_CONNECTIONS, IN_FLIGHT / size)),
      size,
      binary: true
    })),
    x: ({ size }) => size
  },
  fanout: {
    about: 'one sends 128 B of text, all receive it',
    workloads: RECEIVERS.map(connections => ({
      ...DEFAULTS,
      name: `receivers ${connections}`,
      kind: 'fan',
      connections,
      size: 128
    })),
    x: ({ connections }) => connections
  }
}
