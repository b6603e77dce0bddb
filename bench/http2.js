// npm run bench:http2: this build over HTTP/2 and over HTTP/1.1, both with TLS.
import { build, ROOT } from './harness/build.js'
import { findCores } from './harness/cores.js'
import { main } from './harness/main.js'
import { measureAll } from './harness/measure.js'
import { withinLimit } from './harness/open-files.js'
import { readOptions } from './harness/options.js'
import { projectPeer } from './peers.js'
import { comparisonTable } from './report/comparison-table.js'
import { commit, machine } from './report/results.js'
import { summarise } from './report/summary.js'
import { WORKLOADS } from './workloads.js'

const BASE = 'HTTP/1.1'
const NAMES = ['echo16', 'handshake', 'idle']
/** A TLS connection takes more memory and time than one without, so fewer of them show the difference. */
const IDLE_CONNECTIONS = 2000

const USAGE = `npm run bench:http2 [-- --only NAMES --rounds N --seconds S]

--only     workloads, with commas between them: ${NAMES.join(', ')}
--rounds   how often each is measured (3)
--seconds  how long (2)`

await main(async () => {
  const options = readOptions(process.argv.slice(2), NAMES, { takesRef: false, takesNode: false })
  if (options.help) return console.log(USAGE)
  await build()
  const version = await commit()
  const peers = [peer(BASE, 'tls', version), peer('HTTP/2', 'http2', version)]
  const chosen = WORKLOADS.filter(({ name }) => options.only.includes(name))
  const workloads = withinLimit(
    chosen.map(one => (one.kind === 'idle' ? { ...one, connections: IDLE_CONNECTIONS } : one))
  )
  const measurements = await measureAll(workloads, peers, { ...options, cores: findCores() })
  const { cpu, cores } = machine()
  console.log(`\n${cores} cores of ${cpu}\n`)
  console.log(comparisonTable(workloads, summarise(workloads, measurements, BASE), BASE))
})

/**
 * @param {string} name
 * @param {'tls' | 'http2'} transport
 * @param {string} version
 * @returns {import('./peers.js').Peer}
 */
function peer(name, transport, version) {
  const own = projectPeer(name, ROOT, version)
  return { ...own, env: { ...own.env, SECURE: '1' }, transport }
}
