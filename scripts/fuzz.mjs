// `npm run fuzz` runs this: the tests of test/fuzz for any time, in rounds, each with its own seed.
//   npm run fuzz -- --minutes 10
//   npm run fuzz -- --seed 123 --only live --attack 45
// See test/fuzz/README.md.
import { execFileSync, spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

const root = join(import.meta.dirname, '..')
const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string' },
    only: { type: 'string' },
    path: { type: 'string' },
    attack: { type: 'string' }
  }
})
const minutes = Number(values.minutes)
if (!(minutes > 0)) throw new Error('--minutes must be a number greater than 0')

/** The factor by which a round has more runs than `npm test`, and the seconds for which the live server is attacked. */
const RUNS = 20
const LIVE_SECONDS = 40
const FILES = ['receive', 'send', 'handshake', 'messages', 'live'].map(name =>
  join('.build', 'test', 'fuzz', `${name}.test.js`)
)

/** The number of runs by name, over all rounds. */
const totals = new Map()

async function main() {
  execFileSync(
    process.execPath,
    [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.test.json'],
    {
      cwd: root,
      stdio: 'inherit'
    }
  )
  const end = Date.now() + minutes * 60_000
  const first = values.seed === undefined ? Math.floor(Math.random() * 2 ** 30) : Number(values.seed)
  // A given seed is used once.
  for (let seed = first; seed === first || (values.seed === undefined && Date.now() < end); seed++) {
    console.log(`\n== seed ${seed}`)
    for (const file of FILES) {
      const seconds = Math.ceil((end - Date.now()) / 1000)
      if (seconds <= 0 && values.seed === undefined) break
      if (!(await runFile(file, seed, Math.max(seconds, 5)))) {
        console.log(`\nTo repeat it: npm run fuzz -- --seed ${seed} --only <name>`)
        return 1
      }
    }
  }
  console.log('\nRuns without a failure:')
  for (const [name, runs] of totals) console.log(`  ${name}: ${runs}`)
  return 0
}

async function runFile(file, seed, seconds) {
  const env = {
    ...process.env,
    TAP_TIMEOUT: '900',
    FUZZ_SEED: String(seed),
    FUZZ_RUNS: String(RUNS),
    FUZZ_SECONDS: String(Math.min(seconds, 60)),
    FUZZ_LIVE_SECONDS: String(Math.min(seconds, LIVE_SECONDS)),
    FUZZ_ONLY: values.only ?? '',
    FUZZ_PATH: values.path ?? '',
    FUZZ_ATTACK: values.attack ?? ''
  }
  const child = spawn(process.execPath, ['--enable-source-maps', file], {
    cwd: root,
    env,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const exit = new Promise(resolve => child.once('close', resolve))
  const lines = []
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line)
    const [, comment] = /^ +# (?!Subtest|time=)(.*)/.exec(line) ?? []
    if (comment !== undefined) console.log(comment)
    const [, name, runs] = /# fuzz: (.*): (\d+) runs/.exec(line) ?? []
    if (name !== undefined) totals.set(name, (totals.get(name) ?? 0) + Number(runs))
  }
  const code = await exit
  if (code !== 0) console.log(lines.join('\n'))
  return code === 0
}

process.exitCode = await main()
