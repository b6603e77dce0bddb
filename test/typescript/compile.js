// node compile.js <package of TypeScript>: compiles the applications in the working directory and prints the errors in
// them and in the declarations of this package. Errors in the declarations of other packages are not printed, so what
// `skipLibCheck` says makes no difference. With `all` as the second argument, the first program prints these errors,
// too.
import { createRequire } from 'node:module'
import { join, sep } from 'node:path'

const [path, scope] = process.argv.slice(2)
const ts = createRequire(import.meta.url)(path)
const dist = join(import.meta.dirname, '..', '..', 'dist') + sep
const { ESNext, NodeNext, CommonJS } = ts.ModuleKind
const { NodeNext: nodenext, Bundler: bundler, Node10: node10 } = ts.ModuleResolutionKind
/** Parsed files. Most of them belong to all programs. */
const parsed = new Map()
const isOldSetting = ts.version.startsWith('6.') ? { ignoreDeprecations: '6.0' } : {}

check('nodenext', ['esm.mts', 'surface.mts', 'cjs.cts', 'equals.cts'], {
  module: NodeNext,
  moduleResolution: nodenext
})
check('bundler', ['esm.mts'], { module: ESNext, moduleResolution: bundler })
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
  const isOwn = ({ fileName }) => join(fileName).startsWith(dist)
  const all = program.getSourceFiles()
  const sources =
    scope === 'all' && name === 'nodenext'
      ? all
      : all.filter(one => files.includes(one.fileName) || isOwn(one))
  const declarations = sources.filter(isOwn)
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
  if (declarations.length < 10) console.log(`${name} loaded ${declarations.length} declarations`)
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
