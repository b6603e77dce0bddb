// Runs compiled test files from .build, several at a time, and measures their coverage of lib.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join, relative, sep } from 'node:path'
import { createInterface } from 'node:readline'
import { Report } from 'c8'

const root = join(import.meta.dirname, '..')
const build = join(root, '.build')
const coverageFolder = join(build, 'coverage')

/** The timeout of a test file in seconds, if TEST_TIMEOUT_SCALE is 1. */
const TIMEOUT = 600

/**
 * A small file spends most of its time on starting a process. So one process runs the files of these folders one after
 * the other.
 */
const BUNDLES = {
  fastify: ['fastify'],
  asyncapi: ['plugin', 'sample', 'yaml'].map(name => `asyncapi/${name}.test.ts`),
  brokers: ['brokers'],
  examples: ['examples', 'interop/browser.test.ts'],
  soak: ['soak'],
  socket: ['socket'],
  topics: ['topics', 'testing', 'ws'],
  protocol: ['protocol', 'compression', 'limits', 'options', 'upgrade'],
  fuzz: ['fuzz', 'interop/deflate.test.ts'],
  interop: [
    ...['auth', 'autoload', 'cookie', 'cors', 'helmet', 'http-proxy', 'jwt', 'rate-limit', 'request-context'],
    ...['session', 'swagger', 'undici', 'ws-habits', 'fastify-websocket-app'],
    ...['fastify-websocket-differences', 'fastify-websocket-options', 'curl', 'express', 'trpc', 'yjs'],
    ...['graphql-ws', 'hocuspocus', 'mercurius', 'socket-io', 'socket-io-engine', 'nginx', 'vite', 'ws'],
    'colyseus'
  ].map(name => `interop/${name}.test.ts`),
  rest: ['index', 'docs', 'layers', 'reconnecting', 'tarball'].map(name => `${name}.test.ts`)
}

/** The longest of the files that have a process of their own, the longest first. */
const LONGEST = [
  'typescript/versions',
  'socket/heartbeat',
  'topics/recovery',
  'observe/console-page',
  'asyncapi/page',
  'fastify/rolling-restart',
  'topics/processes'
].map(name => `test/${name}.test.ts`)

/** Files that change or measure the whole process, or depend on its loaded modules. */
const ALONE = [
  ...['deflate-bad', 'late-import', 'ordinary-request', 'request-memory'].map(name => `fastify/${name}`),
  ...['rolling-restart', 'shutdown-spread', 'slow-readers'].map(name => `fastify/${name}`),
  ...['expiry', 'flush-queue', 'heartbeat', 'transport-inflate'].map(name => `socket/${name}`),
  ...['processes', 'recovery', 'unused-topics'].map(name => `topics/${name}`),
  'testing/fake-timers'
].map(name => `test/${name}.test.ts`)

/** Processes that tests start load the built files or a compiler, which coverage would only slow down. */
const UNCOVERED_CHILDREN = 'data:text/javascript,delete process.env.NODE_V8_COVERAGE'

/**
 * The compiled test files under paths such as `test/fastify` or `test/index.test.ts`, without their compiled extension.
 * @param {readonly string[]} paths
 */
export function testFiles(paths = ['test']) {
  const all = readdirSync(join(build, 'test'), { recursive: true })
    .filter(name => name.endsWith('.test.js'))
    .map(name => `test/${name.replaceAll(sep, '/').replace(/\.js$/, '.ts')}`)
    .filter(name => existsSync(join(root, name)))
    .sort()
  const chosen = paths.map(path => relative(root, join(root, path)).replaceAll(sep, '/'))
  return all.filter(file => chosen.some(path => isIn(file, path)))
}

const isIn = (file, path) => file === path || file.startsWith(`${path}/`)

/**
 * Lets compiled tests load the packages of test/interop. Only those in its package.json are linked: their own
 * dependencies, which the root has as well, must not exist twice.
 */
export function linkPackages() {
  const from = join(root, 'test', 'interop')
  const to = join(build, 'test', 'interop', 'node_modules')
  rmSync(to, { recursive: true, force: true })
  const { devDependencies } = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8'))
  for (const name of Object.keys(devDependencies)) {
    mkdirSync(dirname(join(to, name)), { recursive: true })
    symlinkSync(join(from, 'node_modules', name), join(to, name), 'junction')
  }
}

/**
 * Runs files, and `checks` beside them, and prints a line for each, and all but the passes of a file that failed. Processes
 * whose files are all `late` start after it.
 * @returns the counts of assertions, and what failed.
 */
export async function runFiles(
  files,
  // Tests that wait leave their processor to others.
  { env, isCovered = false, checks = [], late = NOT_LATE, jobs = availableParallelism() + 2 }
) {
  rmSync(coverageFolder, { recursive: true, force: true })
  const counts = { pass: 0, fail: 0, skip: 0, todo: 0 }
  const failures = []
  const start = async bundle => {
    const { sections, problem, summary } = await runProcess(bundle, env, isCovered)
    for (const kind of Object.keys(counts)) counts[kind] += summary?.[kind] ?? 0
    if (problem) failures.push(`${bundle.name}: ${problem}`)
    for (const { file, output, seconds } of sections) {
      const isGood = bundle.files.length > 1 ? !output.some(line => line.startsWith('not ok ')) : !problem
      print(`${isGood ? 'ok' : 'not ok'} ${file} # ${seconds.toFixed(1)} s`, output, isGood)
    }
    if (bundle.files.length > 1 && problem) print(`not ok ${bundle.name}: ${problem}`, [], false)
  }
  const note = error => failures.push(error.message)
  const bundles = bundlesOf(files)
  const isLate = bundle => bundle.files.every(late.isLate)
  const tasksOf = (checks, bundles) => [
    ...checks.map(check => () => check().catch(note)),
    ...bundles.map(bundle => () => start(bundle))
  ]
  const tasks = tasksOf(
    checks,
    bundles.filter(bundle => !isLate(bundle))
  )
  const started = late.start.then(({ checks, isReady }) => {
    const ready = bundles.filter(bundle => isLate(bundle) && bundle.files.every(isReady))
    // The longest of all are among them.
    tasks.unshift(...tasksOf(checks, ready))
  }, note)
  const work = async () => {
    for (let task = tasks.shift(); task; task = tasks.shift()) await task()
  }
  const worker = async () => {
    await work()
    await started
    await work()
  }
  await Promise.all(Array.from({ length: jobs }, worker))
  return { counts, failures }
}

const NOT_LATE = { isLate: () => false, start: Promise.resolve({ checks: [], isReady: () => true }) }

/** The files by process, the longest first: otherwise processors would be idle at the end. */
function bundlesOf(files) {
  const bundles = Object.entries(BUNDLES).map(([name, members]) => ({
    name: `test/bundles/${name}`,
    files: files.filter(file => !ALONE.includes(file) && members.some(member => isIn(file, `test/${member}`)))
  }))
  const several = bundles.filter(bundle => bundle.files.length > 1)
  const bundled = new Set(several.flatMap(bundle => bundle.files))
  const single = file => ({ name: file, files: [file] })
  const longest = LONGEST.filter(file => files.includes(file))
  const rest = files.filter(file => !bundled.has(file) && !longest.includes(file))
  return [...longest.map(single), ...several, ...rest.map(single)]
}

/** The module that a process runs: the compiled file, or one that imports all files of a bundle. */
function entryOf({ name, files }) {
  if (files.length === 1) return join(build, files[0].replace(/\.ts$/, '.js'))
  const entry = join(build, `${name}.js`)
  const modules = files.map(file => {
    const compiled = relative(dirname(entry), join(build, file.replace(/\.ts$/, '.js')))
    return [file, compiled.replaceAll(sep, '/')]
  })
  mkdirSync(dirname(entry), { recursive: true })
  writeFileSync(
    entry,
    `import t from 'tap'
async function load() {
  for (const [file, compiled] of ${JSON.stringify(modules)}) {
    t.comment('${FILE}' + file)
    await import(compiled).catch(error => t.fail(file + ' does not load: ' + error.stack))
  }
}
t.waitOn(load())
`
  )
  return entry
}

/** Begins the output of a file in that of its bundle. */
const FILE = 'file: '

async function runProcess(bundle, env, isCovered) {
  const { name, files } = bundle
  const timeout = TIMEOUT * Math.max(1, Number(env.TEST_TIMEOUT_SCALE) || 1)
  const args = ['--enable-source-maps', '--import', UNCOVERED_CHILDREN, entryOf(bundle)]
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: {
      ...env,
      TAP_TIMEOUT: String(timeout),
      ...(isCovered ? { NODE_V8_COVERAGE: coverageFolder } : {})
    },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const sections = []
  const begin = file => sections.push({ file, output: [], started: performance.now(), seconds: 0 })
  const end = () => {
    for (const section of sections.slice(-1)) section.seconds = (performance.now() - section.started) / 1000
  }
  const take = line => {
    const file = files.length > 1 ? files.find(file => line === `# ${FILE}${file}`) : undefined
    if (file !== undefined) {
      end()
      begin(file)
    } else {
      if (sections.length === 0) begin(name)
      sections.at(-1).output.push(line)
    }
  }
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', take)
  // The file itself reports a test that takes too long. This is for one that no longer can.
  const timer = setTimeout(() => child.kill('SIGKILL'), 2000 * timeout)
  const status = await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve(signal ?? code))
  })
  clearTimeout(timer)
  if (sections.length === 0) begin(name)
  end()
  const summary = sections
    .flatMap(({ output }) => output)
    .map(summaryOf)
    .findLast(Boolean)
  const hasTests = file => sections.some(section => section.file === file && section.output.some(isResult))
  const empty = files.length > 1 ? files.filter(file => !hasTests(file)) : []
  const problem =
    problemOf(status, summary) ?? (empty.length > 0 ? `no tests in ${empty.join(', ')}` : undefined)
  return { sections, summary, problem }
}

function problemOf(status, summary) {
  if (status !== 0) return `ended with ${status}`
  if (!summary) return 'printed no summary'
  if (summary.fail > 0) return `${summary.fail} failed`
  return summary.total > 0 ? undefined : 'no tests'
}

// `# { total: 14, pass: 5, fail: 5, todo: 1, skip: 3 }`, without the kinds of which there are none.
function summaryOf(line) {
  if (!/^# \{ total: .*\}$/.test(line)) return undefined
  return Object.fromEntries(Array.from(line.matchAll(/(\w+): (\d+)/g), ([, kind, n]) => [kind, Number(n)]))
}

const isResult = line => /^(not )?ok \d+/.test(line)
const isPass = line => /^\s*ok \d+/.test(line)
const isDirective = line => /^\s*ok \d+ .*# (SKIP|TODO)/.test(line)
const isFrame = line => /^\s*(# Subtest: .*|# time=.*|# \{ total: .*|TAP version \d+|1\.\.\d+.*)?$/.test(line)

function print(title, output, isGood) {
  const isKept = isGood ? isDirective : line => isDirective(line) || !(isPass(line) || isFrame(line))
  console.log([title, ...output.filter(isKept).map(line => `    ${line}`)].join('\n'))
}

/**
 * Prints the lines of lib that no test covers.
 * @returns what is missing from a complete coverage.
 */
export async function coverageGaps() {
  const report = new Report({
    include: ['.build/lib/**'],
    exclude: [],
    tempDirectory: coverageFolder,
    reporter: ['text'],
    skipFull: true,
    mergeAsync: true
  })
  const map = await report.getCoverageMapFromAllCoverageFiles()
  const summary = map.getCoverageSummary()
  const gaps = ['statements', 'branches', 'functions', 'lines']
    .filter(kind => summary[kind].pct !== 100)
    .map(kind => `${summary[kind].pct} % of the ${kind} are covered`)
  if (gaps.length > 0) await report.run()
  // The map knows the files that some test loaded and no others.
  const loaded = map.files().map(file => relative(root, file).replaceAll(sep, '/'))
  const missing = readdirSync(join(build, 'lib'), { recursive: true })
    .filter(name => name.endsWith('.js') && hasCode(join(build, 'lib', name)))
    .map(name => `lib/${name.replaceAll(sep, '/').replace(/\.js$/, '.ts')}`)
    .filter(file => !loaded.includes(file))
  if (missing.length > 0) gaps.push(`no test loads ${missing.join(', ')}`)
  return gaps
}

// A module of types alone compiles to `export {}`; nothing loads it.
function hasCode(file) {
  const text = readFileSync(file, 'utf8')
  return text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '').trim() !== 'export {};'
}
