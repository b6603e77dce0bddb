// npm run soak -- --minutes 20 --connections 2000 [--seed N]
import { parseArgs } from 'node:util'
import { ROOT } from '../bench/harness/build.js'
import { main } from '../bench/harness/main.js'
import { connectionLimit } from '../bench/harness/open-files.js'
import { machine } from './machine.js'
import { checkBuild, positive, whole } from './options.js'
import { FAULTS } from './server/fault.js'
import { runSoak } from './soak-run.js'
import { printHead, printRow } from './soak-table.js'

function readOptions() {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '20' },
      seconds: { type: 'string' },
      connections: { type: 'string', default: '2000' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      interval: { type: 'string' },
      pace: { type: 'string', default: '1' },
      patience: { type: 'string', default: '30' },
      faults: { type: 'string', default: '' },
      build: { type: 'string', default: ROOT }
    }
  })
  const seconds =
    values.seconds === undefined
      ? positive(values.minutes, '--minutes') * 60
      : positive(values.seconds, '--seconds')
  const connections = whole(values.connections, '--connections')
  if (connections > connectionLimit()) {
    throw new Error(`--connections: no more than ${connectionLimit()} files can be open here`)
  }
  const faults = values.faults.split(',').filter(Boolean)
  const unknown = faults.find(name => !FAULTS.includes(name))
  if (unknown !== undefined) throw new Error(`--faults knows ${FAULTS.join(', ')}; not «${unknown}»`)
  return {
    build: checkBuild(values.build),
    seconds,
    connections,
    seed: whole(values.seed, '--seed'),
    interval: values.interval === undefined ? seconds / 60 : positive(values.interval, '--interval'),
    pace: positive(values.pace, '--pace'),
    patience: positive(values.patience, '--patience'),
    faults
  }
}

await main(async () => {
  const options = readOptions()
  const where = machine()
  printHead(options)
  const result = await runSoak(options, printRow)
  console.log(JSON.stringify({ ...result, machine: where }, undefined, 2))
  const broken = Object.entries(result.checks).filter(([, { ok }]) => !ok)
  if (broken.length > 0) throw new Error(`broken: ${broken.map(([name]) => name).join(', ')}`)
}, 'soak')
