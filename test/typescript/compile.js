// node compile.js <package of TypeScript>: compiles the applications in the working directory and prints the errors in
// them and in the declarations of this package. Errors in the declarations of other packages are not printed, so what
// `skipLibCheck` says makes no difference.
import { createRequire } from 'node:module'
import { join, sep } from 'node:path'

const ts = createRequire(import.meta.url)(process.argv[2])
const dist = join(import.meta.dirname, '..', '..', 'dist') + sep
const { ESNext, NodeNext, CommonJS } = ts.ModuleKind
const { NodeNext: nodenext, Bundler: bundler, Node10: node10 } = ts.ModuleResolutionKind
const isOldSetting = ts.version.startsWith('6.') ? { ignoreDeprecations: '6.0' } : {}

check('nodenext', ['esm.mts', 'cjs.cts', 'equals.cts'], { module: NodeNext, moduleResolution: nodenext })
check('bundler', ['esm.mts'], { module: ESNext, moduleResolution: bundler })
check('node', ['cjs.ts', 'equals.ts'], { module: CommonJS, moduleResolution: node10, ...isOldSetting })

function check(name, files, options) {
  const program = ts.createProgram(files, {
    noEmit: true,
    strict: true,
    esModuleInterop: true,
    target: ts.ScriptTarget.ES2022,
    types: ['node'],
    ...options
  })
  const isOurs = ({ fileName }) => files.includes(fileName) || join(fileName).startsWith(dist)
  const sources = program.getSourceFiles().filter(isOurs)
  const declarations = sources.filter(source => source.isDeclarationFile)
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
