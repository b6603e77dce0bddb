/**
 * @typedef {object} Workload
 * @property {string} name
 * @property {'echo' | 'fan' | 'handshake' | 'cold' | 'idle'} kind
 * @property {number} connections
 * @property {number} pipeline messages that a connection sends at once.
 * @property {number} size bytes of a message.
 * @property {boolean} binary
 * @property {boolean} deflate
 * @property {number} [total] connections of a run that ends after so many, not after some seconds.
 * @property {boolean} memory whether the memory of the connections is measured.
 */

export const DEFAULTS = { pipeline: 1, size: 64, binary: false, deflate: false, memory: false }

/** @type {Workload[]} */
export const WORKLOADS = [
  { ...DEFAULTS, name: 'echo1', kind: 'echo', connections: 64 },
  { ...DEFAULTS, name: 'echo16', kind: 'echo', connections: 64, pipeline: 16 },
  { ...DEFAULTS, name: 'echo1k', kind: 'echo', connections: 64, pipeline: 4, size: 1024 },
  { ...DEFAULTS, name: 'echo64k', kind: 'echo', connections: 16, size: 65_536, binary: true },
  { ...DEFAULTS, name: 'echo1m', kind: 'echo', connections: 4, size: 1_048_576, binary: true },
  { ...DEFAULTS, name: 'deflate128', kind: 'echo', connections: 64, pipeline: 4, size: 128, deflate: true },
  { ...DEFAULTS, name: 'deflate1k', kind: 'echo', connections: 64, pipeline: 4, size: 1024, deflate: true },
  { ...DEFAULTS, name: 'fan', kind: 'fan', connections: 1000, size: 128 },
  { ...DEFAULTS, name: 'handshake', kind: 'handshake', connections: 32 },
  // Work that is fixed covers the same part of the warm-up in every run. In a fixed time, a server on a busy machine
  // completes fewer handshakes, all of them colder, and its figure falls with the load of the machine.
  { ...DEFAULTS, name: 'cold', kind: 'cold', connections: 32, total: 2000 },
  { ...DEFAULTS, name: 'idle', kind: 'idle', connections: 10_000, memory: true }
]

/**
 * A description of a workload.
 * @param {Workload} workload
 */
export function describe({ kind, connections, total = 0, pipeline, size, binary, deflate }) {
  const count = connections.toLocaleString('en')
  const message = `${bytes(size)} of ${binary ? 'binary' : 'text'}`
  if (kind === 'handshake') return `connect, upgrade, drop; ${count} at a time`
  if (kind === 'cold')
    return `the first ${total.toLocaleString('en')} handshakes of a process; ${count} at a time`
  if (kind === 'idle') return `${count} connections that do nothing`
  if (kind === 'fan') return `one sends ${message}, ${count} receive it`
  return `${count} connections, ${pipeline} × ${message} in flight on each${deflate ? ', compressed' : ''}`
}

/** The figure that is counted per CPU second of the server, or per connection. */
export const UNITS = {
  echo: 'messages per CPU second',
  fan: 'deliveries per CPU second',
  handshake: 'handshakes per CPU second',
  cold: 'handshakes per CPU second',
  idle: 'KiB per connection'
}

/** @param {number} size */
export function bytes(size) {
  if (size >= 1_048_576) return `${size / 1_048_576} MiB`
  return size >= 1024 ? `${size / 1024} KiB` : `${size} B`
}
