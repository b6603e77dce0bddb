// The last step of `npm run build`. It writes the files that `require` loads for each entry of package.json's `exports`: a CommonJS
// file beside the ES module, and its declarations. Node can `require` the modules themselves, but then the plugin is only a
// property of the result, and TypeScript before 5.8 refuses to load the declarations of an ES module from CommonJS.
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import ts from 'typescript'

const root = join(import.meta.dirname, '..')
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const entries = Object.values(exports).filter(entry => entry.require)
const program = ts.createProgram(
  entries.map(entry => join(root, entry.types)),
  { module: ts.ModuleKind.NodeNext, types: [], noLib: true }
)
const checker = program.getTypeChecker()

for (const entry of entries) {
  const { default: main, ...named } = await import(pathToFileURL(join(root, entry.default)))
  const from = `'./${basename(entry.default)}'`
  const code = main ? `Object.assign(require(${from}).default, require(${from}))` : `require(${from})`
  writeFileSync(join(root, entry.require.default), `'use strict'\n\nmodule.exports = ${code}\n`)

  const module = checker.getSymbolAtLocation(program.getSourceFile(join(root, entry.types)))
  const types = typesOf(module)
  const values = Object.keys(named)
  const members = [
    ...values.map(name => `export declare const ${name}: typeof esm.${name}`),
    ...types.filter(name => values.includes(name)).map(name => `export type ${name} = esm.${name}`)
  ]
  const others = types.filter(name => !values.includes(name)).join(', ')
  const attribute = "with { 'resolution-mode': 'import' }"
  const lines = [`import type * as esm from ${from} ${attribute}`]
  if (!main) {
    lines.push(...members)
    if (others) lines.push(`export type { ${others} } from ${from} ${attribute}`)
  } else if (isClass(main)) {
    // A namespace that merges with a variable may hold only types, and the variable has to hold the values.
    const own = typesOf(checker.getExportsOfModule(module).find(one => one.name === 'default'))
    lines.push(
      'declare const main: typeof esm.default & typeof esm',
      'type main = esm.default',
      'declare namespace main {',
      ...types.filter(name => !own.includes(name)).map(name => `  type ${name} = esm.${name}`),
      ...own.map(name => `  type ${name} = esm.default.${name}`),
      '}',
      'export = main'
    )
  } else {
    lines.push(
      `import type { ${others} } from ${from} ${attribute}`,
      'declare function main(...args: Parameters<typeof esm.default>): ReturnType<typeof esm.default>',
      'declare namespace main {',
      ...members.map(member => `  ${member.replace('declare ', '')}`),
      `  export { ${others}, main as default }`,
      '}',
      'export = main'
    )
  }
  writeFileSync(join(root, entry.require.types), `${lines.join('\n')}\n`)
}

/** The names that a module or a namespace exports as types. */
function typesOf(symbol) {
  return checker
    .getExportsOfModule(resolve(symbol))
    .filter(one => one.name !== 'default' && (resolve(one).flags & ts.SymbolFlags.Type) !== 0)
    .map(one => one.name)
}

function resolve(symbol) {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
}

function isClass(value) {
  return /^class\b/.test(Function.prototype.toString.call(value))
}
