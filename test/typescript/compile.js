// node compile.js <package of TypeScript>: compiles the applications in the working directory and prints the errors in
// them and in the declarations of this package. Errors in the declarations of other packages are not printed, so what
// `skipLibCheck` says makes no difference. With `all` as the second argument, the first program prints these errors,
// too. TypeScript 7 does not have this API, so its command compiles the applications, without `all`. It does not have the
// resolution `node10`.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { join, resolve, sep } from 'node:path'

const [path, scope] = process.argv.slice(2)
const require = createRequire(import.meta.url)
const { version } = require(join(path, 'package.json'))
const dist = join(import.meta.dirname, '..', '..', 'dist') + sep
const ESM = 'esm.mts'
const NODE = [ESM, 'surface.mts', 'cjs.cts', 'equals.cts']
const isOwn = file => join(file).startsWith(dist)

if (Number.parseInt(version, 10) >= 7) {
  checkByCommand('nodenext', NODE, ['--module', 'nodenext'])
  checkByCommand('bundler', [ESM], ['--module', 'esnext', '--moduleResolution', 'bundler'])
  process.exit()
}

function checkByCommand(name, files, options) {
  const settings = ['--noEmit', '--strict', '--esModuleInterop', '--target', 'es2022', '--types', 'node']
  const args = [...files, ...settings, ...options, '--ignoreConfig', '--listFiles', '--pretty', 'false']
  const { stdout, error } = spawnSync(process.execPath, [join(path, 'bin', 'tsc'), ...args], {
    encoding: 'utf8'
  })
  if (error) throw error
  for (const line of stdout.split('\n')) {
    const [, file, message] = /^([^ ].*)\((?:\d+,\d+)\): (error .*)$/.exec(line) ?? []
    const isGeneral = /^error /.test(line)
    if (isGeneral || (file && (files.includes(file) || isOwn(resolve(file)))))
      console.log(`${name} ${isGeneral ? line : `${file} ${message}`}`)
  }
  noteDeclarations(name, stdout.split('\n').filter(isOwn))
}

function noteDeclarations(name, { length }) {
  if (length < 10) console.log(`${name} loaded ${length} declarations`)
}

const ts = require(path)
const { ESNext, NodeNext, CommonJS } = ts.ModuleKind
const { NodeNext: nodenext, Bundler: bundler, Node10: node10 } = ts.ModuleResolutionKind
/** Parsed files. Most of them belong to all programs. */
const parsed = new Map()
const isOldSetting = version.startsWith('6.') ? { ignoreDeprecations: '6.0' } : {}

check('nodenext', NODE, {
  module: NodeNext,
  moduleResolution: nodenext
})
check('bundler', [ESM], { module: ESNext, moduleResolution: bundler })
check('node', ['cjs.ts', 'equals.ts'], { module: CommonJS, moduleResolution: node10, ...isOldSetting })

function check(name, files, options) {
  const settings = {
    noEmit: true,
    strict: true,
    esModuleInterop: true,
    target: ts.ScriptTarget.ES2022,
    types: ['node'],
    ...options
  }
  const program = ts.createProgram(files, settings, hostWithSharedFiles(settings))
  const all = program.getSourceFiles()
  const sources =
    scope === 'all' && name === 'nodenext'
      ? all
      : all.filter(one => files.includes(one.fileName) || isOwn(one.fileName))
  const diagnostics = [
    ...program.getOptionsDiagnostics(),
    ...program.getGlobalDiagnostics(),
    ...sources.flatMap(source => program.getSyntacticDiagnostics(source)),
    ...sources.flatMap(source => program.getSemanticDiagnostics(source))
  ]
  for (const { file, start, messageText } of diagnostics) {
    const line = file ? `${file.fileName}:${file.getLineAndCharacterOfPosition(start).line + 1}` : ''
    console.log(`${name} ${line} ${ts.flattenDiagnosticMessageText(messageText, '\n')}`)
  }
  noteDeclarations(
    name,
    sources.filter(({ fileName }) => isOwn(fileName))
  )
}

/** A host that parses a file once for programs that give it the same module format, which TypeScript's libraries lack. */
function hostWithSharedFiles(settings) {
  const host = ts.createCompilerHost(settings)
  const { getSourceFile } = host
  const libraries = join(host.getDefaultLibLocation(), sep)
  host.getSourceFile = (file, version, ...rest) => {
    const key = join(file).startsWith(libraries) ? file : `${version.impliedNodeFormat} ${file}`
    if (!parsed.has(key)) parsed.set(key, getSourceFile(file, version, ...rest))
    return parsed.get(key)
  }
  return host
}
