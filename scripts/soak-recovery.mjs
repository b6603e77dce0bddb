// `npm run soak:recovery -- 3`: test/topics/recovery.test.ts with large counts, three times. RECOVERY_COUNT and
// RECOVERY_SUBSCRIBERS change the counts, and TAP_GREP chooses the tests.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
const runs = Number(process.argv[2] ?? 1)
const env = { RECOVERY_COUNT: '20000', RECOVERY_SUBSCRIBERS: '200', TAP_TIMEOUT: '7200', ...process.env }

function run(command, args) {
  return spawnSync(command, args, { cwd: root, env, stdio: 'inherit' }).status ?? 1
}

if (run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.test.json']) !== 0)
  process.exit(1)
let failures = 0
for (let n = 1; n <= runs; n++) {
  console.log(`\n# run ${n} of ${runs}`)
  failures += run(process.execPath, ['--enable-source-maps', '.build/test/topics/recovery.test.js'])
}
console.log(`\n# ${runs - failures} of ${runs} runs passed`)
process.exitCode = failures > 0 ? 1 : 0
