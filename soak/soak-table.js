const MIB = 2 ** 20

/** @type {readonly { title: string, width: number, value: (sample: any) => string }[]} */
const COLUMNS = [
  { title: 'seconds', width: 7, value: ({ at }) => at.toFixed(at < 100 ? 1 : 0) },
  { title: 'open', width: 6, value: ({ open }) => String(open) },
  { title: 'closed', width: 8, value: ({ closed }) => String(closed) },
  { title: 'refused', width: 7, value: ({ refused }) => String(refused) },
  { title: 'messages', width: 9, value: ({ received }) => String(received) },
  { title: 'heap MiB', width: 8, value: ({ memory }) => (memory.heap / MIB).toFixed(1) },
  { title: 'external', width: 8, value: ({ memory }) => (memory.external / MIB).toFixed(1) },
  { title: 'rss', width: 6, value: ({ memory }) => (memory.rss / MIB).toFixed(0) },
  { title: 'delay p50', width: 9, value: ({ delay }) => delay.p50.toFixed(1) },
  { title: 'p99', width: 6, value: ({ delay }) => delay.p99.toFixed(1) },
  { title: 'max ms', width: 6, value: ({ delay }) => delay.max.toFixed(1) },
  { title: 'clients', width: 7, value: ({ lag }) => lag.toFixed(0) },
  { title: 'CPU s', width: 6, value: ({ cpu }) => cpu.toFixed(1) },
  { title: 'problems', width: 8, value: ({ problems }) => String(problems) }
]

/** @param {{ seconds: number, connections: number, seed: number }} options */
export function printHead({ seconds, connections, seed }) {
  console.log(`${seconds} s, ${connections} connections, seed ${seed}. «messages» are those to the server.\n`)
  console.log(COLUMNS.map(({ title, width }) => title.padStart(width)).join('  '))
}

/** @param {object} sample */
export function printRow(sample) {
  console.log(COLUMNS.map(({ value, width }) => value(sample).padStart(width)).join('  '))
}
