// `npm run test:node -- 24` runs the checks of `npm test` on another version of Node, which npm installs into .nodes/.
//   npm run test:node -- 24 test/fastify     with some of the tests; the further arguments are those of `npm test`
//   npm run test:node -- 24 --quick          without the other checks
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const root = join(import.meta.dirname, '..')
const [version = '', ...args] = process.argv.slice(2)

function main() {
  if (!/^\d+(?:\.\d+){0,2}$/.test(version)) {
    console.error('Usage: npm run test:node -- <version of Node> [paths and options of npm test]')
    return 1
  }
  const bin = installed()
  if (bin === undefined) return 1
  const node = join(bin, 'node')
  console.log(`Node ${run(node, ['--version'], 'pipe').stdout.toString().trim()}`)
  // The steps of the checks start `node` too.
  const PATH = bin + delimiter + process.env.PATH
  return (
    run(node, [join(root, 'scripts', 'test.mjs'), ...args], 'inherit', { ...process.env, PATH }).status ?? 1
  )
}

/** The folder of the binary, which is the official one, in a package for each platform. */
function installed() {
  const name = `node-${process.platform}-${process.arch}`
  const folder = join(root, '.nodes', version)
  const bin = join(folder, 'node_modules', name, 'bin')
  if (existsSync(join(bin, 'node'))) return bin
  mkdirSync(folder, { recursive: true })
  // A package of its own, so that npm does not change the one of this repository.
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
  const args = ['install', '--no-audit', '--no-fund', '--prefix', folder, `${name}@${version}`]
  return run('npm', args, 'inherit').status === 0 ? bin : undefined
}

function run(command, args, output, env = process.env) {
  return spawnSync(command, args, { stdio: ['inherit', output, 'inherit'], env })
}

process.exitCode = main()
