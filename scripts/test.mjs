// What `npm test` runs: every check of the repository, stopping at the first that fails. Arguments are tap's:
// `npm test -- test/protocol`.
import { spawn } from 'node:child_process'
import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { delimiter, join, relative, sep } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const root = join(import.meta.dirname, '..')
const tapArguments = process.argv.slice(2)
const { CI, TEST_TIMEOUT_SCALE } = process.env
const isCI = Boolean(CI) && CI !== 'false'

// Tests get the program's path as <NAME>_PATH, or the reason to skip as TEST_SKIP_<NAME>.
const programs = [
  { name: 'chromium', debianPackage: 'chromium', neededBy: 'the browser tests' },
  { name: 'nginx', debianPackage: 'nginx-light', neededBy: 'the tests behind a proxy' },
  { name: 'curl', debianPackage: 'curl', neededBy: 'the tests with curl' },
  { name: 'redis-server', debianPackage: 'redis-server', neededBy: 'the tests with Redis' },
  { name: 'nats-server', debianPackage: 'nats-server', neededBy: 'the tests with NATS' }
]

const steps = {
  Biome: () => run('biome', ['check', '.']),
  build: () => run('npm', ['run', 'build']),
  'type check': () => run('tsc', ['-p', 'tsconfig.json']),
  programs: findPrograms,
  'TypeScript versions': installCompilers,
  tap: runTap,
  publint: () => run('publint', ['--strict']),
  attw: () => run('attw', ['--pack', '.', '--profile', 'strict'])
}

class StepFailure extends Error {}

/** The counts of tap's own summary: assertions, and files that ended badly. */
let counts

const env = { ...process.env, PATH: join(root, 'node_modules', '.bin') + delimiter + process.env.PATH }

async function main() {
  let failure
  for (const [name, step] of Object.entries(steps)) {
    console.log(`\n== ${name}`)
    try {
      await step()
    } catch (error) {
      if (!(error instanceof StepFailure)) throw error
      failure = `npm test: the step «${name}» failed: ${error.message}`
      break
    }
  }
  console.log()
  if (failure) console.log(failure)
  if (counts) console.log(summaryLine(counts))
  return failure ? 1 : 0
}

function summaryLine({ pass = 0, fail = 0, skip = 0, todo = 0 }) {
  const skipped = skip + todo
  return `${pass} passed, ${fail} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

async function run(command, args, onLine) {
  const stdout = onLine ? 'pipe' : 'inherit'
  const child = spawn(command, args, { cwd: root, env, stdio: ['inherit', stdout, 'inherit'] })
  const exited = new Promise((resolve, reject) => {
    child.once('error', error => reject(new StepFailure(`${command} does not start: ${error.message}`)))
    child.once('close', (code, signal) => resolve(signal ?? `exit code ${code}`))
  })
  if (onLine) createInterface({ input: child.stdout }).on('line', onLine)
  const status = await exited
  if (status !== 'exit code 0') throw new StepFailure(`${command} ended with ${status}`)
}

// ---- programs

async function findPrograms() {
  for (const program of programs) {
    const variable = program.name.toUpperCase().replaceAll('-', '_')
    const path = findProgram(program.name, env[`${variable}_PATH`]) ?? (await install(program))
    if (path) {
      console.log(`${program.name}: ${path}`)
      env[`${variable}_PATH`] = path
      continue
    }
    const reason = `${program.name} is not installed`
    if (isCI) throw new StepFailure(`${reason}, and ${program.neededBy} must run where CI is set`)
    console.log(`${reason}: ${program.neededBy} are skipped`)
    env[`TEST_SKIP_${variable}`] = reason
  }
}

function findProgram(name, chosen) {
  if (chosen) {
    if (isExecutable(chosen)) return chosen
    throw new StepFailure(`no program at ${chosen}, where the environment says that ${name} is`)
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

async function install({ name, debianPackage }) {
  if (process.getuid?.() !== 0 || !existsSync('/etc/debian_version')) return undefined
  env.DEBIAN_FRONTEND = 'noninteractive'
  try {
    await run('apt-get', ['update'])
    await run('apt-get', ['install', '-y', '--no-install-recommends', debianPackage])
  } catch (error) {
    if (!(error instanceof StepFailure)) throw error
    console.log(`installing ${debianPackage}: ${error.message}`)
  }
  return findProgram(name)
}

// ---- TypeScript

// A package of their own, as all of them would claim the name `tsc` in the one of the project.
async function installCompilers() {
  if (existsSync(join(root, 'test', 'typescript', 'node_modules'))) return
  try {
    await run('npm', ['ci', '--prefix', join('test', 'typescript'), '--no-audit', '--no-fund'])
  } catch (error) {
    if (isCI || !(error instanceof StepFailure)) throw error
    console.log(`${error.message}: the tests with other versions of TypeScript are skipped`)
  }
}

// ---- tap

async function runTap() {
  const isWholeSuite = tapArguments.length === 0
  const filesWithoutTests = []
  const report = new ShortReport()
  const args = [
    // None of these is what the gate is about, and a built file that a test loads would count a second time.
    '--coverage-exclude=test/**',
    '--coverage-exclude=dist/**',
    '--coverage-exclude=bench/**',
    '--coverage-exclude=soak/**',
    '--coverage-exclude=examples/**',
    ...timeoutOption(),
    ...(isWholeSuite ? [] : ['--allow-incomplete-coverage', '--allow-empty-coverage']),
    ...tapArguments,
    // tap's other reporters redraw the screen, and under CI they print no failures.
    '--reporter=tap'
  ]
  const failures = []
  await run('tap', args, line => {
    counts = summaryOf(line) ?? counts
    const empty = /^ok \d+ - (.*) # SKIP no tests found/.exec(line)
    if (empty) filesWithoutTests.push(empty[1])
    report.add(line)
  }).catch(error => failures.push(error.message))
  report.end()
  if (!counts) failures.push('it printed no summary')
  if (filesWithoutTests.length > 0) failures.push(`no tests in ${filesWithoutTests.join(', ')}`)
  if (failures.length === 0 && isWholeSuite) {
    const files = filesNeverLoaded()
    if (files.length > 0) failures.push(`no test loads ${files.join(', ')}`)
  }
  if (failures.length > 0) throw new StepFailure(failures.join('; '))
}

// `# { total: 14, pass: 5, fail: 5, todo: 1, skip: 3 }`, without the kinds of which there are none.
function summaryOf(line) {
  if (!/^# \{ total: .*\}$/.test(line)) return undefined
  return Object.fromEntries(Array.from(line.matchAll(/(\w+): (\d+)/g), ([, kind, n]) => [kind, Number(n)]))
}

/** Prints a line a file, what was skipped and why, and of a file that failed everything but its passes. */
class ShortReport {
  #block = []

  add(line) {
    if (/^# Subtest: /.test(line)) {
      this.end()
    } else if (/^(not )?ok /.test(line)) {
      const isKept = isPass(line) ? isDirective : l => isDirective(l) || !(isPass(l) || isFrame(l))
      this.#block = [...this.#block.filter(isKept), line]
      this.end()
    } else {
      this.#block.push(line)
      // Only what a file printed is indented; the rest is tap's own and comes after its files.
      if (!/^(\s|$)/.test(line)) this.end()
    }
  }

  end() {
    for (const line of this.#block) if (line.trim() !== '') console.log(line)
    this.#block = []
  }
}

const isPass = line => /^\s*ok \d+/.test(line)
const isDirective = line => /^\s*ok \d+ .*# (SKIP|TODO)/.test(line)
const isFrame = line => /^\s*(# Subtest: .*|# time=.*|1\.\.\d+.*)?$/.test(line)

// The tests scale their own deadlines, by the load of the machine or by TEST_TIMEOUT_SCALE. tap's deadline for a file only
// ends one that hangs, so it has to stay above them.
function timeoutOption() {
  const seconds = /^timeout: (\d+)$/m.exec(readFileSync(join(root, '.taprc'), 'utf8'))
  const scale = Number(TEST_TIMEOUT_SCALE)
  return seconds && scale > 1 ? [`--timeout=${Math.ceil(Number(seconds[1]) * scale)}`] : []
}

// tap's coverage knows the files that some test loaded and no others, so a file without a test would pass its gate.
function filesNeverLoaded() {
  const loaded = new Set()
  const folder = join(root, '.tap', 'coverage')
  for (const name of readdirSync(folder)) {
    const { result } = JSON.parse(readFileSync(join(folder, name), 'utf8'))
    for (const { url } of result) {
      if (url.startsWith('file:')) loaded.add(relative(root, fileURLToPath(url)).replaceAll(sep, '/'))
    }
  }
  return readdirSync(join(root, 'dist', 'lib'), { recursive: true })
    .filter(name => name.endsWith('.js') && hasCode(join(root, 'dist', 'lib', name)))
    .map(name => `lib/${name.replaceAll(sep, '/').replace(/\.js$/, '.ts')}`)
    .filter(file => !loaded.has(file))
}

// A module of types alone compiles to `export {}`; nothing loads it.
function hasCode(file) {
  const text = readFileSync(file, 'utf8')
  return text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '').trim() !== 'export {};'
}

process.exitCode = await main()
