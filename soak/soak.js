// npm run soak -- --minutes 20 --connections 2000 [--seed N]
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ROOT } from '../bench/harness/build.js'
import { main } from '../bench/harness/main.js'
import { connectionLimit } from '../bench/harness/open-files.js'
import { machine } from './machine.js'
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
      ? number(values.minutes, '--minutes') * 60
      : number(values.seconds, '--seconds')
  const connections = number(values.connections, '--connections')
  if (connections > connectionLimit()) {
    throw new Error(`--connections: no more than ${connectionLimit()} files can be open here`)
  }
  const faults = values.faults.split(',').filter(Boolean)
  const unknown = faults.find(name => !FAULTS.includes(name))
  if (unknown !== undefined) throw new Error(`--faults knows ${FAULTS.join(', ')}; not «${unknown}»`)
  if (!existsSync(join(values.build, 'dist/lib/index.js'))) {
    throw new Error(`there is no build in ${values.build}: run npm run build`)
  }
  return {
    build: values.build,
    seconds,
    connections,
    seed: number(values.seed, '--seed'),
    interval: values.interval === undefined ? seconds / 60 : number(values.interval, '--interval'),
    pace: number(values.pace, '--pace'),
    patience: number(values.patience, '--patience'),
    faults
  }
}

/**
 * @param {string} text
 * @param {string} name
 */
function number(text, name) {
  const value = Number(text)
  if (!(value > 0 && value < 2 ** 32)) throw new Error(`${name} has to be a number above 0`)
  return value
}

await main(async () => {
  const options = readOptions()
  printHead(options)
  const result = await runSoak(options, printRow)
  console.log(JSON.stringify({ ...result, machine: machine() }, undefined, 2))
  const broken = Object.entries(result.checks).filter(([, { ok }]) => !ok)
  if (broken.length > 0) throw new Error(`broken: ${broken.map(([name]) => name).join(', ')}`)
}, 'soak')
