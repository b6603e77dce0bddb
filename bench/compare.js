// npm run bench: compares this build with other servers, and with an earlier build of itself.
import { build, ROOT, withBuildOf } from './harness/build.js'
import { findCores } from './harness/cores.js'
import { main } from './harness/main.js'
import { measureAll } from './harness/measure.js'
import { findNodes } from './harness/nodes.js'
import { withinLimit } from './harness/open-files.js'
import { readOptions } from './harness/options.js'
import { BASE, findBun, findPeers, PROJECT, projectPeer, versionOf } from './peers.js'
import { barChart } from './report/bar-chart.js'
import { comparisonTable } from './report/comparison-table.js'
import { commit, machine, toJson, writeResult } from './report/results.js'
import { summarise } from './report/summary.js'
import { WORKLOADS } from './workloads.js'

/**
 * @typedef {import('./peers.js').Peer} Peer
 * @typedef {import('./harness/nodes.js').Node} Node
 * @typedef {import('./harness/options.js').Options} Options
 */

const NAMES = WORKLOADS.map(({ name }) => name)

const USAGE = `npm run bench [-- GIT_REF] [-- --node VERSIONS --only NAMES --rounds N --seconds S]

GIT_REF    an earlier build of this project to compare with
--node     versions of Node that run the servers, with commas between them, as in 20,22,24,26; npm installs them into
           .nodes/. The picture shows the first. Without it, the Node that runs this command
--only     workloads, with commas between them: ${NAMES.join(', ')}
--rounds   how often each server is measured under each workload (3)
--seconds  how long (2)

BUN_PATH names the Bun to compare with; else the one in PATH, if there is one.`

await main(async () => {
  const options = readOptions(process.argv.slice(2), NAMES, { takesRef: true, takesNode: true })
  if (options.help) return console.log(USAGE)
  const nodes = await findNodes(options.node)
  await build()
  const version = await commit()
  const own = (/** @type {Node} */ node) => [projectPeer(PROJECT, ROOT, version, node)]
  const { ref } = options
  if (ref === undefined) return compare(nodes, own, options)
  await withBuildOf(ref, (folder, earlier) => {
    const before = `${PROJECT}@${earlier}`
    return compare(nodes, node => [...own(node), projectPeer(before, folder, earlier, node)], options)
  })
})

/**
 * @param {Node[]} nodes
 * @param {(node: Node) => Peer[]} builds the builds of this project, on a Node.
 * @param {Options} options
 */
async function compare(nodes, builds, { node, only, rounds, seconds, ref }) {
  const onNodes = await Promise.all(nodes.map(async one => [...builds(one), ...(await findPeers(one))]))
  const peers = [...onNodes.flat(), ...(await findBun())]
  const workloads = withinLimit(WORKLOADS.filter(({ name }) => only.includes(name)))
  const cores = findCores()
  const measurements = await measureAll(workloads, peers, { rounds, seconds, cores })
  const medians = summarise(workloads, measurements, BASE)
  console.log(`\n${comparisonTable(workloads, medians, BASE)}\n`)
  const [{ version: first }] = nodes
  const isShown = (/** @type {{ node?: string }} */ one) => one.node === undefined || one.node === first
  const versions = { fastify: await versionOf('fastify'), ...versionsOf(peers.filter(isShown)) }
  const options = {
    node: node.join(','),
    only: only.join(','),
    rounds,
    seconds,
    ref,
    pinned: cores !== undefined
  }
  const about = {
    date: new Date().toISOString(),
    machine: machine(),
    node: first,
    nodes: nodes.map(({ version }) => version),
    loadNode: process.version,
    versions,
    options
  }
  await writeResult('latest.json', toJson({ ...about, workloads, medians, measurements }))
  await writeResult('comparison.svg', barChart(workloads, medians.filter(isShown), about))
}

/** @param {Peer[]} peers */
function versionsOf(peers) {
  return Object.fromEntries(peers.map(({ name, version }) => [name, version]))
}
