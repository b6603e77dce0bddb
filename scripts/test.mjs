// `npm test` runs this: every check of the repository.
//   npm test -- test/fastify test/index.test.ts    the same checks with some of the tests, without the coverage gate
//   npm test -- --no-install                       installs nothing, and skips the tests that lack something
//   npm run test:typescript                        the same checks with every version of TypeScript, as where CI is set
//   npm run test:quick                             some of the tests and no other check
import { spawn } from 'node:child_process'
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { parseArgs } from 'node:util'
import { coverageGaps, linkPackages, runFiles, testFiles } from './run-tests.mjs'

const root = join(import.meta.dirname, '..')
const { values: options, positionals: paths } = parseArgs({
  allowPositionals: true,
  options: { 'no-install': { type: 'boolean', default: false }, quick: { type: 'boolean', default: false } }
})
const mayInstall = !options['no-install']
const isWholeSuite = paths.length === 0
const isCI = Boolean(process.env.CI) && process.env.CI !== 'false'
const env = { ...process.env, PATH: join(root, 'node_modules', '.bin') + delimiter + process.env.PATH }

// Tests get the program's path as <NAME>_PATH, or the reason to skip as TEST_SKIP_<NAME>.
const programs = [
  { name: 'chromium', debianPackage: 'chromium', neededBy: 'the browser tests' },
  { name: 'nginx', debianPackage: 'nginx-light', neededBy: 'the tests behind a proxy' },
  { name: 'haproxy', debianPackage: 'haproxy', neededBy: 'the tests behind HAProxy' },
  { name: 'curl', debianPackage: 'curl', neededBy: 'the tests with curl' },
  { name: 'redis-server', debianPackage: 'redis-server', neededBy: 'the tests with Redis' },
  { name: 'nats-server', debianPackage: 'nats-server', neededBy: 'the tests with NATS' }
].map(program => ({ ...program, variable: program.name.toUpperCase().replaceAll('-', '_') }))

// Packages of their own, which only some tests need.
const packages = [
  { folder: 'test/interop', neededBy: 'the tests with other libraries' },
  { folder: 'test/typescript', neededBy: 'the tests with other versions of TypeScript' }
].filter(({ folder }) => isWholeSuite || testsUnder(folder))

// A compilation takes eight seconds, so the whole suite has two of them: with the oldest and the newest TypeScript.
if (isCI || testsUnder('test/typescript')) env.TEST_TYPESCRIPT ??= 'all'

/** The tests of `npm run test:quick`: the protocol, the socket, and the main path of the plugin. */
const QUICK = [
  ...['protocol', 'compression', 'limits', 'socket'].map(folder => `test/${folder}`),
  ...['plugin', 'route', 'connection', 'subprotocol', 'hooks'].map(name => `test/fastify/${name}.test.ts`)
]

class Failure extends Error {}

/** The counts of the assertions of all test files. */
let counts

async function main() {
  const failures = []
  try {
    await (options.quick ? quick(failures) : everything(failures))
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    failures.push(error.message)
  }
  console.log()
  for (const failure of failures) console.log(`npm test: ${failure}`)
  if (counts) console.log(summaryLine(counts))
  return failures.length > 0 ? 1 : 0
}

function summaryLine({ pass, fail, skip, todo }) {
  const skipped = skip + todo
  return `${pass} passed, ${fail} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

async function quick(failures) {
  console.log('The tests of the protocol, of the socket and of the main path of the plugin.')
  await compile()
  linkPackages()
  await runTests(failures, testFiles(paths.length > 0 ? paths : QUICK))
}

async function everything(failures) {
  const missing = programs.filter(program => !findProgram(program))
  announce(missing)
  // Installing mostly waits for the network: the other tests run meanwhile.
  const installed = installPackages()
  installed.catch(() => {}) // runFiles reports it.
  await all([installPrograms(missing), step('build', 'npm', ['run', 'build']), compile()])
  const checks = [() => step('Biome', 'biome', ['check', '.']), checkPackage]
  const files = testFiles(isWholeSuite ? undefined : paths)
  await runTests(failures, files, { checks, late: { isLate, start: installed.then(startLate) } })
}

const TYPESCRIPT_7 = join(root, 'test', 'typescript', 'node_modules', 'typescript-7.0', 'bin', 'tsc')

/** Whether a test needs a package of its own. */
const isLate = file => packageOf(file) !== undefined
const packageOf = file => packages.find(({ folder }) => file.startsWith(`${folder}/`))

/** The checks that need the packages of their own, and which tests of theirs can run. Links into the compiled tests. */
function startLate() {
  linkPackages()
  const ready = packages.map(({ folder }) => folder).filter(isInstalled)
  const project = isInstalled('test/interop') ? 'test/interop' : '.'
  // TypeScript 7 takes half the time.
  const compilers = [existsSync(TYPESCRIPT_7) ? TYPESCRIPT_7 : 'tsc', ...(isCI ? ['tsc'] : [])]
  return {
    checks: [...new Set(compilers)].map(compiler => () => step('type check', compiler, ['-p', project])),
    isReady: file => !isLate(file) || ready.includes(packageOf(file).folder)
  }
}

/** Waits until all have ended, so that no step goes on after a failure. */
async function all(steps) {
  const results = await Promise.allSettled(steps)
  for (const { status, reason } of results) if (status === 'rejected') throw reason
}

/** Says what this run does, and what it installs. */
function announce(missing) {
  const tests = isWholeSuite ? 'all tests with their coverage' : `the tests of ${paths.join(', ')}`
  console.log(`Biome, the build, the type check, ${tests}, publint and attw.`)
  if (isWholeSuite) console.log('This takes eight to nine minutes on two idle processors.')
  const folders = packages.filter(({ folder }) => !isInstalled(folder)).map(({ folder }) => folder)
  if (!mayInstall) {
    console.log('Nothing is installed. Tests that lack a program or a package are skipped.')
  } else {
    if (folders.length > 0) console.log(`npm installs the packages of ${folders.join(' and ')} there.`)
    if (missing.length > 0 && mayUseApt()) {
      const names = missing.map(({ debianPackage }) => debianPackage).join(', ')
      console.log(`apt-get installs ${names}, as this is Debian and you are root.`)
    }
    if (folders.length + missing.length > 0) console.log('`npm test -- --no-install` skips what needs them.')
  }
}

/** Runs a command and prints its output when it ends. */
async function step(name, command, args) {
  const started = performance.now()
  const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', text => {
      output += text
    })
  }
  const status = await new Promise((resolve, reject) => {
    child.once('error', error => reject(new Failure(`${command} does not start: ${error.message}`)))
    child.once('close', (code, signal) => resolve(signal ?? code))
  })
  const isGood = status === 0
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  console.log(`${isGood ? 'ok' : 'not ok'} ${name} # ${seconds} s`)
  if (isGood) return
  console.log(output)
  throw new Failure(`the step «${name}» failed: ${command} ended with ${status}`)
}

async function compile() {
  // Compiled copies of removed files must not be loaded, nor count as uncovered.
  for (const folder of ['lib', 'types', 'examples', 'test']) {
    rmSync(join(root, '.build', folder), { recursive: true, force: true })
  }
  await step('compile the tests', 'tsc', ['-p', 'tsconfig.test.json'])
}

/** Checks what npm would publish. */
async function checkPackage() {
  // Without scripts, as `prepack` builds dist/ anew, which the tests are running.
  const folder = join(root, '.build', 'package')
  mkdirSync(folder, { recursive: true })
  await step('pack', 'npm', ['pack', '--ignore-scripts', '--pack-destination', folder])
  const { name, version } = await import('../package.json', { with: { type: 'json' } }).then(
    one => one.default
  )
  const tarball = join(folder, `${name}-${version}.tgz`)
  await step('publint', 'publint', ['run', tarball, '--strict'])
  await step('attw', 'attw', [tarball, '--profile', 'strict'])
}

// ---- what is installed

async function installPrograms(missing) {
  if (mayInstall && missing.length > 0 && mayUseApt()) {
    env.DEBIAN_FRONTEND = 'noninteractive'
    const names = missing.map(({ debianPackage }) => debianPackage)
    try {
      await step('apt-get update', 'apt-get', ['update'])
      await step('apt-get install', 'apt-get', ['install', '-y', '--no-install-recommends', ...names])
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      console.log(error.message)
    }
  }
  for (const program of programs) {
    const path = findProgram(program)
    if (path) env[`${program.variable}_PATH`] = path
    else skip(`${program.name} is not installed`, program)
  }
}

async function installPackages() {
  for (const { folder, neededBy } of packages) {
    if (isInstalled(folder)) continue
    try {
      if (mayInstall)
        await step(`npm ci in ${folder}`, 'npm', ['ci', '--prefix', folder, '--no-audit', '--no-fund'])
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      console.log(error.message)
    }
    if (!isInstalled(folder)) skip(`the packages of ${folder} are not installed`, { neededBy })
  }
}

function skip(reason, { neededBy, variable }) {
  if (isCI && mayInstall) throw new Failure(`${reason}, and ${neededBy} must run where CI is set`)
  console.log(`${reason}: ${neededBy} are skipped`)
  if (variable) env[`TEST_SKIP_${variable}`] = reason
}

/** Whether the packages of a folder are installed, also those that its package.json has since gained. */
function isInstalled(folder) {
  const { devDependencies } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'))
  return Object.keys(devDependencies).every(name => existsSync(join(root, folder, 'node_modules', name)))
}

const mayUseApt = () => process.getuid?.() === 0 && existsSync('/etc/debian_version')

function findProgram({ name, variable }) {
  const chosen = process.env[`${variable}_PATH`]
  if (chosen) {
    if (isExecutable(chosen)) return chosen
    throw new Failure(`no program at ${chosen}, where ${variable}_PATH says that ${name} is`)
  }
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/usr/sbin']
  return folders
    .filter(Boolean)
    .map(folder => join(folder, name))
    .find(isExecutable)
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

// ---- tests

async function runTests(failures, files, { checks, late } = {}) {
  if (files.length === 0) throw new Failure(`no test files in ${paths.join(', ')}`)
  const isCovered = isWholeSuite && !options.quick
  const result = await runFiles(files, { env, isCovered, checks, late })
  counts = result.counts
  failures.push(...result.failures)
  if (isCovered && result.failures.length === 0) failures.push(...(await coverageGaps()))
}

function testsUnder(folder) {
  return paths.some(
    path => join(path, '/').startsWith(`${folder}/`) || `${folder}/`.startsWith(join(path, '/'))
  )
}

process.exitCode = await main()
