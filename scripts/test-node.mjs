// `npm run test:node -- 24` runs the checks of `npm test` on another version of Node, which npm installs into .nodes/.
//   npm run test:node -- 24 test/fastify     with some of the tests; the further arguments are those of `npm test`
//   npm run test:node -- 24 --quick          without the other checks
import { spawnSync } from 'node:child_process'
import { delimiter, join } from 'node:path'
import { installNode, isNodeVersion } from './node-version.mjs'

const root = join(import.meta.dirname, '..')
const [version = '', ...args] = process.argv.slice(2)

function main() {
  if (!isNodeVersion(version)) {
    console.error('Usage: npm run test:node -- <version of Node> [paths and options of npm test]')
    return 1
  }
  const bin = installNode(version)
  if (bin === undefined) return 1
  const node = join(bin, 'node')
  console.log(`Node ${run(node, ['--version'], 'pipe').stdout.toString().trim()}`)
  // The steps of the checks start `node` too.
  const PATH = bin + delimiter + process.env.PATH
  return (
    run(node, [join(root, 'scripts', 'test.mjs'), ...args], 'inherit', { ...process.env, PATH }).status ?? 1
  )
}

function run(command, args, output, env = process.env) {
  return spawnSync(command, args, { stdio: ['inherit', output, 'inherit'], env })
}

process.exitCode = main()
