// npm run bench: compares this build with other servers, and with an earlier build of itself.
import { build, ROOT, withBuildOf } from './harness/build.js'
import { findCores } from './harness/cores.js'
import { main } from './harness/main.js'
import { measureAll } from './harness/measure.js'
import { withinLimit } from './harness/open-files.js'
import { readOptions } from './harness/options.js'
import { BASE, findPeers, PROJECT, projectPeer, versionOf } from './peers.js'
import { barChart } from './report/bar-chart.js'
import { comparisonTable } from './report/comparison-table.js'
import { commit, machine, toJson, writeResult } from './report/results.js'
import { summarise } from './report/summary.js'
import { WORKLOADS } from './workloads.js'

/** @typedef {import('./peers.js').Peer} Peer */

const NAMES = WORKLOADS.map(({ name }) => name)

const USAGE = `npm run bench [-- GIT_REF] [-- --only NAMES --rounds N --seconds S]

GIT_REF    an earlier build of this project to compare with
--only     workloads, with commas between them: ${NAMES.join(', ')}
--rounds   how often each server is measured under each workload (3)
--seconds  how long (2)

BUN_PATH names the Bun to compare with; else the one in PATH, if there is one.`

await main(async () => {
  const options = readOptions(process.argv.slice(2), NAMES, { takesRef: true })
  if (options.help) return console.log(USAGE)
  await build()
  const own = projectPeer(PROJECT, ROOT, await commit())
  const peers = await findPeers()
  const { ref } = options
  if (ref === undefined) return compare([own, ...peers], options)
  await withBuildOf(ref, (folder, earlier) =>
    compare([own, projectPeer(`${PROJECT}@${earlier}`, folder, earlier), ...peers], options)
  )
})

/**
 * @param {Peer[]} peers
 * @param {import('./harness/options.js').Options} options
 */
async function compare(peers, { only, rounds, seconds, ref }) {
  const workloads = withinLimit(WORKLOADS.filter(({ name }) => only.includes(name)))
  const cores = findCores()
  const measurements = await measureAll(workloads, peers, { rounds, seconds, cores })
  const medians = summarise(workloads, measurements, BASE)
  console.log(`\n${comparisonTable(workloads, medians, BASE)}\n`)
  const versions = { fastify: await versionOf('fastify'), ...versionsOf(peers) }
  const options = { only: only.join(','), rounds, seconds, ref, pinned: cores !== undefined }
  const about = {
    date: new Date().toISOString(),
    machine: machine(),
    node: process.version,
    versions,
    options
  }
  await writeResult('latest.json', toJson({ ...about, workloads, medians, measurements }))
  await writeResult('comparison.svg', barChart(workloads, medians, about))
}

/** @param {Peer[]} peers */
function versionsOf(peers) {
  return Object.fromEntries(peers.map(({ name, version }) => [name, version]))
}
