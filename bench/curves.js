// npm run bench:curves: the cost of growing work, for this build and for ws.
import { CURVES } from './curve-workloads.js'
import { build, ROOT } from './harness/build.js'
import { findCores } from './harness/cores.js'
import { main } from './harness/main.js'
import { measureAll } from './harness/measure.js'
import { withinLimit } from './harness/open-files.js'
import { readOptions } from './harness/options.js'
import { BASE, findBase, PROJECT, projectPeer, versionOf } from './peers.js'
import { curveChart } from './report/curve-charts.js'
import { curveTable } from './report/curve-table.js'
import { commit, machine, toJson, writeResult } from './report/results.js'
import { summarise } from './report/summary.js'

const NAMES = Object.keys(CURVES)

const USAGE = `npm run bench:curves [-- --only NAMES --rounds N --seconds S]

--only     curves, with commas between them: ${NAMES.join(', ')}
--rounds   how often each server is measured at each point (3)
--seconds  how long (2)`

await main(async () => {
  const options = readOptions(process.argv.slice(2), NAMES, { takesRef: false, takesNode: false })
  if (options.help) return console.log(USAGE)
  await build()
  await measureCurves([projectPeer(PROJECT, ROOT, await commit()), await findBase()], options)
})

/**
 * @param {import('./peers.js').Peer[]} peers
 * @param {import('./harness/options.js').Options} options
 */
async function measureCurves(peers, { only, rounds, seconds }) {
  const cores = findCores()
  const curves = only.map(name => ({ name, curve: possible(CURVES[name]) }))
  const workloads = curves.flatMap(({ curve }) => curve.workloads)
  const measurements = await measureAll(workloads, peers, { rounds, seconds, cores })
  const medians = summarise(workloads, measurements, BASE)
  const servers = Object.fromEntries(peers.map(({ name, version }) => [name, version]))
  const versions = { fastify: await versionOf('fastify'), ...servers }
  const options = { only: only.join(','), rounds, seconds, pinned: cores !== undefined }
  const about = {
    date: new Date().toISOString(),
    machine: machine(),
    node: process.version,
    versions,
    options
  }
  for (const { name, curve } of curves)
    console.log(`\n${curveTable(name, curve, ofCurve(curve, medians), BASE)}`)
  console.log()
  await writeResult('curves.json', toJson({ ...about, workloads, medians, measurements }))
  for (const { name, curve } of curves) {
    await writeResult(`curve-${name}.svg`, curveChart(name, curve, ofCurve(curve, medians), about))
  }
}

/**
 * @param {import('./curve-workloads.js').Curve} curve
 * @returns {import('./curve-workloads.js').Curve}
 */
function possible(curve) {
  return { ...curve, workloads: withinLimit(curve.workloads) }
}

/**
 * @param {import('./curve-workloads.js').Curve} curve
 * @param {import('./report/summary.js').Summary[]} summaries
 */
function ofCurve({ workloads }, summaries) {
  return summaries.filter(({ workload }) => workloads.some(({ name }) => name === workload))
}
